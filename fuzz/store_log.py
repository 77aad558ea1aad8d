"""Who stored what in a region of memory: which items nobody did, and which two programs did."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuzz.memory import Addresses, Flags, Program, Region


@dataclass(frozen=True)
class DoubleStore:
    """An item that was stored twice in one launch: by two programs, or by two lanes of one store.

    Attributes:
        differing: Whether the second value differs from the first.
        programs: The program that stored first and the one that stored again.
        file: Source file of the later store; likewise `line` and `text`.
    """

    differing: bool
    programs: tuple[Program, Program]
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        first, second = self.programs
        by = f"programs {first} and {second}" if first != second else f"two lanes of program {first}"
        return f"stored by {by} at {self.file}:{self.line}: {self.text}"


@dataclass(frozen=True, eq=False)
class Stores:
    """What kernels stored in the elements of a tensor; each array has the tensor's shape.

    Attributes:
        stored: Whether any launch stored the element or updated it atomically.
        twice: Whether two programs of one launch stored it, or two lanes of one store with different values.
        differing: Where `twice` holds and the values differed.
        lost: Where `differing` holds, the bits of a value that was stored and is no longer there, as unsigned integers.
        example: One of the elements stored twice, one that differed if there is any.
    """

    stored: Flags
    twice: Flags
    differing: Flags
    lost: npt.NDArray[Any]
    example: DoubleStore | None


class StoreLog:
    """Who stored the items of one region.

    Programs are numbered from 1 upwards over all launches, so that a number tells the launch as well.
    """

    def __init__(self, region: Region) -> None:
        items = -(-region.size // region.itemsize)
        self.region = region
        self.example: DoubleStore | None = None
        self._writer = np.zeros(items, np.int64)  # who stored last; 0 is nobody
        self._stored, self._twice, self._differing = (np.zeros(items, np.bool_) for _ in range(3))
        self._exact = True  # whether every access so far covered whole items
        self._unit = f"u{region.itemsize}"  # values are compared as integers: NaN equals itself that way
        self._lost = np.zeros(items, self._unit)

    def update(self, addresses: Addresses, width: int) -> None:
        """Record an atomic operation."""
        items = self._items(addresses, width)
        if items is not None:
            self._stored[items] = True

    def store(
        self, addresses: Addresses, values: npt.NDArray[Any], *, writer: int, since: int
    ) -> tuple[int, bool] | None:
        """Record a plain store that is about to happen.

        Args:
            addresses: 1-D, where the lanes store.
            values: 1-D, what they store.
            writer: The program's number.
            since: Stores by programs with lower numbers do not conflict with this one.

        Returns:
            Who stored one of these items before, and whether the values differ; None if nobody did.
        """
        items = self._items(addresses, values.itemsize)
        if items is None:
            return None
        before, lanes = self._writer[items], np.arange(items.size)
        self._writer[items] = lanes
        last = self._writer[items]  # of several lanes that store one item, the last
        self._writer[items] = writer
        self._stored[items] = True
        by_another = (before >= since) & (before != writer)
        if not by_another.any() and not (last != lanes).any():
            return None
        bits = np.ascontiguousarray(values).view(self._unit)
        lanes_differ = bits != bits[last]
        held = self._held()[items]
        twice, differing = by_another | lanes_differ, (by_another & (bits != held)) | lanes_differ
        if not twice.any():
            return None
        self._twice[items[twice]] = True
        self._differing[items[differing]] = True
        # A lane that another lane overwrites loses its own value, everything else what the item held.
        self._lost[items[differing]] = np.where(lanes_differ, bits, held)[differing]
        place = int(np.argmax(differing if differing.any() else twice))
        return (int(before[place]) if by_another[place] else writer), bool(differing[place])

    def other_writer(self, addresses: Addresses, width: int, *, writer: int, since: int) -> int | None:
        """Return a program other than `writer`, with a number from `since` on, that stored one of these items."""
        items = self._items(addresses, width)
        if items is None:
            return None
        before = self._writer[items]
        others = before[(before >= since) & (before != writer)]
        return int(others[0]) if others.size else None

    def of(self, tensor: Any) -> Stores | None:
        """Return what is known of a tensor's elements; None if it does not lie in the region, or nothing is exact."""
        steps = [stride * (size - 1) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
        size = (1 + sum(steps)) * tensor.element_size() if tensor.numel() else 0
        offset, misaligned = divmod(tensor.data_ptr() - self.region.start, self.region.itemsize)
        fits = offset >= 0 and tensor.data_ptr() + size <= self.region.end
        if not size or not self._exact or misaligned or not fits or tensor.element_size() != self.region.itemsize:
            return None

        def view(items: npt.NDArray[Any]) -> npt.NDArray[Any]:
            strides = [stride * items.itemsize for stride in tensor.stride()]
            return np.ndarray(tuple(tensor.shape), items.dtype, items, offset * items.itemsize, strides).copy()

        return Stores(
            stored=view(self._stored),
            twice=view(self._twice),
            differing=view(self._differing),
            lost=view(self._lost),
            example=self.example,
        )

    def _items(self, addresses: Addresses, width: int) -> npt.NDArray[np.int64] | None:
        offsets = addresses.astype(np.int64) - self.region.start
        items, rest = np.divmod(offsets, self.region.itemsize)
        if width % self.region.itemsize or rest.any():
            self._exact = False
            return None
        per_lane = width // self.region.itemsize
        return items if per_lane == 1 else (items[:, None] + np.arange(per_lane)).ravel()

    def _held(self) -> npt.NDArray[Any]:
        """Return what the items hold now."""
        held = (ctypes.c_char * self.region.size).from_address(self.region.start)
        return np.frombuffer(memoryview(held), self._unit, count=self.region.size // self.region.itemsize)
