"""Hypothesis strategies that draw a `Case`. With `call_sizes`, the only place that knows ranges.

A case is drawn as descriptors and a seed, never as tensor elements: Hypothesis's buffer is small, and shrunk elements
say nothing. Every list starts with its simplest entry, and every feature is off unless a draw turns it on: cases differ
in which features they combine, and shrinking switches off what does not matter.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final, TypeVar

import msgspec
from hypothesis import strategies as st

from fuzz.abilities import Abilities
from fuzz.call_sizes import CallSizes, call_sizes, sampled, tiled_sizes
from fuzz.case import EARLIER, FAMILIES, RELATIONS, Case, Dtype, Earlier, Family, Precision, Sprinkle, TensorName
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS, MAX_STEP, Layout

T = TypeVar("T")

# For a configuration of its own.
_TILED_STRIDES: Final = ((1, 1), (1, 2), (2, 1), (2, 3))
_STRIDES: Final = ((1, 1), (2, 2), (1, 2), (2, 1), (3, 1))
_PADDINGS: Final = ((0, 0), (1, 1), (0, 1), (1, 0), (2, 3))
_DILATIONS: Final = ((1, 1), (2, 2), (1, 2), (2, 1))
_GROUPS: Final = (1, 1, 2, 3)
_SCALES: Final = (1.0, 2.0, -1.0, 0.5, -2.0, 0.0, 3.0, -0.375, 0.1)
_EXTREME_SCALES: Final = (2.0**-24, -(2.0**20), -0.0, 2.0**-140, 2.0**100, -(2.0**100), math.inf, -math.inf, math.nan)
# Finite, but infinite and 0 once they are rounded to float32, as PyTorch does for every dtype but float64.
_WIDE_SCALES: Final = (2.0**130, -(2.0**130), 2.0**-160)

# An offset of so much does not fit in 16 bits, with a sign or without.
_WIDE_REACH: Final = 2**16

# Families in which one channel wins alone: where the number of channels is what matters, others hardly show that one of
# them is lost.
_TELLING_CHANNELS: Final[tuple[Family, ...]] = ("impulse", "winner")


@cache
def layouts(rank: int) -> st.SearchStrategy[Layout]:
    """Draw how a tensor of this rank lies in memory."""
    steps = st.lists(st.sampled_from((1, 2, 3)), min_size=rank, max_size=rank).map(tuple)
    drawn = [
        st.sampled_from((1, 2, 3, 4, 8, 15)).map(lambda offset: Layout(offset=offset)),
        steps.map(lambda step: Layout(step=step)),
        st.integers(1, 3).map(lambda margin: Layout(margin=margin)),
        st.one_of(st.just([0]), st.lists(st.integers(0, rank - 1), min_size=1, max_size=2, unique=True)).map(
            lambda dims: Layout(expand=tuple(sorted(dims)))
        ),
    ]
    if rank == 1:
        return st.one_of(*drawn)
    # The one order besides its own that PyTorch has a name for is what most callers have, if they have another.
    channels_last = st.just(CHANNELS_LAST.order)
    orders = st.sampled_from((CHANNELS_LAST.order, (0, 1, 3, 2), (1, 0, 2, 3), (3, 2, 1, 0)))
    permuted = st.one_of(channels_last, orders, st.permutations(range(rank)).map(tuple))
    return st.one_of(
        permuted.map(lambda order: Layout(order=order)),
        channels_last.map(lambda order: Layout(order=order)),
        *drawn,
        st.sampled_from((3, 1, 1009)).map(lambda stride: Layout(unit_stride=stride)),
        st.builds(
            lambda order, step, offset: Layout(order=order, step=step, offset=offset),
            permuted,
            steps,
            st.integers(0, 15),
        ),
    )


def far_layouts(shape: tuple[int, ...]) -> st.SearchStrategy[Layout]:
    """Draw how a tensor of at least this shape lies in memory whose offsets do not fit in 32 bits, if it is long."""
    long = tuple(dim for dim, size in enumerate(shape) if size > 2)
    return _far_layouts(long or (0,), len(shape))


@cache
def _far_layouts(long: tuple[int, ...], rank: int) -> st.SearchStrategy[Layout]:
    def ordered(first: int, rest: list[int]) -> Layout:
        return Layout(order=(first, *(dim for dim in rest if dim != first)), far=True)

    return st.builds(ordered, st.sampled_from(long), st.permutations(range(rank)))


@cache
def sprinkles() -> st.SearchStrategy[tuple[Sprinkle, ...]]:
    """Draw which special values are put where."""
    tensors: tuple[TensorName, ...] = ("x", "weight", "bias")
    one = st.builds(
        Sprinkle, st.sampled_from(tensors), st.sampled_from(("nan", "inf", "-inf")), st.sampled_from((1, 2, 5))
    )
    return st.lists(one, min_size=1, max_size=2).map(tuple)


@cache
def earlier_calls() -> st.SearchStrategy[tuple[Earlier, ...]]:
    """Draw which calls come before the one that is judged."""
    return st.lists(st.sampled_from(EARLIER), min_size=1, max_size=3).map(tuple)


@cache
def scales() -> st.SearchStrategy[float]:
    """Draw a scale: mostly ordinary, at times one at the end of the range."""
    drawn = {"ordinary": st.sampled_from(_SCALES), "any": st.floats(-8, 8), "extreme": st.sampled_from(_EXTREME_SCALES)}
    kinds = ("ordinary", "ordinary", "ordinary", "ordinary", "any", "any", "extreme")
    return st.sampled_from(kinds).flatmap(drawn.__getitem__)


@st.composite
def cases(
    draw: st.DrawFn,
    abilities: Abilities,
    *,
    dtypes: tuple[Dtype, ...] | None = None,
    precisions: tuple[Precision, ...] | None = None,
    effort: float = 1.0,
) -> Case:
    """Draw a case that the target's signature can express.

    Args:
        draw: Given by Hypothesis.
        abilities: What the target can be asked.
        dtypes: Which dtypes to try; what the target promises if None.
        precisions: Which precisions to try; what the target promises if None.
        effort: Factor on the size of a call; 1 suits a tiled kernel on Triton's interpreter.
    """

    def one_in(number: int) -> bool:
        return draw(_below(number)) == number - 1

    def all_but_one_in(number: int) -> bool:
        return draw(_below(number)) > 0

    def one_of(choices: tuple[T, ...]) -> T:
        chosen: T = draw(sampled(choices))
        return chosen

    if abilities.far and one_in(12):
        return draw(_far_taps(abilities, dtypes or abilities.dtypes, precisions or abilities.precisions))
    config = one_of(abilities.configs) if abilities.configs and all_but_one_in(3) else None
    is_tiled = config is not None and all_but_one_in(4)
    call: CallSizes = draw(tiled_sizes() if is_tiled else call_sizes())
    kh, kw = call.kernel
    stride, padding, dilation, groups, same = (1, 1), (0, 0), (1, 1), 1, False
    if abilities.convolution_options and one_in(2):
        stride, padding, dilation, groups = (
            one_of(_STRIDES),
            one_of(_PADDINGS),
            one_of(_DILATIONS),
            one_of(_GROUPS),
        )
        same = abilities.same_padding and one_in(6)
        if same:
            stride, padding = (1, 1), (0, 0)
    if is_tiled:
        groups = groups if one_in(3) else 1
        if abilities.convolution_options:
            stride, same = one_of(_TILED_STRIDES), False
    earlier = draw(earlier_calls()) if one_in(5) else ()
    sizes = call.fitted(1 / groups / (1 + len(earlier)), effort, by_image=config is not None)
    # Tried only on the kernels that promise PyTorch's own errors: a kernel larger than its input.
    if abilities.every_dtype and one_in(25):
        sizes[one_of(("rows", "columns"))], same = 0, False
        if abilities.convolution_options:
            dilation = one_of(_DILATIONS)
    dtype = one_of(_more_of("float32", dtypes or abilities.dtypes))
    # Drawn even where it means nothing: a dtype must not look simpler because it needs one draw less.
    precision = one_of(_more_of("tf32", precisions or abilities.precisions))
    bias = draw(st.booleans())
    owned = abilities.kind == "module"
    x_layout = draw(layouts(4)) if one_in(3) else CONTIGUOUS
    weight_layout = draw(layouts(4)) if not owned and one_in(4) else CONTIGUOUS
    bias_layout = draw(layouts(1)) if not owned and bias and one_in(4) else CONTIGUOUS
    if abilities.far and one_in(12):
        far = one_of(("x", "weight", "bias") if bias and groups * sizes["c_out"] > 2 else ("x", "weight"))
        if far == "x":
            x_layout = draw(far_layouts((sizes["batch"], groups * sizes["c_in"], sizes["rows"], sizes["columns"])))
        elif far == "weight":
            weight_layout = draw(far_layouts((groups * sizes["c_out"], sizes["c_in"], kh, kw)))
        else:
            bias_layout = Layout(far=True)
    # A repeated dimension of one element is none.
    batch = max(2, sizes["batch"]) if 0 in x_layout.expand else sizes["batch"]
    case = Case(
        n=0 if one_in(25) else batch,
        c_in=groups * sizes["c_in"],
        h=max(1, sizes["rows"]) if same else _input_extent(sizes["rows"], kh, stride[0], padding[0], dilation[0]),
        w=sizes["columns"] if same else _input_extent(sizes["columns"], kw, stride[1], padding[1], dilation[1]),
        c_out=groups * sizes["c_out"],
        kh=kh,
        kw=kw,
        stride=stride,
        padding=padding,
        same=same,
        dilation=dilation,
        groups=groups,
        bias=bias,
        scale=one_of(_WIDE_SCALES) if abilities.in_order and one_in(50) else draw(scales()),
        dtype=dtype,
        precision=precision if dtype == "float32" else "default",
        config=config,
        x_layout=x_layout,
        weight_layout=weight_layout,
        bias_layout=bias_layout,
        values=one_of(_TELLING_CHANNELS if call.kept == "c_out" and one_in(2) else FAMILIES),
        specials=draw(sprinkles()) if one_in(4) else (),
        earlier=earlier,
        relation=one_of(RELATIONS) if one_in(8) else None,
        seed=draw(_below(2**32)),
    )
    if one_in(16):
        wide = "x" if owned or one_of(("x", "x", "weight")) == "x" else "weight"
        shape, layout = (case.x_shape, x_layout) if wide == "x" else (case.weight_shape, weight_layout)
        return msgspec.structs.replace(case, **{f"{wide}_layout": _widened(layout, shape)})
    return case


def _widened(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """Return the layout of a piece of a large tensor: the entries of one dimension lie far apart, but not too far.

    The last one has an offset that does not fit in 16 bits, unless the dimension is short and all others are.
    """
    order = layout.order or tuple(range(len(shape)))
    long = next((dim for dim in order if shape[dim] > 1 and dim not in layout.expand), None)
    if long is None or layout.far or 0 in shape:
        return layout
    steps = list(layout.step or (1,) * len(shape))
    reach = (shape[long] - 1) * layout.place(shape)[0][long]
    steps[long] = min(MAX_STEP, steps[long] * -(-_WIDE_REACH // reach))
    return msgspec.structs.replace(layout, step=tuple(steps))


@st.composite
def _far_taps(
    draw: st.DrawFn, abilities: Abilities, dtypes: tuple[Dtype, ...], precisions: tuple[Precision, ...]
) -> Case:
    """Draw a case whose window spans rows or columns that lie far apart, with as many channels as fill a tile."""
    kh, kw = draw(sampled(((3, 3), (3, 1), (1, 3), (4, 3), (2, 5))))
    h, w = kh + draw(_below(2)), kw + draw(_below(2))
    dtype = draw(sampled(dtypes))
    far_weight = draw(st.booleans())
    long = draw(far_layouts((1, 1, kh, kw)))
    return Case(
        c_in=draw(sampled((32, 16, 33, 3))),
        h=h,
        w=w,
        c_out=draw(sampled((1, 3, 33))),
        kh=kh,
        kw=kw,
        bias=draw(st.booleans()),
        dtype=dtype,
        precision=draw(sampled(precisions)) if dtype == "float32" else "default",
        config=draw(sampled((None, *abilities.configs))),
        x_layout=CONTIGUOUS if far_weight else long,
        weight_layout=long if far_weight else CONTIGUOUS,
        values=draw(sampled(FAMILIES)),
        seed=draw(_below(2**32)),
    )


@cache
def _below(number: int) -> st.SearchStrategy[int]:
    return st.integers(0, number - 1)


def _more_of(favourite: T, choices: tuple[T, ...]) -> tuple[T, ...]:
    """Return the choices with one of them twice, if there is a choice and it is one of them.

    float32 is what most calls have, and tf32 what they have on a GPU, by a way of its own.
    """
    return (*choices, favourite) if len(choices) > 1 and favourite in choices else choices


def _input_extent(positions: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return the smallest input that gives this many positions; for none at all it is too small for its kernel."""
    return max(1, (positions - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding)
