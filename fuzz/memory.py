"""The memory that kernels may touch, and which accesses to it are wrong, as plain values.

Addresses are integers and accesses are arrays of them: nothing here knows how a kernel is run.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Addresses = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Program = tuple[int, int, int]

# An address this close to a region, in bytes, is described by it. At least as wide as the red zones around tensors.
_REACH: Final = 2**17
_END_OF_ADDRESSES: Final = 2**64


@dataclass(frozen=True, eq=False, kw_only=True)
class Region:
    """Bytes [start, start + size), some of which kernels may touch.

    Attributes:
        name: What a person calls it.
        start: Address of its first byte.
        size: Number of bytes.
        itemsize: Bytes of one item.
        elements: Which items a kernel may touch; None means all. The rest is margins and gaps.
        owner: What keeps these bytes from being freed. Another tensor must not get the address of a region.
    """

    name: str
    start: int
    size: int
    itemsize: int
    elements: Flags | None = None
    owner: object = None

    @property
    def end(self) -> int:
        """Address just past the last byte."""
        return self.start + self.size

    @cached_property
    def extent(self) -> tuple[int, int]:
        """Addresses of the first element and just past the last one."""
        if self.elements is None:
            return self.start, self.end
        places = self._places
        if not places.size:
            return self.start, self.start
        return self.start + int(places[0]) * self.itemsize, self.start + (int(places[-1]) + 1) * self.itemsize

    @cached_property
    def has_gaps(self) -> bool:
        """Whether something between the first element and the last is none."""
        low, high = self.extent
        return self.elements is not None and self._places.size * self.itemsize != high - low

    @cached_property
    def _places(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.asarray(self.elements))

    def spans(self, first: int, end: int) -> bool:
        """Return whether [first, end) lies between the first byte of an element and the last one."""
        low, high = self.extent
        return low <= first and end <= high

    def admits(self, addresses: Addresses, width: int) -> Flags:
        """Return for each address whether `width` bytes from there on are elements."""
        low, high = self.extent
        if high - low < width:
            return np.zeros(addresses.shape, np.bool_)
        inside: Flags = (addresses >= low) & (addresses <= high - width)
        if self.has_gaps:
            inside[inside] = self.are_elements(addresses[inside], width)
        return inside

    def are_elements(self, addresses: Addresses, width: int) -> Flags:
        """Return what `admits` returns, for accesses that the region is known to span."""
        assert self.elements is not None
        offsets = addresses - np.uint64(self.start)
        size = np.uint64(self.itemsize)
        flags: Flags = self.elements[offsets // size]
        if width == self.itemsize and not int(np.bitwise_or.reduce(offsets, axis=None)) % self.itemsize:
            return flags
        for byte in (*range(self.itemsize, width, self.itemsize), width - 1):
            flags &= self.elements[(offsets + np.uint64(byte)) // size]
        return flags

    def distance(self, address: int, width: int) -> int:
        """Return how many bytes lie between this region's elements and what `width` bytes at the address reach."""
        low, high = self.extent
        return max(low - address, address + width - high, 0)

    def describe(self, address: int, width: int) -> str:
        """Say where an access lies that this region does not admit."""
        low, high = self.extent
        if address < low:
            return f"{self.name}, {_elements(low - address, self.itemsize)} before its start"
        if address + width > high:
            return f"{self.name}, {_elements(address + width - high, self.itemsize)} past its end"
        return f"{self.name}, in a gap between its elements"


class Memory:
    """The regions that kernels may touch; no two overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._regions: dict[int, Region] = {}

    def add(self, region: Region) -> None:
        """Register a region.

        Raises:
            ValueError: Part of it is registered already.
        """
        if self.overlaps(region.start, region.size):
            raise ValueError(f"region {region.name} at {region.start:#x} overlaps one that is registered already")
        if region.size:  # an empty region has no address of its own
            insort(self._starts, region.start)
            self._regions[region.start] = region

    def copy(self) -> Memory:
        """Return a memory of the same regions, to which others can be added."""
        twin = Memory()
        twin._starts, twin._regions = self._starts.copy(), self._regions.copy()
        return twin

    def at(self, address: int) -> Region | None:
        """Return the region that holds the byte at an address."""
        place = bisect_right(self._starts, address)
        if not place:
            return None
        region = self._regions[self._starts[place - 1]]
        return region if address < region.end else None

    def next_start(self, address: int) -> int:
        """Return where the first region above an address starts; the end of all addresses if there is none."""
        place = bisect_right(self._starts, address)
        return self._starts[place] if place < len(self._starts) else _END_OF_ADDRESSES

    def overlaps(self, start: int, size: int) -> bool:
        """Return whether some byte of [start, start + size) is in a region."""
        return size > 0 and (self.at(start) is not None or self.next_start(start) < start + size)

    def describe(self, address: int, width: int) -> str:
        """Say in words where an address lies that no region admits."""
        near = self.at(address)
        if near is None:
            regions = self._regions.values()
            near = min(regions, key=lambda region: region.distance(address, width), default=None)
        if near is None or near.distance(address, width) > max(_REACH, near.size):
            return "no tensor that the kernel was given"
        return near.describe(address, width)


@dataclass(frozen=True)
class Violation:
    """An access outside the memory that a kernel may touch.

    Attributes:
        address: Where it went, in words: 'x, 12 elements past its end'.
        file: Source file of the kernel; empty where Python knows none.
        line: Where the call begins that accessed it.
        text: The source of that line.
        program: The program's index in the grid.
    """

    kind: Literal["read", "write", "atomic"]
    address: str
    file: str
    line: int
    text: str
    program: Program

    def __str__(self) -> str:
        return f"{self.kind} of {self.address}, by program {self.program} at {self.file}:{self.line}: {self.text}"


def _elements(size: int, itemsize: int) -> str:
    count = -(-size // itemsize)
    return f"{count} element{'' if count == 1 else 's'}"
