"""A target that keeps something between calls is found by the earlier call that makes it stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch

from fuzz.abilities import Abilities
from fuzz.case import EARLIER, Case, Earlier
from fuzz.interpreter import is_interpreting
from fuzz.target import BoundModule, Call, Target
from fuzz.trial import run_trial

pytestmark = pytest.mark.skipif(not is_interpreting(), reason="tries CPU tensors: a machine without a GPU runs it")
CPU = torch.device("cpu")
CASE = Case(n=2, c_in=3, h=5, w=6, c_out=4, kh=2, kw=2, bias=True, values="lattice", seed=3)
EVERY_DTYPE = Abilities(kind="function", optional_bias=True, every_dtype=True)


def convolve(case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return (torch.nn.functional.conv2d(x, weight, bias) * case.scale).amin(dim=1, keepdim=True)


def target(bind: Callable[[Case], Call]) -> Target:
    return Target("candidate", EVERY_DTYPE, bind)


def keeps(what: Callable[..., Any], by: Callable[..., Any]) -> Callable[[], Target]:
    """A candidate that remembers `what(case, x, weight, bias)` under the key `by(case, x, weight, bias)`."""

    def candidate() -> Target:
        kept: dict[Any, Any] = {}

        def bind(case: Case) -> Call:
            def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
                key = by(case, x, weight, bias)
                if key not in kept:
                    kept[key] = what(case, x, weight, bias)
                changed = kept[key]
                known = {"scale": case.scale, "x": x, "weight": weight, "bias": bias} | changed
                factor = known.pop("scale")
                out = torch.nn.functional.conv2d(known["x"], known["weight"], known["bias"]) * factor
                return out.amin(dim=1, keepdim=True)

            return call

        return target(bind)

    return candidate


class KeepsBias(torch.nn.Module):
    """Reads its bias anew when its weight has changed."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        self.conv, self.scale = torch.nn.Conv2d(c_in, c_out, kernel_size), scale
        self.kept: tuple[Any, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        key = weight.data_ptr(), weight._version
        if self.kept is None or self.kept[0] != key:
            self.kept = key, bias.clone()
        return (torch.nn.functional.conv2d(x, weight, self.kept[1]) * self.scale).amin(dim=1, keepdim=True)


def module(kind: type[torch.nn.Module]) -> Target:
    return Target("candidate", Abilities(kind="module"), lambda case: BoundModule("candidate", kind, case))


def returns_the_same_buffer() -> Target:
    buffers: dict[torch.Size, torch.Tensor] = {}

    def bind(case: Case) -> Call:
        def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            out = convolve(case, x, weight, bias)
            return buffers.setdefault(out.shape, torch.empty_like(out)).copy_(out)

        return call

    return target(bind)


def uses_the_first_workspace() -> Target:
    """Never makes its workspace larger, or clears it: what lies beyond a smaller call comes from a larger one."""
    workspaces: list[torch.Tensor] = []

    def bind(case: Case) -> Call:
        def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            values = convolve(case, x, weight, bias).flatten()
            if not workspaces:
                workspaces.append(torch.zeros_like(values))
            held = min(len(values), len(workspaces[0]))
            workspaces[0][:held] = values[:held]
            out = torch.zeros_like(values)
            out[:held] = workspaces[0][:held]
            return out.view(case.n, 1, x.shape[2] - case.kh + 1, -1)

        return call

    return target(bind)


def reads_by_the_first_strides(place: int) -> Callable[[], Target]:
    """A candidate that remembers how an operand lies by its shape; `place` is that operand's among x, weight, bias."""

    def candidate() -> Target:
        kept: dict[torch.Size, tuple[int, ...]] = {}

        def bind(case: Case) -> Call:
            def call(*operands: torch.Tensor | None) -> torch.Tensor:
                read = list(operands)
                operand = read[place]
                if operand is not None:
                    steps = kept.setdefault(operand.shape, operand.stride())
                    read[place] = operand.as_strided(operand.shape, steps)
                return convolve(case, *read)

            return call

        return target(bind)

    return candidate


def convolves_as_at_first() -> Target:
    """Remembers stride, padding and dilation by the shapes of the operands."""
    kept: dict[Any, Any] = {}

    def bind(case: Case) -> Call:
        def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            options = kept.setdefault((x.shape, weight.shape), (case.stride, case.padding, case.dilation))
            return (torch.nn.functional.conv2d(x, weight, bias, *options) * case.scale).amin(dim=1, keepdim=True)

        return call

    return Target("candidate", msgspec.structs.replace(EVERY_DTYPE, convolution_options=True), bind)


STALE: dict[str, tuple[Earlier, Callable[[], Target]]] = {
    "weight by address": (
        "contents",
        keeps(lambda case, x, w, b: {"weight": w.clone()}, lambda case, x, w, b: w.data_ptr()),
    ),
    "weight by shape": ("contents", keeps(lambda case, x, w, b: {"weight": w.clone()}, lambda case, x, w, b: w.shape)),
    "result by address": (
        "contents",
        keeps(lambda case, x, w, b: {"x": x.clone()}, lambda case, x, w, b: x.data_ptr()),
    ),
    "bias by the weight": (
        "contents",
        keeps(
            lambda case, x, w, b: {} if b is None else {"bias": b.clone()},
            lambda case, x, w, b: (w.data_ptr(), w._version),
        ),
    ),
    "bias of a module by its weight": ("bias", lambda: module(KeepsBias)),
    "scale": ("scale", keeps(lambda case, x, w, b: {"scale": case.scale}, lambda case, x, w, b: w.shape)),
    "bias": ("bias", keeps(lambda case, x, w, b: {"bias": None} if b is None else {}, lambda case, x, w, b: w.shape)),
    "strides of x": ("layout", reads_by_the_first_strides(0)),
    "strides of the weight": ("weight layout", reads_by_the_first_strides(1)),
    "strides of the bias": ("bias layout", reads_by_the_first_strides(2)),
    "convolution": ("argument", convolves_as_at_first),
    "output buffer": ("contents", returns_the_same_buffer),
    "workspace": ("smaller", uses_the_first_workspace),
}


@pytest.mark.parametrize("name", STALE)
def test_what_is_stale_is_found(name: str) -> None:
    step, candidate = STALE[name]
    alone = run_trial(candidate(), Case(), CPU)
    assert alone.status == "pass", f"the candidate is right when called once: {alone.message}"
    # The seed decides in which tensors the contents are others.
    cases = [msgspec.structs.replace(with_earlier(step), seed=seed) for seed in range(6)]
    verdict = next((found for case in cases if (found := run_trial(candidate(), case, CPU)).failed), None)
    assert verdict, f"an earlier call ('{step}') does not show a stale {name}"
    assert verdict.lane in ("state", "guards"), verdict


def with_earlier(*steps: Earlier) -> Case:
    return msgspec.structs.replace(CASE, earlier=steps)


@pytest.mark.parametrize("step", EARLIER)
def test_a_target_that_keeps_nothing_passes(step: Earlier) -> None:
    def bind(case: Case) -> Call:
        return lambda x, weight, bias: convolve(case, x, weight, bias)

    verdict = run_trial(target(bind), with_earlier(step, "same", step), CPU)
    assert verdict.status == "pass", verdict.message
