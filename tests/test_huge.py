"""Tensors of more than 2^31 elements: offsets that need 64 bits. A GPU with 40 GB runs these.

The truth comes band by band from PyTorch, on integers that every dtype holds exactly, so the results must be equal.
"""

from __future__ import annotations

import pytest
import torch

from fuzz.case import Case
from fuzz.target import Target
from fuzz.tensors import TORCH_DTYPE

pytestmark = [pytest.mark.huge, pytest.mark.gpu]
LIMIT = 2**31
BAND = 512


def dtype_of(target: Target) -> str:
    return "float16" if "float16" in target.abilities.dtypes else "float32"


def integers(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers from -3 to 3, drawn on the device a band at a time."""
    generator = torch.Generator(device).manual_seed(1)
    x = torch.empty(shape, dtype=dtype, device=device)
    for band in x.flatten(0, 1 if shape[0] == 1 else 0).split(BAND, dim=-2 if shape[0] == 1 else 0):
        band.copy_(torch.randint(-3, 4, band.shape, generator=generator, device=device, dtype=torch.int8))
    return x


def operands(case: Case, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = TORCH_DTYPE[case.dtype]
    weight = integers(case.weight_shape, dtype, device)
    return weight, torch.arange(case.c_out, device=device).to(dtype)


def truth(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float) -> torch.Tensor:
    values = torch.nn.functional.conv2d(x.float(), weight.float(), bias.float()) * scale
    return values.amin(dim=1, keepdim=True).to(x.dtype)


def test_one_large_image(target: Target, device: torch.device) -> None:
    case = Case(c_in=2, h=33000, w=33000, c_out=3, kh=3, kw=3, bias=True, scale=-2.0, dtype=dtype_of(target))
    x = integers(case.x_shape, TORCH_DTYPE[case.dtype], device)
    assert x.numel() > LIMIT
    weight, bias = operands(case, device)
    with target.surroundings:
        out = target.bind(case)(x, weight, bias)
    for row in range(0, out.shape[2], BAND):
        band = out[:, :, row : row + BAND]
        expected = truth(x[:, :, row : row + band.shape[2] + 2], weight, bias, case.scale)
        assert torch.equal(band, expected), f"wrong from output row {row} on: does an offset overflow 32 bits?"


def test_many_images(target: Target, device: torch.device) -> None:
    case = Case(n=70_000, h=180, w=180, c_out=2, bias=True, dtype=dtype_of(target))
    x = integers(case.x_shape, TORCH_DTYPE[case.dtype], device)
    assert x.numel() > LIMIT
    weight, bias = operands(case, device)
    with target.surroundings:
        out = target.bind(case)(x, weight, bias)
    for first in range(0, case.n, BAND):
        expected = truth(x[first : first + BAND], weight, bias, case.scale)
        assert torch.equal(out[first : first + BAND], expected), f"wrong from image {first} on: 32-bit positions?"


def test_few_elements_far_apart(target: Target, device: torch.device) -> None:
    """A small view whose last image begins beyond 2^31 elements."""
    case = Case(n=2, c_in=3, h=5, w=6, c_out=4, kh=2, kw=3, bias=True, dtype=dtype_of(target))
    storage = torch.zeros(LIMIT + 1000, dtype=TORCH_DTYPE[case.dtype], device=device)
    x = storage.as_strided(case.x_shape, (LIMIT + 8, 30, 6, 1))
    x.copy_(integers(case.x_shape, x.dtype, device))
    weight, bias = operands(case, device)
    with target.surroundings:
        out = target.bind(case)(x, weight, bias)
    expected = truth(x.contiguous(), weight, bias, case.scale)
    assert torch.equal(out, expected), "an offset of more than 2^31 elements was cut to 32 bits"
