"""A changed kernel is loaded in place of its file, and the file stays what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from planted import TILED

from fuzz.campaign.isolation import IsolatedTarget, UsageError
from fuzz.case import Case
from fuzz.mutation.subject import subject_of

ROOT = Path(__file__).resolve().parents[3]
FUSED = subject_of("fused").path


def test_the_text_is_what_runs_and_the_file_stays() -> None:
    before = FUSED.read_text()
    changed = before.replace('float("inf")), axis=1)', "0.0), axis=1)")
    assert changed != before
    with IsolatedTarget("fused", "cpu", sources={str(FUSED): changed}) as target:
        verdict = target.run(Case(), 60.0)
    assert verdict.kind == "wrong-value", verdict
    with IsolatedTarget("fused", "cpu", sources={str(FUSED): before}) as target:
        assert target.run(Case(), 60.0).status == "pass"
    assert FUSED.read_text() == before


def test_a_kernel_in_another_file_of_the_target_is_changed_too() -> None:
    changed = FUSED.read_text().replace("acc * scale, channel", "acc + scale, channel")
    with IsolatedTarget("two-pass", "cpu", sources={str(FUSED): changed}) as target:
        assert target.run(Case(scale=2.0), 60.0).failed


def test_lines_of_messages_are_those_of_the_text() -> None:
    text = TILED.read_text()
    changed = text.replace("import torch\n", "\n\n\nimport torch\n", 1).replace(
        "mask_m = offs_m < positions", "mask_m = offs_m < 99"
    )
    line = changed[: changed.index("x = tl.load(")].count("\n") + 1
    with IsolatedTarget(str(TILED), "cpu", sources={str(TILED): changed}) as target:
        verdict = target.run(Case(bias=True), 60.0)
    assert verdict.kind == "out-of-bounds-read", verdict
    assert f"{TILED}:{line}: x = tl.load(" in verdict.message, verdict.message


def test_a_text_for_a_file_that_is_not_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not import .*other\.py"):
        IsolatedTarget("fused", "cpu", sources={str(tmp_path / "other.py"): "x = 1\n"})


def test_modules_are_read_in_place_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("value = 'file'\n")
    program = (
        "import linecache, sys, traceback\n"
        "from fuzz.campaign.overlay import Overlay\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"overlay = Overlay({{{str(tmp_path / 'module.py')!r}: 'value = \"text\"\\n'}})\n"
        "assert overlay.unread\n"
        "import module\n"
        "assert not overlay.unread\n"
        "linecache.checkcache()\n"
        "print(module.value, linecache.getline(module.__file__, 1).strip())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split("\n")[0] == 'text value = "text"'
