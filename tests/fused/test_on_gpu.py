"""How PyTorch may run a call on a GPU, on every path: compiled, in a CUDA graph, on another stream or device.

Operands are -1, 0 and 1: sums are exact on every path, and float16 has them, so that results are equal to float64's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._inductor.config

from fused.conv_scale_min import conv_scale_min, named_configs

pytestmark = pytest.mark.gpu
CONFIGS = [None, *named_configs()]
# Windows of stride 1 inside of x, which all paths take; with padding, those that take it.
WINDOWS: list[dict[str, Any]] = [{}, {"padding": 1}]
DTYPES = [torch.float32, torch.float16]


def operands(dtype: torch.dtype, images: int = 2, device: str = "cuda") -> tuple[torch.Tensor, ...]:
    """X, channels last, weight and bias; channels and columns enough for every configuration to have its own path."""
    draw = torch.Generator().manual_seed(7)
    shapes = (images, 64, 20, 40), (40, 64, 3, 3), (40,)
    x, weight, bias = (torch.randint(-1, 2, shape, generator=draw, device="cpu").to(device, dtype) for shape in shapes)
    return x.contiguous(memory_format=torch.channels_last), weight, bias


def truth(tensors: tuple[torch.Tensor, ...], window: dict[str, Any]) -> torch.Tensor:
    x, weight, bias = (tensor.double() for tensor in tensors)
    return torch.min(torch.conv2d(x, weight, bias, **window) * -2.0, dim=1, keepdim=True).values


def call(config: str | None, window: dict[str, Any]) -> Callable[..., torch.Tensor]:
    return lambda x, weight, bias: conv_scale_min(x, weight, bias, -2.0, precision="tf32", config=config, **window)


def check(found: torch.Tensor, tensors: tuple[torch.Tensor, ...], window: dict[str, Any], how: str) -> None:
    wrong = (found.double() != truth(tensors, window)).sum().item()
    assert not wrong, f"{how}: {wrong} of {found.numel()} results differ from float64's; the bare call has them right"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("config", CONFIGS)
def test_cuda_graph(config: str | None, window: dict[str, Any], dtype: torch.dtype) -> None:
    function, tensors = call(config, window), operands(dtype)
    check(function(*tensors), tensors, window, "called")
    check(function(*tensors), tensors, window, "called again, as planned before")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function(*tensors)
    tensors[0].add_(1)  # a graph reads what is there when it is replayed
    graph.replay()
    torch.cuda.synchronize()
    check(out, tensors, window, "in a CUDA graph")


# PyTorch's own remarks on parts of its compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:TensorFloat32 tensor cores:UserWarning")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("config", CONFIGS)
def test_torch_compile(config: str | None, dtype: torch.dtype) -> None:
    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float) -> torch.Tensor:
        return conv_scale_min(x, weight, bias, scale, precision="tf32", config=config)

    # Each worker of the suite would start as many processes that compile as there are cores.
    with torch._inductor.config.patch(compile_threads=1):
        for dynamic in (False, True):
            torch.compiler.reset()
            compiled = torch.compile(function, fullgraph=True, dynamic=dynamic)
            for images in (2, 3):
                tensors = operands(dtype, images)
                check(compiled(*tensors, -2.0), tensors, {}, f"compiled with {dynamic=} for {images} images")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("config", CONFIGS)
def test_other_stream(config: str | None, dtype: torch.dtype) -> None:
    function, tensors, side = call(config, {}), operands(dtype), torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    function(*tensors)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(10**8)  # type: ignore[no-untyped-call]  # what is launched elsewhere is done before this is
        tensors[0].add_(1)
        out = function(*tensors)
    side.synchronize()
    check(out, tensors, {}, "on another stream")


@pytest.mark.parametrize("config", CONFIGS)
def test_other_device(config: str | None) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs: a machine with several runs it")
    function = call(config, {})
    for device in ("cuda:1", "cuda:0", "cuda:1"):
        tensors = operands(torch.float16, device=device)
        check(function(*tensors), tensors, {}, f"on {device}, with cuda:{torch.cuda.current_device()} current")
