"""Draws of a hunt: independent of one another, the same for the same seed, and towards the bound where asked."""

from __future__ import annotations

import statistics

import pytest
from everything import EVERYTHING

from fuzz.campaign.drawing import draw_cases
from fuzz.case import Case
from fuzz.strategies import cases

DRAWS = 300


def drawn(seed: int, *, climb: bool = False) -> list[Case]:
    found: list[Case] = []

    def take(case: Case) -> tuple[str, float]:
        found.append(case)
        return "columns", float(case.w)

    draw_cases(cases(EVERYTHING), seed, DRAWS, take, climb=climb)
    return found


def test_draws_are_independent() -> None:
    """Hypothesis by itself makes most examples out of the one before; then sizes, kernels and seeds repeat in runs."""
    found = drawn(1)
    assert len(found) == DRAWS
    assert len(set(found)) > 0.97 * DRAWS, f"only {len(set(found))} of {DRAWS} draws differ"
    seeds = len({case.seed for case in found})
    assert seeds > 0.9 * DRAWS, f"{DRAWS} draws have {seeds} seeds: Hypothesis mutates earlier draws again"


def test_one_seed_gives_the_same_draws() -> None:
    assert drawn(2) == drawn(2)
    assert not set(drawn(2)) & set(drawn(3)) - {Case()}


def test_what_a_trial_raises_is_raised_as_it_is() -> None:
    """Hypothesis would try the case once more, and call what does not happen again flaky."""
    tried: list[Case] = []

    def once(case: Case) -> None:
        tried.append(case)
        if len(tried) == 1:
            raise RuntimeError("the machine is out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        draw_cases(cases(EVERYTHING), 1, DRAWS, once)
    assert len(tried) == 1


def test_climbing_comes_back_to_what_scored_high() -> None:
    widths = [statistics.mean(case.w for case in drawn(4, climb=climb)) for climb in (False, True)]
    assert widths[1] > 1.5 * widths[0], f"draws are {widths[0]:.0f} wide, and climbing gives {widths[1]:.0f}"
