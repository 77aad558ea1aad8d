"""The oracle against exact arithmetic: every sound implementation passes, and what is not sound does not.

Truth comes from `fractions.Fraction`, sound implementations from NumPy loops that add the same products in another
order or with another rounding, as kernels on different hardware do. Each is a few lines, so that a reader can see that
it is sound; if the oracle refuses one of them, it raises false alarms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from everything import EVERYTHING
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d, unfold

from fuzz.arithmetic import PrecisionClass, arithmetic
from fuzz.case import DTYPES, FAMILIES, Case, Dtype, Family, Sprinkle
from fuzz.judge import judge
from fuzz.oracle import Admissible, admissible
from fuzz.reference import RejectedError
from fuzz.rounding import to_tf32, truncate
from fuzz.strategies import cases
from fuzz.tensors import TORCH_DTYPE, build
from fuzz.verdict import Verdict

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf
HALVES = ("float16", "bfloat16")
LATTICES: tuple[Family, ...] = ("ones", "lattice", "impulse", "winner", "positive", "negative", "near_tie")
SCALES = (1.0, 2.0, -1.0, 0.5, 0.0, 3.0, -0.375, 0.1, -0.0, 2.0**-24, -(2.0**20), 2.0**-140, 2.0**100, -1e-3)
# Numbers in float64, and infinite or 0 in float32; the last loses digits there.
WIDE_SCALES = (2.0**130, -(2.0**130), 1e300, 2.0**-150, -(2.0**-160), 1e-278, 3.3 * 2.0**-146)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Call:
    """A case with its operands, already rounded to the case's dtype."""

    case: Case
    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        return TORCH_DTYPE[self.case.dtype]

    @property
    def scale(self) -> float:
        """The scale that PyTorch multiplies by."""
        return self.case.scale if self.case.dtype == "float64" else float(np.float32(self.case.scale))

    def admissible(self, precision: PrecisionClass = "ieee", *, in_order: bool = True) -> Admissible:
        return admissible(self.case, self.x, self.weight, self.bias, precision=precision, in_order=in_order)


def call_of(case: Case) -> Call:
    operands = build(case, poison="nan", device=CPU)
    bias = operands["bias"].tensor if "bias" in operands else None
    return Call(case, operands["x"].tensor, operands["weight"].tensor, bias)


def dot(x: list[float], weight: list[list[float]], bias: list[float] | None = None, **fields: Any) -> Call:
    """A call with one output value: each row of `weight` is a channel."""
    case = Case(c_in=len(x), c_out=len(weight), bias=bias is not None, **fields)
    dtype = TORCH_DTYPE[case.dtype]
    return Call(
        case,
        torch.tensor(x, dtype=torch.float64).to(dtype).view(case.x_shape),
        torch.tensor(weight, dtype=torch.float64).to(dtype).view(case.weight_shape),
        None if bias is None else torch.tensor(bias, dtype=torch.float64).to(dtype),
    )


def output(call: Call, *values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).to(call.dtype).view(1, 1, 1, -1)


def verdict(call: Call, out: torch.Tensor, allowed: Admissible) -> Verdict:
    return judge(call.case, out, allowed, poison=NAN)


# Cases: tiny calls over every family, and dot products of raw floating-point numbers.


@st.composite
def tiny_calls(draw: st.DrawFn, families: tuple[Family, ...] = FAMILIES, scales: tuple[float, ...] = SCALES) -> Call:
    """All options of the convolution, at most 12 products in a sum."""
    groups = draw(st.sampled_from((1, 1, 2)))
    kh, kw = draw(st.sampled_from(((1, 1), (2, 2), (1, 3), (2, 1))))
    case = Case(
        n=draw(st.integers(1, 2)),
        c_in=groups * draw(st.integers(1, 12 // (kh * kw))),
        h=draw(st.integers(kh, kh + 2)),
        w=draw(st.integers(kw, kw + 2)),
        c_out=groups * draw(st.integers(1, 3)),
        kh=kh,
        kw=kw,
        stride=(draw(st.integers(1, 2)), 1),
        padding=(draw(st.integers(0, 1)), draw(st.integers(0, 1))),
        dilation=(1, draw(st.sampled_from((1, 1, 2)))),
        groups=groups,
        bias=draw(st.booleans()),
        scale=draw(st.sampled_from(scales)),
        dtype=draw(st.sampled_from(DTYPES)),
        values=draw(st.sampled_from(families)),
        seed=draw(st.integers(0, 2**32)),
    )
    assume(min(case.out_size) > 0)
    return call_of(case)


def numbers(dtype: Dtype) -> st.SearchStrategy[float]:
    """Any finite number of the dtype, subnormal and largest ones too; ordinary ones more often."""
    if dtype == "bfloat16":
        words = st.integers(0, 2**16 - 1).filter(lambda word: word & 0x7F80 != 0x7F80)
        every = words.map(lambda word: float(np.array([word << 16], dtype=np.uint32).view(np.float32)[0]))
    else:
        width = {"float16": 16, "float32": 32, "float64": 64}[dtype]
        every = st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[call-overload]
    return st.floats(-4, 4, width=16) | every | st.sampled_from((1.0, -1.0, 0.0, 1.5))


@st.composite
def raw_dots(draw: st.DrawFn) -> Call:
    """One output value from numbers that Hypothesis chooses one by one."""
    dtype = draw(st.sampled_from(DTYPES))
    length, channels = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    row = st.lists(numbers(dtype), min_size=length, max_size=length)
    return dot(
        draw(row),
        draw(st.lists(row, min_size=channels, max_size=channels)),
        draw(st.none() | st.lists(numbers(dtype), min_size=channels, max_size=channels)),
        scale=draw(st.sampled_from(SCALES) | numbers("float32")),
        dtype=dtype,
    )


# The truth, from rational numbers.


@dataclass(frozen=True)
class Terms:
    """The factors of every sum, `[n, c_out, positions, K]`, the bias `[1, c_out, 1]`, and which taps are padding."""

    x: Array
    weight: Array
    bias: Array
    padded: Array


def terms(call: Call) -> Terms:
    case = call.case
    options = {"dilation": case.dilation, "padding": case.padding, "stride": case.stride}
    kernel = (case.kh, case.kw)
    blocks = (case.n, case.groups, 1, case.reduction_length, -1)

    def windows(image: torch.Tensor) -> torch.Tensor:
        # [n, groups, 1, K, positions], and each group's windows for every channel of the group.
        taps = unfold(image, kernel, **options).view(blocks)
        return taps.expand(-1, -1, case.c_out // case.groups, -1, -1).transpose(3, 4).flatten(1, 2)

    x = windows(call.x.double())
    inside = windows(torch.ones(case.x_shape, dtype=torch.float64))
    weight = call.weight.double().reshape(1, case.c_out, 1, case.reduction_length)
    bias = torch.zeros(case.c_out, dtype=torch.float64) if call.bias is None else call.bias.double()
    return Terms(x.numpy(), weight.expand_as(x).numpy(), bias.view(1, -1, 1).numpy(), (inside == 0).numpy())


def exact_minimum(call: Call) -> list[Fraction]:
    """The minimum over channels of the scaled sums, without any rounding."""
    parts, scale = terms(call), Fraction(call.scale)
    n, channels, positions, _ = parts.x.shape

    def value(image: int, channel: int, position: int) -> Fraction:
        factors = zip(parts.x[image, channel, position], parts.weight[image, channel, position], strict=True)
        total = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in factors), Fraction(0))
        return (total + Fraction(float(parts.bias[0, channel, 0]))) * scale

    return [
        min(value(image, channel, position) for channel in range(channels))
        for image, position in itertools.product(range(n), range(positions))
    ]


def assert_contains(allowed: Admissible, truth: list[Fraction], call: Call) -> None:
    for low, high, exact in zip(allowed.low.flatten().tolist(), allowed.high.flatten().tolist(), truth, strict=True):
        # What every implementation does at the end, beyond the largest number, too.
        rounded = float(torch.tensor(float_of(exact), dtype=torch.float64).to(call.dtype))
        assert low <= rounded <= high, f"[{low!r}, {high!r}] misses {rounded!r}, the value {exact} rounded, of {call}"


def float_of(exact: Fraction) -> float:
    """The nearest float64."""
    try:
        return float(exact)
    except OverflowError:
        return INF if exact > 0 else -INF


@settings(max_examples=150)
@given(tiny_calls(), st.sampled_from(("ieee", "tf32")), st.booleans())
def test_interval_contains_the_exact_value(call: Call, precision: PrecisionClass, in_order: bool) -> None:
    allowed = call.admissible(precision, in_order=in_order)
    assert not bool(allowed.nan_required.any()), "finite numbers have a finite sum"
    if not allowed.exact:
        assert_contains(allowed, exact_minimum(call), call)


@settings(max_examples=150)
@given(raw_dots(), st.sampled_from(("ieee", "tf32")), st.booleans())
def test_interval_contains_the_exact_value_of_any_numbers(
    call: Call, precision: PrecisionClass, in_order: bool
) -> None:
    allowed = call.admissible(precision, in_order=in_order)
    assert not bool(allowed.nan_required.any()), "finite numbers have a finite sum"
    if not allowed.exact:
        assert_contains(allowed, exact_minimum(call), call)


@settings(max_examples=100)
@given(tiny_calls(families=LATTICES, scales=(1.0, 2.0, -1.0, 0.5, -0.25, 0.0)))
def test_exact_lane_is_the_rounded_exact_value(call: Call) -> None:
    allowed = call.admissible()
    assert allowed.exact, f"small integers and a scale of a power of two must be judged bit for bit: {call.case}"
    truth = torch.tensor([float(value) for value in exact_minimum(call)], dtype=torch.float64)
    expected = truth.to(call.dtype).double()
    assert torch.equal(allowed.low.flatten(), expected), f"{allowed.low.flatten()} is not {expected}"
    assert torch.equal(allowed.high.flatten(), expected)


# Sound implementations: the same products, added otherwise.

Order = Callable[[int], list[int]]


def accumulator_of(case: Case) -> type[np.floating[Any]]:
    return np.float64 if case.dtype == "float64" else np.float32


@dataclass(frozen=True)
class Implementation:
    """How one sound implementation adds.

    Attributes:
        order: forward, backward, shuffled, or pairwise (as a tree).
        fused: A product enters its sum unrounded.
        chopped: Fused sums are rounded towards zero, as tensor cores do.
        bias_first: The bias starts the sum, or ends it.
        tf32: Operands are cut to tf32.
        flushed: Subnormal operands are taken for zero.
        twice: The convolution is rounded to the dtype before it is scaled, as PyTorch does.
        thrice: It is rounded before its bias is added, too, as cuDNN does.
        scale_first: Weight and bias are scaled before they are summed.
        scale_x: x is scaled instead of the weight.
        wide: Everything is computed in float64, whatever the dtype, with the scale as it is given.
        wide_scale: The sum is multiplied by the scale in float64.
        in_dtype: Scaled factors and bias are rounded to the dtype: exact for a power of two, within its range.
    """

    order: str = "forward"
    fused: bool = False
    chopped: bool = False
    bias_first: bool = False
    tf32: bool = False
    flushed: bool = False
    twice: bool = False
    thrice: bool = False
    scale_first: bool = False
    scale_x: bool = False
    wide: bool = False
    wide_scale: bool = False
    in_dtype: bool = False

    def run(self, call: Call) -> torch.Tensor:
        """The output `[n, 1, oh, ow]`."""
        case, accumulator = call.case, np.float64 if self.wide else accumulator_of(call.case)
        parts = terms(call)
        with np.errstate(all="ignore"):
            first, last = accumulator(case.scale), accumulator(1)
            if not self.scale_first:
                first, last = last, first
            in_x, in_weight = (first, accumulator(1)) if self.scale_x else (accumulator(1), first)
            rounded = partial(in_dtype, dtype=call.dtype) if self.in_dtype else np.asarray
            x, weight = (
                self._operand(rounded(parts.x.astype(accumulator) * in_x)),
                self._operand(rounded(parts.weight.astype(accumulator) * in_weight)),
            )
            bias = np.broadcast_to(rounded(parts.bias.astype(accumulator) * first), x.shape[:3])
            start = np.zeros_like(bias) if self.thrice else bias
            sums = self._tree(x, weight, start) if self.order == "pairwise" else self._chain(x, weight, start)
            if self.thrice:
                sums = in_dtype(sums, call.dtype) + bias
            if self.twice or self.thrice:
                sums = in_dtype(sums, call.dtype)
            scaled = sums.astype(np.float64) * case.scale if self.wide_scale else sums * last
        result = torch.from_numpy(scaled).to(call.dtype).amin(dim=1, keepdim=True)
        return result.view(case.n, 1, *case.out_size)

    def _operand(self, operand: Array) -> Array:
        if self.tf32:
            operand = to_tf32(operand)
        if self.flushed:
            operand = np.where(np.abs(operand) < np.finfo(operand.dtype).tiny, operand.dtype.type(0), operand)
        return operand

    def _chain(self, x: Array, weight: Array, bias: Array) -> Array:
        indices = list(range(x.shape[-1]))
        if self.order == "backward":
            indices.reverse()
        elif self.order == "shuffled":
            np.random.default_rng(len(indices)).shuffle(indices)
        total = bias.copy() if self.bias_first else np.zeros_like(bias)
        for k in indices:
            total = self._accumulate(total, x[..., k], weight[..., k])
        return total if self.bias_first else total + bias

    def _accumulate(self, total: Array, a: Array, b: Array) -> Array:
        if not self.fused:
            return total + a * b
        # A product of two float32 is exact in float64.
        wide = total.astype(np.float64) + a.astype(np.float64) * b.astype(np.float64)
        return truncate(wide, total.dtype) if self.chopped else wide.astype(total.dtype)

    def _tree(self, x: Array, weight: Array, bias: Array) -> Array:
        level = [x[..., k] * weight[..., k] for k in range(x.shape[-1])]
        level = [bias, *level] if self.bias_first else [*level, bias]
        while len(level) > 1:
            odd = level[len(level) // 2 * 2 :]
            level = [a + b for a, b in itertools.pairwise(level)][::2] + odd
        return level[0]


def in_dtype(sums: Array, dtype: torch.dtype) -> Array:
    rounded = torch.from_numpy(sums).to(dtype)
    return rounded.to(torch.from_numpy(sums).dtype).numpy()


def sound_implementations(call: Call, precision: PrecisionClass, *, in_order: bool) -> Iterator[Implementation]:
    """Every way of adding that the case's dtype and precision class allow."""
    case = call.case
    orders = ("forward", "backward", "shuffled", "pairwise")
    plain = [Implementation(order=order, bias_first=first) for order in orders for first in (False, True)]
    if case.dtype != "float64":
        for order, first, chopped in itertools.product(orders[:3], (False, True), (False, True)):
            plain.append(Implementation(order=order, fused=True, chopped=chopped, bias_first=first))
    yield from plain
    is_tf32 = case.dtype == "float32" and precision == "tf32"
    if is_tf32:
        yield from (changed(each, tf32=True) for each in plain[::2])
    if is_tf32 or case.dtype == "bfloat16":
        yield from (changed(each, flushed=True) for each in plain[::2])
    if not in_order and case.dtype in HALVES:
        yield from (changed(each, twice=True) for each in plain[::2])
        yield from (changed(each, thrice=True) for each in plain[::2])
    if not in_order:
        yield from (changed(each, scale_first=True) for each in plain[::2])
        yield from (changed(each, scale_first=True, scale_x=True) for each in plain[::2])
        if case.dtype in HALVES and abs(math.frexp(case.scale)[0]) == 0.5:
            for each in plain[::2]:
                yield from (changed(each, scale_first=True, in_dtype=True, scale_x=on_x) for on_x in (False, True))
                yield changed(each, scale_first=True, in_dtype=True, twice=True)
                yield changed(each, scale_first=True, in_dtype=True, thrice=True)
        yield from (changed(each, wide=True) for each in plain[:8])
        yield from (changed(each, wide=True, scale_first=True) for each in plain[:8:2])
        yield from (changed(each, wide_scale=True) for each in plain[::2])


def changed(implementation: Implementation, **changes: Any) -> Implementation:
    return Implementation(**{**implementation.__dict__, **changes})


def assert_sound_pass(call: Call, precision: PrecisionClass, *, in_order: bool) -> None:
    allowed = call.admissible(precision, in_order=in_order)
    for implementation in sound_implementations(call, precision, in_order=in_order):
        out = implementation.run(call)
        found = verdict(call, out, allowed)
        assert not found.failed, f"false alarm: {implementation} is sound, but {found.message}\nfor {call}"
        if allowed.exact and not bool(allowed.nan_allowed.any()):
            same = (out.double() == allowed.low) & (out.double() == allowed.high)
            assert bool(same.all()), f"{implementation} gives {out.flatten()}, must be exactly {allowed.low.flatten()}"


@settings(max_examples=80)
@given(tiny_calls(scales=(*SCALES, *WIDE_SCALES)), st.sampled_from(("ieee", "tf32")), st.booleans())
def test_sound_implementations_pass(call: Call, precision: PrecisionClass, in_order: bool) -> None:
    assert_sound_pass(call, precision, in_order=in_order)


@settings(max_examples=100)
@given(raw_dots(), st.sampled_from(("ieee", "tf32")), st.booleans())
def test_sound_implementations_pass_on_any_numbers(call: Call, precision: PrecisionClass, in_order: bool) -> None:
    assert_sound_pass(call, precision, in_order=in_order)


@settings(max_examples=80)
@given(
    tiny_calls(scales=(*SCALES, *WIDE_SCALES, INF, -INF)),
    st.lists(
        st.builds(
            Sprinkle,
            st.sampled_from(("x", "weight", "bias")),
            st.sampled_from(("nan", "inf", "-inf")),
            st.integers(1, 2),
        ),
        min_size=1,
        max_size=2,
    ),
    st.booleans(),
)
def test_sound_implementations_pass_on_special_values(call: Call, specials: list[Sprinkle], in_order: bool) -> None:
    special = call_of(msgspec.structs.replace(call.case, specials=tuple(specials)))
    assert_sound_pass(special, "tf32", in_order=in_order)


@settings(max_examples=60)
@given(tiny_calls(families=LATTICES, scales=(1.0, 2.0, -1.0, 0.5, 0.0, -0.0)), st.booleans())
def test_sound_implementations_give_the_same_bits_in_the_exact_lane(call: Call, in_order: bool) -> None:
    if in_order or call.bias is None or call.case.dtype not in HALVES:
        assert call.admissible(in_order=in_order).exact, f"{call.case} belongs in the exact lane"
    assert_sound_pass(call, "tf32", in_order=in_order)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["coherent", "cancelling", "gaussian", "wide", "positive"])
def test_sound_implementations_pass_on_long_sums(family: Family, dtype: Dtype) -> None:
    for seed, precision in enumerate(("ieee", "tf32")):
        call = call_of(Case(c_in=100, c_out=3, w=2, bias=True, scale=-0.375, dtype=dtype, values=family, seed=seed))
        assert_sound_pass(call, precision, in_order=False)


# PyTorch itself.


def pytorch(call: Call) -> torch.Tensor:
    case = call.case
    convolved = conv2d(call.x, call.weight, call.bias, case.stride, case.padding, case.dilation, case.groups)
    return torch.min(convolved * case.scale, dim=1, keepdim=True).values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
@settings(max_examples=80)
@given(data=st.data())
def test_pytorch_itself_passes(dtype: Dtype, data: st.DataObject) -> None:
    # Not through oneDNN or NNPACK: `fuzz.session.machine` says why.
    with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        assert_pytorch_passes(dtype, data)


def assert_pytorch_passes(dtype: Dtype, data: st.DataObject) -> None:
    call = call_of(data.draw(cases(EVERYTHING, dtypes=(dtype,), effort=0.5)))
    try:
        allowed = call.admissible(in_order=False)
    except RejectedError as rejected:
        with pytest.raises(type(rejected.cause)):
            pytorch(call)
        return
    found = verdict(call, pytorch(call), allowed)
    assert not found.failed, f"false alarm on PyTorch: {found.message} {found.where}\nfor {call.case}"


@given(cases(EVERYTHING, effort=0.25), st.booleans())
def test_admissible_is_well_formed(case: Case, in_order: bool) -> None:
    try:
        allowed = call_of(case).admissible(in_order=in_order)
    except RejectedError:
        assert min(case.out_size) < 1, "PyTorch rejects only kernels larger than their input"
        return
    shape = (case.n, 1, *case.out_size)
    assert allowed.low.shape == allowed.high.shape == allowed.nan_required.shape == allowed.truth.shape == shape
    assert not bool((allowed.low.isnan() | allowed.high.isnan()).any()), "an end that is NaN admits nothing"
    judged = ~allowed.nan_required
    assert bool((allowed.low <= allowed.high)[judged].all()), "an empty interval refuses everything"
    assert bool((allowed.nan_allowed | ~allowed.nan_required).all()), "a NaN that is required is allowed"


# NaN and infinities: exactly where IEEE 754 puts them.


def ieee_minimum(call: Call, *, skip_padding: bool) -> torch.Tensor:
    """What float64 arithmetic gives, with padding multiplied like any other zero or left out."""
    parts = terms(call)
    with np.errstate(all="ignore"):
        products = parts.x * parts.weight
        if skip_padding:
            products = np.where(parts.padded, 0.0, products)
        scaled = (products.sum(axis=-1) + parts.bias) * call.scale
    least = torch.from_numpy(scaled).amin(dim=1, keepdim=True)
    return least.view(call.case.n, 1, *call.case.out_size)


@settings(max_examples=80)
@given(data=st.data())
def test_special_values_follow_ieee(data: st.DataObject) -> None:
    tensors = st.sampled_from(("x", "weight", "bias"))
    sprinkle = st.builds(Sprinkle, tensors, st.sampled_from(("nan", "inf", "-inf")), st.integers(1, 3))
    drawn = data.draw(tiny_calls(families=LATTICES, scales=(1.0, -2.0, 0.0, -0.0, INF, -INF, NAN)))
    specials = tuple(data.draw(st.lists(sprinkle, min_size=1, max_size=3)))
    call = call_of(msgspec.structs.replace(drawn.case, specials=specials))
    in_order = data.draw(st.booleans())
    allowed = call.admissible(in_order=in_order)
    without, with_padding = (ieee_minimum(call, skip_padding=skip) for skip in (True, False))
    assert torch.equal(allowed.nan_required, without.isnan() & with_padding.isnan()), "NaN is required elsewhere"
    if in_order or not math.isinf(call.scale):
        assert torch.equal(allowed.nan_allowed, without.isnan() | with_padding.isnan()), "NaN is allowed elsewhere"
    for out in (without, with_padding):
        found = verdict(call, out.to(call.dtype), allowed)
        assert not found.failed, f"IEEE arithmetic is refused: {found.message} for {call}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x", "weight", "bias", "scale", "expected"),
    [
        pytest.param([NAN, 1], [[1, 1], [2, 2]], None, 1.0, NAN, id="NaN in x reaches every channel"),
        pytest.param([1, 1], [[1, 1], [NAN, 2]], None, 1.0, NAN, id="one NaN channel decides the minimum"),
        pytest.param([1, 1], [[1, 1], [2, 2]], [0, NAN], 1.0, NAN, id="NaN in the bias"),
        pytest.param([0, 1], [[NAN, 1]], None, 1.0, NAN, id="NaN times zero"),
        pytest.param([NAN, 1], [[0, 1]], None, 1.0, NAN, id="zero times NaN"),
        pytest.param([INF, 1], [[1, 1], [2, 1]], None, 1.0, INF, id="inf in every channel"),
        pytest.param([INF, 1], [[1, 1], [-1, 1]], None, 1.0, -INF, id="-inf is the minimum"),
        pytest.param([INF, 1], [[1, 1], [-1, 1]], None, -1.0, -INF, id="a negative scale turns inf round"),
        pytest.param([INF, 1], [[0, 1], [1, 1]], None, 1.0, NAN, id="inf times zero"),
        pytest.param([INF, INF], [[1, -1]], None, 1.0, NAN, id="inf minus inf"),
        pytest.param([INF, 1], [[1, 1]], [-INF], 1.0, NAN, id="inf plus a bias of -inf"),
        pytest.param([1, 1], [[1, 1], [2, 3]], [0, INF], 1.0, 2.0, id="inf loses against a number"),
        pytest.param([1, 1], [[1, 1]], [INF], 0.0, NAN, id="scale 0 times inf"),
        pytest.param([1, 1], [[1, 1]], None, 0.0, 0.0, id="scale 0"),
        pytest.param([1, 1], [[1, 1]], None, -0.0, 0.0, id="scale -0"),
        pytest.param([1, 1], [[1, 1]], None, INF, INF, id="scale inf"),
        pytest.param([1, 1], [[1, 1], [1, -2]], None, INF, -INF, id="scale inf, a negative sum"),
        pytest.param([1, 1], [[1, 1]], None, -INF, -INF, id="scale -inf"),
        pytest.param([1, 1], [[1, -1], [1, 1]], None, INF, NAN, id="scale inf times a sum of 0"),
        pytest.param([1, 1], [[1, 1]], None, NAN, NAN, id="scale NaN"),
    ],
)
def test_one_special_value(
    x: list[float], weight: list[list[float]], bias: list[float] | None, scale: float, expected: float, dtype: Dtype
) -> None:
    call = dot(x, weight, bias, scale=scale, dtype=dtype)
    for in_order in (False, True):
        allowed = call.admissible(in_order=in_order)
        passed = verdict(call, output(call, expected), allowed)
        assert not passed.failed, f"the right answer is refused: {passed.message}"
        for wrong in {0.0, 2.0, -7.0, INF, -INF} - {expected}:
            assert verdict(call, output(call, wrong), allowed).failed, f"{wrong} must be refused, {expected} is right"
        if not math.isnan(expected) and (in_order or not math.isinf(scale)):
            found = verdict(call, output(call, NAN), allowed)
            assert found.kind == "unexpected-nan", f"a NaN must be refused, {expected} is right"


@pytest.mark.parametrize("special", [INF, -INF, NAN])
@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_times_a_special_weight_may_be_either(special: float, dtype: Dtype) -> None:
    """PyTorch's backends differ there, so a kernel may do either; everywhere else the weight counts."""
    case = Case(h=1, w=3, kh=1, kw=2, padding=(0, 1), dtype=dtype)
    x = torch.ones(case.x_shape, dtype=TORCH_DTYPE[dtype])
    weight = torch.tensor([special, 2.0], dtype=TORCH_DTYPE[dtype]).view(case.weight_shape)
    call = Call(case, x, weight, None)
    allowed = call.admissible()
    for first in (2.0, NAN):
        found = verdict(call, output(call, first, special, special, special), allowed)
        assert not found.failed, f"{first} beside the padding is admissible: {found.message}"
    assert verdict(call, output(call, 3.0, special, special, special), allowed).failed, "3 is neither"
    assert verdict(call, output(call, 2.0, 2.0, special, special), allowed).failed, "inside the image the weight counts"
    assert allowed.nan_required.flatten().tolist() == [False, *[math.isnan(special)] * 3]


@pytest.mark.parametrize(
    ("x", "weight", "scale", "admitted", "refused"),
    [
        pytest.param(
            [2.0**120] * 2, [256.0, -257.0], 1.0, (INF, -INF, NAN, -(2.0**120)), (), id="both signs: anything"
        ),
        pytest.param([2.0**120] * 2, [256.0, -240.0], 1.0, (INF, 2.0**124), (-INF, NAN, 1.0), id="one sign"),
        pytest.param([2.0**120], [257.0], 1.0, (INF,), (-INF, NAN, 1.0), id="the sum"),
        pytest.param([2.0**120], [257.0], 2.0**-20, (INF, 257 * 2.0**100), (-INF, NAN, 1.0), id="before scaling"),
        pytest.param([2.0**120], [257.0], 0.0, (0.0, NAN), (1.0, INF, -INF), id="before a scale of 0"),
        pytest.param(
            [2.0**127] * 4, [1.0, 1.0, -1.0, -1.0], 0.0, (0.0, NAN), (1.0, INF, -INF), id="in some orders only, scale 0"
        ),
        pytest.param([2.0**120], [3.0], 2.0**20, (INF,), (-INF, NAN, 1.0), id="by scaling"),
    ],
)
def test_what_overflows_on_the_way_may_be_infinite(
    x: list[float], weight: list[float], scale: float, admitted: tuple[float, ...], refused: tuple[float, ...]
) -> None:
    call = dot(x, [weight], scale=scale)
    allowed = call.admissible()
    for value in admitted:
        found = verdict(call, output(call, value), allowed)
        assert not found.failed, f"{value} may come out where a partial sum overflows: {found.message}"
    for value in refused:
        assert verdict(call, output(call, value), allowed).failed, f"{value} cannot come out of any order of summation"


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize(
    ("call", "infinities", "held"),
    [
        (dot([3e38, 3e38, -3e38], [[1.0, 1.0, 1.0]]), (INF,), 3.4028234e38),
        (dot([3e38, 3e38, -3e38], [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), (-INF,), -3.4028234e38),
        (dot([1.0, 1.0], [[1.0, 0.5]], scale=2.0**100, dtype="float16"), (INF,), 65504.0),
        (dot([60000.0, 60000.0], [[1.0, 0.5]], scale=0.5, dtype="float16"), (), 32752.0),
    ],
    ids=["sum", "sum in one channel", "scale", "half"],
)
def test_what_overflows_is_infinite_and_no_number_in_between(
    call: Call, infinities: tuple[float, ...], held: float, in_order: bool
) -> None:
    """A kernel that holds results, or sums, at the largest number is no sound kernel with another order."""
    allowed = call.admissible(in_order=in_order)
    for value in infinities:
        assert not verdict(call, output(call, value), allowed).failed, f"{value} is what overflow gives"
    assert verdict(call, output(call, held), allowed).failed, f"{held} is where something was held"


def test_a_half_that_overflows_before_scaling_may_be_infinite() -> None:
    call = dot([300.0], [[300.0 + 1 / 3]], scale=0.001, dtype="float16")
    eager, fused = (call.admissible(in_order=once) for once in (False, True))
    assert not verdict(call, output(call, INF), eager).failed, "PyTorch rounds 90000 to inf before it scales"
    assert verdict(call, output(call, INF), fused).failed, "with one rounding, at the end, the result is 90"
    assert not verdict(call, output(call, 90.075), fused).failed


@pytest.mark.parametrize("scale", [INF, -INF, 2.0**100])
def test_a_scale_that_overflows_in_the_weight_may_give_a_nan(scale: float) -> None:
    """Scaled first, the weight becomes infinite, and 0·inf is NaN; in the operation's own order it stays a number."""
    call = dot([0.0, 1.0], [[2.0**100, 1.0]], scale=scale)
    folded, plain = (call.admissible(in_order=in_order) for in_order in (False, True))
    assert not verdict(call, output(call, NAN), folded).failed, "a kernel that scales its weight first is sound"
    assert verdict(call, output(call, NAN), plain).failed, "a kernel that promises to scale the sum has no excuse"
    for allowed in (folded, plain):
        assert not verdict(call, output(call, scale), allowed).failed, f"1·{scale} is right in any order"


def test_a_scale_that_underflows_in_the_weight_may_give_a_nan() -> None:
    call = dot([INF, 1.0], [[2.0**-10, 1.0]], scale=2.0**-140)
    folded, plain = (call.admissible(in_order=in_order) for in_order in (False, True))
    assert not verdict(call, output(call, NAN), folded).failed, "scaled first, the weight becomes 0, and 0·inf is NaN"
    assert verdict(call, output(call, NAN), plain).failed
    assert verdict(call, output(call, 0.0), folded).failed, "no order of operations gives a number"


def test_a_half_that_becomes_subnormal_in_the_weight_may_lose_its_digits() -> None:
    call = dot([1.0] * 4, [[0.3, 0.4, 0.4, 0.4]], scale=2.0**-24, dtype="float16")
    folded, plain = (call.admissible(in_order=in_order) for in_order in (False, True))
    assert not verdict(call, output(call, 0.0), folded).failed, "each weight becomes 0 in float16 where it is scaled"
    assert verdict(call, output(call, 0.0), plain).failed, "the sum, 1.5, does not where it is scaled"
    ordinary = dot([1.0] * 4, [[0.3, 0.4, 0.4, 0.4]], scale=0.5, dtype="float16").admissible(in_order=False)
    assert float(ordinary.high - ordinary.low) < 0.002, "nothing is subnormal: what underflows costs nothing"


def test_a_bias_added_to_a_rounded_convolution_is_sound() -> None:
    """2049 has no place in float16: rounded first, the sum with a bias of 1 stays 2048."""
    call = dot([683.0], [[3.0]], [1.0], dtype="float16")
    for value, in_order, sound in ((2050.0, True, True), (2050.0, False, True), (2048.0, False, True)):
        found = verdict(call, output(call, value), call.admissible(in_order=in_order))
        assert found.failed != sound, f"{value} with {in_order=}: {found.message}"
    assert verdict(call, output(call, 2048.0), call.admissible(in_order=True)).failed


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_finite_number_in_place_of_an_overflow_is_refused(dtype: Dtype) -> None:
    """The ends of the interval are rounded to nearest, which is beyond the largest number for what overflows."""
    limit = torch.finfo(TORCH_DTYPE[dtype]).max
    call = dot([limit, limit / 3], [[1.0, 1.0]], dtype=dtype)
    allowed = call.admissible()
    assert not verdict(call, output(call, INF), allowed).failed, f"{limit} and a third more is infinite in {dtype}"
    assert verdict(call, output(call, limit), allowed).failed, f"a result that is held at {limit} passes"


# The bound means something.


def moved(allowed: Admissible, place: tuple[int, ...], dtype: torch.dtype, sign: int) -> float:
    """A number of the dtype twice as far from the truth as is allowed."""
    truth, end = float(allowed.truth[place]), float((allowed.high if sign > 0 else allowed.low)[place])
    far = torch.tensor(truth + 2 * (end - truth), dtype=torch.float64).to(dtype)
    beyond = torch.nextafter(torch.tensor(end, dtype=dtype), torch.tensor(sign * INF, dtype=dtype))
    return sign * max(sign * float(far), sign * float(beyond))


@settings(max_examples=80)
@given(tiny_calls(), st.sampled_from(("ieee", "tf32")), st.booleans(), st.sampled_from((-1, 1)), st.data())
def test_twice_the_allowed_error_is_refused(
    call: Call, precision: PrecisionClass, in_order: bool, sign: int, data: st.DataObject
) -> None:
    allowed = call.admissible(precision, in_order=in_order)
    place = tuple(data.draw(st.integers(0, size - 1)) for size in allowed.truth.shape)
    assume(math.isfinite(float((allowed.high if sign > 0 else allowed.low)[place])))
    out = allowed.truth.to(call.dtype)
    assume(bool(out.isfinite().all()))
    assert not verdict(call, out, allowed).failed, f"the rounded truth is refused: {call}"
    out[place] = moved(allowed, place, call.dtype, sign)
    found = verdict(call, out, allowed)
    assert found.kind == "wrong-value", f"{float(out[place])!r} is outside, the verdict is {found}"
    assert f"out[{','.join(map(str, place))}]" in found.message, f"the message names another element: {found.message}"
    assert "1 of " in found.message, found.message


@given(tiny_calls(), st.data())
def test_a_nan_out_of_nowhere_is_refused(call: Call, data: st.DataObject) -> None:
    allowed = call.admissible(in_order=False)
    assume(not bool(allowed.nan_allowed.any()))
    out = allowed.truth.to(call.dtype)
    assume(bool(out.isfinite().all()))
    out[tuple(data.draw(st.integers(0, size - 1)) for size in out.shape)] = NAN
    assert verdict(call, out, allowed).kind == "unexpected-nan"


@given(tiny_calls(), st.sampled_from((0.0, 1.0, -INF, INF)))
def test_a_number_in_place_of_a_nan_is_refused(call: Call, number: float) -> None:
    call.weight[-1] = NAN
    allowed = call.admissible(in_order=False)
    inside = ~torch.from_numpy(terms(call).padded[:, :1].all(axis=-1)).view(allowed.truth.shape)
    assert torch.equal(allowed.nan_required, inside), "NaN is required wherever some tap is inside the image"
    assume(bool(inside.any()))
    out = torch.where(inside, NAN, allowed.low).to(call.dtype)
    assert not verdict(call, out, allowed).failed
    out[inside] = number
    found = verdict(call, out, allowed)
    assert found.kind == "missing-nan", f"{found}"
    assert "must be NaN" in found.message


def with_operands(call: Call, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The exact result from changed operands, rounded once."""
    changed = [change(tensor).double() for tensor in (call.x, call.weight)]
    least = (conv2d(*changed, call.bias.double() if call.bias is not None else None) * call.scale).amin(1, True)
    return least.to(call.dtype)


def cut_to_tf32(tensor: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(to_tf32(tensor.contiguous().numpy()))


def nearest_tf32(tensor: torch.Tensor) -> torch.Tensor:
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("length", [1, 64, 576])
@pytest.mark.parametrize("scale", [1.0, -3.0])
@pytest.mark.parametrize("rounding", [cut_to_tf32, nearest_tf32], ids=["truncated", "nearest"])
def test_tf32_is_refused_under_ieee(
    rounding: Callable[[torch.Tensor], torch.Tensor], scale: float, length: int
) -> None:
    refused = []
    for seed in range(8):
        call = call_of(Case(c_in=length, w=4, c_out=3, scale=scale, values="coherent", seed=seed))
        out = with_operands(call, rounding)
        refused.append(verdict(call, out, call.admissible("ieee")).kind == "wrong-value")
        allowed = verdict(call, out, call.admissible("tf32"))
        assert not allowed.failed, f"under tf32 it is admissible: {allowed.message}"
        assert not verdict(call, with_operands(call, lambda same: same), call.admissible("ieee")).failed
    # Each of the family's two patterns is the worst case of one rounding.
    assert all(refused) if rounding is cut_to_tf32 else any(refused), f"K={length}: tf32 passes as ieee: {refused}"


@pytest.mark.parametrize("length", [8, 64, 300])
@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_accumulator_is_refused(dtype: Dtype, length: int) -> None:
    for seed in range(4):
        call = call_of(Case(c_in=length, w=64, c_out=3, dtype=dtype, values="coherent", seed=seed))
        total = torch.zeros(3, 64, dtype=call.dtype)
        for k in range(length):
            total = total + call.weight[:, k].view(3, 1) * call.x[0, k].view(1, 64)
        out = total.amin(0).view(1, 1, 1, 64)
        assert verdict(call, out, call.admissible(in_order=True)).failed, f"sums kept in {dtype} pass at K={length}"


def test_flushed_subnormals_are_refused_under_ieee() -> None:
    for dtype in ("float32", "float16", "float64"):
        tiny = torch.finfo(TORCH_DTYPE[dtype]).tiny / 2
        call = dot([tiny], [[1.0]], dtype=dtype)
        assert verdict(call, output(call, 0.0), call.admissible("ieee")).failed, f"{dtype}: flushing {tiny} passes"


def test_a_zero_from_a_missing_channel_is_refused() -> None:
    """Where every channel is positive, a 0 that stands in for a channel beyond the last would win."""
    call = call_of(Case(c_in=3, h=3, w=3, c_out=5, bias=True, values="gaussian", seed=4))
    raised = Call(call.case, call.x, call.weight, torch.full((5,), 40.0))
    allowed = raised.admissible()
    assert not verdict(raised, pytorch(raised), allowed).failed
    assert verdict(raised, torch.zeros(allowed.low.shape), allowed).failed


# The words of a verdict.


def test_message_gives_element_interval_and_extent_and_a_picture() -> None:
    call = call_of(Case(n=2, c_in=3, h=4, w=5, c_out=5, values="lattice", seed=1))
    allowed = call.admissible()
    out = allowed.truth.float()
    out[..., 3:] += 100
    found = verdict(call, out, allowed)
    assert (found.status, found.kind, found.lane) == ("fail", "wrong-value", "exact")
    assert found.where == "wrong only where w_out ≥ 3", found.where
    assert "float32 · out[" in found.message
    assert "exactly · 16 of 40 wrong" in found.message
    assert found.wrong is not None
    assert found.wrong.rows == ("...##",) * 4


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ((slice(None),) * 4, ""),
        ((0,), "wrong only where n = 0 (the first)"),
        ((2,), "wrong only where n = 2 (the last)"),
        ((slice(None), 0, 3), "wrong only where h_out = 3 (the last)"),
        ((slice(None), 0, slice(1, 3)), "wrong only where h_out in [1, 2]"),
        ((slice(None), 0, slice(None), slice(0, 2)), "wrong only where w_out ≤ 1"),
        ((slice(None), 0, [0, 1, 1, 2, 3], [0, 1, 2, 4, 6]), ""),
        ((1, 0, 2, slice(3, None)), "wrong only where n in [1] and h_out in [2] and w_out ≥ 3"),
    ],
)
def test_where_names_what_wrong_elements_share(place: tuple[Any, ...], where: str) -> None:
    call = call_of(Case(n=3, c_in=3, h=4, w=7, c_out=5, values="lattice", seed=1))
    out = call.admissible().truth.float()
    out[place] = -1000.0
    assert verdict(call, out, call.admissible()).where == where


def test_untouched_memory_is_named() -> None:
    call = call_of(Case(n=1, c_in=3, h=4, w=7, c_out=5, values="lattice", seed=1))
    out = call.admissible().truth.float()
    out[0, 0, 3] = -57344.0
    found = judge(call.case, out, call.admissible(), poison=-57344.0)
    assert found.kind == "unwritten", found
    assert "never written" in found.message


def test_a_pass_says_how_much_of_the_bound_it_used() -> None:
    call = call_of(Case(c_in=8, w=8, c_out=3, values="gaussian", seed=2))
    allowed = call.admissible()
    used = verdict(call, pytorch(call), allowed).error_ratio
    assert 0 < used <= 1, f"{used} of the allowed error"
    exact = call_of(Case(c_in=8, w=8, c_out=3, values="lattice"))
    assert verdict(exact, pytorch(exact), exact.admissible()).error_ratio == 0


# What is allowed.


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic_names_what_each_dtype_allows(dtype: Dtype) -> None:
    ieee, tf32 = (arithmetic(Case(dtype=dtype), precision) for precision in ("ieee", "tf32"))
    assert ieee.operand == 0, "only tf32 rounds operands"
    assert (tf32.operand > 0) == (dtype == "float32"), "tf32 is a matter of float32 alone"
    assert ieee.addition == (2.0**-52 if dtype == "float64" else 2.0**-23)
