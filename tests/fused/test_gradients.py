"""Gradients are PyTorch's: they go to the channel that torch.min picks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fused.conv_scale_min import conv_scale_min
from fused.two_pass import two_pass

IMPLEMENTATIONS = [conv_scale_min, two_pass]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"padding": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"padding": "same"},
    {"groups": 2},
]


def pytorch(x: Any, weight: Any, bias: Any, scale: float, **options: Any) -> torch.Tensor:
    return torch.min(torch.conv2d(x, weight, bias, **options) * scale, dim=1, keepdim=True).values


def leaves(options: dict[str, Any], *, batch: int = 2, requires_grad: bool = True) -> list[torch.Tensor]:
    draw = torch.Generator(torch.get_default_device()).manual_seed(3)
    shapes = [(batch, 4, 5, 6), (6, 4 // options.get("groups", 1), 2, 3), (6,)]
    return [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_(requires_grad) for shape in shapes]


def gradients_of(function: Callable[..., torch.Tensor], tensors: list[torch.Tensor], **options: Any) -> Any:
    out = function(*tensors, -1.5, **options)
    weights = torch.arange(1.0, out.numel() + 1, dtype=out.dtype).reshape(out.shape)
    return torch.autograd.grad(out, [tensor for tensor in tensors if tensor.requires_grad], weights)


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
# PyTorch's own remark on padding="same" with an even kernel, about speed.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_gradients_equal_those_of_pytorch(function: Callable[..., torch.Tensor], options: dict[str, Any]) -> None:
    tensors = leaves(options)
    for name, found, expected in zip(
        ("x", "weight", "bias"),
        gradients_of(function, tensors, **options),
        gradients_of(pytorch, tensors, **options),
        strict=True,
    ):
        torch.testing.assert_close(
            found, expected, rtol=1e-12, atol=1e-12, msg=lambda why, name=name: f"gradient of {name}: {why}"
        )


@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
def test_one_gradient_alone(wanted: str) -> None:
    tensors = leaves({}, requires_grad=False)
    tensors[["x", "weight", "bias"].index(wanted)].requires_grad_()
    (found,), (expected,) = gradients_of(conv_scale_min, tensors), gradients_of(pytorch, tensors)
    torch.testing.assert_close(found, expected, msg=lambda why: f"gradient of {wanted} alone: {why}")


def test_a_tie_sends_the_gradient_where_pytorch_sends_it() -> None:
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    weight = torch.ones(4, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(conv_scale_min(x, weight).sum(), weight)
    (expected,) = torch.autograd.grad(pytorch(x, weight, None, 1.0).sum(), weight)
    assert torch.equal(found, expected), "all channels tie: the winner must be the index that torch.min returns"


def test_an_empty_batch_has_zero_gradients() -> None:
    for gradient in gradients_of(conv_scale_min, leaves({}, batch=0)):
        assert not gradient.any(), "no position, no gradient: see the backward formula"


def test_gradients_pass_a_finite_difference_check() -> None:
    x = torch.tensor([[[[0.5, -1.0], [2.0, 0.25]]]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[[[1.0, -0.5]]], [[[-2.0, 1.5]]]], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([0.125, -0.75], dtype=torch.float64, requires_grad=True)
    values = torch.conv2d(x, weight, bias) * 3.0
    assert (values[:, 0] - values[:, 1]).abs().min() > 0.1, "take values further from a tie: the minimum has a kink"
    assert torch.autograd.gradcheck(lambda *tensors: conv_scale_min(*tensors, 3.0), (x, weight, bias))


def test_gradients_can_be_differentiated_again() -> None:
    tensors = leaves({"groups": 2})
    penalties = []
    for function in (conv_scale_min, pytorch):
        (gradient,) = torch.autograd.grad(function(*tensors, 2.0, groups=2).sum(), tensors[0], create_graph=True)
        penalties.append(torch.autograd.grad(gradient.square().sum(), tensors[1])[0])
    torch.testing.assert_close(*penalties, msg=lambda why: f"second derivative of x, weight: {why}")
