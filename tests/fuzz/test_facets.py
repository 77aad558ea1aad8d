"""Facets: each can be taken out of a case, and the necessary ones name the bug."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest
from everything import EVERYTHING
from hypothesis import given, settings

from fuzz.case import Case, Sprinkle
from fuzz.facets import BY_NAME, FACETS, Facet, attributes, causes, still_fails
from fuzz.layout import CHANNELS_LAST, CaseError, Layout
from fuzz.shrinking import Shrinker
from fuzz.strategies import cases


def taken_out(case: Case, facet: Facet) -> Case | None:
    """The case without the facet; None where there is no such case."""
    try:
        return facet.without(case)
    except CaseError:
        return None


@settings(max_examples=80)
@given(cases(EVERYTHING))
def test_every_facet_can_be_taken_out(case: Case) -> None:
    for facet in FACETS:
        without = taken_out(case, facet)
        if without is not None:
            assert_absent(facet, without, case)


def assert_absent(facet: Facet, without: Case, case: Case) -> None:
    assert not facet.present(without), f"{facet.name} is still there: {case} became {without}"
    assert facet.without(without) == without, "taking out what is not there changes nothing"


@given(cases(EVERYTHING))
def test_the_simplest_case_is_what_is_left(case: Case) -> None:
    """Every way in which a case differs from the simplest one is a facet, but for the seed and the plain families."""
    left = case
    for _ in range(2):
        for facet in FACETS:
            left = facet.without(left)
    for name in ("values", "seed"):
        left = msgspec.structs.replace(left, **{name: getattr(Case(), name)})
    rest = [name for name in left.__struct_fields__ if repr(getattr(left, name)) != repr(getattr(Case(), name))]
    assert not rest, f"no facet takes {rest} out of {case}"


def test_the_simplest_case_has_no_facets() -> None:
    assert [facet.name for facet in FACETS if facet.present(Case())] == []


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(FACETS), "failures are told apart by these names"


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (Case(dtype="float16"), "dtype"),
        (Case(precision="ieee"), "precision"),
        (Case(config="small"), "config"),
        (Case(n=0), "empty batch"),
        (Case(stride=(1, 2)), "stride"),
        (Case(padding=(1, 0)), "padding"),
        (Case(dilation=(1, 2)), "dilation"),
        (Case(bias=True), "bias"),
        (Case(scale=-1.0), "scale"),
        (Case(scale=0.0), "scale"),
        (Case(scale=math.nan), "special or extreme values"),
        (Case(scale=2.0**100), "special or extreme values"),
        (Case(scale=-(2.0**-140)), "special or extreme values"),
        (Case(values="huge"), "special or extreme values"),
        (Case(values="subnormal"), "special or extreme values"),
        (Case(specials=(Sprinkle("x", "nan"),)), "special or extreme values"),
        (Case(x_layout=CHANNELS_LAST), "layout of x"),
        (Case(weight_layout=Layout(offset=1)), "layout of weight"),
        (Case(bias_layout=Layout(offset=1)), "layout of bias"),
        (Case(values="gaussian"), "inexact values"),
        (Case(earlier=("same",)), "earlier calls"),
        (Case(relation="repeat"), "relation"),
        (Case(n=2), "batch"),
        (Case(c_in=2), "input channels"),
        (Case(c_out=2), "output channels"),
        (Case(w=2), "image size"),
    ],
    ids=lambda value: repr(value)[26:] if isinstance(value, Case) else value,
)
def test_one_field_is_one_facet(case: Case, name: str) -> None:
    assert [facet.name for facet in FACETS if facet.present(case)] == [name]


@pytest.mark.parametrize(
    ("fails", "shrunk", "expected"),
    [
        (lambda c: c.c_out > 32, Case(c_out=33), ("output channels",)),
        (lambda c: c.scale < 0 and c.c_out > 1, Case(c_out=2, scale=-1.0), ("scale",)),
        (
            lambda c: c.x_layout.order == CHANNELS_LAST.order,
            Case(x_layout=CHANNELS_LAST),
            ("layout of x",),
        ),
        (lambda c: bool(c.specials), Case(specials=(Sprinkle("x", "nan", 1),)), ("special or extreme values",)),
        (lambda c: c.kh != c.kw, Case(kw=2), ("kernel size",)),
        (lambda c: c.groups > 1, Case(c_in=2, c_out=2, groups=2), ("groups",)),
        (lambda c: c.n == 0, Case(n=0), ("empty batch",)),
        (lambda c: c.dtype == "bfloat16" and c.bias, Case(bias=True, dtype="bfloat16"), ("dtype", "bias")),
        (lambda c: math.isnan(c.scale), Case(scale=math.nan), ("special or extreme values",)),
        (lambda c: c.c_out > 1 and c.w > 128, Case(c_out=2, w=129), ("output channels", "image size")),
        (lambda c: c.padding != (0, 0) and c.c_in > 1, Case(c_in=2, padding=(0, 1)), ("padding",)),
        (lambda c: True, Case(), ()),
    ],
)
def test_necessary_facets_name_the_bug(fails: Callable[[Case], bool], shrunk: Case, expected: tuple[str, ...]) -> None:
    assert fails(shrunk)
    assert causes(attributes(shrunk, fails)) == expected
    assert Shrinker(shrunk, fails).shrink() == shrunk, "the pins are what the shrinker would hand over"


@given(cases(EVERYTHING))
def test_a_facet_that_does_not_matter_is_not_necessary(case: Case) -> None:
    assert causes(attributes(case, lambda each: True)) == (), "everything fails, so nothing is needed"


@given(cases(EVERYTHING))
def test_causes_leave_sizes_out(case: Case) -> None:
    found = causes(attributes(case, lambda each: each == case))
    sizes = [name for name in found if BY_NAME[name].is_size]
    present = [facet for facet in FACETS if facet.present(case)]
    if any(not facet.is_size for facet in present):
        assert not sizes, f"{sizes} are mere sizes beside {found}"
    assert len(found) == sum(facet.is_size == bool(sizes) for facet in present), "every facet of its kind was needed"


def test_still_fails_asks_only_where_the_facet_is_present() -> None:
    asked: list[Case] = []

    def fails(case: Case) -> bool:
        asked.append(case)
        return False

    assert still_fails(Case(), BY_NAME["bias"], fails), "a case without the facet fails as it is"
    assert not asked
    assert not still_fails(Case(bias=True), BY_NAME["bias"], fails)
    assert asked == [Case()]
