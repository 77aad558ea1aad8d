"""Hypothesis, generating and climbing: it never sees a failure, because it would stop at the first."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from fuzz.case import Case

# What a drawn case scored, and under which name such scores are comparable; None where there is nothing to climb.
Score = tuple[str, float] | None


def draw_and_climb(strategy: SearchStrategy[Case], seed: int, examples: int, try_case: Callable[[Case], Score]) -> None:
    """Draw cases and try them, returning to the neighbours of those that scored high.

    Args:
        strategy: What to draw from.
        seed: The draws depend on this and on the scores alone.
        examples: How many cases to draw.
        try_case: Tries one; what it raises ends the drawing.
    """

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.target],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(case: Case) -> None:
        score = try_case(case)
        if score is not None:
            hypothesis.target(score[1], label=score[0])

    draw()
