"""The case that is being tried, written down before the launch: a machine that goes down with it does not take it."""

from __future__ import annotations

import os
from pathlib import Path

from fuzz.case import Case, decode_case, encode_case
from fuzz.layout import CaseError


class Journal:
    """A file of one worker that holds one case at a time.

    Args:
        path: The file; its folder must be there when the first case is written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def begin(self, case: Case) -> None:
        """Write down a case over the one before; a kill in between leaves one that cannot be read, and no other."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        text = encode_case(case) + b"\n"
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def journaled_cases(folder: Path) -> list[Case]:
    """Return the cases that workers were at when a hunt ended in whatever way, as far as they can be read."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(decode_case(path.read_bytes()))
        except (OSError, CaseError):
            continue
    return found
