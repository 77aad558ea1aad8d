"""Programs of the gate that have the target in their process: how they are started, and what they answer."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from fuzz.campaign.isolation import InfrastructureError, UsageError, target_path

_Answer = TypeVar("_Answer")


def python(program: str, *words: str) -> list[str]:
    """The command that runs a program of this package; `environment` belongs to it."""
    return [sys.executable, "-P", "-m", program, *words]


def environment() -> dict[str, str]:
    """The environment of such a program: Triton compiles there, whoever interprets here."""
    kept = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    return {**kept, "PYTHONPATH": os.pathsep.join(target_path())}


def last_words(process: subprocess.CompletedProcess[str]) -> str:
    """The last line of what a program wrote to standard error."""
    return (process.stderr.strip().splitlines() or ["it said nothing"])[-1]


def answer_of(program: str, kind: type[_Answer], doing: str, *words: str) -> _Answer:
    """Run a program that writes its answer, as JSON, to the file that is its first argument.

    Args:
        program: A module of this package.
        kind: What the answer is.
        doing: What it does, for a message.
        words: Its other arguments.

    Raises:
        UsageError: It says that the target cannot be loaded.
        InfrastructureError: It says that it cannot do its work here, or died.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer.json"
        command = python(program, str(file), *words)
        process = subprocess.run(command, env=environment(), capture_output=True, text=True)
        if process.returncode == 0 and file.exists():
            return msgspec.json.decode(file.read_bytes(), type=kind)
    last = last_words(process)
    if process.returncode == 2:
        raise UsageError(last)
    if process.returncode == 3:
        raise InfrastructureError(last)
    raise InfrastructureError(f"{doing} ended with status {process.returncode}: {last}")
