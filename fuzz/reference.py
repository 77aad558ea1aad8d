"""The truth: the operation in float64, channel by channel, with NaN and infinities followed separately.

Everything here is ordinary PyTorch on the CPU and slow on purpose. Infinities never enter a sum: which taps of which
output meet a NaN, an infinity or a padded zero is counted by convolving indicator tensors, so that the finite part
stays a plain convolution whose error is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import conv2d, pad

from fuzz.case import Case


class RejectedError(Exception):
    """PyTorch raises for this call; `cause` is what it raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


@dataclass(frozen=True)
class NonFinite:
    """Which values `[n, c_out, oh, ow]` of the convolution are not finite; all bool.

    Attributes:
        nan: NaN on every path.
        maybe_nan: NaN on some path that PyTorch itself may take.
        positive: +inf, unless NaN.
        negative: -inf, unless NaN.
    """

    nan: torch.Tensor
    maybe_nan: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


@dataclass(frozen=True)
class Convolution:
    """The convolution with bias, before scaling, all `[n, c_out, oh, ow]` on the CPU.

    Attributes:
        value: float64, the sum of x·w and the bias over finite terms.
        magnitude: float64, the sum of |x|·|w| and |bias| over finite terms.
        non_finite: None where every operand is finite.
        operands: float64, x, weight and bias (zeros where there is none) with 0 in place of what is not finite.
    """

    value: torch.Tensor
    magnitude: torch.Tensor
    non_finite: NonFinite | None
    operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def convolve(case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Convolve with the case's stride, padding, dilation and groups.

    Raises:
        RejectedError: PyTorch does not accept these shapes.
    """
    if case.same:
        # Not padding="same", for which PyTorch pads as well, and warns of it.
        x = pad(x, _sides(case))
    try:
        return conv2d(x, weight, bias, case.stride, case.padding, case.dilation, case.groups)
    except RuntimeError as error:
        raise RejectedError(error) from error


def reference(
    case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, tiny: float
) -> Convolution:
    """Return the truth before scaling, from CPU tensors of the case's dtype.

    Args:
        case: The case.
        x: `[n, c_in, h, w]`.
        weight: `[c_out, c_in/groups, kh, kw]`.
        bias: `[c_out]` or None.
        tiny: A factor below this may become 0 on the way, which matters where the other one is infinite.

    Raises:
        RejectedError: PyTorch does not accept this call.
    """
    x, weight = x.contiguous().double(), weight.contiguous().double()
    bias = torch.zeros(case.c_out, dtype=torch.float64) if bias is None else bias.contiguous().double()
    finite, non_finite = (x, weight, bias), None
    if not all(np.isfinite(tensor.numpy()).all() for tensor in finite):
        finite = x.nan_to_num(0.0, 0.0, 0.0), weight.nan_to_num(0.0, 0.0, 0.0), bias.nan_to_num(0.0, 0.0, 0.0)
    value = convolve(case, *finite)
    magnitude = convolve(case, *(tensor.abs() for tensor in finite))
    if finite[0] is not x:
        non_finite = _non_finite(case, x, weight, bias, tiny, torch.zeros_like(value, dtype=torch.bool))
    return Convolution(value, magnitude, non_finite, finite)


def _non_finite(
    case: Case, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, tiny: float, nowhere: torch.Tensor
) -> NonFinite:
    def meets(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Where some tap inside the image has `a` in x and `b` in the weight."""
        # Mostly one kind of number is in one tensor, and a convolution costs more than to see that.
        if not (a.numpy().any() and b.numpy().any()):
            return nowhere
        return convolve(case, a.double(), b.double(), None) > 0

    any_x, any_w = torch.ones_like(x, dtype=torch.bool), torch.ones_like(w, dtype=torch.bool)
    nan = meets(x.isnan(), any_w) | meets(any_x, w.isnan()) | meets(x.isinf(), w == 0) | meets(x == 0, w.isinf())
    positive = meets(x == torch.inf, w > 0) | meets(x == -torch.inf, w < 0)
    positive |= meets(x > 0, w == torch.inf) | meets(x < 0, w == -torch.inf)
    negative = meets(x == torch.inf, w < 0) | meets(x == -torch.inf, w > 0)
    negative |= meets(x > 0, w == -torch.inf) | meets(x < 0, w == torch.inf)
    offset = bias.view(1, -1, 1, 1)
    nan, positive, negative = nan | offset.isnan(), positive | (offset == torch.inf), negative | (offset == -torch.inf)
    # 0·inf is NaN.
    maybe = meets((x != 0) & (x.abs() < tiny), w.isinf()) | meets(x.isinf(), (w != 0) & (w.abs() < tiny))
    if any(_sides(case)):
        maybe = maybe | _padding_meets(case, x, ~w.isfinite())
    return NonFinite(
        nan=nan | (positive & negative),
        maybe_nan=maybe,
        positive=positive,
        negative=negative,
    )


def _padding_meets(case: Case, x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Where a tap of the chosen weights falls on padding: PyTorch's own backends differ on what 0·inf gives there."""
    border = pad(torch.zeros_like(x), _sides(case), value=1.0)
    return conv2d(border, chosen.double(), None, case.stride, 0, case.dilation, case.groups) > 0


def _sides(case: Case) -> tuple[int, int, int, int]:
    """Return the padding as `torch.nn.functional.pad` takes it: left, right, above, below."""
    above, left, below, right = case.sides
    return left, right, above, below
