"""Sound kernels, each as another person would write it: what the suite must not accuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fuzz.case import Dtype
from planted.flaw import CANDIDATES, changed


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound kernel.

    Attributes:
        base: Name of the candidate's file, without its ending.
        way: How it goes about it, in one line.
        dtypes: The dtypes that a hunt tries; what the signature promises if None.
        change: What stands in that file, exactly once, and what stands in its place; None for the file as it is.
    """

    base: str
    way: str
    dtypes: tuple[Dtype, ...] | None = None
    change: tuple[str, str] | None = None

    def source(self) -> str:
        """Return the text of the kernel."""
        if self.change is None:
            return (CANDIDATES / f"{self.base}.py").read_text()
        return changed(self.base, *self.change)


TILED: Path = CANDIDATES / "tiled.py"
HALVES: tuple[Dtype, ...] = ("float16", "bfloat16")
EVERY: tuple[Dtype, ...] = ("float32", "float16", "bfloat16", "float64")

SOUND: dict[str, Sound] = {
    "eager": Sound(base="eager", way="PyTorch itself, as a module"),
    "eager_function": Sound(base="eager_function", way="PyTorch itself, as a function with every option", dtypes=EVERY),
    "in_float64": Sound(
        base="eager_function",
        way="everything in float64, the scale as well, and one rounding at the end",
        dtypes=EVERY,
        change=(
            "    value = torch.conv2d(x, weight, bias, stride, padding, dilation, groups) * scale\n"
            "    return value.amin(dim=1, keepdim=True)\n",
            "    wide = [None if tensor is None else tensor.double() for tensor in (x, weight, bias)]\n"
            "    value = torch.conv2d(*wide, stride, padding, dilation, groups) * scale\n"
            "    return value.amin(dim=1, keepdim=True).to(x.dtype)\n",
        ),
    ),
    "tiled": Sound(base="tiled", way="contiguous copies, tiles of 32"),
    "strided": Sound(base="strided", way="every option, any strides, sums in float64 for float64", dtypes=EVERY),
    "packed": Sound(base="packed", way="weight reordered, taps before channels, tiles of 64×16×16"),
    "negated_max": Sound(base="negated_max", way="minus the maximum of the negated values"),
    "rows": Sound(base="rows", way="a program for a piece of a row, a reduction of its own that keeps NaN"),
    "two_sums": Sound(base="two_sums", way="two accumulators, added at the end"),
    "folded_scale": Sound(base="folded_scale", way="scale multiplied into weight and bias, where that stays finite"),
    "folded_whatever": Sound(
        base="folded_scale",
        way="scale multiplied into weight and bias, even where that overflows",
        change=("if torch.isfinite(weight * scale).all() and torch.isfinite(bias * scale).all():", "if True:"),
    ),
    "split_k": Sound(base="split_k", way="products split over programs, parts added by a second kernel"),
    "atomic_sum": Sound(base="atomic_sum", way="products split over programs, parts added atomically"),
    "atomic_min": Sound(base="atomic_min", way="channels split over programs, atomic minimum of ordered integers"),
    "scalar_loops": Sound(base="scalar_loops", way="no tl.dot: one product at a time", dtypes=("float32", "bfloat16")),
    "channel_pairs": Sound(
        base="channel_pairs",
        way="two channels at a time, whose weights are single numbers under a mask",
        dtypes=("float32", *HALVES),
    ),
    "autotuned": Sound(base="autotuned", way="tiles from the autotuner, with configs pruned by size"),
    "two_kernels": Sound(
        base="two_kernels", way="convolution to a buffer in float32, then minimum", dtypes=("float32", *HALVES)
    ),
    "middle_rounded": Sound(
        base="two_kernels",
        way="convolution to a buffer in half precision, as PyTorch does, then minimum",
        dtypes=HALVES,
        change=("device=x.device, dtype=torch.float32)", "device=x.device, dtype=x.dtype)"),
    ),
    "upcast": Sound(base="upcast", way="half-precision operands widened first", dtypes=("float32", *HALVES)),
    "persistent": Sound(base="persistent", way="eight programs that walk over the tiles"),
    "overlapping_tiles": Sound(
        base="tiled",
        way="the last tile moved back: two programs store the same numbers in the same place",
        change=(
            "offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)",
            "offs_m = min(tl.program_id(0) * BLOCK_M, max(0, positions - BLOCK_M)) + tl.arange(0, BLOCK_M)",
        ),
    ),
    "block_pointers": Sound(base="block_pointers", way="x unfolded by PyTorch, block pointers"),
    "descriptors": Sound(base="descriptors", way="x unfolded by PyTorch, tensor descriptors"),
}
