"""Sizes that a bug needs: what is smaller is smaller, and two bugs that show from different sizes on are two."""

from __future__ import annotations

import operator

import msgspec
import pytest
from everything import EVERYTHING
from hypothesis import assume, given
from hypothesis import strategies as st

from fuzz.campaign.buckets import Bucket
from fuzz.case import Case
from fuzz.facets import FACETS
from fuzz.sizes import Sizes, just_below, reaches, size_words, sizes_of
from fuzz.strategies import cases
from fuzz.verdict import Verdict, failure

NAMES = [facet.name for facet in FACETS if facet.is_size]
PASS, WRONG = Verdict(status="pass"), failure("wrong-value", "exact", "wrong")


def extents(name: str, sizes: Sizes) -> list[int]:
    return [int(word) for word in size_words(name, sizes).split("×")]


@pytest.mark.parametrize("name", NAMES)
@given(case=cases(EVERYTHING), other=cases(EVERYTHING))
def test_what_is_just_below_does_not_reach(name: str, case: Case, other: Case) -> None:
    assume(min(*case.out_size, *other.out_size) >= 1)
    needed = sizes_of(other)
    for smaller in just_below(name, case, needed):
        assert smaller != case
        now = sizes_of(smaller)
        below = not reaches(name, now, needed) or any(map(operator.lt, extents(name, now), extents(name, needed)))
        assert below, f"{size_words(name, now)} is as large in every way"
        if name != "kernel size":
            assert (smaller.kh, smaller.kw) == (case.kh, case.kw)
        assert reaches(name, sizes_of(case), now), "a size was raised"


@given(case=cases(EVERYTHING), name=st.sampled_from(NAMES))
def test_nothing_is_below_what_a_case_does_not_reach(case: Case, name: str) -> None:
    assume(min(case.out_size) >= 1 and case.n >= 1)
    larger = Sizes(*(size + 1 for size in msgspec.structs.astuple(sizes_of(case))))
    assert list(just_below(name, case, larger)) == []


WIDE = Bucket("wrong result", ("image size",), sizes_of(Case(w=17)))
SKEW = Bucket("wrong result", ("image size", "kernel size"), sizes_of(Case(w=3, kw=2)))


def is_wide(case: Case) -> bool:
    return case.out_size[1] > 16


def is_skew(case: Case) -> bool:
    return case.out_size[1] > 1 and case.kh != case.kw


@pytest.mark.parametrize(
    ("case", "by"),
    [
        (Case(w=40), {WIDE}),
        (Case(h=7, w=17, kh=3, kw=1), set()),  # both at once: neither alone
        (Case(w=9, kw=3), {SKEW}),
        (Case(h=3, w=9, kh=2, kw=3), {SKEW}),
        (Case(h=5, w=18, c_in=3), {WIDE}),
    ],
)
def test_a_bug_of_sizes_explains_what_is_larger_and_no_other_bug(case: Case, by: set[Bucket]) -> None:
    def judge(other: Case) -> Verdict:
        return WRONG if is_wide(other) or is_skew(other) else PASS

    assert judge(case).failed
    assert {bucket for bucket in (WIDE, SKEW) if bucket.explains(case, WRONG, judge)} == by


def test_a_bug_from_other_sizes_on_is_another_one() -> None:
    assert not WIDE.covers(SKEW)
    assert not SKEW.covers(WIDE)
    assert WIDE.covers(Bucket("wrong result", ("image size",), sizes_of(Case(w=33))))
    assert str(WIDE) == "wrong result that depends on image size (1×17)"
    assert str(SKEW) == "wrong result that depends on image size (1×2) and kernel size (1×2)"
