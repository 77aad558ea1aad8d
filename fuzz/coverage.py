"""Mask coverage: how often a line that touches memory saw its mask all true, mixed and all false, as data.

A masked load whose mask was never mixed says nothing about its mask. These values travel between processes as JSON and
are summed over trials.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Operation = Literal["load", "store", "atomic"]


class LineCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """What one line of a kernel did with its masks; an access without a mask counts as all true.

    Attributes:
        file: The source file, as Python names it.
        line: Where the call begins.
        operation: What the line does; a line that loads and stores has one entry for each.
        text: The source of that line.
        all_true: How often it ran with every lane taking part; likewise `mixed` and `all_false`.
        lanes: The most that one of its masks had: a mask of one lane cannot be mixed.
    """

    file: str
    line: int
    operation: Operation
    text: str
    all_true: int = 0
    mixed: int = 0
    all_false: int = 0
    lanes: int = 0

    @property
    def executions(self) -> int:
        """How often the line ran; 0 where the kernel has it and no program came there."""
        return self.all_true + self.mixed + self.all_false


def merge(*parts: Iterable[LineCoverage]) -> tuple[LineCoverage, ...]:
    """Sum coverages of the same lines, in the order of the source."""
    total: dict[tuple[str, int, str], LineCoverage] = {}
    for part in parts:
        for entry in part:
            key = entry.file, entry.line, entry.operation
            total[key] = _sum(total[key], entry) if key in total else entry
    return tuple(total[key] for key in sorted(total))


def _sum(one: LineCoverage, other: LineCoverage) -> LineCoverage:
    return msgspec.structs.replace(
        one,
        all_true=one.all_true + other.all_true,
        mixed=one.mixed + other.mixed,
        all_false=one.all_false + other.all_false,
        lanes=max(one.lanes, other.lanes),
    )
