"""`Layout`: how a tensor lies in memory, as a value."""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import msgspec

# Far above what fits a card, far below what overflows the arithmetic that checks it: a mistyped file must not be able
# to ask for a terabyte.
MAX_ELEMENTS: Final = 2**33
MAX_STRIDE: Final = 2**40
MAX_STEP: Final = 2**10
# Three entries so far apart have an offset that does not fit in 32 bits; and no more than that many elements in all.
_FAR_STEP: Final = 2**30
_FAR_EXTENT: Final = 2**32


class CaseError(ValueError):
    """A case, or the file that holds one, breaks a rule; the message names the field, its value and the rule."""


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a tensor lies in memory. The default is contiguous.

    Attributes:
        order: The dimensions from the slowest to the fastest in memory; empty means as indexed.
            `(0, 2, 3, 1)` is channels_last.
        step: Distance of neighbours in each dimension, in parent elements: 2 skips every other one. Empty means 1.
        margin: Elements of a larger parent tensor before and after the view in each dimension.
        offset: Elements between the aligned start of the storage and the parent tensor.
        expand: Dimensions of stride 0; their entries are all the same element.
        unit_stride: Stride given to dimensions of size 1, where PyTorch allows anything; 0 keeps the natural one.
        far: Whether the entries of one dimension, the first in `order` that has three or more, lie so far apart that
            the offset of the last one does not fit in 32 bits, though their distance does.
    """

    order: tuple[int, ...] = ()
    step: tuple[int, ...] = ()
    margin: int = 0
    offset: int = 0
    expand: tuple[int, ...] = ()
    unit_stride: int = 0
    far: bool = False

    def place(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
        """Return the strides, the position of the first element and the extent of the parent, all in elements."""
        order = self.order or tuple(range(len(shape)))
        far = self.far_dimension(shape)
        if far is not None:
            order = (far, *(dim for dim in order if dim != far))
        step = self.step or (1,) * len(shape)
        strides, first, extent = [0] * len(shape), self.offset, 1
        for dim in reversed(order):
            size = 1 if dim in self.expand else shape[dim]
            stride = extent * step[dim]
            if dim == far:
                stride = max(stride, min(_FAR_STEP, _FAR_EXTENT // size))
            strides[dim] = 0 if dim in self.expand else stride
            first += extent * self.margin
            extent = max(0, size - 1) * stride + extent * (1 + 2 * self.margin)
            if shape[dim] == 1 and self.unit_stride:
                strides[dim] = self.unit_stride
        return tuple(strides), first, self.offset + extent

    def far_dimension(self, shape: tuple[int, ...]) -> int | None:
        """Return the dimension whose entries lie far apart; None if there is none."""
        order = self.order or tuple(range(len(shape)))
        long = (dim for dim in order if dim not in self.expand and shape[dim] > 2)
        return next(long, None) if self.far else None

    def __repr__(self) -> str:
        """Return the constructor call that rebuilds this layout, with what differs from contiguous."""
        return f"Layout({arguments(self, always=())})"


CONTIGUOUS: Final = Layout()
CHANNELS_LAST: Final = Layout(order=(0, 2, 3, 1))


def check_layout(name: str, layout: Layout, shape: tuple[int, ...]) -> None:
    """Raise `CaseError` unless the layout is one for a tensor of this shape."""
    rank = len(shape)
    if layout.order and sorted(layout.order) != list(range(rank)):
        raise CaseError(f"{name}.order={layout.order} must be a permutation of the {rank} dimensions")
    if layout.step and len(layout.step) != rank:
        raise CaseError(f"{name}.step={layout.step} must have {rank} entries")
    if any(not 0 <= dim < rank for dim in layout.expand) or len(set(layout.expand)) != len(layout.expand):
        raise CaseError(f"{name}.expand={layout.expand} must name different dimensions below {rank}")
    for value in layout.step:
        within(f"{name}.step", value, 1, MAX_STEP)
    within(f"{name}.margin", layout.margin, 0, MAX_STEP)
    within(f"{name}.offset", layout.offset, 0, MAX_STEP)
    within(f"{name}.unit_stride", layout.unit_stride, 0, MAX_STRIDE)
    extent = layout.place(shape)[2]
    if extent > MAX_ELEMENTS:
        raise CaseError(f"{name}={layout} of shape {shape} spans {extent} elements, must be at most {MAX_ELEMENTS}")


def within(name: str, value: int, least: int, most: int) -> None:
    """Raise `CaseError` unless the value is in range."""
    if not least <= value <= most:
        raise CaseError(f"{name}={value} must be from {least} to {most}")


def arguments(struct: msgspec.Struct, always: tuple[str, ...]) -> str:
    """Return the arguments of the constructor call that rebuilds a value; defaults are left out unless named."""
    shown = []
    for name, default in defaults(type(struct)).items():
        value = getattr(struct, name)
        if name in always or not same(value, default):
            shown.append(f"{name}={_literal(value)}")
    return ", ".join(shown)


@cache
def defaults(kind: type[msgspec.Struct]) -> dict[str, object]:
    """Return the default of each field, in order; msgspec finds them anew, in a tenth of a millisecond, each time."""
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def same(value: object, default: object) -> bool:
    """Return whether two values are written alike: NaN like NaN, -0.0 unlike 0.0."""
    return value is default or repr(value) == repr(default)


def _literal(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)
