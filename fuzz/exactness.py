"""The proof that every sound implementation gives the same bits for a case.

It holds where every operand is a small integer times a power of two (at most 8 significand bits, so exact in bf16,
fp16 and tf32), every partial sum stays below 2^24 units, scale is zero or a power of two and nothing comes near
overflow or underflow. Products and sums are then exact whatever their order and precision, and so is scaling; one
rounding is left, which is monotone, so that it commutes with the minimum. The proof is made from the operands of each
case.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch

from fuzz.arithmetic import Arithmetic
from fuzz.case import Case
from fuzz.reference import Convolution
from fuzz.tensors import TORCH_DTYPE

_OPERAND_BITS: Final = 8
_SUM_BITS: Final = 24
# Zeros are multiples of any power of two, also of one above every exponent.
_EVERY_UNIT: Final = 2048
# Keeps weight·scale, which an implementation may form first, as exact as the products themselves.
_SCALE_BITS: Final = 30


def is_exact(case: Case, convolution: Convolution, rules: Arithmetic, scale: float, *, in_order: bool) -> bool:
    """Prove that every sound implementation gives the same bits for this case.

    Args:
        case: The case.
        convolution: Its truth, before scaling.
        rules: What its arithmetic may round.
        scale: The scale as PyTorch multiplies by it.
        in_order: Whether nothing is rounded to the dtype before the end. If not, the convolution may be, before its
            bias is added and again before it is scaled; with a bias this is exact only where the dtype holds every sum.
    """
    # A scale that is not finite gives infinities and NaN, which are exact if the sums are.
    scale = scale if math.isfinite(scale) else 1.0
    mantissa, exponent = math.frexp(scale)
    if scale != 0 and (abs(mantissa) != 0.5 or abs(exponent - 1) > _SCALE_BITS):
        return False
    units = [_unit(operand) for operand in convolution.operands]
    known = [unit for unit in units if unit is not None]
    if len(known) < len(units):
        return False
    unit = min([known[0] + known[1], *known[2:]])
    top = largest(convolution.magnitude)
    dtype = TORCH_DTYPE[case.dtype]
    reach, limit = max(1.0, abs(scale)), min(torch.finfo(dtype).max, rules.largest)
    smallest = max(rules.flush, _smallest_subnormal(dtype))
    x_top, weight_top, bias_top = map(largest, convolution.operands)
    bits = _SUM_BITS if in_order or bias_top == 0 else min(_SUM_BITS, _significand_bits(dtype))
    return (
        (top == 0 or math.frexp(top)[1] <= unit + bits)
        and max(top, weight_top, x_top) * reach <= limit
        and math.ldexp(1.0, min(unit, *known, 0)) * min(1.0, abs(scale) or 1.0) >= smallest
    )


def largest(tensor: torch.Tensor) -> float:
    """Return the largest magnitude in a tensor; 0 if it is empty."""
    return float(np.abs(tensor.numpy()).max()) if tensor.numel() else 0.0


def least(tensor: torch.Tensor) -> float:
    """Return the least magnitude in a tensor but 0; infinite if there is none."""
    values = np.abs(tensor.numpy())
    return float(values[values > 0].min(initial=np.inf))


def _smallest_subnormal(dtype: torch.dtype) -> float:
    limits = torch.finfo(dtype)
    return limits.tiny * limits.eps


def _significand_bits(dtype: torch.dtype) -> int:
    return 1 - round(math.log2(torch.finfo(dtype).eps))


def _unit(tensor: torch.Tensor) -> int | None:
    """Exponent of the largest power of two that divides every element; None if one has over 8 bits."""
    # In NumPy, whose calls on small arrays take a fraction of the time of PyTorch's: every trial makes these.
    values = tensor.numpy()
    mantissa, exponent = np.frexp(values[values != 0])
    if not mantissa.size:
        return _EVERY_UNIT
    significand = np.abs(mantissa * 2.0**53).astype(np.int64)
    lowest = significand & -significand
    if (significand >= lowest << _OPERAND_BITS).any():
        return None
    return int((exponent + np.frexp(lowest)[1]).min()) - 54
