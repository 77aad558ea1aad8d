"""ModelNew drops in for a module with an nn.Conv2d, and the file works from wherever it is loaded."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import fused
from fused import ModelNew, conv_scale_min
from fused.two_pass import two_pass

SOURCE = Path(fused.__file__).with_name("conv_scale_min.py")


def integers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(-4, 5, shape, generator=torch.Generator(torch.get_default_device()).manual_seed(seed)).float()


class Plain(nn.Module):
    """What ModelNew replaces."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, scale_factor: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.min(self.conv(x) * self.scale_factor, dim=1, keepdim=True).values


@pytest.fixture
def pair() -> tuple[Plain, ModelNew]:
    """Both modules, built under one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        plain = Plain(3, 40, 3, -2.0)
        torch.manual_seed(7)
        return plain, ModelNew(3, 40, 3, -2.0)


def test_parameters_equal_those_of_a_conv2d_under_one_seed(pair: tuple[Plain, ModelNew]) -> None:
    plain, model = (module.state_dict() for module in pair)
    assert list(model) == list(plain) == ["conv.weight", "conv.bias"], "a checkpoint must load: keep self.conv"
    for name, value in plain.items():
        assert torch.equal(model[name], value), f"{name} differs: draw nothing before or between the parameters"


def test_forward_equals_pytorch_on_integers(pair: tuple[Plain, ModelNew]) -> None:
    plain, model = pair
    state = {"conv.weight": integers(40, 3, 3, 3, seed=1), "conv.bias": integers(40, seed=2)}
    plain.load_state_dict(state)
    model.load_state_dict(state)
    x = integers(2, 3, 8, 7, seed=3)
    with torch.no_grad():
        assert torch.equal(model(x), plain(x)), "integers are exact in any order of summation: an index is wrong"


def test_the_baseline_equals_the_fused_kernel_on_integers() -> None:
    x, weight, bias = integers(2, 6, 8, 7, seed=1), integers(70, 3, 3, 2, seed=2), integers(70, seed=3)
    options = {"stride": (1, 2), "padding": (1, 0), "dilation": (2, 1), "groups": 2}
    expected = torch.min(torch.conv2d(x, weight, bias, **options) * 0.5, dim=1, keepdim=True).values
    assert torch.equal(conv_scale_min(x, weight, bias, 0.5, **options), expected), "the fused kernel is wrong"
    assert torch.equal(two_pass(x, weight, bias, 0.5, **options), expected), "the two-pass kernels are wrong"


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def loaded_names() -> Iterator[list[str]]:
    names = ["fused_loaded_by_path", "fused_changed_and_loaded_by_path"]
    yield names
    for name in names:
        sys.modules.pop(name, None)


def test_copies_of_the_file_live_side_by_side(tmp_path: Path, loaded_names: list[str]) -> None:
    changed = tmp_path / "changed.py"
    source = SOURCE.read_text(encoding="utf-8")
    assert source.count("acc * scale") == 1, "this test changes that expression: point it at its new form"
    changed.write_text(source.replace("acc * scale", "acc - scale"), encoding="utf-8")
    same, other = load(SOURCE, loaded_names[0]), load(changed, loaded_names[1])

    x, weight = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    for module, expected in ((fused, 8.0), (same, 8.0), (other, 2.0), (fused, 8.0)):
        found = module.conv_scale_min(x, weight, None, 2.0).item()
        assert found == expected, f"{module.__name__} ran another copy's kernel: give each its own operator name"


def test_the_operator_is_known_to_torch_compile() -> None:
    x, weight = integers(1, 2, 5, 5, seed=1), integers(3, 2, 2, 2, seed=2)
    traced = torch.compile(lambda x: conv_scale_min(x, weight, None, -1.0) + 1, backend="eager", fullgraph=True)
    assert torch.equal(traced(x), conv_scale_min(x, weight, None, -1.0) + 1), "tracing changes the result"


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("function", [conv_scale_min, two_pass], ids=lambda function: function.__name__)
def test_autocast_casts_what_it_casts_for_a_convolution(
    half: torch.dtype, function: Callable[..., torch.Tensor]
) -> None:
    x, weight, bias = torch.rand(2, 3, 5, 6), torch.rand(4, 3, 2, 2).to(half), torch.rand(4)
    doubles = [tensor.double() for tensor in (x, weight, bias)]
    kind = x.device.type
    with torch.autocast(kind, dtype=half):
        convolved = torch.conv2d(x, weight, bias)
        found, exact = function(x, weight, bias, -3.0), function(*doubles, -3.0)
    assert found.dtype == convolved.dtype == half, "under_autocast must choose the type that a convolution gets"
    assert torch.equal(found, function(x.to(half), weight, bias.to(half), -3.0)), "autocast changes more than the type"
    assert exact.dtype == torch.float64, "autocast leaves float64 alone"
    with torch.autocast(kind, dtype=half, enabled=False):
        assert function(x, weight.float(), bias, -3.0).dtype == torch.float32, "autocast is off"


def test_gradients_pass_through_autocast() -> None:
    x, weight = torch.rand(1, 2, 4, 4), torch.rand(3, 2, 2, 2).requires_grad_()
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        conv_scale_min(x, weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32, "a parameter keeps the type of its gradient"


def test_autocast_is_known_to_torch_compile() -> None:
    x, weight = integers(1, 2, 5, 5, seed=1), integers(3, 2, 2, 2, seed=2)
    traced = torch.compile(lambda x: conv_scale_min(x, weight, None, -1.0), backend="eager", fullgraph=True)
    # Not bfloat16, which Triton's bare interpreter multiplies as if it were integers.
    with torch.autocast(x.device.type, dtype=torch.float16):
        found = traced(x)
    assert (found.dtype, traced(x).dtype) == (torch.float16, torch.float32), "tracing must see that autocast is on"
    assert torch.equal(found.float(), traced(x)), "small integers are exact in either type"


def test_meta_tensors_give_the_shape_without_a_launch() -> None:
    x, weight = torch.ones(2, 4, 9, 8, device="meta"), torch.ones(6, 2, 3, 2, device="meta")
    for function in (conv_scale_min, two_pass):
        out = function(x, weight, stride=2, padding=1, groups=2)
        assert (out.device.type, out.shape) == ("meta", (2, 1, 5, 5)), f"{function.__name__}: see empty_output"
