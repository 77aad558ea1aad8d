"""What a target returns while it is timed: each way to be fast without doing the work is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fuzz.abilities import Abilities
from fuzz.case import Case
from fuzz.gate.inspection import Inspection
from fuzz.gate.stopwatch import Inputs
from fuzz.gate.workload import operands
from fuzz.target import Target

CASE = Case(n=8, c_in=5, h=9, w=7, c_out=6, kh=3, kw=3, scale=2.0, bias=True, precision="ieee")
Function = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def sound(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.min(torch.conv2d(x, weight, bias) * CASE.scale, dim=1, keepdim=True).values


def keeps_its_results() -> Function:
    kept: dict[Any, torch.Tensor] = {}

    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return kept.setdefault((x.data_ptr(), x.shape), sound(x, weight, bias))

    return call


def changes_x() -> Function:
    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return sound(x.mul_(1.0 + 2.0**-20), weight, bias)

    return call


def changes_the_weight() -> Function:
    return lambda x, weight, bias: sound(x, weight.mul_(1.0 + 2.0**-22), bias)


def leaves_out_images() -> Function:
    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        out = sound(x, weight, bias)
        out[-1] = 0.0
        return out

    return call


def forgets_the_channel() -> Function:
    return lambda x, weight, bias: sound(x, weight, bias)[:, 0]


def returns_numbers() -> Function:
    return lambda x, weight, bias: sound(x, weight, bias).tolist()  # type: ignore[return-value]  # that is what is wrong


def tires() -> Function:
    """Does the work for the first calls only, then returns what it had before."""
    calls = 0
    last = torch.zeros(())

    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        nonlocal calls, last
        calls += 1
        if calls <= 4:
            last = sound(x, weight, bias)
        return last

    return call


def inspected(function: Function, device: torch.device, rounds: int = 6) -> Inspection:
    torch.manual_seed(0)
    target = Target("one.py", Abilities(kind="function", every_dtype=True), lambda _: function)
    x, weight, bias = operands(CASE, device)
    inspection = Inspection(target, CASE, weight, bias)
    inputs = Inputs([x, torch.rand_like(x)])

    def call(x: torch.Tensor) -> torch.Tensor:
        return function(x, weight, bias)

    inspection.look(call, inputs, "before")
    if inspection.complaints():
        return inspection
    for _ in range(rounds):
        which, now = inputs.next()
        inspection.compare(which, call(now))
    inspection.look(call, inputs, "after")
    return inspection


def test_a_sound_target_is_not_accused(device: torch.device) -> None:
    inspection = inspected(sound, device)
    assert inspection.complaints() == []
    assert 0 <= inspection.error_ratio < 1


@pytest.mark.parametrize(
    ("cheat", "words"),
    [
        # Where it is told hangs on whether -x of the second place lies where that of the first lay.
        (keeps_its_results, "away from the first on the same x|image [0-9]: float32"),
        (changes_x, "the target changed x"),
        (changes_the_weight, "changed the weight or the bias"),
        (leaves_out_images, "image 7: float32"),
        (forgets_the_channel, r"returned torch.float32 \(8, 7, 5\), must be torch.float32 \(8, 1, 7, 5\)"),
        (returns_numbers, "returned list, no tensor"),
        (tires, "away from the first on the same x"),
    ],
)
def test_a_cheat_is_told(cheat: Callable[[], Function], words: str, device: torch.device) -> None:
    found = inspected(cheat(), device).complaints()
    assert any(re.search(words, line) for line in found), (
        f"{cheat.__name__} is fast for nothing, and nobody says so: {found}"
    )


@pytest.mark.gpu
def test_work_on_another_stream_is_told(device: torch.device) -> None:
    other = torch.cuda.Stream()

    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        out = torch.full((x.shape[0], 1, 7, 5), 7.0, device=x.device)
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            torch.cuda._sleep(20_000_000)
            out.copy_(sound(x, weight, bias))
        return out

    assert inspected(call, device).complaints(), "a result that comes after the call's end on its stream passes"


def test_no_x_is_met_twice(device: torch.device) -> None:
    inputs = Inputs([torch.rand(3, device=device), torch.rand(3, device=device)])
    known = {which: x.clone() for which, x in inputs.all()}
    assert len({tuple(x.tolist()) for x in known.values()}) == 4
    before: dict[int, torch.Tensor] = {}
    for _ in range(10):
        which, x = inputs.next()
        assert torch.equal(x, known[which]), f"x {which} is not what it was said to be"
        address = x.data_ptr()
        assert address not in before or not torch.equal(x, before[address]), "the same numbers at the same address"
        before[address] = x.clone()
