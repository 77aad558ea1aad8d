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


@dataclass(frozen=True)
class Operand:
    """A tensor, the storage that it is a view of, and a copy of that storage from before the call.

    Attributes:
        tensor: The view that the target receives.
        storage: 1-D, the whole allocation.
        before: 1-D copy of `storage`.
        element: 1-D bool, which entries of `storage` are elements of the view.
    """

    tensor: torch.Tensor
    storage: torch.Tensor
    before: torch.Tensor
    element: torch.Tensor

    def damage(self) -> Literal["", "elements", "surroundings"]:
        """Say what has changed in the storage since the operand was made, comparing bytes."""
        changed = _bytes(self.storage) != _bytes(self.before)
        if not bool(changed.any()):
            return ""
        return "elements" if bool((changed.any(dim=1) & self.element).any()) else "surroundings"


Operands = dict[TensorName, Operand]


def build(case: Case, *, poison: Poison, device: torch.device) -> Operands:
    """Return the case's operands on `device`; there is no `bias` where the case has none."""
    shapes: dict[TensorName, tuple[tuple[int, ...], Layout]] = {
        "x": (case.x_shape, case.x_layout),
        "weight": (case.weight_shape, case.weight_layout),
    }
    if case.bias:
        shapes["bias"] = ((case.c_out,), case.bias_layout)
    stored = {name: _stored_shape(shape, layout) for name, (shape, layout) in shapes.items()}
    values = draw_values(case, stored)
    dtype = TORCH_DTYPE[case.dtype]
    return {
        name: _lay_out(torch.from_numpy(values[name]).to(dtype), shape, layout, poison=poison, device=device)
        for name, (shape, layout) in shapes.items()
    }


def poison_value(poison: Poison) -> float:
    """Return the number that stands for memory nobody has written."""
    return math.nan if poison == "nan" else FINITE_POISON


def _stored_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    return tuple(min(1, size) if dim in layout.expand else size for dim, size in enumerate(shape))


def _lay_out(
    values: torch.Tensor, shape: tuple[int, ...], layout: Layout, *, poison: Poison, device: torch.device
) -> Operand:
    strides, first, extent = layout.place(shape)
    storage = torch.full((extent + 2 * RED_ZONE,), poison_value(poison), dtype=values.dtype)
    element = torch.zeros(storage.shape, dtype=torch.bool)
    for flat, content in ((storage, values), (element, torch.ones_like(values, dtype=torch.bool))):
        flat.as_strided(values.shape, strides, RED_ZONE + first).copy_(content)
    storage = storage.to(device)
    return Operand(
        tensor=storage.as_strided(shape, strides, RED_ZONE + first),
        storage=storage,
        before=storage.clone(),
        element=element.to(device),
    )


def _bytes(flat: torch.Tensor) -> torch.Tensor:
    """View a 1-D tensor as bytes, [elements, bytes per element]: NaN compares equal to itself that way."""
    return flat.view(torch.uint8).view(flat.numel(), -1)
