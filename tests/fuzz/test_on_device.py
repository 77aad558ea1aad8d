"""What goes to a device and comes back is what was sent, and one wait is enough for all of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzz.abilities import Abilities
from fuzz.case import Case
from fuzz.on_device import Arrival, is_lost, send
from fuzz.session import Session
from fuzz.target import Target
from fuzz.trial import run_trial

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
# What there is room for in page-locked memory, and more.
SIZES = st.sampled_from([0, 1, 1000, 2**20, 2**22 + 1])


@pytest.mark.parametrize("device", DEVICES)
@given(size=SIZES, flags=st.lists(st.booleans(), max_size=4), step=st.integers(1, 2))
def test_what_is_sent_arrives(device: str, size: int, flags: list[bool], step: int) -> None:
    numbers = torch.arange(size * step, dtype=torch.float32)[::step]
    there = torch.full((2 * size,), -1.0, device=device)[::2]
    send(there, numbers)
    asked = [torch.tensor(flag, device=device) if place % 2 else flag for place, flag in enumerate(flags)]
    arrival = Arrival(asked, there.clone())
    there.fill_(-1.0)  # what is written afterwards comes too late
    told, seen = arrival.wait()
    assert told == any(flags)
    assert seen is not None
    assert seen.device.type == "cpu"
    assert torch.equal(seen, numbers)


@pytest.mark.parametrize("device", DEVICES)
def test_no_device_is_lost_by_work(device: str) -> None:
    assert not is_lost(torch.device(device))
    assert Arrival([], None).wait() == (False, None)


@pytest.mark.parametrize("calls", [{}, {"earlier": ("same", "larger")}])
def test_a_device_that_is_lost_on_the_way_is_a_verdict(monkeypatch: pytest.MonkeyPatch, calls: dict[str, Any]) -> None:
    """Whoever asks the device next is told, which may be us; what we raise while it works is no verdict."""

    def place(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nFor debugging consider X")

    monkeypatch.setattr(Session, "place", place)
    target = Target("candidate", Abilities(kind="function"), lambda case: lambda x, weight, bias: x)
    with pytest.raises(torch.AcceleratorError):
        run_trial(target, Case(**calls), CPU)
    monkeypatch.setattr("fuzz.trial.is_lost", lambda device: True)
    verdict = run_trial(target, Case(**calls), CPU)
    assert (verdict.status, verdict.kind) == ("fail", "raised")
    assert "illegal memory access" in verdict.message
    assert "debugging" not in verdict.message, "what a debugger would need is no help to a reader"
    assert ("one of several calls" in verdict.message) == bool(calls)
