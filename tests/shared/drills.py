"""What the drills share: hunts as a user runs them, what must be true of a folder afterwards, who is left running."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.campaign.reading import read_records, read_summary

ROOT = Path(__file__).resolve().parents[2]
EAGER = ROOT / "tests" / "candidates" / "eager_function.py"
SUMMARY_FIELDS = {
    "target",
    "device",
    "versions",
    "seed",
    "seconds",
    "cases",
    "declined",
    "features",
    "failures",
    "exit",
}

_TARGET = """
import torch
{first}
CALLS = 0

def conv_scale_min(x, weight, bias, scale):
    global CALLS
    CALLS += 1
{acts}
    return (torch.nn.functional.conv2d(x, weight, bias) * scale).amin(dim=1, keepdim=True)
"""


def target(folder: Path, acts: str = "", *, first: str = "") -> Path:
    """Write a target that computes what it should with PyTorch, and does other things besides.

    Args:
        folder: Where to.
        acts: What each call does before it computes, as lines of Python; `CALLS` counts the calls, from 1.
        first: What it does when it is imported.
    """
    path = folder / "target.py"
    path.write_text(_TARGET.format(first=first, acts="\n".join(f"    {line}" for line in acts.splitlines())))
    return path


def words(*arguments: str | Path) -> list[str]:
    """The command, as a user types it."""
    return [sys.executable, "-m", "fuzz", *map(str, arguments)]


@dataclass
class Running:
    """The command in a process of its own; what it starts, and what that starts, is known by a variable."""

    process: subprocess.Popen[str]
    variable: str

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def finish(self, seconds: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and make sure that nothing is left of it."""
        try:
            output, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.process.args} still ran after {seconds:.0f} s") from None
        left = _settled(self.variable)
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert not left, f"{len(left)} processes outlive the command"
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, output, errors)


def start(*arguments: str | Path, environment: dict[str, str] | None = None) -> Running:
    """Start the command."""
    value = secrets.token_hex(8)
    process = subprocess.Popen(
        words(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {}), "FUZZ_DRILL": value},
        # A shell's background job ignores Ctrl-C, and so would what a test in one of them starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return Running(process, f"FUZZ_DRILL={value}")


def run(
    *arguments: str | Path, environment: dict[str, str] | None = None, seconds: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return start(*arguments, environment=environment).finish(seconds)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(path.parent.name), *descendants(int(path.parent.name))]
    return found


def one_line(errors: str) -> str:
    """Return the last line of what the command complains of; there must be just one complaint."""
    complaints = [line for line in errors.splitlines() if line.startswith("fuzz: ")]
    assert len(complaints) == 1, f"a complaint is one line: {errors}"
    assert "Traceback" not in errors, errors
    return complaints[0]


def trials(folder: Path) -> list[dict[str, Any]]:
    """The records of a hunt's trials."""
    return [record for record in read_records(folder / "records.jsonl") if record["event"] == "trial"]


def assert_whole(folder: Path, status: int) -> dict[str, Any]:
    """Check a hunt's folder: every record can be read, the summary is complete, and agrees with what lies there."""
    lines = (folder / "records.jsonl").read_bytes().splitlines()
    assert len(list(read_records(folder / "records.jsonl"))) == len(lines), "some record cannot be read"
    summary = read_summary(folder)
    assert summary.keys() >= SUMMARY_FIELDS, f"summary.json lacks {SUMMARY_FIELDS - summary.keys()}"
    assert summary["exit"] == status
    kept = sorted(path.name for path in (folder / "failures").iterdir())
    assert kept == sorted(failure["id"] for failure in summary["failures"])
    for name in kept:
        assert {path.name for path in (folder / "failures" / name).iterdir()} >= {"case.json", "repro.py", "report.txt"}
    assert not list(folder.rglob(".*")), "something was half written"
    json.loads((folder / "summary.json").read_text())
    return summary


def _settled(variable: str, seconds: float = 3.0) -> list[int]:
    """Return who is left with this variable, after what was killed had time to end."""
    end = time.monotonic() + seconds
    while (left := list(_carriers(variable))) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def _carriers(variable: str) -> Iterator[int]:
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in environment.read_bytes().split(b"\0"):
                yield int(environment.parent.name)
        except OSError:  # it ended meanwhile, or is another user's
            continue
