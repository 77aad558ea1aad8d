"""compute-sanitizer around a trial, with a stand-in for the tool where there is no GPU."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fuzz.campaign import sanitizer
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.sanitizer import sanitize
from fuzz.case import Case, CaseFile, write_case_file
from fuzz.cli import main


def test_without_the_tool_one_line_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "case.json"
    path.write_text(write_case_file(CaseFile(case=Case())))
    assert main(["repro", str(path), "--sanitize", "memcheck"]) == 2
    error = capsys.readouterr().err
    assert "compute-sanitizer" in error
    assert error.count("\n") == 1, "a usage error is one line"


def stand_in(folder: Path, summary: str) -> Path:
    """A program that reports like the sanitizer and then becomes the command that it is given."""
    program = folder / "compute-sanitizer"
    program.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != python-follows ]; do\n'
        '  case "$1" in --log-file) log=$(echo "$2" | sed "s/%p/$$/");; */python*) break;; esac; shift\n'
        "done\n"
        f'printf "%s\\n" "{summary}" > "$log"\n'
        'exec "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize(
    ("tool", "summary", "errors"),
    [("memcheck", "========= ERROR SUMMARY: 0 errors", 0), ("racecheck", "========= RACECHECK SUMMARY: 3 hazards", 3)],
)
def test_errors_are_counted_from_the_report(
    tool: str, summary: str, errors: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path, summary)
    monkeypatch.setattr(sanitizer.shutil, "which", lambda name: str(program))
    monkeypatch.setattr(sanitizer, "_DEVICE", "cpu")
    found = sanitize(Case(), "fused", tool)
    assert found.verdict.status == "pass", found.verdict.message
    assert found.errors == errors


def test_a_report_without_a_summary_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = stand_in(tmp_path, "cannot attach")
    monkeypatch.setattr(sanitizer.shutil, "which", lambda name: str(program))
    monkeypatch.setattr(sanitizer, "_DEVICE", "cpu")
    with pytest.raises(UsageError, match="cannot attach"):
        sanitize(Case(), "fused", "memcheck")
