"""How much faster one thing is than another, from rounds in which both were timed, and how sure that is."""

from __future__ import annotations

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


def median(times: list[float]) -> Interval:
    """Return the median of times, with its interval."""
    return _interval(np.median(times), np.median(_resampled(np.array(times)), axis=1))


def ratio(times: list[float], target: list[float]) -> Interval:
    """Return how many times as long as the target something takes: of medians, in the same rounds.

    The interval is the bootstrap's (Efron, Annals of Statistics 7, 1979), by percentiles: rounds are drawn again with
    replacement, both times of a round together, so that what slows down a whole round cancels.
    """
    both = np.array([times, target])
    drawn = np.median(_resampled(both), axis=-1)
    return _interval(np.median(both[0]) / np.median(both[1]), drawn[0] / drawn[1])


def _resampled(values: np.ndarray) -> np.ndarray:
    rounds = values.shape[-1]
    # Always the same draws: one measurement has one interval.
    picked = np.random.default_rng(0).integers(0, rounds, (_RESAMPLES, rounds))
    return values[..., picked]


def _interval(value: np.floating, drawn: np.ndarray) -> Interval:
    outside = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return Interval(float(value), float(low), float(high))
