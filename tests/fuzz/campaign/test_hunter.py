"""What a hunter does with a drawn case: it leads it around known bugs, and knows it again."""

from __future__ import annotations

import msgspec
import pytest
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.campaign.buckets import HISTORY, Bucket
from fuzz.campaign.hunter import case_key, has_hang, led_around
from fuzz.case import Case, decode_case, encode_case
from fuzz.facets import BY_NAME, FACETS
from fuzz.strategies import cases

DRAWN = cases(msgspec.structs.replace(EVERYTHING, same_padding=True, far=True))
BUCKETS = st.builds(
    Bucket,
    st.sampled_from(("wrong result", "crash")),
    st.lists(st.sampled_from((*BY_NAME, HISTORY)), max_size=3, unique=True).map(tuple),
)
# Of so many seeds, one leaves a case as it is drawn: where only sizes make the bug, every other one does.
SHARES = {False: 1 / 8, True: 1 / 2}


def shows(case: Case, bucket: Bucket) -> bool:
    """Whether a case has all that a bug needs, as far as that can be seen in a case."""
    facets = [BY_NAME[name] for name in bucket.facets if name != HISTORY]
    return bool(facets) and all(facet.present(case) for facet in facets)


@settings(max_examples=150)
@given(case=DRAWN, known=st.lists(BUCKETS, max_size=4).map(tuple))
def test_a_case_is_led_around_every_known_bug_unless_it_stays_as_drawn(case: Case, known: tuple[Bucket, ...]) -> None:
    led = led_around(case, known)
    assert decode_case(encode_case(led)) == led
    assert led.seed == case.seed, "the seed decides, and so must not change on the way"
    for bucket in known:
        if shows(led, bucket):
            turn = led.seed // 16 // len([name for name in bucket.facets if name != HISTORY])
            only_sizes = all(BY_NAME[name].is_size for name in bucket.facets if name != HISTORY)
            assert turn % (2 if only_sizes else 8) == 0, f"{led} has all that {bucket} needs"
    if not any(shows(case, bucket) for bucket in known):
        assert led == case, "a case that shows no known bug is changed"


@pytest.mark.parametrize(
    ("names", "only_sizes"),
    [
        (("bias",), False),
        (("scale", "output channels"), False),
        (("image size",), True),
        (("batch", "image size"), True),
    ],
)
def test_a_share_of_the_cases_stays_as_drawn(names: tuple[str, ...], only_sizes: bool) -> None:
    bucket = Bucket("wrong result", names)
    case = Case(n=2, c_in=2, h=5, w=5, c_out=3, bias=True, scale=-2.0)
    seeds = [number * 2654435761 % 2**32 for number in range(4000)]
    kept = sum(shows(led_around(msgspec.structs.replace(case, seed=seed), (bucket,)), bucket) for seed in seeds)
    share = SHARES[only_sizes]
    assert 0.8 * share < kept / len(seeds) < 1.25 * share, f"{kept} of {len(seeds)} cases stay as drawn"


def test_each_of_the_things_that_a_bug_needs_is_taken_out_of_some_cases() -> None:
    bucket = Bucket("wrong result", ("bias", "scale"))
    case = Case(bias=True, scale=-2.0)
    led = {led_around(msgspec.structs.replace(case, seed=seed), (bucket,)) for seed in range(0, 16 * 64, 16)}
    assert {(other.bias, other.scale) for other in led} == {(True, -2.0), (False, -2.0), (True, 1.0)}


@pytest.mark.parametrize("known", [(), (Bucket("crash", ()),), (Bucket("wrong result", (HISTORY,)),)])
@given(case=DRAWN)
def test_what_cannot_be_avoided_changes_nothing(known: tuple[Bucket, ...], case: Case) -> None:
    assert led_around(case, known) == case


def test_what_comes_of_leading_around_one_bug_is_led_around_another() -> None:
    """An extreme scale becomes -1: a scale, which the other bug needs, whichever of them was found first."""
    known = Bucket("wrong result", ("scale",)), Bucket("missing NaN", ("special or extreme values",))
    case = Case(scale=-float("inf"), seed=16)
    for order in (known, known[::-1]):
        assert led_around(case, order) == Case(seed=16)


@settings(max_examples=100)
@given(one=DRAWN, other=DRAWN, data=st.data())
def test_keys_are_equal_for_equal_cases_alone(one: Case, other: Case, data: st.DataObject) -> None:
    near = data.draw(st.sampled_from(FACETS)).without(one)
    for each in (other, near, decode_case(encode_case(one))):
        assert (case_key(one) == case_key(each)) == (one == each), f"{one} and {each}"
    assert 0 <= case_key(one) < 2**63, "not a number that travels as JSON"


def test_a_hang_is_told_by_how_it_shows() -> None:
    assert has_hang((Bucket("crash", ("bias",)), Bucket("timeout", ())))
    assert not has_hang((Bucket("crash", ("bias",)),))
