"""Times calls on a GPU: events on its own clock, the L2 cache overwritten before, never the same numbers twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import torch

# More than the L2 cache of any card that `devices` lists.
_FLUSHED_BYTES: Final = 256 * 2**20
_MOST_FLUSHES: Final = 64


@dataclass
class Stopwatch:
    """Times one call at a time.

    Between two events on the stream lies what the call launches. If the host launches it slower than the card
    works, the time between is the host's; so the card is given the L2 cache to overwrite meanwhile, as often as it
    takes.

    Attributes:
        flushes: How often L2 is overwritten before each call.
        late: How many calls were timed again because the host was late.
    """

    flushes: int = 1
    late: int = 0
    _waste: torch.Tensor = field(
        default_factory=lambda: torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device="cuda"), repr=False
    )

    def time(self, call: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
        """Return the milliseconds of a call, and what it returned."""
        for attempt in itertools.count():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's own
            for _ in range(self.flushes):
                self._waste.zero_()
            start.record()
            out = call()
            stop.record()
            started_early = bool(start.query())  # type: ignore[no-untyped-call]  # torch's own
            stop.synchronize()
            if not started_early or self.flushes >= _MOST_FLUSHES:
                break
            self.late += 1
            if attempt:  # once is an accident
                self.flushes *= 2
        return start.elapsed_time(stop), out


class Inputs:
    """x in several places, which changes its sign before each call: a result that was kept is a wrong one.

    Args:
        tensors: x, as often as there are places, all of different numbers.
    """

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self._tensors = tensors
        self._signs = [1] * len(tensors)
        self._turn = 0

    def next(self) -> tuple[tuple[int, int], torch.Tensor]:
        """Return x for the next call, and which of all x it is: its place, and its sign."""
        place = self._turn % len(self._tensors)
        self._turn += 1
        self._tensors[place].neg_()
        self._signs[place] = -self._signs[place]
        return (place, self._signs[place]), self._tensors[place]

    def all(self) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
        """Give every x once, one after the other: those of the other sign are copies, of gigabytes."""
        for place, x in enumerate(self._tensors):
            for sign in (1, -1):
                yield (place, sign), x if sign == self._signs[place] else -x
