"""Drawn cases: only what the target can be asked, and everything that it can be asked."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import get_args

import pytest
from everything import EVERYTHING
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from fuzz.abilities import Abilities
from fuzz.campaign.drawing import INDEPENDENT
from fuzz.case import DTYPES, FAMILIES, PRECISIONS, Case, Dtype, Precision, Special, TensorName, encode_case
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS, Layout
from fuzz.strategies import cases, layouts, sprinkles

PLAIN_MODULE = Abilities(kind="module")
PLAIN_FUNCTION = Abilities(kind="function")
DRAWS = 800


def draw(strategy: st.SearchStrategy[Case], count: int) -> list[Case]:
    """The same draws in every run, so that what is missing is missing for everybody."""
    drawn: list[Case] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        backend=INDEPENDENT,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    return drawn


@functools.cache
def everything() -> tuple[Case, ...]:
    return tuple(draw(cases(EVERYTHING), DRAWS))


def abilities() -> st.SearchStrategy[Abilities]:
    return st.builds(
        Abilities,
        kind=st.sampled_from(("module", "function")),
        convolution_options=st.booleans(),
        optional_bias=st.booleans(),
        precision=st.booleans(),
        configs=st.sampled_from(((), ("small",), ("small", "large"))),
        every_dtype=st.booleans(),
        in_order=st.booleans(),
    )


# Only what the target can be asked.


@settings(max_examples=120)
@given(asked=abilities(), data=st.data())
def test_drawn_cases_obey_the_abilities(asked: Abilities, data: st.DataObject) -> None:
    case = data.draw(cases(asked))
    assert asked.why_not(case) == "", f"{asked} cannot be asked for {case}"
    if not asked.convolution_options:
        options = (case.stride, case.padding, case.dilation, case.groups)
        assert options == ((1, 1), (0, 0), (1, 1), 1), f"options {options} that the target does not take"
    if asked.kind == "module":
        assert case.weight_layout == case.bias_layout == CONTIGUOUS, "a module owns its parameters"
    assert case.dtype in asked.dtypes, f"{case.dtype} is not promised"
    assert case.precision in asked.precisions, f"precision={case.precision} cannot be asked"
    assert case.config is None or case.config in asked.configs, f"there is no config {case.config}"
    assert case.bias or case.bias_layout == CONTIGUOUS, "a bias that is not there has no layout"
    if not asked.every_dtype:
        assert min(case.out_size) > 0, "error cases are for targets that promise PyTorch's errors"


@given(
    asked=abilities(),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, unique=True).map(tuple),
    precisions=st.lists(st.sampled_from(PRECISIONS), min_size=1, unique=True).map(tuple),
    data=st.data(),
)
def test_dtypes_and_precisions_are_those_asked_for(
    asked: Abilities, dtypes: tuple[Dtype, ...], precisions: tuple[Precision, ...], data: st.DataObject
) -> None:
    case = data.draw(cases(asked, dtypes=dtypes, precisions=precisions))
    assert case.dtype in dtypes, f"{case.dtype} was not asked for, only {dtypes}"
    if case.dtype == "float32":
        assert case.precision in precisions, f"{case.precision} was not asked for, only {precisions}"
    else:
        assert case.precision == "default", "precision is a matter of float32 alone"


@given(cases(EVERYTHING, effort=0.1), cases(EVERYTHING))
def test_effort_bounds_the_size(small: Case, ordinary: Case) -> None:
    for case, effort in ((small, 0.1), (ordinary, 1.0)):
        tile = 32**3
        # Every size counts as a tile at least; the largest call has 96 of them, and windows of 7 taps round up.
        assert case.multiplications <= 2 * 96 * tile * max(effort, 1 / 6), f"{case.multiplications} products: {case}"


@given(layouts(4), layouts(1))
def test_layouts_fit_their_rank(of_four: Layout, of_one: Layout) -> None:
    case = Case(x_layout=of_four, weight_layout=of_four, bias=True, bias_layout=of_one)
    assert (case.x_layout, case.bias_layout) == (of_four, of_one)


# Everything that the target can be asked.


def last_offset(layout: Layout, shape: tuple[int, ...]) -> int:
    strides, first, _ = layout.place(shape)
    return first + sum(max(0, size - 1) * stride for size, stride in zip(shape, strides, strict=True))


FEATURES: dict[str, Callable[[Case], bool]] = {
    "empty batch": lambda c: c.n == 0,
    "several images": lambda c: c.n > 1,
    "a row wider than any tile": lambda c: c.w > 128,
    "a column higher than any tile": lambda c: c.h > 64,
    "more output channels than any tile": lambda c: c.c_out > 128,
    "a single output channel": lambda c: c.c_out == 1,
    "output channels just past a tile": lambda c: c.c_out in (17, 33, 65, 129),
    "many input channels": lambda c: c.c_in > 64,
    "a kernel that is not square": lambda c: c.kh != c.kw,
    "a kernel of 1": lambda c: (c.kh, c.kw) == (1, 1),
    "an image that is not square": lambda c: c.h != c.w,
    "a kernel larger than its input": lambda c: min(c.out_size) < 1,
    "stride": lambda c: c.stride != (1, 1),
    "uneven stride": lambda c: c.stride[0] != c.stride[1],
    "padding": lambda c: c.padding != (0, 0),
    "uneven padding": lambda c: c.padding[0] != c.padding[1],
    "dilation": lambda c: c.dilation != (1, 1),
    "groups": lambda c: c.groups > 1,
    "bias": lambda c: c.bias,
    "no bias": lambda c: not c.bias,
    "negative scale": lambda c: c.scale < 0,
    "scale of zero": lambda c: c.scale == 0,
    "scale that is not finite": lambda c: c.scale - c.scale != 0,
    "scale that is subnormal": lambda c: 0 < abs(c.scale) < 2.0**-126,
    "scale that no list holds": lambda c: c.scale not in (1, 2, -1, 0.5, -2, 0, 3, -0.375) and abs(c.scale) < 8,
    "config": lambda c: c.config is not None,
    "specials": lambda c: bool(c.specials),
    "channels_last x": lambda c: c.x_layout == CHANNELS_LAST,
    "misaligned x": lambda c: c.x_layout.offset % 4 != 0,
    "x with gaps": lambda c: max(c.x_layout.step, default=1) > 1,
    "x inside a larger tensor": lambda c: c.x_layout.margin > 0,
    "expanded x": lambda c: bool(c.x_layout.expand),
    "odd strides of size 1": lambda c: c.x_layout.unit_stride > 0,
    "weight that is not contiguous": lambda c: c.weight_layout != CONTIGUOUS,
    "bias that is not contiguous": lambda c: c.bias_layout != CONTIGUOUS,
    "x with offsets that take more than 16 bits": lambda c: last_offset(c.x_layout, c.x_shape) >= 2**16,
    "weight with offsets that take more than 16 bits": lambda c: last_offset(c.weight_layout, c.weight_shape) >= 2**16,
    "large seed": lambda c: c.seed > 2**16,
}


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_is_drawn(name: str) -> None:
    count = sum(map(FEATURES[name], everything()))
    assert count, f"{name}: not once in {DRAWS} draws"


def test_every_choice_is_drawn() -> None:
    drawn = everything()
    for field, choices in (("values", FAMILIES), ("dtype", DTYPES), ("precision", PRECISIONS)):
        counts = Counter(getattr(case, field) for case in drawn)
        missing = set(choices) - set(counts)
        assert not missing, f"{field}: {sorted(missing)} not once in {DRAWS} draws"
    assert {case.config for case in drawn} == {None, "small", "large"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_family_is_drawn_in_every_dtype(dtype: Dtype) -> None:
    missing = set(FAMILIES) - {case.values for case in draw(cases(EVERYTHING, dtypes=(dtype,)), 600)}
    assert not missing, f"{dtype}: {sorted(missing)} not once in 600 draws"


def test_most_draws_differ() -> None:
    """A case that was drawn before finds nothing new; draws that decide nothing make such cases."""
    different = len({encode_case(case) for case in everything()})
    assert different > 0.5 * DRAWS, f"only {different} of {DRAWS} drawn cases are different ones"


def test_most_calls_are_small() -> None:
    """Two small calls find more than one large one."""
    products = sorted(case.multiplications for case in everything())
    assert products[len(products) // 2] < 2**17, f"half of the calls have over {products[len(products) // 2]} products"


def test_a_module_gets_what_a_module_can_take() -> None:
    drawn = draw(cases(PLAIN_MODULE), 400)
    assert {case.values for case in drawn} == set(FAMILIES)
    assert any(case.x_layout != CONTIGUOUS for case in drawn), "the layout of x is ours even for a module"
    assert {case.dtype for case in drawn} == {"float32"}
    assert {case.config for case in drawn} == {None}


def test_a_plain_function_gets_layouts_but_no_options() -> None:
    drawn = draw(cases(PLAIN_FUNCTION), 100)
    assert any(case.weight_layout != CONTIGUOUS for case in drawn)
    assert {(case.stride, case.padding, case.dilation, case.groups) for case in drawn} == {((1, 1), (0, 0), (1, 1), 1)}


def test_every_special_reaches_every_tensor() -> None:
    seen: set[tuple[str, str]] = set()

    @settings(max_examples=300, derandomize=True, database=None, deadline=None)
    @given(sprinkles())
    def collect(specials: tuple[object, ...]) -> None:
        seen.update((each.tensor, each.value) for each in specials)  # type: ignore[attr-defined]

    collect()
    wanted = {(tensor, value) for tensor in get_args(TensorName) for value in get_args(Special)}
    assert seen == wanted, f"never drawn: {wanted - seen}"


# Shrinking a draw ends on the simplest.

QUIET = settings(max_examples=2000, derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize(
    ("wanted", "simplest"),
    [
        (lambda c: True, Case()),
        (lambda c: c.c_out > 32, Case(c_out=33)),
        (lambda c: c.dtype == "bfloat16", Case(dtype="bfloat16")),
        (lambda c: c.values == "lattice", Case(values="lattice")),
    ],
)
def test_hypothesis_shrinks_a_draw_to_the_simplest(wanted: Callable[[Case], bool], simplest: Case) -> None:
    # From calls with two large dimensions Hypothesis may not find the way to those with one.
    ends = (find(cases(EVERYTHING), wanted, settings=QUIET, random=Random(seed)) for seed in range(6))
    found: list[str] = []
    for end in map(repr, ends):
        found.append(end)
        if end == repr(simplest):
            return
    pytest.fail(f"Hypothesis ends on {found}: some list does not begin with its simplest entry")
