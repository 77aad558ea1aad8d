"""Marks that an instrumented target leaves in its process: which of its parts a trial comes to."""

from __future__ import annotations

from typing import Final

# What instrumented code adds to; see `fuzz.mutation.reach`.
LEFT: Final[set[int]] = set()


def taken_marks() -> frozenset[int]:
    """Return the marks that were left since the last time, and forget them."""
    marks = frozenset(LEFT)
    LEFT.clear()
    return marks
