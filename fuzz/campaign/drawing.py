"""Hypothesis, generating and climbing: it never sees a failure, because it would stop at the first.

By itself Hypothesis spends five of six examples on mutations of the one before: it copies one part of a draw over
another, which finds equal values in data structures. Between the fields of a case equal values mean nothing, and six
near copies of a case find little more than one. `INDEPENDENT` names a backend whose draws are independent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS
from hypothesis.strategies import SearchStrategy

from fuzz.case import Case

# What a drawn case scored, and under which name such scores are comparable; None where there is nothing to climb.
Score = tuple[str, float] | None

# For `hypothesis.settings(backend=...)`. Hypothesis mutates and climbs with its own backend alone, so its own provider
# under another name just draws, from the same seed.
INDEPENDENT: Final = "independent"
AVAILABLE_PROVIDERS[INDEPENDENT] = AVAILABLE_PROVIDERS["hypothesis"]


class _TryingRaisedError(BaseException):
    """Carries an error past Hypothesis, which would try the case again to see whether it is raised once more."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def draw_cases(
    strategy: SearchStrategy[Case], seed: int, examples: int, try_case: Callable[[Case], Score], *, climb: bool = False
) -> None:
    """Draw cases and try them.

    Args:
        strategy: What to draw from.
        seed: The draws depend on this and, when climbing, on the scores.
        examples: How many cases to draw.
        try_case: Tries one; what it raises ends the drawing.
        climb: Whether to return to the neighbours of cases that scored high, instead of drawing independently.
    """

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.target] if climb else [Phase.generate],
        backend="hypothesis" if climb else INDEPENDENT,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(case: Case) -> None:
        try:
            score = try_case(case)
        # Hypothesis would take it for a failing example, and try it again; it is raised outside instead.
        except Exception as error:
            raise _TryingRaisedError(error) from error
        if climb and score is not None:
            hypothesis.target(score[1], label=score[0])

    try:
        draw()
    except _TryingRaisedError as raised:
        raise raised.error from None
