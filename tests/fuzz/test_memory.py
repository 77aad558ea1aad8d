"""Regions of memory, and who stored what in them, against models that look at one byte or one lane at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fuzz.coverage import LineCoverage, merge
from fuzz.memory import Memory, Region
from fuzz.store_log import StoreLog

START = 4096


@st.composite
def regions(draw: st.DrawFn) -> Region:
    itemsize = draw(st.sampled_from((1, 2, 4, 8)))
    items = draw(st.integers(1, 12))
    flags = st.lists(st.booleans(), min_size=items, max_size=items)
    elements = draw(st.none() | flags.map(lambda drawn: np.array(drawn, np.bool_)))
    return Region(name="x", start=START, size=items * itemsize, itemsize=itemsize, elements=elements)


def element_bytes(region: Region) -> set[int]:
    return {
        byte
        for byte in range(region.start, region.end)
        if region.elements is None or region.elements[(byte - region.start) // region.itemsize]
    }


@given(regions(), st.sampled_from((1, 2, 4, 8)))
def test_an_access_is_admitted_if_each_of_its_bytes_is_an_elements(region: Region, width: int) -> None:
    addresses = np.arange(region.start - 10, region.end + 10, dtype=np.uint64)
    inside = element_bytes(region)
    expected = [inside.issuperset(range(address, address + width)) for address in addresses.tolist()]
    assert region.admits(addresses, width).tolist() == expected
    for address, admitted in zip(addresses.tolist(), expected, strict=True):
        assert region.spans(address, address + width) or not admitted
        if not region.has_gaps:
            assert region.spans(address, address + width) is admitted


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=8), st.integers(0, 80))
def test_memory_finds_the_region_of_an_address(places: list[tuple[int, int]], address: int) -> None:
    memory, owner = Memory(), {}
    for start, size in places:
        region = Region(name="x", start=start, size=size, itemsize=1)
        taken = any(byte in owner for byte in range(start, start + size))
        assert memory.overlaps(start, size) is taken
        if taken:
            with pytest.raises(ValueError, match="overlaps"):
                memory.add(region)
        else:
            memory.add(region)
            owner.update(dict.fromkeys(range(start, start + size), region))
    assert memory.at(address) is owner.get(address)
    above = [byte for byte in owner if byte > address and owner[byte].start == byte]
    assert memory.next_start(address) == min(above, default=2**64)


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (-4, "x, 1 element before its start"),
        (-400, "x, 100 elements before its start"),
        (12, "x, in a gap between its elements"),
        (40, "x, 1 element past its end"),
        (38, "x, 1 element past its end"),
        (84, "x, 12 elements past its end"),
        (2**30, "no tensor that the kernel was given"),
    ],
)
@pytest.mark.parametrize("margin", [0, 1000])
def test_words_for_an_address(offset: int, words: str, margin: int) -> None:
    elements = np.array([True] * 3 + [False] * 2 + [True] * 5)
    elements = np.concatenate([np.zeros(margin, np.bool_), elements, np.zeros(margin, np.bool_)])
    memory = Memory()
    memory.add(Region(name="far", start=2**40, size=8, itemsize=4))
    memory.add(Region(name="x", start=2**20, size=4 * elements.size, itemsize=4, elements=elements))
    assert memory.describe(2**20 + 4 * margin + offset, 4) == words


def test_words_without_any_region() -> None:
    assert Memory().describe(0, 4) == "no tensor that the kernel was given"


def test_an_empty_region_is_nowhere() -> None:
    memory = Memory()
    memory.add(Region(name="empty", start=64, size=0, itemsize=4))
    memory.add(Region(name="x", start=64, size=8, itemsize=4))
    found = memory.at(64)
    assert found is not None
    assert found.name == "x"


# One store: the items that its lanes hit, with the value of each.
LANES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=5)
# One launch: for each of its programs, the stores that it makes.
LAUNCH = st.lists(st.lists(LANES, max_size=3), max_size=3)


def numbered(launches: list[list[list[Any]]]) -> Iterator[tuple[int, int, Any]]:
    """Every store with the number of its program, and that of the first program of its launch."""
    writer = 1
    for launch in launches:
        first = writer
        for program in launch:
            yield from ((writer, first, lanes) for lanes in program)
            writer += 1


@given(st.lists(LAUNCH, max_size=3), st.sampled_from((1, 2, 4, 8)))
def test_stores_are_told_apart_as_lane_by_lane(launches: list[list[list[Any]]], itemsize: int) -> None:
    memory = torch.zeros(6, dtype={1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[itemsize])
    log = StoreLog(Region(name="x", start=memory.data_ptr(), size=6 * itemsize, itemsize=itemsize))
    writers: dict[int, int] = {}
    values: dict[int, int] = {}
    twice, differing = set(), set()
    for writer, first, lanes in numbered(launches):
        addresses = np.array([memory.data_ptr() + item * itemsize for item, _ in lanes], np.uint64)
        log.store(addresses, np.array([value for _, value in lanes], f"u{itemsize}"), writer=writer, since=first)
        for item, value in lanes:
            if first <= writers.get(item, 0) != writer:
                twice.add(item)
                if values[item] != value:
                    differing.add(item)
            if value != [other for place, other in lanes if place == item][-1]:
                twice.add(item)
                differing.add(item)
        for item, value in lanes:
            writers[item], values[item] = writer, value
            memory[item] = value
    known = log.of(memory)
    assert known is not None
    assert np.flatnonzero(known.stored).tolist() == sorted(writers)
    assert np.flatnonzero(known.twice).tolist() == sorted(twice)
    assert np.flatnonzero(known.differing).tolist() == sorted(differing)


def test_a_nan_stored_again_does_not_differ() -> None:
    memory = torch.full((2,), float("nan"))
    log = StoreLog(Region(name="x", start=memory.data_ptr(), size=8, itemsize=4))
    addresses = np.array([memory.data_ptr()], np.uint64)
    assert log.store(addresses, memory[:1].numpy(), writer=1, since=1) is None
    assert log.store(addresses, memory[:1].numpy(), writer=2, since=1) == (1, False)


@given(st.permutations((0, 1)), st.sampled_from(((1, 4), (2, 2), (4, 1))), st.integers(0, 2))
def test_a_view_shows_what_its_elements_are(order: list[int], shape: tuple[int, int], offset: int) -> None:
    memory = torch.zeros(8)
    log = StoreLog(Region(name="x", start=memory.data_ptr(), size=32, itemsize=4))
    items = np.array([0, 3, 4], np.uint64)
    log.update(np.uint64(memory.data_ptr()) + 4 * items, 4)
    view = memory[offset : offset + 4].view(shape).permute(*order)
    known = log.of(view)
    assert known is not None
    stored = torch.zeros(8, dtype=torch.bool)
    stored[[0, 3, 4]] = True
    assert torch.equal(torch.from_numpy(known.stored), stored[offset : offset + 4].view(shape).permute(*order))


def test_stores_of_parts_of_items_leave_nothing_to_tell() -> None:
    memory = torch.zeros(4)
    for width, offset in ((2, 0), (4, 2)):
        log = StoreLog(Region(name="x", start=memory.data_ptr(), size=16, itemsize=4))
        log.update(np.array([memory.data_ptr() + offset], np.uint64), width)
        assert log.of(memory) is None


def test_a_wide_store_covers_several_items() -> None:
    memory = torch.zeros(8, dtype=torch.int16)
    log = StoreLog(Region(name="x", start=memory.data_ptr(), size=16, itemsize=2))
    log.store(np.array([memory.data_ptr() + 4], np.uint64), np.zeros(1, np.uint32), writer=1, since=1)
    wide = log.store(np.array([memory.data_ptr() + 4], np.uint64), np.ones(1, np.uint32), writer=2, since=1)
    known = log.of(memory)
    assert known is not None
    assert wide == (1, True)
    assert np.flatnonzero(known.stored).tolist() == [2, 3]
    assert np.flatnonzero(known.differing).tolist() == [2]  # little-endian: the one is in the first half


def test_other_tensors_are_unknown() -> None:
    memory = torch.zeros(8)
    log = StoreLog(Region(name="x", start=memory.data_ptr(), size=16, itemsize=4))
    assert log.of(memory) is None
    assert log.of(torch.zeros(2)) is None
    assert log.of(memory[:0]) is None
    assert log.of(memory[:4].view(torch.int16)) is None


COVERAGES = st.lists(
    st.builds(
        LineCoverage,
        file=st.sampled_from(("a.py", "b.py")),
        line=st.integers(1, 2),
        operation=st.sampled_from(("load", "store")),
        text=st.just("tl.load(x)"),
        all_true=st.integers(0, 9),
        mixed=st.integers(0, 9),
        all_false=st.integers(0, 9),
    ),
    max_size=6,
)


@given(COVERAGES, COVERAGES, COVERAGES)
def test_merging_sums_and_does_not_depend_on_the_order(one: Any, two: Any, three: Any) -> None:
    merged = merge(one, two, three)
    assert merge(merge(three, one), two) == merged
    assert sum(entry.executions for entry in merged) == sum(entry.executions for entry in [*one, *two, *three])
    places = [(entry.file, entry.line, entry.operation) for entry in merged]
    assert places == sorted(set(places))
    assume(one)
    assert merge(one) == merge(merge(one))
