"""Telling bugs apart: which failures are one and the same defect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from fuzz.case import Case
from fuzz.facets import BY_NAME, EARLIER_CALLS, EXTREME_VALUES, still_fails
from fuzz.verdict import Verdict

Judge = Callable[[Case], Verdict]

# Stands in for a facet where a case fails only in a process that has run other cases, and no earlier call that
# `fuzz.earlier` knows brings it about.
HISTORY: Final = "what ran before"


class Bucket(msgspec.Struct, frozen=True):
    """One defect: how it shows and what it depends on.

    Attributes:
        manifestation: How it shows (`Verdict.manifestation`).
        facets: Without any one of these the shrunk case passes.
    """

    manifestation: str
    facets: tuple[str, ...]

    def __str__(self) -> str:
        """Return what a person reads, and what the failure's id is made from."""
        needs = f"that depends on {' and '.join(self.facets)}" if self.facets else "in a plain call"
        return f"{self.manifestation} {needs}"

    @property
    def is_stateful(self) -> bool:
        """Whether the target keeps something between calls that it should not."""
        return HISTORY in self.facets or EARLIER_CALLS.name in self.facets

    def explains(self, case: Case, verdict: Verdict, judge: Judge) -> bool:
        """Return whether another failing case is this defect again: it passes once any of the facets is taken out.

        How it shows need not agree: with other values or another layout one defect gives a NaN, a wrong number or a
        crash. It must agree where the values are what matters, since a lost NaN and a sentinel that is too small are
        two bugs. A defect that needs nothing at all hides whatever else is wrong in the same way.
        """
        same = self.manifestation == verdict.manifestation
        if HISTORY in self.facets:
            return False
        if self.is_stateful and verdict.lane == "relations":
            return True  # the second call of a relation meets what the first one left
        if not self.facets:
            return same or {self.manifestation, verdict.manifestation} <= {"wrong result", "missing NaN"}
        if not same and EXTREME_VALUES.name in self.facets:
            return False
        return not any(still_fails(case, BY_NAME[name], lambda other: judge(other).failed) for name in self.facets)

    def covers(self, other: Bucket) -> bool:
        """Return whether the other bucket is this defect, seen in a case that was shrunk less far."""
        return self.manifestation == other.manifestation and set(self.facets) <= set(other.facets)
