"""Roundings that numpy lacks: bfloat16, tf32, and towards zero.

bfloat16 values travel as their `uint16` bits, because numpy has no such type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_BFLOAT16_QUIET = np.uint32(0x0040)
_TF32_KEPT = np.uint32(0xFFFFE000)
_FLOAT32_QUIET = np.uint32(0x00400000)


def from_bfloat16(bits: Array) -> Array:
    """Return the float32 values of bfloat16 `bits`; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(values: Array, *, toward_zero: bool = False) -> Array:
    """Round `values` of any numeric type once, to the bits of bfloat16: to nearest even, or towards zero."""
    single = truncate(values, np.dtype(np.float32)) if toward_zero else _to_odd_float32(values)
    bits = single.view(np.uint32)
    carry = np.uint32(0) if toward_zero else np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    # A NaN must not be carried into infinity, nor cut down to it.
    nan = (bits >> np.uint32(16)) | _BFLOAT16_QUIET
    return np.where(np.isnan(single), nan, (bits + carry) >> np.uint32(16)).astype(np.uint16)


def to_tf32(values: Array) -> Array:
    """Cut float32 `values` to the ten explicit mantissa bits that a tensor core reads; NaN stays NaN."""
    bits = values.view(np.uint32)
    return np.where(np.isnan(values), bits | _FLOAT32_QUIET, bits & _TF32_KEPT).view(np.float32)


def truncate(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round `values` towards zero to a float type of numpy's; a finite value stays finite."""
    with np.errstate(all="ignore"):
        nearest: Array = values.astype(dtype)
        too_far = np.abs(nearest.astype(np.float64)) > np.abs(values.astype(np.float64))
        return np.where(too_far, np.nextafter(nearest, dtype.type(0)), nearest)


def _to_odd_float32(values: Array) -> Array:
    """Narrow to float32 so that one more rounding to nearest gives what a single rounding would have given."""
    if values.dtype in (np.float32, np.float16):
        return values.astype(np.float32)
    exact = values.astype(np.float64)
    single = truncate(exact, np.dtype(np.float32))
    inexact = ~np.isnan(exact) & (single.astype(np.float64) != exact)
    odd: Array = single.view(np.uint32) | inexact.astype(np.uint32)
    return odd.view(np.float32)
