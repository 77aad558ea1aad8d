"""Reading back what a hunt left in its folder: what was torn or damaged is skipped, or refused in one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fuzz.campaign.isolation import UsageError
from fuzz.case import Case, CaseFile, case_of, read_case_file
from fuzz.checksum import unsealed
from fuzz.layout import CaseError
from fuzz.verdict import Verdict


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of the last hunt in this folder; empty if there is none.

    Raises:
        UsageError: It is not what the hunt wrote.
    """
    path = folder / "summary.json"
    try:
        summary = unsealed(path.read_bytes())
    except OSError:
        return {}
    if summary is None:
        raise UsageError(f"{path}: damaged: without this file a resumed hunt counts from 0, and loses nothing else")
    return summary


def read_state(folder: Path) -> dict[str, Any]:
    """Return what `write_state` wrote last; empty if there is nothing, or it was damaged: the records say the same."""
    try:
        return unsealed((folder / "state.json").read_bytes()) or {}
    except OSError:
        return {}


def read_cases(paths: list[Path]) -> list[tuple[Path, Case]]:
    """Return the cases of these files.

    Raises:
        CaseError: One of them is malformed; the message names the file.
    """
    return [(path, read_case(path).case) for path in paths]


def read_case(path: Path) -> CaseFile:
    """Return what a case file, or a failure folder, holds.

    Raises:
        CaseError: There is no such file or it is malformed; the message names it.
    """
    if path.is_dir():
        path = path / "case.json"
    try:
        return read_case_file(path.read_bytes())
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror or error}") from None
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def read_records(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the records of a hunt, from a byte on, without lines that a crash left torn, or that were damaged later."""
    with path.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            record = unsealed(line)
            if record is not None:
                yield record


def trial_of(record: dict[str, Any]) -> tuple[Case, Verdict] | None:
    """Return the case and the verdict of a trial's record; None for another record, and for one that is damaged."""
    if record.get("event") != "trial":
        return None
    try:
        return case_of(record["case"]), verdict_of(record["verdict"])
    except (KeyError, TypeError, ValueError, CaseError, msgspec.ValidationError):
        return None


def verdict_of(fields: Any) -> Verdict:
    """Return the verdict that a JSON object stands for; raises TypeError, ValueError or `msgspec.ValidationError`."""
    verdict = dict(fields)
    if verdict.get("error_ratio", 0.0) is None:  # JSON has no infinity
        verdict["error_ratio"] = math.inf
    return msgspec.convert(verdict, Verdict)
