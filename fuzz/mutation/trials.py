"""The cases that every mutant of a kernel is tried on: drawn once, as a hunt draws them, and passed by the kernel.

A case that does not come to what a mutant changes tries nothing of it. Such cases are left out, which is what makes the
score of a kernel with many paths affordable.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from fuzz.abilities import Abilities
from fuzz.campaign.drawing import draw_cases
from fuzz.campaign.isolation import IsolatedTarget
from fuzz.case import Case
from fuzz.strategies import cases

_ROUND: Final = 200
# A target that can be asked little has few different cases.
_FRUITLESS_ROUNDS: Final = 3
_LIMIT_SECONDS: Final = 60.0


class WrongByItselfError(Exception):
    """The kernel fails a case without any change."""


@dataclass(frozen=True)
class Trial:
    """One case that the unchanged kernel passes.

    Attributes:
        case: The case.
        place: Its place among all that were drawn, the quickest first, from 1.
        marks: The numbers of the statements that it comes to.
        seconds: How long it took.
    """

    case: Case
    place: int
    marks: frozenset[int]
    seconds: float


def drawn(abilities: Abilities, seed: int, count: int) -> list[Case]:
    """Return so many different cases, the same for the same seed; fewer where there are no more.

    The quickest come first: most mutants need no other.
    """
    found: dict[Case, None] = {}
    fruitless, number = 0, 0
    while len(found) < count and fruitless < _FRUITLESS_ROUNDS:
        before = len(found)
        round_seed = hashlib.sha256(f"{seed}/{number}".encode()).digest()
        draw_cases(cases(abilities), int.from_bytes(round_seed[:8]), _ROUND, found.setdefault)
        fruitless = fruitless + 1 if len(found) == before else 0
        number += 1
    chosen = list(found)[:count]
    return sorted(chosen, key=lambda case: case.multiplications * case.calls)


class Trials:
    """The cases, each run on the unchanged kernel when it is first asked for; several threads may ask.

    Args:
        targets: Processes of the kernel, instrumented but not changed.
        chosen: The cases.
    """

    def __init__(self, targets: Sequence[IsolatedTarget], chosen: Sequence[Case]) -> None:
        self._chosen = chosen
        self._passed: list[Future[Trial] | None] = [None] * len(chosen)
        self._lock = threading.Lock()
        self._idle: SimpleQueue[IsolatedTarget] = SimpleQueue()
        for isolated in targets:
            self._idle.put(isolated)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._chosen)

    def __iter__(self) -> Iterator[Trial]:
        """Yield them in order.

        Raises:
            WrongByItselfError: The kernel fails one of them.
        """
        return map(self._trial, range(len(self._chosen)))

    def _trial(self, index: int) -> Trial:
        with self._lock:
            known = self._passed[index]
            promised = self._passed[index] = known or Future()
        if known is None:
            try:
                promised.set_result(self._run(index))
            except BaseException as error:
                promised.set_exception(error)
        return promised.result()

    def _run(self, index: int) -> Trial:
        case, isolated = self._chosen[index], self._idle.get()
        try:
            verdict = isolated.run(case, _LIMIT_SECONDS)
            if verdict.failed:
                raise WrongByItselfError(f"target {isolated.target} fails by itself: {verdict.message} · {case!r}")
            return Trial(case, index + 1, isolated.marks, verdict.seconds)
        finally:
            self._idle.put(isolated)
