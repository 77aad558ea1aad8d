"""The kernel under test (`--target`) against itself: each relation as a property of its own."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fuzz.campaign.drawing import INDEPENDENT
from fuzz.case import EARLIER, RELATIONS, Earlier, Relation
from fuzz.strategies import cases
from fuzz.target import Target
from fuzz.trial import run_trial

# The target lives as long as the session, so examples share it by design.
shared = settings(backend=INDEPENDENT, max_examples=8, suppress_health_check=list(HealthCheck))
SMALL = 1 / 4


@pytest.mark.parametrize("relation", RELATIONS)
@shared
@given(data=st.data())
def test_relation(target: Target, device: torch.device, relation: Relation, data: st.DataObject) -> None:
    case = data.draw(cases(target.abilities, effort=SMALL))
    assume(min(case.out_size) >= 1)
    verdict = run_trial(target, msgspec.structs.replace(case, relation=relation, earlier=()), device)
    assert not verdict.failed, f"{target.name} · {verdict.message}\n{verdict.where}\n{case!r} with {relation=}"


@pytest.mark.parametrize("step", EARLIER)
@shared
@given(data=st.data())
def test_earlier_call(target: Target, device: torch.device, step: Earlier, data: st.DataObject) -> None:
    case = data.draw(cases(target.abilities, effort=SMALL))
    verdict = run_trial(target, msgspec.structs.replace(case, relation=None, earlier=(step,)), device)
    assert not verdict.failed, f"{target.name} · {verdict.message}\n{verdict.where}\n{case!r} with earlier={(step,)}"
