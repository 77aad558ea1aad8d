"""Which line of a kernel is running on Triton's CPU interpreter, and what the masks on each line have been."""

from __future__ import annotations

import importlib
import linecache
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

from fuzz.coverage import LineCoverage, Operation
from fuzz.kernel_syntax import SourceFunction, functions_in


class LineRecorder:
    """Counts, per line of a kernel's source, how often the mask of an access was all true, mixed and all false."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int, Operation], list[int]] = {}
        # The same counts by place in the bytecode: finding the line takes longer than everything else here.
        self._counts_at: dict[tuple[int, int, Operation], list[int]] = {}
        self._codes: dict[int, CodeType] = {}  # holds what is known by its id
        self._launched: set[str] = set()

    def enter(self, code: CodeType, *, launched: bool) -> None:
        """Note that a function of a kernel runs, or that a kernel is launched."""
        self._codes[id(code)] = code
        if launched:
            self._launched.add(code.co_filename)

    def count(self, operation: Operation, mask: Any) -> int:
        """Count an access on the line that is running, and return how many lanes of the mask are true."""
        frame = self._frame()
        lanes = int(np.count_nonzero(mask))
        if frame is not None:
            key = (id(frame.f_code), frame.f_lasti, operation)
            counts = self._counts_at.get(key) or self._new_counts(key, frame)
            counts[0 if lanes == mask.size else 1 if lanes else 2] += 1
            counts[3] = max(counts[3], int(mask.size))
        return lanes

    def place(self) -> tuple[str, int, str]:
        """Return file, number and text of the line that is running."""
        frame = self._frame()
        if frame is None:
            return "", 0, ""
        file = frame.f_code.co_filename
        return file, frame.f_lineno, _text(file, frame.f_lineno)

    def coverage(self) -> tuple[LineCoverage, ...]:
        """Return the counts, with zeros for lines that were not reached."""
        counts = {place: [0, 0, 0, 0] for place in self._unreached()} | self._counts
        return tuple(
            LineCoverage(
                file=file,
                line=line,
                operation=operation,
                text=_text(file, line),
                all_true=count[0],
                mixed=count[1],
                all_false=count[2],
                lanes=count[3],
            )
            for (file, line, operation), count in sorted(counts.items())
        )

    def _frame(self) -> FrameType | None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and _is_machinery(frame.f_code.co_filename):
            frame = frame.f_back
        return frame

    def _new_counts(self, key: tuple[int, int, Operation], frame: FrameType) -> list[int]:
        code, operation = frame.f_code, key[2]
        self._codes[id(code)] = code
        counts = self._counts.setdefault((code.co_filename, frame.f_lineno, operation), [0, 0, 0, 0])
        self._counts_at[key] = counts
        return counts

    def _unreached(self) -> Iterator[tuple[str, int, Operation]]:
        """Yield every access that the source shows, reached or not."""
        entered: dict[str, set[int]] = {}
        for code in self._codes.values():
            entered.setdefault(code.co_filename, set()).add(code.co_firstlineno)
        for file, lines in entered.items():
            if _is_machinery(file):
                continue
            for function in functions_in("".join(linecache.getlines(file))):
                if (file in self._launched and function.is_kernel) or _is_among(function, lines):
                    yield from ((file, line, operation) for line, operation in function.accesses)


@cache
def _is_machinery(file: str) -> bool:
    """Whether a file lies between a kernel and its access to memory: Triton's own, and what stands in for it."""
    return file.startswith(_machinery())


@cache
def _machinery() -> tuple[str, ...]:
    triton: Any = importlib.import_module("triton")
    return tuple(f"{Path(file).parent}{os.sep}" for file in (triton.__file__, __file__))


def _is_among(function: SourceFunction, first_lines: set[int]) -> bool:
    return any(function.begins_at(line) for line in first_lines)


def _text(file: str, line: int) -> str:
    return linecache.getline(file, line).strip()
