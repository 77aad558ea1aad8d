"""Truth and error model → admissible interval per element → `Verdict`.

**Exact lane.** Where `fuzz.exactness` proves that every sound implementation gives the same bits, only `round(truth)`
is admissible.

**Interval lane.** Otherwise, with z_c the truth of channel c, A_c = Σ|x|·|w| + |b|, K products and n = K + 2 roundings,
the accumulated value is within

    A_c · [(1 + γ)(2·u_op + u_op²) + γ] + η,    γ = n·u_acc / (1 - n·u_acc)

of the truth (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1, for any order of summation). u_op is
the relative rounding of an operand and u_acc that of an addition: 2^-23 and not 2^-24 in float32, because tensor cores
truncate when they align (Fasi, Higham, Mikaitis, Pranesh, PeerJ Computer Science 2021). η covers underflow. Scaling
adds one more relative rounding. What is computed is rounded to the output's dtype, to nearest, and so are both ends:
rounding is monotone. The interval of a minimum is the minimum of the intervals, since min is monotone, too.

**Other orders.** An implementation that does not promise the operation's own order may multiply the scale into x or
the weight, and the bias, first, and may round the convolution to the dtype before it adds the bias and before it
scales. Nor does it promise PyTorch's type of the scale: a kernel that computes in float64 throughout multiplies by a
scale that would be infinite, or 0, in float32. The interval is the hull of all of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

from fuzz.arithmetic import Arithmetic, PrecisionClass, arithmetic
from fuzz.case import Case
from fuzz.exactness import is_exact, largest
from fuzz.reference import Convolution, NonFinite, convolve, reference
from fuzz.tensors import TORCH_DTYPE

# Makes up for the roundings of the bound's own float64 arithmetic: about ten operations of 2^-53 each.
_INFLATION: Final = 1.0 + 2.0**-40


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
    in_order: bool,
) -> Admissible:
    """Return what the output of a case may be.

    Args:
        case: The case; its scale is rounded to float32 unless the dtype is float64, as PyTorch does, or may be where
            the target does not promise its order.
        x: `[n, c_in, h, w]` on the CPU, like `weight` and `bias`.
        weight: `[c_out, c_in/groups, kh, kw]`.
        bias: `[c_out]` or None.
        precision: How products of float32 operands may be rounded.
        in_order: Whether the target promises the operation's own order: sums, in the accumulator's type, then the
            scale, then one rounding.

    Raises:
        RejectedError: PyTorch does not accept this call.
    """
    rules = arithmetic(case, precision)
    dtype = TORCH_DTYPE[case.dtype]
    scale, *other_scales = _scales(case, in_order=in_order)
    convolution = reference(case, x, weight, bias, tiny=_vanishing(scale, in_order=in_order))
    exact = not other_scales and is_exact(case, convolution, rules, scale, in_order=in_order)
    slack = torch.zeros(()) if exact else _accumulation_error(case, convolution, rules)
    sums = _Range(*_around(convolution.value, slack), *_no_nan(convolution.value))
    if not in_order and not exact and dtype != rules.accumulator:
        sums = _hull_of_rounding(sums, convolution, slack, dtype)
    scaled = _scaled(sums, convolution, rules, slack, scale, in_order=in_order)
    for other in other_scales:
        scaled = _either(scaled, _scaled(sums, convolution, rules, slack, other, in_order=in_order))
    low, high = scaled.low, scaled.high
    if not exact:
        lost = _scaling_error(case, convolution, rules, in_order=in_order)
        low = _widen(low, -2 * rules.addition, -lost)
        high = _widen(high, 2 * rules.addition, lost)
    low, high = torch.where(scaled.nan, torch.inf, low), torch.where(scaled.nan, torch.inf, high)
    # The sum over finite terms, unless infinities make something else of the channel.
    truth, winner = (convolution.value * scale).clamp(low, high).min(dim=1, keepdim=True)
    low, high = low.amin(dim=1, keepdim=True), high.amin(dim=1, keepdim=True)
    return Admissible(
        truth=truth,
        winner=winner,
        below=truth - low,
        above=high - truth,
        low=_rounded(low, dtype),
        high=_rounded(high, dtype),
        nan_required=scaled.nan.any(dim=1, keepdim=True),
        nan_allowed=(scaled.nan | scaled.maybe_nan).any(dim=1, keepdim=True),
        exact=exact,
    )


def _scales(case: Case, *, in_order: bool) -> list[float]:
    """Return what a target may multiply by: the scale as PyTorch rounds it, and as it is given where that differs.

    That it is rounded at all is within what scaling may cost, unless it comes near the ends of float32's range.
    """
    if case.dtype == "float64":
        return [case.scale]
    rounded = torch.tensor(case.scale, dtype=torch.float32).item()
    differs = abs(rounded - case.scale) > 2.0**-24 * abs(case.scale)  # False for NaN and for an infinite scale
    return [rounded, case.scale] if differs and not in_order else [rounded]


def _widen(end: torch.Tensor, relative: float, absolute: float) -> torch.Tensor:
    """Move one end of a range by a relative and an absolute amount; an infinite end stays."""
    return torch.where(end.isinf(), end, end + (relative * end.abs() + absolute) * _INFLATION)


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


def _around(value: torch.Tensor, slack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return value - slack, value + slack


def _no_nan(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    never = torch.zeros_like(like, dtype=torch.bool)
    return never, never


def _special(sums: _Range, convolution: Convolution, limit: float, slack: torch.Tensor) -> _Range:
    """Add infinities and NaN: those of the operands, and those that partial sums beyond `limit` may bring."""
    found: NonFinite | None = convolution.non_finite
    if found is None and largest(convolution.magnitude) + largest(slack) < limit:
        return sums  # as in nearly every trial
    positive = (convolution.magnitude + convolution.value) / 2 + slack >= limit
    negative = (convolution.magnitude - convolution.value) / 2 + slack >= limit
    low = torch.where(negative, -torch.inf, sums.low)
    high = torch.where(positive, torch.inf, sums.high)
    maybe_nan = sums.maybe_nan | (positive & negative)
    # Only float64 operands can overflow the truth itself; then nothing is known about the sum.
    unknown = ~convolution.value.isfinite()
    low, high = torch.where(unknown, -torch.inf, low), torch.where(unknown, torch.inf, high)
    maybe_nan = maybe_nan | unknown
    if found is None:
        return _Range(low, high, maybe_nan, sums.nan)
    maybe_nan = maybe_nan | found.maybe_nan | (found.positive & negative) | (found.negative & positive)
    low = torch.where(found.positive, torch.inf, torch.where(found.negative, -torch.inf, low))
    high = torch.where(found.negative, -torch.inf, torch.where(found.positive, torch.inf, high))
    return _Range(low, high, maybe_nan, found.nan)


def _hull_of_rounding(sums: _Range, convolution: Convolution, slack: torch.Tensor, dtype: torch.dtype) -> _Range:
    """Allow the sums to be rounded to the dtype before they are scaled, and before the bias is added, or not."""
    bias = convolution.operands[2].view(1, -1, 1, 1)
    products = _around(convolution.value - bias, slack)
    low, high = (_rounded(end, dtype) for end in (sums.low, sums.high))
    # cuDNN's convolution returns its result in the dtype, and PyTorch adds the bias to that.
    later_low, later_high = (_rounded(_rounded(end, dtype) + bias, dtype) for end in products)
    low = torch.minimum(torch.minimum(sums.low, low), later_low)
    high = torch.maximum(torch.maximum(sums.high, high), later_high)
    found, maybe_nan = convolution.non_finite, sums.maybe_nan
    if found is not None:
        maybe_nan = maybe_nan | (high.isinf() & found.negative) | (low.isinf() & found.positive)
    return _Range(low, high, maybe_nan, sums.nan)


def _rounded(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype).double()


def _vanishing(scale: float, *, in_order: bool) -> float:
    """Return below what a factor may become 0: where operands are flushed, or where the scale makes it so small."""
    tiny = torch.finfo(torch.float32).tiny
    return tiny / abs(scale) if not in_order and 0 < abs(scale) < 1 else tiny


def _scaled(
    sums: _Range, convolution: Convolution, rules: Arithmetic, slack: torch.Tensor, scale: float, *, in_order: bool
) -> _Range:
    """Return what becomes of the sums, with the infinities and NaN that there may be, times the scale."""
    # Products overflow where only the scaled sum would if the scale comes first.
    reach = 1.0 if in_order or not math.isfinite(scale) else max(1.0, abs(scale))
    scaled = _scale(_special(sums, convolution, rules.largest / reach, slack), scale)
    return scaled if in_order else _scaled_first(scaled, convolution, rules, scale)


def _either(one: _Range, other: _Range) -> _Range:
    """Return the hull of two ranges; where a channel is NaN it has no numbers."""
    return _Range(
        torch.where(one.nan, other.low, torch.where(other.nan, one.low, torch.minimum(one.low, other.low))),
        torch.where(one.nan, other.high, torch.where(other.nan, one.high, torch.maximum(one.high, other.high))),
        one.maybe_nan | other.maybe_nan | (one.nan ^ other.nan),
        one.nan & other.nan,
    )


def _scaled_first(scaled: _Range, convolution: Convolution, rules: Arithmetic, scale: float) -> _Range:
    """Allow what becomes of infinities where the scale is multiplied into a factor, and into the bias, first."""
    if math.isinf(scale):
        # 0·inf is NaN, and so is the sum of infinities of both signs.
        return _Range(scaled.low, scaled.high, torch.ones_like(scaled.maybe_nan), scaled.nan)
    x, weight, _ = convolution.operands
    tops = weight.abs().flatten(1).amax(dim=1).view(1, -1, 1, 1).clamp(min=largest(x))
    lost = (tops * abs(scale) >= rules.largest).expand_as(scaled.low)
    return _Range(
        torch.where(lost, -torch.inf, scaled.low),
        torch.where(lost, torch.inf, scaled.high),
        scaled.maybe_nan | lost,
        scaled.nan,
    )


def _scaling_error(case: Case, convolution: Convolution, rules: Arithmetic, *, in_order: bool) -> float:
    """What underflow may cost where the scale is applied: to the sum, or else to a factor and each product."""
    smallest = max(rules.smallest, rules.flush)
    if in_order:
        return smallest
    length = case.reduction_length
    return rules.smallest * length * max(map(largest, convolution.operands[:2])) + smallest * (length + 4)


def _scale(sums: _Range, scale: float) -> _Range:
    """Multiply by the scale as IEEE 754 does: 0·inf is NaN, and so is anything times NaN."""
    if math.isnan(scale):
        return _Range(sums.low, sums.high, sums.maybe_nan, torch.ones_like(sums.nan))
    if 0 < abs(scale) < math.inf:
        low, high = (sums.low, sums.high) if scale > 0 else (sums.high, sums.low)
        return _Range(low * scale, high * scale, sums.maybe_nan, sums.nan)
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
