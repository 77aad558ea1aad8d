"""What the gate runs: calls, the tensors for them, and how long a card needs for such a call at least."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fuzz.abilities import Abilities
from fuzz.case import Case, Dtype
from fuzz.gate.devices import Card

if TYPE_CHECKING:
    import torch  # at run time only in the processes that need it

# KernelBench level 2, problem 32: the workload that the card is to be fastest at.
HEADLINE: Final = Case(n=64, c_in=64, h=256, w=256, c_out=128, kh=3, kw=3, scale=2.0, bias=True)
# By name, the calls that are timed on a GPU: the headline in each kind of product, and a layer of a usual network.
WORKLOADS: Final = {
    "headline float32": msgspec.structs.replace(HEADLINE, precision="tf32"),
    "headline float16": msgspec.structs.replace(HEADLINE, dtype="float16"),
    "headline ieee": msgspec.structs.replace(HEADLINE, precision="ieee"),
    "resnet float32": Case(
        n=64, c_in=64, h=56, w=56, c_out=64, kh=3, kw=3, padding=(1, 1), scale=2.0, bias=True, precision="tf32"
    ),
}
_HALVES: Final = ("float16", "bfloat16")
_SIZES: Final = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# A float32 that is to keep its 24 bits is two of 11 or 12 bits, or three of 8; products of the lowest may go.
_OF_HALVES: Final = 3
_OF_THIRDS: Final = 6


@dataclass(frozen=True)
class Floor:
    """What a call costs a card at least: a point under its roofline.

    Attributes:
        operations: Multiplications and additions.
        bytes: Of x, weight, bias and output, each once.
        arithmetic: Milliseconds for the operations, at the card's rate for this kind of product.
        memory: Milliseconds for the bytes, at the bandwidth of its memory.
    """

    operations: int
    bytes: int
    arithmetic: float
    memory: float

    @property
    def milliseconds(self) -> float:
        """The larger of both, since they can overlap."""
        return max(self.arithmetic, self.memory)


def floor(card: Card, case: Case) -> Floor:
    """Return what the call costs the card at least."""
    height, width = case.out_size
    numbers = case.n * (case.c_in * case.h * case.w + height * width) + case.c_out * (case.reduction_length + 1)
    moved = numbers * _SIZES[case.dtype]
    operations = 2 * case.multiplications
    return Floor(operations, moved, 1e3 * operations / rate(card, case), 1e3 * moved / card.bandwidth)


def rate(card: Card, case: Case) -> float:
    """The most operations a second that the card does of those that the call needs.

    float16 and tf32 have equally many bits, so that a kernel may multiply float32 of the tf32 class in float16, at its
    rate; and float32 in full as three products of halves.
    """
    rates = card.rates
    if case.dtype != "float32":
        return rates["float64" if case.dtype == "float64" else "float16"]
    if case.precision != "ieee":
        return max(rates["tf32"], rates["float16"])
    return max(rates["float32"], max(rates["tf32"], rates["float16"]) / _OF_HALVES)


def partial_products(case: Case, opcodes: Iterable[str]) -> int:
    """How many products such matrix instructions need at least for one product of the call's operands.

    Args:
        case: The call.
        opcodes: Of a kernel's main loop, the matrix instructions; none of those without tensor cores.
    """
    if case.dtype != "float32" or case.precision != "ieee":
        return 1
    kinds = [opcode for opcode in opcodes if not opcode.startswith("DMMA")]
    if not kinds:
        return 1
    return _OF_THIRDS if all("BF16" in kind for kind in kinds) else _OF_HALVES


def operands(case: Case, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x, weight and bias as a network has them: x in [0, 1), the others as `torch.nn.Conv2d` begins with them.

    16 bits lie channels last, as is usual for them. On the meta device they have no numbers.
    """
    import torch

    dtype = getattr(torch, case.dtype)
    x, weight, bias = (
        torch.empty(shape, dtype=dtype, device=device) for shape in (case.x_shape, case.weight_shape, (case.c_out,))
    )
    if not x.is_meta:  # where arithmetic would do nothing, after an import of seconds
        bound = case.reduction_length**-0.5
        x.copy_(torch.rand(case.x_shape, device=device))
        weight.copy_((torch.rand(weight.shape, device=device) * 2 - 1) * bound)
        bias.copy_((torch.rand(bias.shape, device=device) * 2 - 1) * bound)
    return x.to(memory_format=torch.channels_last) if lies_channels_last(case.dtype) else x, weight, bias


def lies_channels_last(dtype: Dtype) -> bool:
    """Whether x of this dtype lies channels last."""
    return dtype in _HALVES


def why_skipped(able: Abilities, case: Case) -> str:
    """Return why a call is not for a target of these abilities; empty if it is."""
    if case.dtype not in able.dtypes:
        return f"the target does not promise {case.dtype}"
    if case.precision == "ieee" and not able.precision:
        return "the target cannot be told to multiply float32 in full"
    return able.why_not(case)


def options(case: Case) -> dict[str, Any]:
    """What `torch.conv2d` is told beside the tensors."""
    return {"stride": case.stride, "padding": case.padding, "dilation": case.dilation, "groups": case.groups}
