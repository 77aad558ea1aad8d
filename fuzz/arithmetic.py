"""The arithmetic that an implementation is allowed: how each of its operations may round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch

from fuzz.case import Case

PrecisionClass = Literal["ieee", "tf32"]


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
