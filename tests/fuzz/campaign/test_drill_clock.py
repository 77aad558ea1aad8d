"""What the wall clock says is no matter: people set it, daylight saving and time servers move it."""

from __future__ import annotations

import ast
import itertools
import time
from pathlib import Path

import pytest
from drills import EAGER, ROOT, assert_whole

from fuzz.cli import main

WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "time.localtime"}


def test_a_hunt_does_not_mind_a_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    jumps = itertools.cycle((0.0, 1e9, -1e9, 4e9))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    hunt = ["run", "--target", str(EAGER), "--time", "2s", "--workers", "1", "--out", str(tmp_path)]
    started = time.monotonic()
    assert main(hunt) == 0
    assert 2.0 <= time.monotonic() - started < 60.0
    summary = assert_whole(tmp_path, 0)
    assert summary["cases"] > 0
    assert 0.0 < summary["seconds"] < 60.0


@pytest.mark.parametrize("path", sorted((ROOT / "fuzz").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_decided_by_the_wall_clock(path: Path) -> None:
    read = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not read & WALL_CLOCKS, f"{path}: take time.monotonic, which never jumps"
