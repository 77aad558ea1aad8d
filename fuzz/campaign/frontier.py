"""The frontier: cases that reached something first, whose neighbours are drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fuzz.case import Case

_MOST_NEWEST: Final = 64
_MOST_HOLDERS: Final = 4096
_MODELS: Final = 32


@dataclass
class Frontier:
    """Cases that reached a trait first: the newest of them, and for each trait the one that holds it."""

    _newest: deque[Case] = field(default_factory=lambda: deque(maxlen=_MOST_NEWEST))
    _holders: dict[str, Case] = field(default_factory=dict)

    def add(self, case: Case, new: Iterable[str]) -> None:
        """Keep a case that reached these traits first."""
        self._newest.append(case)
        for trait in new:
            if len(self._holders) < _MOST_HOLDERS:
                self._holders[trait] = case

    def models(self, counts: Mapping[str, int]) -> tuple[Case, ...]:
        """Return cases to draw neighbours of: half of them the newest, half those that hold what was seen least often.

        Args:
            counts: How often each trait was seen.
        """
        rarest = sorted(self._holders, key=lambda trait: counts.get(trait, 0))[: _MODELS // 2]
        newest = list(self._newest)[-_MODELS // 2 :]
        return tuple(dict.fromkeys([*newest, *(self._holders[trait] for trait in rarest)]))
