"""What happens around the clock, on a CPU with a clock that is made up: who is timed, who is not, and what is said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from fuzz.abilities import Abilities
from fuzz.case import Case
from fuzz.gate import timing
from fuzz.gate.measurement import Measurement
from fuzz.gate.workload import operands
from fuzz.target import BoundModule, Target, load_target

CANDIDATES = Path(__file__).parents[1] / "candidates"
CASE = Case(n=4, c_in=3, h=8, w=8, c_out=5, kh=3, kw=3, scale=2.0, bias=True, precision="tf32")
ROUNDS = 4


class Clock:
    """A stopwatch that says one millisecond to everything."""

    flushes, late = 1, 0

    def time(self, call: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
        return 1.0, call()


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WORKLOADS", {"small": CASE})
    monkeypatch.setattr(timing, "operands", lambda case, _: operands(case, "cpu"))
    monkeypatch.setattr(timing, "Stopwatch", Clock)
    monkeypatch.setattr(timing, "ClockLog", lambda _: contextlib.nullcontext(SimpleNamespace(readings=[])))
    monkeypatch.setattr(timing, "circumstances", lambda _: {})
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda *_: SimpleNamespace(uuid="0"))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "NVIDIA GeForce RTX 4090")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.compile", lambda function: function)
    monkeypatch.setattr("torch.compiler.reset", lambda: None)
    eager = load_target(str(CANDIDATES / "eager.py"))
    monkeypatch.setattr(
        timing, "load_target", lambda name: eager if name in ("fused", "two-pass") else load_target(name)
    )


def a_target(function: Callable[..., Any]) -> Target:
    return Target("one.py", Abilities(kind="function"), lambda _: function)


def measured(tmp_path: Path, name: str) -> Measurement:
    file = tmp_path / "measurement.json"
    assert timing.main(str(file), name, str(ROUNDS), "small") == 0
    return msgspec.json.decode(file.read_bytes(), type=Measurement)


def test_everybody_is_timed_in_every_round(tmp_path: Path) -> None:
    found = measured(tmp_path, str(CANDIDATES / "eager.py"))
    assert (found.card, found.skipped) == ("RTX 4090", {})
    (timed,) = found.timings
    assert timed.complaints == []
    assert timed.milliseconds == {name: [1.0] * ROUNDS for name in ("target", "eager", "compile", "fused", "two-pass")}
    assert 0 < timed.error_ratio < 1


def test_a_target_that_raises_is_wrong_and_not_timed() -> None:
    def raises(*_: torch.Tensor) -> torch.Tensor:
        raise ValueError("no\nway")

    found = timing.measure(a_target(raises), "small", ROUNDS)
    assert (found.milliseconds, found.complaints) == ({}, ["the target raised ValueError: no way"])


def test_a_module_that_raises_is_wrong_and_not_timed(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    text = (CANDIDATES / "eager.py").read_text()
    file.write_text(text.replace("value = self", "assert x.numel() == 1, 'no'\n        value = self"))
    (timed,) = measured(tmp_path, str(file)).timings
    assert (timed.milliseconds, timed.complaints) == ({}, ["the target raised AssertionError: no"])


def test_a_module_is_timed_without_the_setting_of_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr("fuzz.target.BoundModule.__call__", _counted(BoundModule.__call__, calls))
    measured(tmp_path, str(CANDIDATES / "eager.py"))
    # The target is one before it is timed, four times; the stand-ins for the kernels here are modules as well.
    others = 2 * (timing._CALLS_TO_COMPILE + timing._WARM_UP_ROUNDS + ROUNDS)
    assert len(calls) == 4 + others


def _counted(function: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        calls.append(given)
        return function(*given)

    return call


def test_a_target_that_is_wrong_is_not_timed() -> None:
    found = timing.measure(a_target(lambda x, *_: x[:, :1, 2:, 2:]), "small", ROUNDS)
    assert found.milliseconds == {}
    assert "before the first round: image 0: float32" in found.complaints[0]


def test_what_a_target_declines_is_no_failure(tmp_path: Path) -> None:
    file = tmp_path / "declines.py"
    file.write_text("def conv_scale_min(x, weight, bias, scale):\n    raise NotImplementedError('too small')\n")
    found = measured(tmp_path, str(file))
    assert (found.timings, found.skipped) == ([], {"small": "the target declines it: too small"})


def test_a_target_that_cannot_be_loaded_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert timing.main(str(tmp_path / "out.json"), str(tmp_path / "none.py"), "4", "small") == 2
    assert capsys.readouterr().err.count("\n") == 1
