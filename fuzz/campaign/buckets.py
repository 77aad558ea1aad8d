"""Telling bugs apart: which failures are one and the same defect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from fuzz.case import Case
from fuzz.facets import BY_NAME, EARLIER_CALLS, EXTREME_VALUES, still_fails
from fuzz.layout import CaseError
from fuzz.sizes import Sizes, just_below, reaches, size_words
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
        sizes: Of the shrunk case, where sizes are among the facets: the smallest with which it shows.
    """

    manifestation: str
    facets: tuple[str, ...]
    sizes: Sizes | None = None

    def __post_init__(self) -> None:
        """Refuse what a later version may have written; raises ValueError."""
        unknown = set(self.removable) - BY_NAME.keys()
        if unknown:
            raise ValueError(f"facets={self.facets}: {min(unknown)!r} must be the name of a facet")

    def __str__(self) -> str:
        """Return what a person reads, and what the failure's id is made from."""
        needs = f"that depends on {' and '.join(map(self._words, self.facets))}" if self.facets else "in a plain call"
        return f"{self.manifestation} {needs}"

    def _words(self, facet: str) -> str:
        return f"{facet} ({size_words(facet, self.sizes)})" if self.sizes and is_size(facet) else facet

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
        return not any(self._fails_without(name, case, judge) for name in self.facets)

    def covers(self, other: Bucket) -> bool:
        """Return whether the other bucket is this defect, seen in a case that was shrunk less far."""
        if self.manifestation != other.manifestation or not set(self.facets) <= set(other.facets):
            return False
        if self.sizes is None or other.sizes is None:
            return True
        return all(reaches(name, other.sizes, self.sizes) for name in self.facets if is_size(name))

    @property
    def removable(self) -> tuple[str, ...]:
        """The facets that can be taken out of a case."""
        return tuple(name for name in self.facets if name != HISTORY)

    def applies_to(self, case: Case) -> bool:
        """Return whether a case has all that the defect needs, as far as facets tell."""
        return bool(self.removable) and all(
            bool(self.without(name, case)) if self.sizes and is_size(name) else BY_NAME[name].present(case)
            for name in self.removable
        )

    def without(self, name: str, case: Case) -> list[Case]:
        """Return a case without a facet; without a size: with one that is next below what the defect needs."""
        facet = BY_NAME[name]
        if self.sizes and facet.is_size:
            return list(just_below(name, case, self.sizes))
        try:
            return [facet.without(case)] if facet.present(case) else []
        except CaseError:
            return []

    def _fails_without(self, name: str, case: Case, judge: Judge) -> bool:
        if not (self.sizes and is_size(name)):
            return still_fails(case, BY_NAME[name], lambda other: judge(other).failed)
        return all(judge(other).failed for other in self.without(name, case))


def is_size(facet: str) -> bool:
    """Return whether a facet is a mere size."""
    return facet in BY_NAME and BY_NAME[facet].is_size
