"""`Case` → tensors: numbers laid out in memory as the case asks, between red zones.

Each tensor is a strided view into a flat storage. Everything in the storage that is not an element of the view, gaps,
margins and the red zones at both ends, holds poison, so that what a kernel reads there shows in its result and what it
writes there shows afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch

from fuzz.case import Case, TensorName
from fuzz.layout import Layout
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

# Large beside any ordinary value, exact in every floating dtype, and negative, because the operation takes a minimum.
FINITE_POISON: Final = -57344.0


# Same width, for comparing bits: NaN compares equal to itself that way.
_BITS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}

# The numbers of each tensor, on the CPU and of the case's dtype; dimensions of stride 0 have size 1.
Numbers = dict[TensorName, torch.Tensor]


@dataclass
class Operand:
    """A tensor, the storage that it is a view of, and a copy of that storage from before the call.

    Attributes:
        tensor: The view that the target receives.
        storage: 1-D, the whole allocation.
        before: 1-D copy of `storage`.
        stored: The elements of the view, each once: `tensor` without the dimensions of stride 0.
    """

    tensor: torch.Tensor
    storage: torch.Tensor
    before: torch.Tensor
    stored: torch.Tensor

    @property
    def element(self) -> torch.Tensor:
        """1-D bool, which entries of `storage` are elements of the view."""
        mask = torch.zeros(self.storage.shape, dtype=torch.bool, device=self.storage.device)
        mask.as_strided(self.stored.shape, self.stored.stride(), self.stored.storage_offset()).fill_(True)
        return mask

    def refill(self, numbers: torch.Tensor) -> None:
        """Put other numbers into the same memory."""
        self.stored.copy_(numbers)
        self.before.copy_(self.storage)

    def changed(self) -> torch.Tensor:
        """0-d bool on the tensor's device: whether any byte of the storage has changed since the operand was filled."""
        if self.storage.device.type == "cpu":
            # One pass without a tensor in between; on a GPU it would have to wait for the answer.
            bits = _BITS[self.storage.element_size()]
            return torch.tensor(not torch.equal(self.storage.view(bits), self.before.view(bits)))
        return self._changed_entries().any()

    def damage(self) -> Literal["", "elements", "surroundings"]:
        """Say what has changed in the storage since the operand was filled, comparing bytes."""
        changed = self._changed_entries()
        if not bool(changed.any()):
            return ""
        return "elements" if bool((changed & self.element).any()) else "surroundings"

    def _changed_entries(self) -> torch.Tensor:
        bits = _BITS[self.storage.element_size()]
        return self.storage.view(bits) != self.before.view(bits)


Operands = dict[TensorName, Operand]


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
    storage = torch.full((extent + 2 * red_zone,), poison_value(poison), dtype=numbers.dtype, device=device)
    stored = storage.as_strided(numbers.shape, strides, red_zone + first)
    stored.copy_(numbers)
    return Operand(
        tensor=storage.as_strided(shape, strides, red_zone + first),
        storage=storage,
        before=storage.clone(),
        stored=stored,
    )
