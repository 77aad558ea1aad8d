"""What a call needs is planned once for each kind of call: of one kind are calls that may share launches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton.language as tl
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext, is_concrete_int

from fused.conv_scale_min import empty_output, named_configs, plan_of

GEOMETRY: dict[str, Any] = {"stride": [1, 1], "sides": [1, 1, 1, 1], "dilation": [1, 1]}
REST: dict[str, Any] = {"scale": 2.0, "groups": 1, "precision": "tf32", "config": "tiny strip"}


def operands() -> dict[str, torch.Tensor]:
    return {"x": torch.zeros(2, 4, 8, 8), "weight": torch.zeros(6, 4, 3, 3), "bias": torch.zeros(6)}


def plan(changes: dict[str, Any]) -> object:
    arguments = {**operands(), **GEOMETRY, **REST, **changes}
    shape = [arguments[name] for name in ("x", "weight", "bias", "scale", "stride", "sides", "dilation")]
    out = empty_output(*shape)
    return plan_of(*shape, arguments["groups"], arguments["precision"], arguments["config"], out)


OTHER: dict[str, Callable[[], dict[str, Any]]] = {
    "larger x": lambda: {"x": torch.zeros(2, 4, 8, 9)},
    "layout of x": lambda: {"x": operands()["x"].contiguous(memory_format=torch.channels_last)},
    "alignment of x": lambda: {"x": torch.zeros(2 * 4 * 8 * 8 + 1)[1:].view(2, 4, 8, 8)},
    "layout of the weight": lambda: {"weight": operands()["weight"].contiguous(memory_format=torch.channels_last)},
    "layout of the bias": lambda: {"bias": torch.zeros(12)[::2]},
    "no bias": lambda: {"bias": None},
    "dtype": lambda: {name: tensor.half() for name, tensor in operands().items()},
    "groups": lambda: {"groups": 2, "weight": torch.zeros(6, 2, 3, 3)},
    "scale": lambda: {"scale": 3.0},
    "sign of a scale of 0": lambda: {"scale": -0.0},
    "stride": lambda: {"stride": [1, 2]},
    "padding": lambda: {"sides": [1, 2, 1, 2]},
    "dilation": lambda: {"dilation": [2, 1]},
    "precision": lambda: {"precision": "ieee"},
    "config": lambda: {"config": "tiny ring"},
    "config by the rule": lambda: {"config": None},
}


def test_calls_of_one_kind_share_a_plan() -> None:
    assert plan({}) is plan({}), "the same call is planned anew: its key holds something that differs between calls"
    assert plan({"scale": float("nan")}) is plan({"scale": float("nan")}), "NaN differs from itself in the key"


@pytest.mark.parametrize("name", OTHER)
def test_what_differs_has_another_plan(name: str) -> None:
    usual = {"scale": 0.0} if name == "sign of a scale of 0" else {}
    assert plan(OTHER[name]()) is not plan(usual), f"a call with another {name} gets a stale plan: add it to the key"


@pytest.mark.parametrize("config", [None, *named_configs()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sizes_may_be_symbolic(config: str | None, dtype: torch.dtype) -> None:
    """As under torch.compile(dynamic=True), which traces the launches."""
    mode = FakeTensorMode(shape_env=ShapeEnv())
    symbolic = {
        name: mode.from_tensor(
            tensor.to(dtype), symbolic_context=StatelessSymbolicContext([DimDynamic.DYNAMIC] * tensor.dim())
        )
        for name, tensor in operands().items()
    }
    with mode:
        _, launches, _ = plan({**symbolic, "config": config})  # type: ignore[misc]
    for kernel, _, _, arguments in launches:
        fractions = [name for name, value in arguments.items() if isinstance(value, torch.SymFloat)]
        assert not fractions, f"{kernel.__name__}: torch.compile takes these for integers: {fractions}"
        parameters = inspect.signature(kernel.fn).parameters
        constants = [name for name in arguments if name in parameters and parameters[name].annotation is tl.constexpr]
        open_sizes = [
            name
            for name in constants
            if isinstance(arguments[name], torch.SymInt) and not is_concrete_int(arguments[name])
        ]
        assert not open_sizes, f"{kernel.__name__}: Triton compiles for known {open_sizes}; int() makes them so"


@pytest.mark.parametrize("config", [None, *named_configs()])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_what_is_written_is_no_operand(dtype: torch.dtype, layout: torch.memory_format, config: str | None) -> None:
    """torch.compile copies what a kernel is given to write to: an operand, or one buffer twice, for nothing."""
    x, weight, bias = (tensor.to(dtype) for tensor in operands().values())
    wide = torch.zeros(2, 64, 8, 8, dtype=dtype).contiguous(memory_format=layout)
    for tensors in ({"x": x}, {"x": wide, "weight": torch.zeros(6, 64, 3, 3, dtype=dtype)}):
        _, launches, _ = plan({"weight": weight, "bias": bias, "config": config, **tensors})  # type: ignore[misc]
        for kernel, _, pointers, _ in launches:
            names = [
                name for name in pointers if name.startswith(("packed", "start", "factor", "limit", "sums", "out"))
            ]
            sources = [pointers[name] for name in names if pointers[name] is not None]
            assert not {"x", "weight", "bias"} & set(sources), f"{kernel.__name__} may write to an operand: {pointers}"
            assert len(set(sources)) == len(sources), f"{kernel.__name__} is given a buffer twice: {pointers}"
