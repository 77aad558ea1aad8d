"""The kill matrix: what became of all mutants, by operator and by lane, as values."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from fuzz.mutation.score import Result
from fuzz.verdict import Lane

LANES: Final[tuple[Lane, ...]] = get_args(Lane)
_KILLED: Final = ("killed", "timed out")


@dataclass(frozen=True)
class Row:
    """The mutants of one operator, or all of them.

    Attributes:
        operator: Its name.
        made: How many mutants there are.
        broken: How many raise for the simplest call; they are left out of everything below.
        killed: How many a case told from the kernel.
        equivalent: How many survived and are listed as computing the same.
        survived: How many survived otherwise.
        first: By lane, how many it was the first to see.
        seen: By lane, how many it sees in the case that killed them.
        alone: By lane, how many no other lane sees in that case.
        median: Cases until killed, half of them.
        most: Cases until killed, nineteen of twenty of them.
    """

    operator: str
    made: int
    broken: int
    killed: int
    equivalent: int
    survived: int
    first: dict[Lane, int]
    seen: dict[Lane, int]
    alone: dict[Lane, int]
    median: float
    most: int


def rows(results: Sequence[Result]) -> list[Row]:
    """Return a row for each operator, by name."""
    names = sorted({result.operator for result in results})
    return [row(name, [result for result in results if result.operator == name]) for name in names]


def row(operator: str, results: Sequence[Result]) -> Row:
    """Return what became of some mutants."""
    killed = [result for result in results if result.status in _KILLED]
    cases = sorted(result.cases for result in killed)
    return Row(
        operator=operator,
        made=len(results),
        broken=_count(result.status == "broken" for result in results),
        killed=len(killed),
        equivalent=_count(result.status == "equivalent" for result in results),
        survived=_count(result.status == "survived" for result in results),
        first={lane: _count(result.lane == lane for result in killed) for lane in LANES},
        seen={lane: _count(lane in result.lanes for result in killed) for lane in LANES},
        alone={lane: _count(result.lanes == (lane,) for result in killed) for lane in LANES},
        median=statistics.median(cases) if cases else 0,
        most=cases[-(-19 * len(cases) // 20) - 1] if cases else 0,
    )


def _count(flags: Iterable[bool]) -> int:
    return sum(flags)
