"""What PyTorch rejects is rejected, with the same type of exception and a message that names argument and value."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fused.conv_scale_min import conv_scale_min
from fused.two_pass import two_pass

IMPLEMENTATIONS = [conv_scale_min, two_pass]


def pytorch(x: Any, weight: Any, bias: Any = None, scale: Any = 1.0, **options: Any) -> torch.Tensor:
    return torch.min(torch.conv2d(x, weight, bias, **options) * scale, dim=1, keepdim=True).values


@dataclass
class Call:
    """A call that differs from a good one in what it names, and the words that its message must hold."""

    words: tuple[str, ...]
    x: Any = field(default_factory=lambda: torch.ones(2, 4, 6, 6))
    weight: Any = field(default_factory=lambda: torch.ones(6, 4, 3, 3))
    bias: Any = None
    scale: Any = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def on(self, function: Callable[..., torch.Tensor]) -> torch.Tensor:
        return function(self.x, self.weight, self.bias, self.scale, **self.options)


REJECTED = {
    "x is no tensor": Call(("x=", "Tensor", "list"), x=[1.0]),
    "x is None": Call(("x=None", "Tensor"), x=None),
    "weight is no tensor": Call(("weight=None", "Tensor"), weight=None),
    "bias is a float": Call(("bias=1.0", "Tensor"), bias=1.0),
    "x of rank 2": Call(("x.dim()=2", "4"), x=torch.ones(6, 6)),
    "x of rank 5": Call(("x.dim()=5", "4"), x=torch.ones(1, 2, 4, 6, 6)),
    "weight of rank 2": Call(("weight.dim()=2", "4"), weight=torch.ones(6, 4)),
    "weight of rank 3": Call(("weight.dim()=3", "4"), weight=torch.ones(6, 4, 3)),
    "weight of rank 5": Call(("weight.dim()=5", "4"), weight=torch.ones(6, 4, 3, 3, 3)),
    "channels differ": Call(("weight.shape[1]=3", "x.shape[1]/groups=4"), weight=torch.ones(6, 3, 3, 3)),
    "channels differ in groups": Call(("weight.shape[1]=4", "x.shape[1]/groups=2"), options={"groups": 2}),
    "groups do not divide x": Call(
        ("x.shape[1]=4", "groups=3"), weight=torch.ones(6, 1, 3, 3), options={"groups": 3}
    ),
    "groups do not divide weight": Call(
        ("weight.shape[0]=5", "groups=2"), weight=torch.ones(5, 2, 3, 3), options={"groups": 2}
    ),
    "no groups": Call(("groups=0", "positive"), options={"groups": 0}),
    "negative groups": Call(("groups=-1", "positive"), options={"groups": -1}),
    "groups is a float": Call(("groups=1.0", "int"), options={"groups": 1.0}),
    "groups is a bool": Call(("groups=True", "int"), options={"groups": True}),
    "groups is None": Call(("groups=None", "int"), options={"groups": None}),
    "no output channels": Call(("weight.shape[0]=0", "positive"), weight=torch.ones(0, 4, 3, 3)),
    "no input channels": Call(("x.shape[1]=0", "positive"), x=torch.ones(2, 0, 6, 6), weight=torch.ones(6, 0, 3, 3)),
    "no input channels, no batch": Call(
        ("x.shape[1]=0", "positive"), x=torch.ones(0, 0, 6, 6), weight=torch.ones(6, 0, 3, 3)
    ),
    "kernel of no height": Call(("weight.shape[2:]=(0, 3)", "positive"), weight=torch.ones(6, 4, 0, 3)),
    "bias too short": Call(("bias.shape=(5,)", "(6,)"), bias=torch.ones(5)),
    "bias of one": Call(("bias.shape=(1,)", "(6,)"), bias=torch.ones(1)),
    "bias of rank 0": Call(("bias.shape=()", "(6,)"), bias=torch.tensor(1.0)),
    "bias of rank 2": Call(("bias.shape=(6, 1)", "(6,)"), bias=torch.ones(6, 1)),
    "window too high": Call(("weight.shape[2]", "7", "x.shape[2]", "6"), weight=torch.ones(6, 4, 7, 3)),
    "window too wide": Call(("weight.shape[3]", "9", "x.shape[3]", "8"), weight=torch.ones(6, 4, 3, 9),
                            options={"padding": 1}),
    "window too high by dilation": Call(("dilation", "3*2+1=7", "6"), options={"dilation": 3}),
    "window too high, no batch": Call(("weight.shape[2]", "3", "2"), x=torch.ones(0, 4, 2, 6)),
    "x of no height": Call(("x.shape[2]", "0"), x=torch.ones(2, 4, 0, 6)),
    "x of no height, padded": Call(("x.shape=(2, 4, 0, 6)", "batch"), x=torch.ones(2, 4, 0, 6),
                                   options={"padding": 2}),
    "x of no width, padded": Call(("x.shape=(2, 4, 6, 0)", "batch"), x=torch.ones(2, 4, 6, 0),
                                  options={"padding": 2}),
    "negative padding": Call(("padding=-1", "negative"), options={"padding": -1}),
    "padding of three": Call(("padding=(1, 1, 1)", "3"), options={"padding": (1, 1, 1)}),
    "padding by an unknown name": Call(("padding='full'", "'same'", "'valid'"), options={"padding": "full"}),
    "padding same with stride": Call(("padding='same'", "stride"), options={"padding": "same", "stride": 2}),
    "no stride": Call(("stride=0", "positive"), options={"stride": 0}),
    "negative stride": Call(("stride=(1, -1)", "positive"), options={"stride": (1, -1)}),
    "stride of three": Call(("stride=(1, 1, 1)", "3"), options={"stride": (1, 1, 1)}),
    "stride of none": Call(("stride=()", "0"), options={"stride": ()}),
    "stride is a float": Call(("stride=1.0", "int"), options={"stride": 1.0}),
    "stride is a bool": Call(("stride=True", "int"), options={"stride": True}),
    "stride is None": Call(("stride=None", "int"), options={"stride": None}),
    "stride is a string": Call(("stride='1'", "int"), options={"stride": "1"}),
    "stride holds a float": Call(("stride=1.0", "int"), options={"stride": (1.0, 1)}),
    "stride beyond 64 bits": Call(("stride=", "64 bits"), options={"stride": 2**63}),
    "no dilation": Call(("dilation=0", "positive"), options={"dilation": 0}),
    "negative dilation": Call(("dilation=-1", "positive"), options={"dilation": -1}),
    "dtypes of x and weight": Call(("weight.dtype=torch.float64", "x.dtype=torch.float32"),
                                   weight=torch.ones(6, 4, 3, 3, dtype=torch.float64)),
    "dtypes of x and bias": Call(("bias.dtype=torch.float64", "x.dtype=torch.float32"),
                                 bias=torch.ones(6, dtype=torch.float64)),
    "bool": Call(("x.dtype=torch.bool", "float32"), x=torch.ones(2, 4, 6, 6, dtype=torch.bool),
                 weight=torch.ones(6, 4, 3, 3, dtype=torch.bool)),
    "complex": Call(("x.dtype=torch.complex64", "real"), x=torch.ones(2, 4, 6, 6, dtype=torch.complex64),
                    weight=torch.ones(6, 4, 3, 3, dtype=torch.complex64)),
    "scale is a string": Call(("scale='2'", "float"), scale="2"),
    "scale is None": Call(("scale=None", "float"), scale=None),
    "scale is complex": Call(("scale=1j", "real"), scale=1j),
    "scale beyond 64 bits": Call(("scale", "64 bits"), scale=2**1000),
}  # fmt: skip


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", REJECTED)
def test_rejects_what_pytorch_rejects(name: str, function: Callable[..., torch.Tensor]) -> None:
    call = REJECTED[name]
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever PyTorch raises is the expectation
        call.on(pytorch)
    with pytest.raises(Exception) as found:  # noqa: PT011  # its type is compared below
        call.on(function)
    assert found.type is expected.type, (
        f"{function.__name__} raises {found.type.__name__} ({found.value}) where PyTorch raises "
        f"{expected.type.__name__} ({expected.value}): change the exception in checked_arguments"
    )
    missing = [word for word in call.words if word not in str(found.value)]
    assert not missing, f"the message {str(found.value)!r} must say {missing}: name argument, value and rule"


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_an_unbatched_input_is_rejected(function: Callable[..., torch.Tensor]) -> None:
    # PyTorch convolves [C, H, W] and would then take the minimum over rows: no channel minimum, so no result here.
    with pytest.raises(RuntimeError, match=r"x\.dim\(\)=3 must be 4"):
        function(torch.ones(4, 6, 6), torch.ones(6, 4, 3, 3))


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_integers_are_declined(function: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    with pytest.raises(NotImplementedError, match=f"x.dtype={dtype} must be one of float32"):
        function(torch.ones(2, 4, 6, 6, dtype=dtype), torch.ones(6, 4, 3, 3, dtype=dtype))


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_a_tensor_as_scale_is_declined(function: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(NotImplementedError, match="scale must be a float, not a tensor"):
        function(torch.ones(2, 4, 6, 6), torch.ones(6, 4, 3, 3), None, torch.tensor(2.0))


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_an_unknown_precision_lists_the_known_ones(function: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="precision='tf16' must be one of None, 'tf32', 'ieee'"):
        function(torch.ones(2, 4, 6, 6), torch.ones(6, 4, 3, 3), precision="tf16")


def test_an_unknown_config_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"config='huge' must be None or one of 'small', .*'medium', 'large'"):
        conv_scale_min(torch.ones(2, 4, 6, 6), torch.ones(6, 4, 3, 3), config="huge")


def as_pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def outcome(function: Callable[..., torch.Tensor], *arguments: Any, **options: Any) -> str:
    """The shape of the result or the name of the exception."""
    try:
        return str(tuple(function(*arguments, **options).shape))
    except Exception as error:
        return type(error).__name__


@settings(max_examples=200, deadline=None)
@given(
    # Values that fit together come up often enough for about one example in four to be accepted.
    shape=st.tuples(st.integers(0, 2), st.sampled_from([2, 4, 3, 0]), st.integers(0, 5), st.integers(0, 5)),
    weight_shape=st.tuples(
        st.sampled_from([2, 4, 3, 0]), st.sampled_from([2, 1, 3, 0]), st.integers(1, 3), st.integers(1, 3)
    ),
    bias_size=st.none() | st.sampled_from([2, 4, 0]),
    stride=st.sampled_from([1, 2, (1, 2), (2, 0), 0, -1]),
    padding=st.sampled_from([0, 1, (0, 2), "valid", (1, -1), -1, "none"]),
    dilation=st.sampled_from([1, 2, (1, 2), 0, -1]),
    groups=st.sampled_from([1, 2, 3, 0, -1]),
)
def test_accepts_and_rejects_the_same_arguments_as_pytorch(
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_size: int | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> None:
    # With nothing to compute PyTorch never looks at the dilation; here it is always checked.
    assume(0 not in shape[:2] or min(as_pair(dilation)) > 0)
    bias = None if bias_size is None else torch.ones(bias_size)
    arguments = torch.ones(shape), torch.ones(weight_shape), bias, 1.0
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    expected = outcome(pytorch, *arguments, **options)
    found = outcome(conv_scale_min, *arguments, **options)
    assert found == expected, (
        f"PyTorch: {expected}, conv_scale_min: {found}; compare checked_arguments and output_size with torch.conv2d"
    )
