"""What a hunt learns about the speed of a kernel, and what it makes of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import msgspec
import pytest
from everything import EVERYTHING

from fuzz.campaign.drawing import draw_cases
from fuzz.campaign.pace import Pace
from fuzz.case import Case
from fuzz.strategies import cases

MINUTE, HOUR = 60.0, 3600.0
MANY = 1200
Cost = Callable[[Case], float]


def by_products(case: Case) -> float:
    """Seconds of a kernel that goes by single products."""
    return 1e-3 + 2e-5 * case.multiplications


def by_tiles(case: Case) -> float:
    """Seconds of a kernel that goes by tiles of 32, each of which is slow."""
    rows, columns = case.out_size
    sizes = (case.n * rows * columns, case.c_out, case.reduction_length)
    return 1e-3 + 4e-2 * math.prod(math.ceil(size / 32) for size in sizes)


def on_a_gpu(case: Case) -> float:
    return 1e-3


@functools.cache
def drawn(seed: int, count: int) -> tuple[Case, ...]:
    found: list[Case] = []

    def take(case: Case) -> None:
        found.append(case)

    draw_cases(cases(EVERYTHING), seed, count, take)
    return tuple(case for case in found if case.multiplications)


@functools.cache
def learnt(cost: Cost) -> Pace:
    """A pace that has seen what it let through."""
    pace = Pace()
    for case in drawn(1, 500):
        if pace.is_worth_trying(case, HOUR):
            pace.observe(case, cost(case))
    return pace


@pytest.mark.parametrize("cost", [by_products, by_tiles])
def test_trials_of_a_slow_kernel_take_a_fraction_of_the_time(cost: Cost) -> None:
    pace = learnt(cost)
    times = {case: case.calls * cost(case) for case in drawn(2, MANY)}
    tried = [seconds for case, seconds in times.items() if pace.is_worth_trying(case, MINUTE)]
    untamed, mean = sum(times.values()) / len(times), sum(tried) / len(tried)
    assert mean < untamed / 3, f"a trial takes {mean:.2f} s, without a pace {untamed:.2f} s"
    assert len(tried) > 100, f"only {len(tried)} of {MANY} are tried"


def test_large_calls_are_still_tried() -> None:
    pace = learnt(by_products)
    large = [case for case in drawn(2, MANY) if by_products(case) > 0.5]
    tried = [case for case in large if pace.is_worth_trying(case, HOUR)]
    assert 0 < len(tried) < len(large) / 2, f"{len(tried)} of {len(large)} slow calls are tried"


def test_a_short_hunt_leaves_out_what_would_take_most_of_it() -> None:
    pace, slow = learnt(by_products), [case for case in drawn(2, MANY) if 2 < by_products(case) < 60]
    tried = [sum(pace.is_worth_trying(case, span) for case in slow) for span in (10.0, HOUR)]
    assert tried[0] == 0 < tried[1], f"of {len(slow)} slow calls {tried[0]} in ten seconds, {tried[1]} in an hour"


def test_what_is_not_known_to_be_slow_is_affordable() -> None:
    large = Case(c_in=100, h=30, w=30, c_out=100)
    assert Pace().is_affordable(large, 0.0), "before anything has run nothing is known"
    assert not learnt(by_products).is_affordable(large, 60.0), f"{by_products(large):.0f} s are too many for a minute"
    assert learnt(on_a_gpu).is_affordable(large, 0.0)


def test_what_is_quick_is_always_tried() -> None:
    pace = learnt(on_a_gpu)
    passed_over = [case for case in drawn(2, MANY) if not pace.is_worth_trying(case, HOUR)]
    assert not passed_over, (
        f"{len(passed_over)} of {MANY} calls of a millisecond are passed over, such as {passed_over[0]}"
    )


def test_only_what_takes_far_longer_than_expected_is_suspect() -> None:
    pace, case = learnt(by_products), Case(c_in=40, h=20, w=20, c_out=40)
    assert pace.limit(case) >= 4 * by_products(case), "a slow kernel is not a hanging one"
    assert learnt(on_a_gpu).limit(case) == 5.0 * case.calls
    twice = msgspec.structs.replace(case, earlier=("same",))
    assert pace.limit(twice) == 2 * pace.limit(case), "each call has its own time"
