"""Traits: few for each trial, finite in number, and fine enough to tell cases apart."""

from __future__ import annotations

import msgspec
import pytest
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import verdicts

from fuzz.campaign.traits import traits
from fuzz.case import Case, Sprinkle
from fuzz.layout import CHANNELS_LAST, Layout
from fuzz.strategies import cases
from fuzz.verdict import Verdict, failure

PASS = Verdict(status="pass")
LINES = st.lists(st.sampled_from(("12 load mixed", "12 load all_true", "30 store mixed")), unique=True)


@settings(max_examples=150)
@given(case=cases(msgspec.structs.replace(EVERYTHING, same_padding=True, far=True)), verdict=verdicts(), lines=LINES)
def test_every_trial_has_a_few_traits(case: Case, verdict: Verdict, lines: list[str]) -> None:
    found = traits(case, verdict, lines)
    assert found == traits(case, verdict, lines), "the same trial has other traits now"
    assert all(isinstance(trait, str) and trait and "\n" not in trait for trait in found)
    assert len(found) < 60, f"{len(found)} traits of one trial"
    assert max(map(len, found)) < 200, "a trait has a number of any size in its name"
    assert set(lines) <= set(found)


@given(ratio=st.floats(1, allow_nan=False, allow_infinity=False))
def test_errors_beyond_the_bound_do_not_make_traits_without_end(ratio: float) -> None:
    verdicts = [failure("wrong-value", "interval", "", error_ratio=each) for each in (ratio, 1e30)]
    found = {trait for verdict in verdicts for trait in traits(Case(), verdict)}
    assert sum("tenths" in trait for trait in found) == 1, f"each error beyond the bound is a trait of its own: {found}"


BASE = Case(n=2, c_in=4, h=9, w=9, c_out=40, kh=3, kw=3, bias=True)


@pytest.mark.parametrize(
    "change",
    [
        {"c_out": 48},
        {"c_out": 49},
        {"c_out": 47},
        {"c_out": 64},
        {"c_in": 16},
        {"w": 18},
        {"h": 1, "kh": 1},
        {"n": 1},
        {"dtype": "bfloat16"},
        {"precision": "tf32"},
        {"config": "small"},
        {"stride": (2, 1)},
        {"padding": (0, 1)},
        {"same": True},
        {"dilation": (1, 2)},
        {"groups": 2},
        {"scale": -1.0},
        {"scale": 0.0},
        {"scale": -0.0},
        {"scale": float("nan")},
        {"values": "winner"},
        {"specials": (Sprinkle("x", "nan"),)},
        {"earlier": ("contents",)},
        {"relation": "negated"},
        *({f"{name}_layout": Layout(offset=1)} for name in ("x", "weight", "bias")),
        {"x_layout": CHANNELS_LAST},
        {"x_layout": Layout(far=True)},
    ],
    ids=lambda change: " ".join(f"{name}={value}" for name, value in change.items()),
)
def test_what_a_kernel_may_go_by_is_a_trait(change: dict[str, object]) -> None:
    other = msgspec.structs.replace(BASE, **change)
    assert set(traits(other, PASS)) - set(traits(BASE, PASS)), f"nothing new in {other}"


ORDERS = (Layout(), CHANNELS_LAST, Layout(order=(1, 0, 2, 3)))
MORE = ({}, {"step": (1, 1, 2, 1)}, {"margin": 1}, {"offset": 3}, {"expand": (1,)}, {"unit_stride": 3}, {"far": True})
LAYOUTS = [msgspec.structs.replace(order, **more) for order in ORDERS for more in MORE]


def test_layouts_of_different_kinds_have_different_traits() -> None:
    by_traits: dict[frozenset[str], Layout] = {}
    for layout in LAYOUTS:
        found = frozenset(traits(msgspec.structs.replace(BASE, x_layout=layout), PASS))
        assert found not in by_traits, f"{layout} has the traits of {by_traits[found]}"
        by_traits[found] = layout


def kind_of(size: int, tile: int) -> int:
    """Just short of a number of tiles, a whole number of them, one more, and anything else."""
    return {0: 0, 1: 1, tile - 1: 2}.get(size % tile, 3)


@given(size=st.integers(1, 2000), more=st.integers(1, 64), tile=st.sampled_from((16, 64)))
def test_residues_by_a_tile_are_told_apart(size: int, more: int, tile: int) -> None:
    one, other = (
        {trait for trait in traits(Case(c_out=channels), PASS) if trait.startswith("channels")}
        for channels in (size, size + more)
    )
    if kind_of(size, tile) != kind_of(size + more, tile):
        assert one != other, f"{size} and {size + more} channels by tiles of {tile} look alike"
