"""Neighbours of cases: like the model, other than it, and only what the target can be asked."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from everything import EVERYTHING
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from fuzz.abilities import Abilities
from fuzz.call_sizes import MOST_TILES, tiles_of
from fuzz.campaign.drawing import INDEPENDENT
from fuzz.case import Case, decode_case, encode_case
from fuzz.layout import CONTIGUOUS, Layout, same
from fuzz.strategies import cases
from fuzz.variation import neighbours

ASKED = {
    "everything": EVERYTHING,
    "module": Abilities(kind="module"),
    "function": Abilities(kind="function"),
    "function with options": Abilities(kind="function", convolution_options=True, optional_bias=True),
}
RICH = Case(
    n=3,
    c_in=6,
    h=9,
    w=17,
    c_out=34,
    kh=3,
    kw=2,
    stride=(2, 1),
    padding=(1, 0),
    dilation=(1, 2),
    groups=2,
    bias=True,
    scale=-0.375,
    dtype="float16",
    config="large",
    x_layout=Layout(offset=3),
    weight_layout=Layout(margin=1),
    bias_layout=Layout(step=(2,)),
    values="gaussian",
    earlier=("same",),
    relation="negated",
    seed=5,
)
QUICK = settings(max_examples=60, suppress_health_check=list(HealthCheck))
# Cases of other hunts come from targets that could be asked for anything at all.
MODELS = st.lists(cases(msgspec.structs.replace(EVERYTHING, same_padding=True, far=True)), min_size=1, max_size=4).map(
    tuple
)


@pytest.mark.parametrize("name", ASKED)
@QUICK
@given(data=st.data())
def test_neighbours_are_cases_that_the_target_promises(name: str, data: st.DataObject) -> None:
    asked = ASKED[name]
    case = data.draw(neighbours(data.draw(MODELS), cases(asked), asked))
    assert decode_case(encode_case(case)) == case, "not a case that can be kept"
    assert asked.promises(case), f"{asked} does not promise {case}"
    assert case.config is None or case.config in asked.configs, f"the target has no config {case.config}"
    assert case.bias or case.bias_layout == CONTIGUOUS, "a bias that is not there has no layout"


@QUICK
@given(data=st.data())
def test_dtypes_and_precisions_are_those_that_the_user_asked_for(data: st.DataObject) -> None:
    models = data.draw(MODELS)
    for asked, dtypes in ((EVERYTHING, ("bfloat16",)), (ASKED["function"], ("float16", "float64"))):
        case = data.draw(neighbours(models, cases(asked, dtypes=dtypes), asked, dtypes=dtypes))
        assert case.dtype in dtypes, f"{case.dtype} was not asked for, only {dtypes}"
    case = data.draw(neighbours(models, cases(EVERYTHING, precisions=("tf32",)), EVERYTHING, precisions=("tf32",)))
    assert case.dtype != "float32" or case.precision == "tf32", f"{case.precision} was not asked for, only tf32"


def drawn(model: Case, asked: Abilities, count: int, **wish: tuple[str, ...]) -> list[Case]:
    """The same draws in every run."""
    found: list[Case] = []

    @settings(QUICK, max_examples=count, derandomize=True, database=None, backend=INDEPENDENT)
    @given(neighbours((model,), cases(asked, **wish), asked, **wish))
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def shared(model: Case, case: Case) -> int:
    names = [name for name in Case.__struct_fields__ if name != "seed"]
    return sum(same(getattr(model, name), getattr(case, name)) for name in names)


def test_most_neighbours_share_most_fields_with_the_model() -> None:
    found = drawn(RICH, EVERYTHING, 200)
    fields = len(Case.__struct_fields__) - 1
    near = sum(shared(RICH, case) >= 0.6 * fields for case in found)
    by_chance = [shared(RICH, case) for case in drawn_anyhow(200)]
    assert near > 0.6 * len(found), f"only {near} of {len(found)} neighbours share three fifths of their fields"
    assert sum(count >= 0.6 * fields for count in by_chance) < 0.2 * len(by_chance), "any case at all is called near"


def drawn_anyhow(count: int) -> list[Case]:
    found: list[Case] = []

    @settings(QUICK, max_examples=count, derandomize=True, database=None, backend=INDEPENDENT)
    @given(cases(EVERYTHING))
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def test_a_model_in_a_dtype_that_only_the_user_asked_for_is_varied() -> None:
    """A foreign kernel promises float32 alone: what it is tried in because the user asks must be varied as well."""
    asked = ASKED["function"]
    model = msgspec.structs.replace(Case(), n=3, h=20, w=70, c_out=40, bias=True, dtype="float16", values="winner")
    found = drawn(model, asked, 100, dtypes=("float16",))
    near = sum(shared(model, case) >= 0.7 * (len(Case.__struct_fields__) - 1) for case in found)
    assert near > 0.7 * len(found), f"only {near} of {len(found)} are neighbours: the others are drawn anew"


def test_neighbours_differ_from_one_another() -> None:
    found = drawn(RICH, EVERYTHING, 200)
    assert len(set(found)) > 0.95 * len(found)
    changed = Counter(name for case in found for name in Case.__struct_fields__
                      if not same(getattr(case, name), getattr(RICH, name)))  # fmt: skip
    missing = set(Case.__struct_fields__) - set(changed) - {"same"}
    assert not missing, f"{missing} of the model never change"


def test_a_neighbour_shrinks() -> None:
    strategy = neighbours((RICH,), cases(EVERYTHING), EVERYTHING)
    found = find(strategy, lambda case: case.c_out > 33, settings=settings(QUICK, derandomize=True, database=None))
    assert found.c_out > 33


@given(data=st.data(), models=MODELS, effort=st.sampled_from((0.25, 1.0)))
def test_a_neighbour_is_no_larger_than_its_model_or_what_is_drawn(
    data: st.DataObject, models: tuple[Case, ...], effort: float
) -> None:
    case = data.draw(neighbours(models, st.just(Case()), EVERYTHING, effort=effort))
    most = max(effort * MOST_TILES, *map(tiles_of, (*models, Case())))
    assert tiles_of(case) <= most, "sizes of several parents multiply"
