"""What one machine's tests have found is tried first by those of another, and a database that is gone fails no test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from inner_pytest import run_pytest

PLUGINS = ("-p", "fuzz.testing.sharding", "-p", "fuzz.testing.database")
FAILING = """
from hypothesis import given, settings, strategies as st

@given(x=st.integers(0, 2**62))
def test_fails(x):
    print("drawn", x)
    assert x < 2**40
"""
PASSING = """
from hypothesis import given, strategies as st

@given(st.integers())
def test_one(x): pass

@given(st.integers())
def test_two(x): pass
"""
PROFILES = """
from hypothesis import settings
settings.register_profile("nightly", max_examples=60)
settings.register_profile("ci", database=None)
"""


def machine(folder: Path, tests: str) -> Path:
    folder.mkdir()
    (folder / "conftest.py").write_text(PROFILES)
    (folder / "test_it.py").write_text(tests)
    return folder


def first_drawn(printed: str) -> int:
    return int(re.findall(r"^drawn (\d+)", printed, re.M)[0])


def test_a_failure_on_one_machine_is_tried_first_on_another(tmp_path: Path) -> None:
    one, other, third = (machine(tmp_path / name, FAILING) for name in ("one", "other", "third"))
    place = str(tmp_path / "shared")
    night = run_pytest(one, *PLUGINS, "--hypothesis-profile=nightly", "-n2", FUZZ_DATABASE=place)
    assert "test_fails[shard-" in night.stdout, night.stdout + night.stderr
    assert first_drawn(run_pytest(other, *PLUGINS, FUZZ_DATABASE=place).stdout) == 2**40
    ci = run_pytest(third, *PLUGINS, "--hypothesis-profile=ci", FUZZ_DATABASE=place)
    assert first_drawn(ci.stdout) == 0, "a profile without a database has one"


@pytest.mark.parametrize("options", [[], ["-n2"]])
def test_a_database_that_is_gone_is_told_once_and_fails_nothing(tmp_path: Path, options: list[str]) -> None:
    pytest.importorskip("redis", reason="needs the package redis: `pip install 'fused-fuzz[redis]'` runs it")
    folder = machine(tmp_path / "one", PASSING)
    result = run_pytest(folder, *PLUGINS, *options, "-Werror", FUZZ_DATABASE="redis://user:secret@127.0.0.1:1/0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("shared database redis://127.0.0.1:1/0 cannot be used") == 1, result.stdout
    assert "secret" not in result.stdout + result.stderr


def test_a_location_where_no_database_can_be_is_one_line(tmp_path: Path) -> None:
    result = run_pytest(machine(tmp_path / "one", PASSING), *PLUGINS, FUZZ_DATABASE="http://host")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert re.fullmatch(r"ERROR: FUZZ_DATABASE: http://…: a shared database is .*\n+", result.stderr), result.stderr
