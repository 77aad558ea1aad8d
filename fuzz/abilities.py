"""`Abilities`: what a target can be asked, as a value that travels between processes.

The strategies draw only what the target's signature can express, and the hunt counts what it declines.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fuzz.case import DTYPES, Case, Dtype, Precision
from fuzz.layout import CONTIGUOUS

# The kernels of this repository, by the names that a user gives.
BUILT_IN: Final = {"fused": ("fused.conv_scale_min", "conv_scale_min"), "two-pass": ("fused.two_pass", "two_pass")}


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a target's signature can express.

    Attributes:
        kind: A module owns its parameters, so their memory layout is not ours to choose.
        convolution_options: Takes stride, padding, dilation and groups.
        same_padding: Takes "same" for the padding.
        optional_bias: Takes None for the bias; others receive zeros.
        precision: Takes `precision=None`, or the name of a precision.
        configs: Names of its launch configurations, for targets that take `config=None`.
        every_dtype: Promises every dtype; others are tried in float32 unless the user asks for more.
        in_order: Promises the operation's own order: sums, then the scale, then one rounding. Others may scale the
            weight first, or round half-precision sums on the way.
        far: Promises offsets that do not fit in 32 bits, where memory that nobody touches costs nothing: on a CPU.
        reproducible: Promises that a position's bits do not depend on the other positions, on the order of channels or
            on the memory layout; if it has configurations, in calls of the same sizes.
    """

    kind: Literal["module", "function"]
    convolution_options: bool = False
    same_padding: bool = False
    optional_bias: bool = False
    precision: bool = False
    configs: tuple[str, ...] = ()
    every_dtype: bool = False
    in_order: bool = False
    far: bool = False
    reproducible: bool = False

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """The dtypes in which the target is tried unless the user names others."""
        return DTYPES if self.every_dtype else ("float32",)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions in which the target is tried unless the user names others."""
        return ("default", "ieee", "tf32") if self.precision else ("default",)

    def promises(
        self, case: Case, dtypes: tuple[Dtype, ...] | None = None, precisions: tuple[Precision, ...] | None = None
    ) -> bool:
        """Return whether a kept case is one that a hunt on this target may try.

        Args:
            case: The case.
            dtypes: Which dtypes the user asked for; what the target promises if None.
            precisions: Likewise.
        """
        if case.dtype not in (dtypes or self.dtypes) or self.why_not(case):
            return False
        if case.dtype == "float32" and case.precision not in (precisions or self.precisions):
            return False
        if not self.far and any(layout.far for layout in (case.x_layout, case.weight_layout, case.bias_layout)):
            return False
        return min(case.out_size) >= 1 or self.every_dtype

    def why_not(self, case: Case) -> str:
        """Return why the target's signature cannot express the case; empty where it can."""
        plain = case.stride == case.dilation == (1, 1) and case.padding == (0, 0) and case.groups == 1
        if not self.convolution_options and not (plain and not case.same):
            return "the target takes no stride, padding, dilation or groups"
        if case.same and not self.same_padding:
            return "the target takes no padding='same'"
        if self.kind == "module" and (case.weight_layout, case.bias_layout) != (CONTIGUOUS, CONTIGUOUS):
            return "a module owns its parameters: their memory layout cannot be chosen"
        return ""
