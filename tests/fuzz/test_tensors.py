"""`Case` → tensors: the numbers are the same in every layout, and everything between them is poison."""

from __future__ import annotations

import itertools
import math
import resource
from typing import get_args

import msgspec
import pytest
import torch
from everything import EVERYTHING
from hypothesis import assume, given
from hypothesis import strategies as st

from fuzz.case import DTYPES, Case
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS, Layout
from fuzz.strategies import cases, layouts
from fuzz.tensors import FINITE_POISON, RED_ZONE, TORCH_DTYPE, Operand, Operands, Poison, build
from fuzz.values import Shapes, draw_values

CPU = torch.device("cpu")
POISONS: tuple[Poison, ...] = get_args(Poison)
SHAPES = st.tuples(st.sampled_from((1, 2, 3, 0)), *[st.integers(1, 5)] * 3)


@st.composite
def wild_layouts(draw: st.DrawFn) -> Layout:
    """Every field of a layout at once, which the strategies do not draw."""
    return Layout(
        order=tuple(draw(st.permutations(range(4)))),
        step=tuple(draw(st.lists(st.integers(1, 3), min_size=4, max_size=4))),
        margin=draw(st.integers(0, 2)),
        offset=draw(st.integers(0, 15)),
        expand=tuple(draw(st.lists(st.integers(0, 3), max_size=2, unique=True))),
        unit_stride=draw(st.sampled_from((0, 1, 7))),
    )


@st.composite
def laid_out(draw: st.DrawFn) -> Case:
    """A case with drawn layouts for all three tensors."""
    n, c_in, h, w = draw(SHAPES)
    return Case(
        n=n,
        c_in=c_in,
        h=h,
        w=w,
        c_out=draw(st.integers(1, 5)),
        kh=draw(st.integers(1, 3)),
        kw=draw(st.integers(1, 3)),
        bias=draw(st.booleans()),
        dtype=draw(st.sampled_from(DTYPES)),
        values=draw(st.sampled_from(("lattice", "gaussian", "impulse"))),
        x_layout=draw(layouts(4) | wild_layouts()),
        weight_layout=draw(layouts(4) | wild_layouts()),
        bias_layout=draw(layouts(1)),
        seed=draw(st.integers(0, 100)),
    )


def layouts_of(case: Case) -> dict[str, tuple[tuple[int, ...], Layout]]:
    return {
        "x": (case.x_shape, case.x_layout),
        "weight": (case.weight_shape, case.weight_layout),
        "bias": ((case.c_out,), case.bias_layout),
    }


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of the elements: NaN equals itself, -0.0 differs from 0.0."""
    return tensor.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)


def positions(tensor: torch.Tensor) -> list[int]:
    """Where each element lies in the storage, from the strides alone."""
    spans = [
        [index * stride for index in range(size)] for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    ]
    return [tensor.storage_offset() + sum(parts) for parts in itertools.product(*spans)]


def flip_a_byte(operand: Operand, element: int, byte: int) -> None:
    size = operand.parts[0].storage.element_size()
    operand.parts[0].storage.view(torch.uint8)[element * size + byte % size] ^= 0x10


def x_operand(poison: Poison = "nan", **fields: object) -> Operand:
    return build(Case(values="lattice", **fields), poison=poison, device=CPU)["x"]  # type: ignore[arg-type]


# The view holds the values, wherever it lies.


@given(laid_out(), st.sampled_from(POISONS))
def test_the_view_holds_the_values(case: Case, poison: Poison) -> None:
    stored: Shapes = {}
    for name, (shape, layout) in layouts_of(case).items():
        if name != "bias" or case.bias:
            stored[name] = tuple(  # type: ignore[index]
                min(1, size) if dim in layout.expand else size for dim, size in enumerate(shape)
            )
    values = draw_values(case, stored)
    operands = build(case, poison=poison, device=CPU)
    assert list(operands) == list(stored), "a bias exactly where the case has one"
    for name, operand in operands.items():
        shape = layouts_of(case)[name][0]
        expected = torch.from_numpy(values[name]).to(TORCH_DTYPE[case.dtype]).expand(shape)
        assert operand.tensor.dtype == TORCH_DTYPE[case.dtype]
        assert tuple(operand.tensor.shape) == shape, f"{name} has shape {tuple(operand.tensor.shape)}, must be {shape}"
        assert torch.equal(bits(operand.tensor), bits(expected)), f"{name} of {case} does not hold its values"


@given(laid_out())
def test_numbers_do_not_depend_on_the_layout(case: Case) -> None:
    assume(not any(layout.expand for _, layout in layouts_of(case).values()))
    plain = msgspec.structs.replace(case, x_layout=CONTIGUOUS, weight_layout=CONTIGUOUS, bias_layout=CONTIGUOUS)
    moved, reference = (build(each, poison="nan", device=CPU) for each in (case, plain))
    for name, operand in moved.items():
        assert torch.equal(bits(operand.tensor), bits(reference[name].tensor)), f"{name} changes with its layout"


@given(cases(EVERYTHING, effort=0.25))
def test_drawn_cases_build_twice_alike(case: Case) -> None:
    for poison in POISONS:
        first, again = (build(case, poison=poison, device=CPU) for _ in range(2))
        for name, operand in first.items():
            assert torch.equal(bits(operand.parts[0].storage), bits(again[name].parts[0].storage)), (
                f"{name} differs between two builds"
            )


# The strides are those that the layout documents.


@given(laid_out())
def test_the_tensor_lies_where_layout_places_it(case: Case) -> None:
    operands = build(case, poison="nan", device=CPU)
    for name, operand in operands.items():
        shape, layout = layouts_of(case)[name]
        strides, first, extent = layout.place(shape)
        if operand.tensor.numel():
            assert operand.tensor.stride() == strides
        assert operand.tensor.storage_offset() == RED_ZONE + first, f"{name} starts elsewhere than {layout} says"
        assert operand.parts[0].storage.numel() == extent + 2 * RED_ZONE, "a red zone on each side"


@given(SHAPES)
def test_default_layout_is_contiguous(shape: tuple[int, ...]) -> None:
    tensor = build(Case(n=shape[0], c_in=shape[1], h=shape[2], w=shape[3]), poison="nan", device=CPU)["x"].tensor
    assert tensor.is_contiguous(), f"strides {tensor.stride()} of shape {shape}"
    assert tensor.stride() == torch.empty(shape).stride() or 0 in shape


@given(SHAPES.filter(lambda shape: shape[0] > 0))
def test_channels_last_is_that_of_pytorch(shape: tuple[int, ...]) -> None:
    strides, _, extent = CHANNELS_LAST.place(shape)
    natural = torch.empty(shape).contiguous(memory_format=torch.channels_last).stride()
    differing = [dim for dim in range(4) if shape[dim] > 1 and strides[dim] != natural[dim]]
    assert not differing, f"strides {strides}, PyTorch's are {natural}"
    assert extent == math.prod(shape), "nothing lies between the elements"


@given(st.permutations(range(4)), SHAPES.filter(lambda shape: shape[0] > 0))
def test_order_runs_from_the_slowest_to_the_fastest(order: list[int], shape: tuple[int, ...]) -> None:
    strides, first, extent = Layout(order=tuple(order)).place(shape)
    ordered = [strides[dim] for dim in order]
    assert ordered == sorted(ordered, reverse=True), f"order {order} has strides {strides}"
    assert strides[order[-1]] == 1, "neighbours in the fastest dimension are neighbours in memory"
    assert (first, extent) == (0, math.prod(shape))


@pytest.mark.parametrize(
    ("layout", "strides", "first", "extent"),
    [
        (Layout(), (60, 20, 5, 1), 0, 120),
        (Layout(order=(0, 2, 3, 1)), (60, 1, 15, 3), 0, 120),
        (Layout(order=(3, 2, 1, 0)), (1, 2, 6, 24), 0, 120),
        (Layout(offset=3), (60, 20, 5, 1), 3, 123),
        (Layout(step=(1, 1, 1, 2)), (108, 36, 9, 2), 0, 216),
        (Layout(step=(1, 1, 2, 1)), (105, 35, 10, 1), 0, 210),
        (Layout(margin=1), (210, 42, 7, 1), 210 + 42 + 7 + 1, 840),
        (Layout(expand=(1,)), (20, 0, 5, 1), 0, 40),
        (Layout(expand=(0, 3)), (0, 4, 1, 0), 0, 12),
        (Layout(unit_stride=9), (60, 20, 5, 1), 0, 120),
    ],
)
def test_places_of_a_2_3_4_5_tensor(layout: Layout, strides: tuple[int, ...], first: int, extent: int) -> None:
    assert layout.place((2, 3, 4, 5)) == (strides, first, extent)


def test_unit_stride_is_for_dimensions_of_size_1() -> None:
    strides, first, extent = Layout(unit_stride=1009).place((2, 1, 4, 1))
    assert strides == (4, 1009, 1, 1009), "sizes above 1 keep their strides"
    assert (first, extent) == (0, 8), "a stride that is never walked takes no memory"


# Elements lie apart, and between them is poison.


@given(laid_out())
def test_elements_do_not_overlap_unless_expanded(case: Case) -> None:
    for name, operand in build(case, poison="nan", device=CPU).items():
        shape, layout = layouts_of(case)[name]
        distinct = math.prod(min(1, size) if dim in layout.expand else size for dim, size in enumerate(shape))
        places = set(positions(operand.tensor))
        assert len(places) == distinct, f"{len(places)} places for {distinct} elements of {name}: {layout}"
        assert places == set(operand.parts[0].element.nonzero().flatten().tolist()), "`element` marks other places"
        for dim in layout.expand:
            if shape[dim] > 1:
                assert operand.tensor.stride(dim) == 0, f"dimension {dim} of {name} must have stride 0"


@given(laid_out(), st.sampled_from(POISONS))
def test_everything_else_holds_the_poison(case: Case, poison: Poison) -> None:
    for name, operand in build(case, poison=poison, device=CPU).items():
        outside = operand.parts[0].storage[~operand.parts[0].element]
        poisoned = outside.isnan() if poison == "nan" else outside == FINITE_POISON
        assert bool(poisoned.all()), f"{int((~poisoned).sum())} places around {name} are not poisoned"
        ends = torch.cat([operand.parts[0].element[:RED_ZONE], operand.parts[0].element[-RED_ZONE:]])
        assert not bool(ends.any()), f"an element of {name} lies in a red zone"


@pytest.mark.parametrize("dtype", DTYPES)
def test_finite_poison_is_exact_in_every_dtype(dtype: str) -> None:
    assert torch.tensor(FINITE_POISON, dtype=TORCH_DTYPE[dtype]).item() == FINITE_POISON


def test_an_empty_batch_is_all_poison() -> None:
    for layout in (Layout(), Layout(margin=1), Layout(expand=(0,)), Layout(step=(3, 1, 1, 2))):
        operand = x_operand(n=0, c_in=2, h=3, w=3, x_layout=layout)
        assert operand.tensor.shape == (0, 2, 3, 3)
        assert bool(operand.parts[0].storage.isnan().all())
        assert operand.damage() == ""


# Offsets that do not fit in 32 bits, in memory of which only the parts around elements are there.

FAR_CASES = [
    Case(n=3, c_in=2, h=4, w=5, x_layout=Layout(far=True)),
    Case(n=2, c_in=2, h=4, w=5, x_layout=Layout(order=(3, 2, 1, 0), far=True), dtype="bfloat16"),
    Case(n=1, c_in=7, h=2, w=2, x_layout=Layout(order=(1, 3, 0, 2), far=True), dtype="float64"),
    Case(n=0, c_in=5, x_layout=Layout(far=True)),
    Case(n=65, h=2, x_layout=Layout(far=True), dtype="float16"),
    Case(n=3, c_in=4, h=2, w=2, x_layout=Layout(far=True, expand=(0,), offset=3, step=(1, 1, 2, 1))),
]


@pytest.mark.parametrize("case", FAR_CASES)
@pytest.mark.parametrize("poison", POISONS)
def test_far_elements_are_where_32_bits_do_not_reach(case: Case, poison: Poison) -> None:
    near = msgspec.structs.replace(case, x_layout=CONTIGUOUS)
    for name, operand in build(case, poison=poison, device=CPU).items():
        if name != "x":
            continue
        if case.x_shape[0] and not case.x_layout.expand:
            expected = build(near, poison=poison, device=CPU)["x"].tensor
            assert torch.equal(bits(operand.tensor), bits(expected)), "the numbers depend on the layout"
        last = sum((size - 1) * stride for size, stride in zip(case.x_shape, operand.tensor.stride(), strict=True))
        assert last >= 2**31 or case.n == 0
        assert all(stride < 2**31 for stride in operand.tensor.stride()), "such a stride is 64 bits wide by itself"
        assert sum(int(part.element.sum()) for part in operand.parts) == operand.stored.numel()
        for part in operand.parts:
            outside = part.storage[~part.element]
            assert bool((outside.isnan() if poison == "nan" else outside == FINITE_POISON).all())
            assert part.storage.numel() >= 2 * RED_ZONE


@pytest.mark.parametrize("place", [0, RED_ZONE - 1, RED_ZONE, -1])
def test_damage_to_any_part_is_found(place: int) -> None:
    operand = build(FAR_CASES[0], poison="finite", device=CPU)["x"]
    assert operand.damage() == ""
    for part in operand.parts:
        kept = part.storage[place].item()
        part.storage[place] = 3.0
        assert any(operand.changed())
        assert operand.damage() == ("elements" if place == RED_ZONE else "surroundings")
        part.storage[place] = kept
        assert operand.damage() == ""


def test_far_memory_is_not_touched() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    operands = [build(case, poison="nan", device=CPU) for case in FAR_CASES]
    assert all(
        operand["x"].tensor.untyped_storage().nbytes() > 2**31 for operand in operands if operand["x"].stored.numel()
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "gigabytes were touched"


# Damage is found byte by byte, and told apart.


@given(laid_out(), st.sampled_from(POISONS), st.data())
def test_one_changed_byte_is_found(case: Case, poison: Poison, data: st.DataObject) -> None:
    operands: Operands = build(case, poison=poison, device=CPU)
    operand = operands[data.draw(st.sampled_from(sorted(operands)), label="tensor")]
    assert operand.damage() == "", "nothing has been changed yet"
    inside = data.draw(st.booleans(), label="inside") and bool(operand.parts[0].element.any())
    places = (operand.parts[0].element if inside else ~operand.parts[0].element).nonzero().flatten()
    place = int(places[data.draw(st.integers(0, len(places) - 1), label="place")])
    byte = data.draw(st.integers(0, 7), label="byte")
    flip_a_byte(operand, place, byte)
    expected = "elements" if inside else "surroundings"
    assert operand.damage() == expected, f"byte {byte} of place {place} was changed: that is {expected}"
    flip_a_byte(operand, place, byte)
    assert operand.damage() == "", "the byte has been put back"


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize(
    ("layout", "place", "expected"),
    [
        (Layout(), 0, "surroundings"),
        (Layout(), RED_ZONE - 1, "surroundings"),
        (Layout(), RED_ZONE, "elements"),
        (Layout(), RED_ZONE + 11, "elements"),
        (Layout(), RED_ZONE + 12, "surroundings"),
        (Layout(), -1, "surroundings"),
        (Layout(offset=1), RED_ZONE, "surroundings"),
        (Layout(step=(1, 1, 1, 2)), RED_ZONE + 1, "surroundings"),
        (Layout(step=(1, 1, 1, 2)), RED_ZONE + 2, "elements"),
        (Layout(margin=1), RED_ZONE, "surroundings"),
        (Layout(expand=(3,)), RED_ZONE + 2, "elements"),
        (Layout(expand=(3,)), RED_ZONE + 3, "surroundings"),
    ],
)
def test_damage_tells_elements_from_surroundings(poison: Poison, layout: Layout, place: int, expected: str) -> None:
    operand = x_operand(poison, c_in=1, h=3, w=4, x_layout=layout)
    flip_a_byte(operand, place % operand.parts[0].storage.numel(), 0)
    assert operand.damage() == expected


def test_damage_to_both_is_named_after_the_elements() -> None:
    operand = x_operand(h=3, w=4)
    flip_a_byte(operand, RED_ZONE, 0)
    flip_a_byte(operand, 0, 0)
    assert operand.damage() == "elements", "a changed input is the worse of the two"


def test_a_change_of_sign_or_payload_is_damage() -> None:
    operand = x_operand(h=3, w=4)
    operand.tensor.fill_(0.0)
    operand.parts[0].before.copy_(operand.parts[0].storage)
    operand.tensor[0, 0, 0, 0] = -0.0
    assert operand.damage() == "elements", "-0.0 equals 0.0, but the bytes differ"
    operand = x_operand("nan", h=3, w=4)
    operand.parts[0].storage.view(torch.int32)[0] = 0x7FC00001
    assert operand.damage() == "surroundings", "another NaN is another value in memory"
