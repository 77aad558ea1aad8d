"""How much faster one thing is than another, from rounds in which both were timed, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_RESAMPLES: Final = 4000
_CONFIDENCE: Final = 0.99


@dataclass(frozen=True)
class Interval:
    """A figure and where it lies, at 99 % confidence."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of the interval, as a part of the figure."""
        return (self.high - self.low) / self.value


def median(values: Sequence[float]) -> Interval:
    """Return the median of values, with its interval.

    The interval is the bootstrap's (Efron, Annals of Statistics 7, 1979), by percentiles: values are drawn again with
    replacement, as many as there are, again and again.
    """
    # Always the same draws: one measurement has one interval.
    picked = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    drawn = np.median(np.array(values)[picked], axis=1)
    outside = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return Interval(float(np.median(values)), float(low), float(high))


def ratio(times: Sequence[float], target: Sequence[float]) -> Interval:
    """Return how many times as long as the target something takes: the median of the ratios of the rounds.

    Both times of a round come soon after each other, so that what slows down a whole round cancels. It would not in a
    ratio of medians: with two speeds of the card they may be of different ones.
    """
    return median([time / of_target for time, of_target in zip(times, target, strict=True)])
