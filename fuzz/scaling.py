"""What scaling makes of sums: which scale a target multiplies by, when, and what infinities, NaN and underflow become.

A target that does not promise the operation's own order may multiply the scale into x or the weight, and into the bias,
first. A power of two changes nothing there but the range: a factor may overflow, or become subnormal, or 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce

import torch

from fuzz.arithmetic import Arithmetic
from fuzz.case import Case
from fuzz.exactness import largest, least
from fuzz.reference import Convolution, NonFinite
from fuzz.tensors import TORCH_DTYPE


@dataclass(frozen=True)
class Range:
    """Per channel: the numbers in [low, high], infinities besides, and whether NaN is possible or certain.

    What overflows on the way is infinite, and never some number in between.
    """

    low: torch.Tensor
    high: torch.Tensor
    maybe_minus: torch.Tensor
    maybe_plus: torch.Tensor
    maybe_nan: torch.Tensor
    nan: torch.Tensor

    @staticmethod
    def of(low: torch.Tensor, high: torch.Tensor) -> Range:
        """Return the numbers in [low, high] alone."""
        never = torch.zeros_like(low, dtype=torch.bool)
        return Range(low, high, never, never, never, never)


def scales_of(case: Case, *, in_order: bool) -> list[float]:
    """Return what a target may multiply by: the scale as PyTorch rounds it, and as it is given where that differs.

    That it is rounded at all is within what scaling may cost, unless it comes near the ends of float32's range.
    """
    if case.dtype == "float64":
        return [case.scale]
    rounded = torch.tensor(case.scale, dtype=torch.float32).item()
    differs = abs(rounded - case.scale) > 2.0**-24 * abs(case.scale)  # False for NaN and for an infinite scale
    return [rounded, case.scale] if differs and not in_order else [rounded]


def vanishing(scale: float, dtype: torch.dtype, *, in_order: bool) -> float:
    """Return below what a factor may become 0: where operands are flushed, or where the scale makes it so small."""
    flushed = torch.finfo(torch.float32).tiny
    scaled = torch.finfo(dtype).tiny / abs(scale) if not in_order and 0 < abs(scale) < 1 else 0.0
    return max(flushed, scaled)


def _special(sums: Range, convolution: Convolution, limit: float, slack: torch.Tensor) -> Range:
    """Add infinities and NaN: those of the operands, and those that partial sums beyond `limit` may bring."""
    found: NonFinite | None = convolution.non_finite
    if found is None and largest(convolution.magnitude) + largest(slack) < limit:
        return sums  # as in nearly every trial
    positive = (convolution.magnitude + convolution.value) / 2 + slack >= limit
    negative = (convolution.magnitude - convolution.value) / 2 + slack >= limit
    low, high = sums.low, sums.high
    maybe_nan = sums.maybe_nan | (positive & negative)
    # Only float64 operands can overflow the truth itself; then nothing is known about the sum.
    unknown = ~convolution.value.isfinite()
    low, high = torch.where(unknown, -torch.inf, low), torch.where(unknown, torch.inf, high)
    maybe_nan = maybe_nan | unknown
    minus, plus = sums.maybe_minus | negative, sums.maybe_plus | positive
    if found is None:
        return Range(low, high, minus, plus, maybe_nan, sums.nan)
    maybe_nan = maybe_nan | found.maybe_nan | (found.positive & minus) | (found.negative & plus)
    overflows = ~(found.positive | found.negative)
    low = torch.where(found.positive, torch.inf, torch.where(found.negative, -torch.inf, low))
    high = torch.where(found.negative, -torch.inf, torch.where(found.positive, torch.inf, high))
    return Range(low, high, minus & overflows, plus & overflows, maybe_nan, found.nan)


def scaled_sums(
    scales: list[float],
    sums: Range,
    convolution: Convolution,
    rules: Arithmetic,
    slack: torch.Tensor,
    dtype: torch.dtype,
    *,
    in_order: bool,
) -> Range:
    """Return what becomes of the sums, with the infinities and NaN that there may be, times the scale.

    Args:
        scales: What a target may multiply by, as `scales_of` says.
        sums: What the sums over finite operands may be, `[n, c_out, oh, ow]`.
        convolution: Their truth.
        rules: What the case's arithmetic may round.
        slack: How far a sum may be from the truth.
        dtype: Of the operands and the output.
        in_order: Whether the target promises to scale the sum.
    """
    if in_order:
        return _scale(_special(sums, convolution, rules.largest, slack), scales[0])
    largest_factor = min(rules.largest, torch.finfo(dtype).max)

    def times(factor: float) -> Range:
        # Products overflow where only the scaled sum would if the scale comes first.
        limit = largest_factor / abs(factor) if 1 < abs(factor) < math.inf else rules.largest
        scaled = _scale(_special(sums, convolution, limit, slack), factor)
        return _scaled_first(scaled, convolution, largest_factor, factor)

    return reduce(_either, map(times, scales))


def _either(one: Range, other: Range) -> Range:
    """Return the hull of two ranges; where a channel is NaN it has no numbers."""
    return Range(
        torch.where(one.nan, other.low, torch.where(other.nan, one.low, torch.minimum(one.low, other.low))),
        torch.where(one.nan, other.high, torch.where(other.nan, one.high, torch.maximum(one.high, other.high))),
        one.maybe_minus | other.maybe_minus,
        one.maybe_plus | other.maybe_plus,
        one.maybe_nan | other.maybe_nan | (one.nan ^ other.nan),
        one.nan & other.nan,
    )


def _scaled_first(scaled: Range, convolution: Convolution, largest_factor: float, scale: float) -> Range:
    """Allow what becomes of infinities where the scale is multiplied into a factor, and into the bias, first."""
    if math.isinf(scale):
        # 0·inf is NaN, and so is the sum of infinities of both signs.
        return replace(scaled, maybe_nan=torch.ones_like(scaled.maybe_nan))
    if not abs(scale) > 1:
        return scaled  # nothing grows
    x, weight, _ = convolution.operands
    tops = weight.abs().flatten(1).amax(dim=1).view(1, -1, 1, 1).clamp(min=largest(x))
    lost = (tops * abs(scale) >= largest_factor).expand_as(scaled.low)
    return replace(
        scaled,
        maybe_minus=scaled.maybe_minus | lost,
        maybe_plus=scaled.maybe_plus | lost,
        maybe_nan=scaled.maybe_nan | lost,
    )


def scaling_error(case: Case, convolution: Convolution, rules: Arithmetic, scale: float, *, in_order: bool) -> float:
    """What underflow may cost where the scale is applied: to the sum, or else to a factor and each product."""
    smallest, factor = max(rules.smallest, rules.flush), rules.smallest
    if in_order:
        return smallest
    limits = torch.finfo(TORCH_DTYPE[case.dtype])
    if 0 < abs(scale) < 1 and min(map(least, convolution.operands)) * abs(scale) < limits.tiny:
        # Scaled in the dtype, some factor is subnormal there.
        factor = max(factor, limits.tiny * limits.eps)
        smallest = max(smallest, factor)
    length = case.reduction_length
    return factor * length * max(map(largest, convolution.operands[:2])) + smallest * (length + 4)


def _scale(sums: Range, scale: float) -> Range:
    """Multiply by the scale as IEEE 754 does: 0·inf is NaN, and so is anything times NaN."""
    if math.isnan(scale):
        return replace(sums, nan=torch.ones_like(sums.nan))
    if scale < 0:
        return _scale(_negated(sums), -scale)
    if 0 < scale < math.inf:
        return replace(sums, low=sums.low * scale, high=sums.high * scale)
    ends = torch.stack([sums.low * scale, sums.high * scale])
    undefined = ends.isnan()
    nan = sums.nan | (undefined.all(dim=0) & (sums.low == sums.high))
    maybe_nan = sums.maybe_nan | undefined.any(dim=0)
    if scale == 0:
        maybe_nan = maybe_nan | sums.maybe_minus | sums.maybe_plus
    low, high = torch.where(undefined, 0.0, ends).aminmax(dim=0)
    if math.isinf(scale):
        spans_zero = (sums.low <= 0) & (sums.high >= 0)
        maybe_nan = maybe_nan | spans_zero
        low = torch.where(spans_zero, -torch.inf, low)
        high = torch.where(spans_zero, torch.inf, high)
    minus, plus = (
        flag if math.isinf(scale) else torch.zeros_like(flag) for flag in (sums.maybe_minus, sums.maybe_plus)
    )
    return Range(low, high, minus, plus, maybe_nan, nan)


def _negated(sums: Range) -> Range:
    return replace(sums, low=-sums.high, high=-sums.low, maybe_minus=sums.maybe_plus, maybe_plus=sums.maybe_minus)
