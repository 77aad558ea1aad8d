"""Many calls on one target in one process: what it keeps between calls must never be stale."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from fuzz.case import Case, Dtype
from fuzz.earlier import fill
from fuzz.layout import CONTIGUOUS, CaseError
from fuzz.machine import machine
from fuzz.session import Session
from fuzz.strategies import cases, layouts
from fuzz.target import Target
from fuzz.tensors import full_tensors, numbers_of
from fuzz.testing.sharding import Shard
from fuzz.trial import expect, judge_outcome

SMALL = 1 / 16
STEPS = 8
SEEDS = st.integers(0, 2**16)


class Sequence(RuleBasedStateMachine):
    """A module or function, and memory for its operands, which rules change between calls."""

    target: Target
    device: torch.device

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(self.target, self.device, "finite")
        self.case = Case()

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.take(self.draw_case(data))

    @rule(data=st.data())
    def other_case(self, data: st.DataObject) -> None:
        self.take(self.draw_case(data))

    @rule(seed=SEEDS)
    def other_contents(self, seed: int) -> None:
        """The same memory, the same module: only the numbers change."""
        self.case = msgspec.structs.replace(self.case, seed=seed, values="lattice", specials=())
        self.numbers = numbers_of(self.case)
        fill(self.operands, self.numbers)

    @rule(layout=layouts(4))
    def other_strides(self, layout: object) -> None:
        try:
            self.case = msgspec.structs.replace(self.case, x_layout=layout)
        except CaseError:
            return
        self.place()

    @rule(scale=st.sampled_from((1.0, -2.0, 0.0, 3.0)))
    def other_scale(self, scale: float) -> None:
        self.take(msgspec.structs.replace(self.case, scale=scale))

    @rule(seed=SEEDS, rows=st.integers(1, 3))
    def other_height(self, seed: int, rows: int) -> None:
        """The same module on a larger image."""
        self.case = msgspec.structs.replace(self.case, h=self.case.h + rows, x_layout=CONTIGUOUS, seed=seed)
        self.place()

    @precondition(lambda self: len(self.target.abilities.dtypes) > 1)
    @rule(data=st.data())
    def other_dtype(self, data: st.DataObject) -> None:
        dtype: Dtype = data.draw(st.sampled_from(self.target.abilities.dtypes))
        self.take(msgspec.structs.replace(self.case, dtype=dtype, precision="default", config=None))

    @rule()
    def call(self) -> None:
        expected = expect(self.target, self.case, full_tensors(self.case, self.numbers), self.device)
        with machine(self.case, self.device):
            outcome = self.session.call(self.bound, self.operands)
        verdict = judge_outcome(self.session, self.case, outcome, expected)
        assert not verdict.failed, (
            f"{self.target.name} · {verdict.kind} · {verdict.message}\n{verdict.where}\n{self.case!r}\n"
            "the steps above lead to it; if one call alone fails, too, tests/test_kernels.py shows it more simply"
        )

    def draw_case(self, data: st.DataObject) -> Case:
        case = data.draw(cases(self.target.abilities, effort=SMALL))
        return msgspec.structs.replace(case, earlier=(), relation=None)

    def take(self, case: Case) -> None:
        self.case = case
        self.bound = self.target.bind(case)
        self.place()

    def place(self) -> None:
        self.numbers = numbers_of(self.case)
        self.operands = self.session.place(self.case, self.numbers)


@pytest.mark.slow
def test_sequences_of_calls(target: Target, device: torch.device, shard: Shard) -> None:
    chosen = settings(
        stateful_step_count=STEPS,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    bound = type("BoundSequence", (Sequence,), {"target": target, "device": device})
    run_state_machine_as_test(shard.seeded(bound), settings=shard.settings(chosen))
