"""What a score was measured on and what came of it, as the JSON file that `mutants --json` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from fuzz.campaign.isolation import UsageError
from fuzz.campaign.store import json_text
from fuzz.mutation.score import Result

_VERSION: Final = 1


class KernelScore(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the mutants of one kernel file.

    Attributes:
        target: What the user called it.
        file: The file's name.
        unreached: Functions of it, or parts of them, that no trial comes to; they were not mutated.
        results: One for each mutant.
    """

    target: str
    file: str
    unreached: tuple[str, ...]
    results: tuple[Result, ...]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `mutants`.

    Attributes:
        circumstances: Machine, device and versions (`fuzz.circumstances`).
        seed: Decides the draws, and the sample if there is one.
        max_cases: Trials after which a mutant has survived.
        jobs: Hunts at a time.
        seconds: How long all of it took.
        untried: How many mutants are left, where it was interrupted.
    """

    circumstances: dict[str, Any]
    seed: int
    max_cases: int
    jobs: int
    seconds: float
    kernels: tuple[KernelScore, ...]
    untried: int = 0
    version: int = _VERSION

    @property
    def results(self) -> list[Result]:
        """All results, of every kernel."""
        return [result for kernel in self.kernels for result in kernel.results]


def write_record(record: Record) -> str:
    """Return a record as JSON text."""
    return json_text(record)


def read_record(path: Path) -> Record:
    """Return what `write_record` wrote.

    Raises:
        UsageError: The file cannot be read, or is no such record.
    """
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from None
    if record.version != _VERSION:
        raise UsageError(f"{path}: version={record.version} is not one that this program reads (it reads {_VERSION})")
    return record
