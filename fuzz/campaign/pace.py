"""How long a call is likely to take, learnt from those that ran, and which drawn cases are worth their time.

On the interpreter kernels differ in speed by a factor of a thousand, and in what makes them slow: one goes by tiles,
another by products. So the time of a call is fitted as a power of each of its sizes and of the number of tiles that
each makes, and a case that is likely to take k times what a trial may take on average is tried k times less often.
Small calls then get most of the time, and large ones, which some flaws need, are still tried.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fuzz.case import Case

# What a trial may take, on average. On a GPU, where a call takes a millisecond, nothing is passed over.
_TRIAL_SECONDS: Final = 0.15
# One trial may take so long, or such a share of the time since the hunt began, or until it ends.
_LARGE_SECONDS: Final = 1.0
_LARGE_SHARE: Final = 1 / 20
# Before anything is known a call is taken to go by products, the slowest way there is: as if it had been seen so often.
_PRIOR_WEIGHT: Final = 2.0
_PRIOR_SECONDS: Final = 2.0**-10
_TILE: Final = 32
_MOST_OBSERVATIONS: Final = 400
_REFIT_EVERY: Final = 8
# A call that takes so many times as long as expected is suspect: a timeout is evidence of a hang only beyond that.
_SUSPECT: Final = 20
_HANGS: Final = 2
_LEAST_LIMIT: Final = 5.0
_MOST_LIMIT: Final = 60.0
# Spreads the seeds of cases evenly over 32 bits (Knuth, The Art of Computer Programming 3, 6.4).
_GOLDEN: Final = 0x9E3779B1


@dataclass
class Pace:
    """What is known about the speed of a target."""

    _seen: deque[tuple[NDArray[np.float64], float]] = field(default_factory=lambda: deque(maxlen=_MOST_OBSERVATIONS))
    _powers: NDArray[np.float64] = field(default_factory=lambda: _PRIOR)
    _spread: float = 0.0
    _observations: int = 0

    def observe(self, case: Case, seconds: float) -> None:
        """Learn from one call that took so many seconds."""
        if seconds <= 0 or case.multiplications == 0:
            return
        self._seen.append((_logarithms(case), math.log2(seconds)))
        self._observations += 1
        if self._observations % _REFIT_EVERY == 0:
            self._fit()

    def seconds(self, case: Case) -> float:
        """Return how long one call is likely to take, rather too long than too short."""
        return float(2.0 ** min(60.0, float(_logarithms(case) @ self._powers) + self._spread))

    def limit(self, case: Case) -> float:
        """Return how long a trial may take before it is suspect, in seconds."""
        return case.calls * min(_MOST_LIMIT, max(_LEAST_LIMIT, _SUSPECT * self.seconds(case)))

    def hang_limit(self, case: Case) -> float:
        """Return after how long a trial that was suspect counts as hanging, in seconds."""
        return _HANGS * self.limit(case)

    def is_worth_trying(self, case: Case, span: float) -> bool:
        """Decide by the case's seed whether to try it: always if it is quick, else as seldom as it is slow.

        Args:
            case: A drawn case.
            span: Seconds since the hunt began, or until it ends; a single trial may not take a large part of that.
        """
        chance = _TRIAL_SECONDS / max(self.seconds(case) * case.calls, 1e-9)
        return self.is_affordable(case, span) and ((case.seed + 1) * _GOLDEN) % 2**32 < chance * 2**32

    def is_affordable(self, case: Case, span: float) -> bool:
        """Return whether a trial takes no large part of a span of time, in seconds; yes while nothing is known."""
        known = self._observations >= _REFIT_EVERY
        return not known or self.seconds(case) * case.calls <= max(_LARGE_SECONDS, _LARGE_SHARE * span)

    def _fit(self) -> None:
        """Fit the powers by least squares, drawn towards the prior where few were seen (ridge regression)."""
        sizes, times = (np.array(column) for column in zip(*self._seen, strict=True))
        matrix = sizes.T @ sizes + _PRIOR_WEIGHT * np.eye(len(_PRIOR))
        self._powers = np.linalg.solve(matrix, sizes.T @ times + _PRIOR_WEIGHT * _PRIOR)
        self._spread = float(np.sqrt(np.mean((sizes @ self._powers - times) ** 2)))


def _logarithms(case: Case) -> NDArray[np.float64]:
    """Return 1 and the logarithms of what a kernel may go by: rows, columns, channels, products, and tiles of each."""
    rows, columns = (max(1, size) for size in case.out_size)
    sizes = max(1, case.n) * rows, columns, case.c_out, case.reduction_length
    return np.array([1.0, *map(math.log2, sizes), *(math.log2(1 + size / _TILE) for size in sizes)])


_PRIOR: Final[NDArray[np.float64]] = np.array([math.log2(_PRIOR_SECONDS), *4 * (1.0,), *4 * (0.0,)])
