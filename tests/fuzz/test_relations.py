"""Relations hold for the exact result, and a kernel that breaks one is told."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import torch
from everything import EVERYTHING
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fuzz.abilities import Abilities
from fuzz.case import RELATIONS, Case, Relation
from fuzz.interpreter import is_interpreting
from fuzz.judge import judge_twin
from fuzz.relations import Twin, twin_of
from fuzz.strategies import cases
from fuzz.target import Call, Target
from fuzz.tensors import full_tensors, numbers_of
from fuzz.trial import run_trial

pytestmark = pytest.mark.skipif(not is_interpreting(), reason="tries CPU tensors: a machine without a GPU runs it")
CPU = torch.device("cpu")
CONFIGS = EVERYTHING.configs
SMALL = 1 / 4


def exact(case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The operation on integers, in float64, where it is exact."""
    operands = [None if each is None else each.double() for each in (x, weight, bias)]
    options = case.stride, case.padding, case.dilation, case.groups
    values = torch.nn.functional.conv2d(*operands, *options) * case.scale  # type: ignore[arg-type]
    return values.amin(dim=1, keepdim=True)


def twins(case: Case) -> tuple[Twin | None, torch.Tensor]:
    operands = full_tensors(case, numbers_of(case))
    return twin_of(case, *operands, configs=CONFIGS), exact(case, *operands)


@pytest.mark.parametrize("relation", RELATIONS)
# Some relations want what few cases have: several images, say.
@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_relation_holds_for_the_exact_result(relation: Relation, data: st.DataObject) -> None:
    drawn = data.draw(cases(EVERYTHING, dtypes=("float64",), effort=SMALL))
    plain = {"values": "lattice", "specials": (), "earlier": (), "scale": data.draw(st.sampled_from((1.0, -2.0, 0.5)))}
    case = msgspec.structs.replace(drawn, **plain, relation=relation)
    assume(min(case.out_size) >= 1)
    twin, first = twins(case)
    assume(twin is not None)
    second = exact(twin.case, twin.x, twin.weight, twin.bias)
    assert second.shape == (twin.case.n, 1, *twin.case.out_size), "the twin's case does not describe its operands"
    expected, seen = twin.expected(first), twin.part(second)
    known = ~expected.isnan() if twin.nan_is_unknown else torch.ones_like(expected, dtype=torch.bool)
    assert torch.equal(expected[known], seen[known]), f"{relation} does not hold for the exact result of {case!r}"
    assert judge_twin(case, twin, first, second, bitwise=True) is None


@pytest.mark.parametrize("relation", RELATIONS)
def test_relation_applies_to_an_ordinary_case(relation: Relation) -> None:
    case = Case(
        n=3, c_in=2, h=9, w=9, c_out=5, kh=3, kw=3, padding=(1, 1), bias=True, scale=2.0, relation=relation, seed=5
    )
    assert twins(case)[0] is not None, f"{relation} was left out for a case that it can be asked of"


def test_where_two_calls_differ_is_a_picture() -> None:
    case = Case(n=2, h=2, w=3, values="lattice", relation="repeat")
    twin, first = twins(case)
    second = first.clone()
    second[1, 0, :, 2] += 1
    broken = judge_twin(case, twin, first, second, bitwise=True)
    assert broken is not None
    assert broken.wrong is not None
    assert (broken.wrong.image, broken.wrong.rows) == (1, ("..#", "..#"))


def target(call: Call) -> Target:
    return Target("candidate", Abilities(kind="function", reproducible=True), lambda case: call)


def rounds_differently(when: Callable[[torch.Tensor, torch.Tensor], object]) -> Call:
    """A candidate that is within its bounds, and one bit off where `when(x, weight)` says so."""

    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        out = torch.nn.functional.conv2d(x, weight, bias).amin(dim=1, keepdim=True)
        return torch.nextafter(out, torch.full_like(out, torch.inf)) if when(x, weight) else out

    return call


# What a result must not depend on.
BREAKERS: dict[Relation, Call] = {
    "permuted channels": rounds_differently(lambda x, weight: weight[0].sum() > 0),
    "one image": rounds_differently(lambda x, weight: len(x) > 1),
    "other layout": rounds_differently(lambda x, weight: x.is_contiguous()),
    "crop": rounds_differently(lambda x, weight: x.shape[2] > 7),
    "duplicate channel": rounds_differently(lambda x, weight: len(weight) % 2),
    "negated": rounds_differently(lambda x, weight: weight[0, 0, 0, 0] > 0),
}


@pytest.mark.parametrize("relation", BREAKERS)
def test_a_kernel_that_breaks_a_relation_is_told(relation: Relation) -> None:
    case = Case(n=2, c_in=3, h=9, w=9, c_out=5, kh=3, kw=3, bias=True, values="gaussian", relation=relation)
    found = [run_trial(target(BREAKERS[relation]), msgspec.structs.replace(case, seed=seed), CPU) for seed in range(8)]
    broken = [verdict for verdict in found if verdict.failed]
    assert broken, f"nothing was said of a kernel that breaks '{relation}'"
    assert {verdict.lane for verdict in broken} == {"relations"}, broken[0]
    assert f"relation '{relation}'" in broken[0].message


def test_a_kernel_that_promises_nothing_may_round_another_way() -> None:
    call = BREAKERS["one image"]
    foreign = Target("candidate", Abilities(kind="function"), lambda case: call)
    case = Case(n=2, c_in=3, h=9, w=9, c_out=5, kh=3, kw=3, bias=True, values="gaussian", relation="one image")
    assert run_trial(foreign, case, CPU).status == "pass"
