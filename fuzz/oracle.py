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

from dataclasses import dataclass
from functools import reduce
from typing import Final

import torch

from fuzz.arithmetic import Arithmetic, PrecisionClass, arithmetic
from fuzz.case import Case
from fuzz.exactness import is_exact
from fuzz.reference import Convolution, convolve, reference
from fuzz.scaling import Range, scaled_sums, scales_of, scaling_error, vanishing
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
        minus_allowed: bool, minus infinity is admissible, besides.
        plus_allowed: bool, infinity is admissible, besides.
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
    minus_allowed: torch.Tensor
    plus_allowed: torch.Tensor
    nan_required: torch.Tensor
    nan_allowed: torch.Tensor
    exact: bool


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
    scales = scales_of(case, in_order=in_order)
    scale = scales[0]
    convolution = reference(case, x, weight, bias, tiny=vanishing(scale, dtype, in_order=in_order))
    exact = len(scales) == 1 and is_exact(case, convolution, rules, scale, in_order=in_order)
    slack = torch.zeros(()) if exact else _accumulation_error(case, convolution, rules)
    sums = Range.of(*_around(convolution.value, slack))
    if not in_order and not exact and dtype != rules.accumulator:
        sums = _hull_of_rounding(sums, convolution, slack, dtype)
    scaled = scaled_sums(scales, sums, convolution, rules, slack, dtype, in_order=in_order)
    low, high = scaled.low, scaled.high
    if not exact:
        lost = scaling_error(case, convolution, rules, scale, in_order=in_order)
        low = _widen(low, -2 * rules.addition, -lost)
        high = _widen(high, 2 * rules.addition, lost)
    low, high = torch.where(scaled.nan, torch.inf, low), torch.where(scaled.nan, torch.inf, high)
    # The sum over finite terms, unless infinities make something else of the channel.
    truth, winner = (convolution.value * scale).clamp(low, high).min(dim=1, keepdim=True)
    minus, plus = scaled.maybe_minus, scaled.maybe_plus
    always_plus = plus.all(dim=1, keepdim=True)
    highest = torch.where(plus, torch.inf, high).amin(dim=1, keepdim=True)
    # Where every channel may be infinite, one that is not is the minimum.
    high = torch.where(always_plus, high.amax(dim=1, keepdim=True), highest)
    low = low.amin(dim=1, keepdim=True)
    return Admissible(
        truth=truth,
        winner=winner,
        below=truth - low,
        above=high - truth,
        low=_rounded(low, dtype),
        high=_rounded(high, dtype),
        minus_allowed=minus.any(dim=1, keepdim=True),
        plus_allowed=always_plus,
        nan_required=scaled.nan.any(dim=1, keepdim=True),
        nan_allowed=(scaled.nan | scaled.maybe_nan).any(dim=1, keepdim=True),
        exact=exact,
    )


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


def _hull_of_rounding(sums: Range, convolution: Convolution, slack: torch.Tensor, dtype: torch.dtype) -> Range:
    """Allow the sums to be rounded to the dtype before they are scaled, and before the bias is added, or not."""
    bias = convolution.operands[2].view(1, -1, 1, 1)
    products = _around(convolution.value - bias, slack)
    # cuDNN's convolution returns its result in the dtype, and PyTorch adds the bias to that.
    lows, highs = (
        (end, _rounded(end, dtype), _rounded(_rounded(product, dtype) + bias, dtype))
        for end, product in zip((sums.low, sums.high), products, strict=True)
    )
    return Range(
        low=reduce(torch.minimum, (torch.where(low.isinf(), sums.low, low) for low in lows)),
        high=reduce(torch.maximum, (torch.where(high.isinf(), sums.high, high) for high in highs)),
        maybe_minus=reduce(torch.logical_or, (low == -torch.inf for low in lows)),
        maybe_plus=reduce(torch.logical_or, (high == torch.inf for high in highs)),
        maybe_nan=sums.maybe_nan,
        nan=sums.nan,
    )


def _rounded(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype).double()
