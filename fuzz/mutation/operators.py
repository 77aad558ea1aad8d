"""What a programmer gets wrong: every operator turns a node of a kernel file into wrong ones.

An operator knows Triton and PyTorch, and no particular kernel. It is given a node and where that stands, and yields the
source of what may stand there instead. Mistakes that give the same program are left out where the syntax tells: with
integers `a < b + 1` is `a <= b`.
"""

from __future__ import annotations

from typing import Final

from fuzz.mutation.access_operators import (
    bound_narrowed,
    bound_widened,
    loop_changed,
    mask_removed,
    mask_term_dropped,
    number_changed,
    offset_shifted,
    other_changed,
    stride_exchanged,
    tile_count_changed,
)
from fuzz.mutation.host_operators import (
    allocated_in_another_dtype,
    arguments_exchanged,
    copy_omitted,
    dimension_exchanged,
    results_exchanged,
    stride_taken_for_contiguous,
)
from fuzz.mutation.place import Operator
from fuzz.mutation.value_operators import (
    accumulation_broken,
    choice_removed,
    conversion_omitted,
    dtype_lowered,
    equality_flipped,
    factor_dropped,
    identity_changed,
    minimum_and_maximum_exchanged,
    nan_dropped,
    nan_test_disabled,
    precision_lowered,
    quotient_and_remainder_exchanged,
    start_changed,
    sum_changed,
    term_dropped,
)

OPERATORS: Final[tuple[Operator, ...]] = (
    mask_term_dropped,
    mask_removed,
    other_changed,
    bound_widened,
    bound_narrowed,
    equality_flipped,
    nan_test_disabled,
    nan_dropped,
    sum_changed,
    term_dropped,
    factor_dropped,
    quotient_and_remainder_exchanged,
    tile_count_changed,
    number_changed,
    offset_shifted,
    stride_exchanged,
    stride_taken_for_contiguous,
    copy_omitted,
    dimension_exchanged,
    results_exchanged,
    arguments_exchanged,
    identity_changed,
    minimum_and_maximum_exchanged,
    choice_removed,
    dtype_lowered,
    conversion_omitted,
    precision_lowered,
    loop_changed,
    accumulation_broken,
    start_changed,
    allocated_in_another_dtype,
)
