"""Truth and error model → admissible interval per element → `Verdict`.

**Exact lane.** Where every operand is a small integer times a power of two (at most 8 significand bits, so exact in
bf16, fp16 and tf32), every partial sum stays below 2^24 units, scale is zero or a power of two and nothing comes
near overflow or underflow, every sound implementation gives the same bits whatever its order or precision: rounding is
monotone, so it commutes with min, and scaling by a power of two commutes with rounding. `_is_exact` proves this from
the operands of each case; then only `round(truth)` is admissible.

**Interval lane.** Otherwise, with z_c the truth of channel c, A_c = Σ|x|·|w| + |b|, K products and n = K + 2 roundings,
the accumulated value is within

    A_c · [(1 + γ)(2·u_op + u_op²) + γ] + η,    γ = n·u_acc / (1 - n·u_acc)

of the truth (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1, for any order of summation). u_op is
the relative rounding of an operand and u_acc that of an addition: 2^-23 and not 2^-24 in float32, because tensor cores
truncate when they align (Fasi, Higham, Mikaitis, Pranesh, PeerJ Computer Science 2021). η covers underflow. Scaling
adds one more relative rounding. Both ends are rounded outwards to the output's dtype, and the interval of a minimum
is the minimum of the intervals, since min is monotone in each argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch

from fuzz.case import Case
from fuzz.reference import Convolution, NonFinite, convolve, reference
from fuzz.tensors import TORCH_DTYPE

PrecisionClass = Literal["ieee", "tf32"]

# Makes up for the roundings of the bound's own float64 arithmetic: about ten operations of 2^-53 each.
_INFLATION: Final = 1.0 + 2.0**-40
_EXACT_BITS: Final = 8
_EXACT_SUM_BITS: Final = 24
# Zeros are multiples of any power of two, also of one above every exponent.
_EVERY_UNIT: Final = 2048
# Keeps weight·scale, which an implementation may form first, as exact as the products themselves.
_EXACT_SCALE_BITS: Final = 30


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic that an implementation is allowed.

    Attributes:
        operand: u_op, relative rounding of an operand of a product.
        addition: u_acc, relative rounding of an addition, a product or the scaling.
        accumulator: Type of the sums.
        flush: Magnitudes below this may be taken for zero.
    """

    operand: float
    addition: float
    accumulator: torch.dtype
    flush: float

    @property
    def smallest(self) -> float:
        """Smallest subnormal number of the accumulator."""
        return 2.0**-1074 if self.accumulator == torch.float64 else 2.0**-149

    @property
    def largest(self) -> float:
        """Largest finite number of the accumulator."""
        return torch.finfo(self.accumulator).max


_TINY32: Final = 2.0**-126
_FLOAT64: Final = Arithmetic(operand=0.0, addition=2.0**-52, accumulator=torch.float64, flush=0.0)
_IEEE32: Final = Arithmetic(operand=0.0, addition=2.0**-23, accumulator=torch.float32, flush=0.0)
# Hardware truncates to tf32, 2^-10; and neither tf32 nor bf16 units are bound to keep float32's subnormals: the bf16
# dot-product instructions of CPUs, which PyTorch uses, flush them.
_TF32: Final = Arithmetic(operand=2.0**-10, addition=2.0**-23, accumulator=torch.float32, flush=_TINY32)
_BFLOAT16: Final = Arithmetic(operand=0.0, addition=2.0**-23, accumulator=torch.float32, flush=_TINY32)


def arithmetic(case: Case, precision: PrecisionClass) -> Arithmetic:
    """Return what the case's dtype and precision class allow."""
    if case.dtype == "float64":
        return _FLOAT64
    if case.dtype == "bfloat16":
        return _BFLOAT16
    return _TF32 if case.dtype == "float32" and precision == "tf32" else _IEEE32


@dataclass(frozen=True)
class Admissible:
    """What the output may be, element by element, all `[n, 1, oh, ow]` on the CPU.

    Attributes:
        truth: float64, the minimum of the exact values.
        winner: int64, the channel that the minimum is in.
        below: float64, how far under the truth a result may be before it is rounded to the dtype.
        above: float64, likewise over it.
        low: float64, smallest admissible number.
        high: float64, largest admissible number.
        nan_required: bool, only NaN is admissible.
        nan_allowed: bool, NaN is admissible.
        exact: Whether the exact lane judges.
    """

    truth: torch.Tensor
    winner: torch.Tensor
    below: torch.Tensor
    above: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    nan_required: torch.Tensor
    nan_allowed: torch.Tensor
    exact: bool


@dataclass(frozen=True)
class _Range:
    """Per channel: the numbers in [low, high], and whether NaN is possible or certain."""

    low: torch.Tensor
    high: torch.Tensor
    maybe_nan: torch.Tensor
    nan: torch.Tensor


def admissible(
    case: Case,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    precision: PrecisionClass,
    rounds_once: bool,
) -> Admissible:
    """Return what the output of a case may be.

    Args:
        case: The case; its scale is rounded to float32 unless the dtype is float64, as PyTorch does.
        x: `[n, c_in, h, w]` on the CPU, like `weight` and `bias`.
        weight: `[c_out, c_in/groups, kh, kw]`.
        bias: `[c_out]` or None.
        precision: How products of float32 operands may be rounded.
        rounds_once: Whether the target keeps half-precision results in float32 until the end. If not, the convolution
            may be rounded to the dtype before it is scaled, as in PyTorch.

    Raises:
        RejectedError: PyTorch does not accept this call.
    """
    rules = arithmetic(case, precision)
    dtype = TORCH_DTYPE[case.dtype]
    scale = case.scale if case.dtype == "float64" else torch.tensor(case.scale, dtype=torch.float32).item()
    convolution = reference(case, x, weight, bias)
    exact = _is_exact(case, convolution, rules, scale)
    slack = torch.zeros(()) if exact else _accumulation_error(case, convolution, rules)
    sums = _Range(*_around(convolution.value, slack), *_no_nan(convolution.value))
    # An implementation may scale the weight first: then the products overflow where only the scaled sum would.
    reach = max(1.0, abs(scale)) if math.isfinite(scale) else 1.0
    sums = _special(sums, convolution, rules.largest / reach, slack)
    if not rounds_once and not exact:
        sums = _hull_of_rounding(sums, dtype)
    scaled = _scale(sums, scale)
    low, high = scaled.low, scaled.high
    if not exact:
        # The scale may be multiplied into the weight first: then the weight and each scaled product may underflow.
        length = case.reduction_length
        fold = rules.smallest * length * _largest(convolution.operands[0])
        fold += max(rules.smallest, rules.flush) * (length + 4)
        low = _widen(low, -2 * rules.addition, -fold)
        high = _widen(high, 2 * rules.addition, fold)
    low, high = torch.where(scaled.nan, torch.inf, low), torch.where(scaled.nan, torch.inf, high)
    # The sum over finite terms, unless infinities make something else of the channel.
    truth, winner = (convolution.value * scale).clamp(low, high).min(dim=1, keepdim=True)
    low, high = low.amin(dim=1, keepdim=True), high.amin(dim=1, keepdim=True)
    return Admissible(
        truth=truth,
        winner=winner,
        below=truth - low,
        above=high - truth,
        low=low.to(dtype).double() if exact else round_down(low, dtype),
        high=high.to(dtype).double() if exact else round_up(high, dtype),
        nan_required=scaled.nan.any(dim=1, keepdim=True),
        nan_allowed=(scaled.nan | scaled.maybe_nan).any(dim=1, keepdim=True),
        exact=exact,
    )


def round_down(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the largest number of `dtype` that is at most `value`, or one below it, as float64."""
    rounded = value.to(dtype)
    lower = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return torch.where(rounded.double() > value, lower, rounded).double()


def round_up(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the smallest number of `dtype` that is at least `value`, or one above it, as float64."""
    return -round_down(-value, dtype)


def _widen(end: torch.Tensor, relative: float, absolute: float) -> torch.Tensor:
    """Move one end of a range by a relative and an absolute amount; an infinite end stays."""
    return torch.where(end.isinf(), end, end + (relative * end.abs() + absolute) * _INFLATION)


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _accumulation_error(case: Case, convolution: Convolution, rules: Arithmetic) -> torch.Tensor:
    """Bound of |accumulated - truth| before scaling, `[n, c_out, oh, ow]`; the module's docstring has the formula."""
    n = case.reduction_length + 2
    gamma = n * rules.addition / (1 - n * rules.addition)
    relative = (1 + gamma) * (2 * rules.operand + rules.operand**2) + gamma
    own = n * 2.0**-53 / (1 - n * 2.0**-53)  # the truth is itself a sum of n terms in float64
    bound = convolution.magnitude * ((relative + own) * (1 + own)) + n * max(rules.smallest, rules.flush)
    return (bound + _flushed(case, convolution, rules)) * _INFLATION


def _flushed(case: Case, convolution: Convolution, rules: Arithmetic) -> torch.Tensor:
    """What the sum loses where operands that are subnormal in float32 are taken for zero."""
    lost = torch.zeros((), dtype=torch.float64)
    if rules.flush == 0:
        return lost
    x_size, weight_size = (operand.abs() for operand in convolution.operands[:2])
    x_tiny, weight_tiny = (torch.where(size < rules.flush, size, 0.0) for size in (x_size, weight_size))
    if bool(x_tiny.any()):
        lost = lost + convolve(case, x_tiny, weight_size, None)
    if bool(weight_tiny.any()):
        lost = lost + convolve(case, x_size, weight_tiny, None)
    return lost


def _is_exact(case: Case, convolution: Convolution, rules: Arithmetic, scale: float) -> bool:
    """Prove that every sound implementation gives the same bits for this case."""
    # A scale that is not finite gives infinities and NaN, which are exact if the sums are.
    scale = scale if math.isfinite(scale) else 1.0
    mantissa, exponent = math.frexp(scale)
    if scale != 0 and (abs(mantissa) != 0.5 or abs(exponent - 1) > _EXACT_SCALE_BITS):
        return False
    known: list[int] = []
    for operand in convolution.operands:
        unit = _unit(operand)
        if unit is None:
            return False
        known.append(unit)
    unit = min([known[0] + known[1], *known[2:]])
    top = float(convolution.magnitude.max()) if convolution.magnitude.numel() else 0.0
    dtype = TORCH_DTYPE[case.dtype]
    reach, largest = max(1.0, abs(scale)), min(torch.finfo(dtype).max, rules.largest)
    smallest = max(rules.flush, _smallest_subnormal(dtype))
    x_top, weight_top = map(_largest, convolution.operands[:2])
    return (
        (top == 0 or math.frexp(top)[1] <= unit + _EXACT_SUM_BITS)
        and max(top, weight_top, x_top) * reach <= largest
        and math.ldexp(1.0, min(unit, *known, 0)) * min(1.0, abs(scale) or 1.0) >= smallest
    )


def _unit(tensor: torch.Tensor) -> int | None:
    """Exponent of the largest power of two that divides every element; None if one has over 8 bits."""
    values = tensor[tensor != 0]
    if values.numel() == 0:
        return _EVERY_UNIT
    mantissa, exponent = torch.frexp(values)
    significand = (mantissa.abs() * 2.0**53).to(torch.int64)
    lowest = significand & -significand
    if bool((significand // lowest >= 2**_EXACT_BITS).any()):
        return None
    trailing = torch.log2(lowest.double()).round().to(torch.int64)
    return int((exponent.to(torch.int64) - 53 + trailing).min())


def _smallest_subnormal(dtype: torch.dtype) -> float:
    limits = torch.finfo(dtype)
    return limits.tiny * limits.eps


def _around(value: torch.Tensor, slack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return value - slack, value + slack


def _no_nan(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    never = torch.zeros_like(like, dtype=torch.bool)
    return never, never


def _special(sums: _Range, convolution: Convolution, largest: float, slack: torch.Tensor) -> _Range:
    """Add infinities and NaN: those of the operands, and those that partial sums beyond `largest` may bring."""
    positive = (convolution.magnitude + convolution.value) / 2 + slack >= largest
    negative = (convolution.magnitude - convolution.value) / 2 + slack >= largest
    low = torch.where(negative, -torch.inf, sums.low)
    high = torch.where(positive, torch.inf, sums.high)
    maybe_nan = sums.maybe_nan | (positive & negative)
    # Only float64 operands can overflow the truth itself; then nothing is known about the sum.
    unknown = ~convolution.value.isfinite()
    low, high = torch.where(unknown, -torch.inf, low), torch.where(unknown, torch.inf, high)
    maybe_nan = maybe_nan | unknown
    found: NonFinite | None = convolution.non_finite
    if found is None:
        return _Range(low, high, maybe_nan, sums.nan)
    maybe_nan = maybe_nan | found.maybe_nan | (found.positive & negative) | (found.negative & positive)
    low = torch.where(found.positive, torch.inf, torch.where(found.negative, -torch.inf, low))
    high = torch.where(found.negative, -torch.inf, torch.where(found.positive, torch.inf, high))
    return _Range(low, high, maybe_nan, found.nan)


def _hull_of_rounding(sums: _Range, dtype: torch.dtype) -> _Range:
    """Allow the sums to be rounded to the dtype, or not."""
    low, high = sums.low.to(dtype).double(), sums.high.to(dtype).double()
    return _Range(torch.minimum(sums.low, low), torch.maximum(sums.high, high), sums.maybe_nan, sums.nan)


def _scale(sums: _Range, scale: float) -> _Range:
    """Multiply by the scale as IEEE 754 does: 0·inf is NaN, and so is anything times NaN."""
    if math.isnan(scale):
        return _Range(sums.low, sums.high, sums.maybe_nan, torch.ones_like(sums.nan))
    ends = torch.stack([sums.low * scale, sums.high * scale])
    undefined = ends.isnan()
    nan = sums.nan | (undefined.all(dim=0) & (sums.low == sums.high))
    maybe_nan = sums.maybe_nan | undefined.any(dim=0)
    low, high = torch.where(undefined, 0.0, ends).aminmax(dim=0)
    if math.isinf(scale):
        spans_zero = (sums.low <= 0) & (sums.high >= 0)
        maybe_nan = maybe_nan | spans_zero
        low = torch.where(spans_zero, -torch.inf, low)
        high = torch.where(spans_zero, torch.inf, high)
    return _Range(low, high, maybe_nan, nan)
