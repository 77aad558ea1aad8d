"""The shrinker ends on the case that a person would have written, whatever it started from."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from all_calls import all_calls
from everything import EVERYTHING
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fuzz.case import Case, Sprinkle, encode_case
from fuzz.layout import CHANNELS_LAST, Layout
from fuzz.shrinking import Shrinker
from fuzz.strategies import cases

MOST_TRIALS = 400

Predicate = Callable[[Case], bool]


def arbitrary(salt: int, one_in: int) -> Predicate:
    """A predicate without rhyme or reason: fails for one case in `one_in`, always the same ones."""

    def fails(case: Case) -> bool:
        digest = hashlib.blake2b(encode_case(case), salt=salt.to_bytes(8, "little"), digest_size=4).digest()
        return int.from_bytes(digest, "little") % one_in == 0

    return fails


def counted(fails: Predicate) -> tuple[Predicate, list[Case]]:
    """The predicate, and the list of the cases it will have been asked about."""
    asked: list[Case] = []

    def ask(case: Case) -> bool:
        asked.append(case)
        return fails(case)

    return ask, asked


def failing(fails: Predicate, **forced: Any) -> st.SearchStrategy[Case]:
    """Drawn cases, made to fail by forcing some fields."""
    return cases(EVERYTHING).map(lambda case: msgspec.structs.replace(case, **forced)).filter(fails)


def wide_cases(case: Case) -> Case:
    return msgspec.structs.replace(case, c_out=case.c_out + 33 * case.groups)


def two_channels(case: Case) -> Case:
    return msgspec.structs.replace(case, c_out=case.c_out + case.groups, scale=-abs(case.scale) or -3.0)


def grouped(case: Case) -> Case:
    groups = max(2, case.groups)
    return msgspec.structs.replace(case, groups=groups, c_in=case.c_in * groups, c_out=case.c_out * groups)


ANY_SPRINKLE = (Sprinkle("weight", "-inf", 5), Sprinkle("x", "inf", 2))
PINS: dict[str, tuple[Predicate, Callable[[Case], Case], tuple[Case, ...]]] = {
    "anything": (lambda c: True, lambda c: c, (Case(),)),
    "c_out > 32": (lambda c: c.c_out > 32, wide_cases, (Case(c_out=33),)),
    "negative scale and two channels": (
        lambda c: c.scale < 0 and c.c_out > 1,
        two_channels,
        (Case(c_out=2, scale=-1.0),),
    ),
    "channels_last x": (
        lambda c: c.x_layout.order == CHANNELS_LAST.order,
        lambda c: msgspec.structs.replace(c, x_layout=Layout(order=(0, 2, 3, 1), step=(1, 2, 3, 1), offset=7)),
        (Case(x_layout=CHANNELS_LAST),),
    ),
    "any step of the weight": (
        lambda c: max(c.weight_layout.step, default=1) > 1,
        lambda c: msgspec.structs.replace(c, weight_layout=Layout(step=(1, 1, 3, 1), order=(3, 2, 1, 0))),
        (Case(weight_layout=Layout(step=(1, 1, 2, 1))),),
    ),
    "specials": (
        lambda c: bool(c.specials),
        lambda c: msgspec.structs.replace(c, specials=ANY_SPRINKLE),
        (Case(specials=(Sprinkle("x", "nan", 1),)),),
    ),
    "an infinity in the weight": (
        lambda c: any(s.tensor == "weight" and s.value == "-inf" for s in c.specials),
        lambda c: msgspec.structs.replace(c, specials=ANY_SPRINKLE),
        (Case(specials=(Sprinkle("weight", "-inf", 1),)),),
    ),
    "a kernel that is not square": (
        lambda c: c.kh != c.kw,
        lambda c: msgspec.structs.replace(c, kh=c.kw + 2) if c.kh == c.kw else c,
        (Case(kh=2), Case(kw=2)),
    ),
    "groups": (lambda c: c.groups > 1, grouped, (Case(c_in=2, c_out=2, groups=2),)),
    "empty batch": (lambda c: c.n == 0, lambda c: msgspec.structs.replace(c, n=0), (Case(n=0),)),
    "bias in bfloat16": (
        lambda c: c.dtype == "bfloat16" and c.bias,
        lambda c: msgspec.structs.replace(c, dtype="bfloat16", bias=True),
        (Case(bias=True, dtype="bfloat16"),),
    ),
    "stride with padding": (
        lambda c: c.stride[1] > 1 and c.padding[0] > 0,
        lambda c: msgspec.structs.replace(c, stride=(2, 3), padding=(2, 3)),
        (Case(stride=(1, 2), padding=(1, 0)),),
    ),
    "a family": (
        lambda c: c.values in ("winner", "near_tie"),
        lambda c: msgspec.structs.replace(c, values="near_tie"),
        (Case(values="winner"),),
    ),
    "an ordinary scale": (
        lambda c: c.scale not in (0, 1, -1, 2, 0.5),
        lambda c: msgspec.structs.replace(c, scale=3.0),
        (Case(scale=3.0),),
    ),
    "a wide image": (
        lambda c: c.w > 128 and c.h >= 3,
        lambda c: msgspec.structs.replace(c, w=c.w + 128, h=c.h + 3),
        (Case(h=3, w=129),),
    ),
    "a named config": (
        lambda c: c.config is not None,
        lambda c: msgspec.structs.replace(c, config="small"),
        (Case(config="small"),),
    ),
    "an earlier call that fails by itself": (
        lambda c: any(call.c_out >= 5 for call in all_calls(c)),
        lambda c: msgspec.structs.replace(c, earlier=("same", "c_out"), seed=1),
        (Case(c_out=5),),
    ),
    "a second call that fails by itself": (
        lambda c: any(call.c_out >= 2 for call in all_calls(c)),
        lambda c: msgspec.structs.replace(c, relation="duplicate channel"),
        (Case(c_out=2),),
    ),
    "an odd seed": (
        lambda c: c.seed % 2 == 1,
        lambda c: msgspec.structs.replace(c, seed=c.seed | 1),
        (Case(seed=1),),
    ),
}


@pytest.mark.parametrize("name", PINS)
@settings(max_examples=10)
@given(drawn=cases(EVERYTHING))
def test_minimal(name: str, drawn: Case) -> None:
    fails, make_fail, expected = PINS[name]
    case = make_fail(drawn)
    assume(fails(case))
    ask, asked = counted(fails)
    found = Shrinker(case, ask).shrink()
    wanted = " or ".join(map(repr, expected))
    assert found in expected, f"{name}: ends on {found}, a person would write {wanted}; began with {case}"
    assert len(asked) < MOST_TRIALS, f"{name}: {len(asked)} trials, each of which may cost a process"


@settings(max_examples=40)
@given(cases(EVERYTHING), st.integers(0, 2**32), st.sampled_from((1, 2, 3, 10)))
def test_ends_on_a_failing_case_for_any_predicate(case: Case, salt: int, one_in: int) -> None:
    by_chance = arbitrary(salt, one_in)
    ask, asked = counted(lambda each: each == case or by_chance(each))
    found = Shrinker(case, ask).shrink()
    assert found == case or by_chance(found), f"{found} passes: a passing case must never be returned"
    assert len(asked) < 20_000, "the shrinker runs in circles"


@settings(max_examples=40)
@given(cases(EVERYTHING), st.integers(0, 2**32))
def test_never_asks_twice_about_one_case(case: Case, salt: int) -> None:
    by_chance = arbitrary(salt, 3)
    ask, asked = counted(lambda each: each == case or by_chance(each))
    Shrinker(case, ask).shrink()
    texts = [repr(each) for each in asked]
    twice = sorted({text for text in texts if texts.count(text) > 1}) if len(texts) != len(set(texts)) else []
    assert not twice, f"each trial may cost a process, and these were run again: {twice[:3]}"
    assert repr(case) not in texts, "that the case fails is known"


@settings(max_examples=40)
@given(cases(EVERYTHING), st.integers(0, 60), st.integers(0, 2**32))
def test_stops_when_it_may_not_go_on(case: Case, trials: int, salt: int) -> None:
    by_chance = arbitrary(salt, 2)
    ask, asked = counted(lambda each: each == case or by_chance(each))
    found = Shrinker(case, ask, may_go_on=lambda: len(asked) < trials).shrink()
    assert len(asked) <= trials, f"{len(asked)} trials where {trials} were granted"
    assert found == case or found in asked, "a case that was never run"
    assert found == case or by_chance(found), f"{found} passes"


@given(cases(EVERYTHING))
def test_no_trial_at_all_leaves_the_case(case: Case) -> None:
    ask, asked = counted(lambda each: True)
    assert Shrinker(case, ask, may_go_on=lambda: False).shrink() == case
    assert not asked, "it was told not to go on before the first trial"


@settings(max_examples=25)
@given(cases(EVERYTHING), st.sampled_from(sorted(PINS)))
def test_shrinking_again_changes_nothing(drawn: Case, name: str) -> None:
    fails, make_fail, _ = PINS[name]
    case = make_fail(drawn)
    assume(fails(case))
    once = Shrinker(case, fails).shrink()
    assert Shrinker(once, fails).shrink() == once, "a fixed point, or the first run stopped early"


def test_the_simplest_case_takes_one_trial_at_most() -> None:
    ask, asked = counted(lambda case: True)
    assert Shrinker(Case(c_out=65, dtype="bfloat16", seed=12), ask).shrink() == Case()
    assert len(asked) < 10, "most shrinks begin with: does it fail at all on the simplest call?"


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(("bias", "stride", "x_layout", "dtype"), 2)))
def test_two_fields_that_matter_together_are_both_kept(first: str, second: str) -> None:
    case = Case(
        n=3,
        c_in=17,
        h=9,
        w=65,
        c_out=33,
        kh=3,
        kw=3,
        bias=True,
        stride=(2, 2),
        x_layout=Layout(margin=2),
        dtype="float16",
        values="gaussian",
        seed=77,
    )

    def fails(each: Case) -> bool:
        return all(getattr(each, name) != getattr(Case(), name) for name in (first, second))

    simplest = {"bias": True, "dtype": "float16", "x_layout": Layout(margin=1)}
    found = Shrinker(case, fails).shrink()
    for name in (first, second):
        value = getattr(found, name)
        assert value == simplest.get(name, value), f"{name}={value} could be simpler"
    kept = {info.name for info in msgspec.structs.fields(Case) if getattr(found, info.name) != info.default}
    assert kept == {first, second}, f"only {first} and {second} matter, {kept} are set"


def test_what_is_left_over_of_a_tile_stays() -> None:
    """Only sizes one past a whole tile fail: halving alone would be stuck at the first of them."""
    shrunk = Shrinker(
        Case(c_out=449, values="impulse"), lambda case: case.c_out > 128 and case.c_out % 32 == 1
    ).shrink()
    assert shrunk.c_out == 129, f"stuck at {shrunk!r}"


def test_a_smaller_size_is_found_with_another_family() -> None:
    """All ones hide which channel won: shrinking the size may take numbers that tell channels apart."""

    def fails(case: Case) -> bool:
        return case.c_out >= 3 if case.values == "lattice" else case.c_out >= 40

    assert Shrinker(Case(c_out=65, values="ones", seed=5), fails).shrink() == Case(c_out=40)
    found = Shrinker(Case(c_out=65, values="winner", seed=5), lambda c: fails(c) and c.values != "ones").shrink()
    assert found == Case(c_out=3, values="lattice"), f"{found}: the family that shows it at 3 channels is simpler"
