"""`Case` → tensors: numbers laid out in memory as the case asks, between red zones.

Each tensor is a strided view into a flat storage. Everything in the storage that is not an element of the view, gaps,
margins and the red zones at both ends, holds poison, so that what a kernel reads there shows in its result and what it
writes there shows afterwards.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch

from fuzz.case import Case, TensorName
from fuzz.layout import Layout
from fuzz.on_device import BITS, Flag, send
from fuzz.values import draw_values

Poison = Literal["nan", "finite"]

TORCH_DTYPE: Final[dict[str, torch.dtype]] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}

# Elements on each side of a tensor. A tile that runs past the end of a weight overshoots by up to BLOCK_N rows, so a
# few hundred elements would not be enough to see it.
RED_ZONE: Final = 2**14

# Linux's flag for memory that need not be there, which Python does not name before 3.13.
_NO_RESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0x4000)

# Large beside any ordinary value, exact in every floating dtype, and negative, because the operation takes a minimum.
FINITE_POISON: Final = -57344.0


# The numbers of each tensor, on the CPU and of the case's dtype; dimensions of stride 0 have size 1.
Numbers = dict[TensorName, torch.Tensor]


@dataclass
class Part:
    """A stretch of memory around elements of a tensor, and a copy of it from before the call.

    Attributes:
        storage: 1-D, the stretch.
        before: 1-D copy of `storage`.
        stored: The elements of the tensor in it, each once: without the dimensions of stride 0.
    """

    storage: torch.Tensor
    before: torch.Tensor
    stored: torch.Tensor

    @property
    def element(self) -> torch.Tensor:
        """1-D bool, which entries of `storage` are elements of the view."""
        mask, stored = np.zeros(self.storage.shape, np.bool_), self.stored
        first = stored.storage_offset() - self.storage.storage_offset()
        np.ndarray(tuple(stored.shape), np.bool_, mask, first, stored.stride())[...] = True
        return torch.from_numpy(mask).to(self.storage.device)

    def changed(self) -> Flag:
        """Whether any byte has changed since the operand was filled."""
        return differ(self.storage, self.before)

    def damage(self) -> Literal["", "elements", "surroundings"]:
        """Say what has changed in the storage since the operand was filled, comparing bytes."""
        bits = BITS[self.storage.element_size()]
        changed = self.storage.view(bits) != self.before.view(bits)
        if not bool(changed.any()):
            return ""
        return "elements" if bool((changed & self.element).any()) else "surroundings"


@dataclass
class Operand:
    """A tensor and the memory around its elements: all that it is a view of, unless its parts lie far apart.

    Attributes:
        tensor: The view that the target receives.
        stored: The elements of the view, each once: `tensor` without the dimensions of stride 0.
        parts: The memory that is watched.
    """

    tensor: torch.Tensor
    stored: torch.Tensor
    parts: tuple[Part, ...]

    def refill(self, numbers: torch.Tensor) -> None:
        """Put other numbers into the same memory."""
        send(self.stored, numbers)
        for part in self.parts:
            part.before.copy_(part.storage)

    def changed(self) -> list[Flag]:
        """For each part whether any byte has changed since the operand was filled."""
        return [part.changed() for part in self.parts]

    def damage(self) -> Literal["", "elements", "surroundings"]:
        """Say what has changed since the operand was filled, comparing bytes."""
        found = {part.damage() for part in self.parts}
        return "elements" if "elements" in found else "surroundings" if "surroundings" in found else ""


Operands = dict[TensorName, Operand]


def differ(one: torch.Tensor, other: torch.Tensor) -> Flag:
    """Return whether two 1-D tensors of one size, dtype and device, both as `flat` gives them, hold different bits."""
    bits = BITS[one.element_size()]
    if one.device.type == "cpu":
        # NumPy, whose comparison takes a quarter of the time of PyTorch's.
        return bool((one.view(bits).numpy() != other.view(bits).numpy()).any())
    return (one.view(bits) != other.view(bits)).any()


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """Return a dense tensor's elements one after the other, free of gradients and of pending signs."""
    return tensor.detach().resolve_conj().resolve_neg().flatten()


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """Return a hash of the bits of tensors; the same for other tensors only where those have the same bits."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout}".encode())
        if tensor.layout == torch.strided and not tensor.is_meta:
            found.update(flat(tensor).cpu().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def numbers_of(case: Case) -> Numbers:
    """Return the numbers that the case stands for."""
    stored = {name: _stored_shape(shape, layout) for name, (shape, layout) in _shapes(case).items()}
    dtype = TORCH_DTYPE[case.dtype]
    return {name: torch.from_numpy(values).to(dtype) for name, values in draw_values(case, stored).items()}


def full_tensors(case: Case, numbers: Numbers) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return x, weight and bias in full shape, on the CPU."""
    full = {name: numbers[name].expand(shape) for name, (shape, _) in _shapes(case).items()}
    return full["x"], full["weight"], full.get("bias")


def lay_out(
    case: Case, numbers: Numbers, *, poison: Poison, device: torch.device, red_zone: int = RED_ZONE
) -> Operands:
    """Return operands on `device` that hold the numbers in the case's layouts, between so many elements of poison."""
    return {
        name: _operand(numbers[name], shape, layout, poison=poison, device=device, red_zone=red_zone)
        for name, (shape, layout) in _shapes(case).items()
    }


def build(case: Case, *, poison: Poison, device: torch.device) -> Operands:
    """Return the case's operands on `device`; there is no `bias` where the case has none."""
    return lay_out(case, numbers_of(case), poison=poison, device=device)


def _shapes(case: Case) -> dict[TensorName, tuple[tuple[int, ...], Layout]]:
    shapes: dict[TensorName, tuple[tuple[int, ...], Layout]] = {
        "x": (case.x_shape, case.x_layout),
        "weight": (case.weight_shape, case.weight_layout),
    }
    if case.bias:
        shapes["bias"] = ((case.c_out,), case.bias_layout)
    return shapes


def poison_value(poison: Poison) -> float:
    """Return the number that stands for memory nobody has written."""
    return math.nan if poison == "nan" else FINITE_POISON


def _stored_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    return tuple(min(1, size) if dim in layout.expand else size for dim, size in enumerate(shape))


def _operand(
    numbers: torch.Tensor,
    shape: tuple[int, ...],
    layout: Layout,
    *,
    poison: Poison,
    device: torch.device,
    red_zone: int,
) -> Operand:
    strides, first, extent = layout.place(shape)
    size, value, far = extent + 2 * red_zone, poison_value(poison), layout.far_dimension(shape)
    if far is None or device.type != "cpu":
        storage = torch.full((size,), value, dtype=numbers.dtype, device=device)
    else:
        storage = _untouched(size, numbers.dtype)
    stored = storage.as_strided(numbers.shape, strides, red_zone + first)
    if far is None:
        stretches = [(storage, stored)]
    else:
        stretches = _stretches(storage, stored, far, red_zone)
        for stretch, _ in stretches:
            stretch.fill_(value)
    send(stored, numbers)
    return Operand(
        tensor=storage.as_strided(shape, strides, red_zone + first),
        stored=stored,
        parts=tuple(Part(stretch, stretch.clone(), elements) for stretch, elements in stretches),
    )


def _untouched(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return zeros whose pages take no memory until they are touched; so poison goes around the elements alone."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    try:
        pages = mmap.mmap(-1, size * dtype.itemsize, flags=flags)
    except OSError as error:
        raise MemoryError(f"{size} elements of {dtype} cannot even be addressed: {error.strerror}") from None
    return torch.frombuffer(pages, dtype=dtype)


def _stretches(
    storage: torch.Tensor, stored: torch.Tensor, dim: int, red_zone: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the memory around each entry of a dimension whose entries lie far apart, and the elements in it."""
    entries = stored.unbind(dim)
    span = 1 + sum(
        max(0, size - 1) * stride for size, stride in zip(entries[0].shape, entries[0].stride(), strict=True)
    )
    starts = [entry.storage_offset() - red_zone for entry in entries]
    return [(storage[start : start + span + 2 * red_zone], entry) for start, entry in zip(starts, entries, strict=True)]
