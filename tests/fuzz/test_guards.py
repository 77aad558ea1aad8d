"""What a target allocates: poisoned, between red zones, and otherwise what PyTorch would have given."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzz.guards import AllocationGuard
from fuzz.tensors import Poison, poison_value

POISONS: tuple[Poison, ...] = get_args(Poison)
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
OTHERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64)

Allocate = Callable[..., torch.Tensor]
UNINITIALISED: dict[str, Allocate] = {
    "empty": lambda shape, dtype: torch.empty(shape, dtype=dtype),
    "empty of separate sizes": lambda shape, dtype: torch.empty(*shape, dtype=dtype),
    "empty_like": lambda shape, dtype: torch.empty_like(torch.ones(shape, dtype=dtype)),
    "empty_strided": lambda shape, dtype: torch.empty_strided(shape, (1, shape[0]), dtype=dtype),
    "new_empty": lambda shape, dtype: torch.ones(1, dtype=dtype).new_empty(shape),
    "new_empty_strided": lambda shape, dtype: torch.ones(1, dtype=dtype).new_empty_strided(shape, (1, shape[0])),
}
INITIALISED: dict[str, tuple[Allocate, float]] = {
    "zeros": (lambda shape, dtype: torch.zeros(shape, dtype=dtype), 0),
    "ones": (lambda shape, dtype: torch.ones(shape, dtype=dtype), 1),
    "full": (lambda shape, dtype: torch.full(shape, 3, dtype=dtype), 3),
    "zeros_like": (lambda shape, dtype: torch.zeros_like(torch.empty(shape, dtype=dtype)), 0),
    "ones_like": (lambda shape, dtype: torch.ones_like(torch.empty(shape, dtype=dtype)), 1),
    "full_like": (lambda shape, dtype: torch.full_like(torch.empty(shape, dtype=dtype), 3), 3),
    "new_zeros": (lambda shape, dtype: torch.empty(1, dtype=dtype).new_zeros(shape), 0),
    "new_ones": (lambda shape, dtype: torch.empty(1, dtype=dtype).new_ones(shape), 1),
    "new_full": (lambda shape, dtype: torch.empty(1, dtype=dtype).new_full(shape, 3), 3),
}


def around(tensor: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """The memory of a dense tensor and some elements on both sides of it."""
    return tensor.as_strided((before + tensor.numel() + after,), (1,), tensor.storage_offset() - before)


def is_poison(tensor: torch.Tensor, poison: Poison) -> bool:
    return bool((tensor.isnan() if poison == "nan" else tensor == poison_value(poison)).all())


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", UNINITIALISED)
def test_memory_that_nobody_wrote_is_poison(name: str, dtype: torch.dtype, poison: Poison) -> None:
    with AllocationGuard(poison, "cpu") as guard:
        tensor = UNINITIALISED[name]((3, 5), dtype)
    assert tensor.shape == (3, 5)
    assert tensor.dtype == dtype
    assert is_poison(tensor, poison), f"{name} holds {tensor.flatten()[:3].tolist()} instead of the poison"
    assert not guard.overwritten(), "nothing was written"


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("name", INITIALISED)
def test_initialised_memory_keeps_its_contents(name: str, poison: Poison) -> None:
    allocate, value = INITIALISED[name]
    for dtype in (*FLOATS, torch.int64, torch.uint8):
        with AllocationGuard(poison, "cpu") as guard:
            tensor = allocate((3, 5), dtype)
        assert bool((tensor == value).all()), f"{name} of {dtype} holds {tensor.flatten()[:3].tolist()}, not {value}"
        around(tensor, 0, 1)[-1] = 7
        assert guard.overwritten(), f"a write past the end of {name} goes unseen"


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
@pytest.mark.parametrize("poison", POISONS)
def test_other_dtypes_are_guarded_too(dtype: torch.dtype, poison: Poison) -> None:
    with AllocationGuard(poison, "cpu") as guard:
        tensor = torch.empty(5, dtype=dtype)
        zeros = torch.zeros(5, dtype=dtype)
    assert tensor.dtype == zeros.dtype == dtype
    assert not bool(zeros.any()), "zeros stay zeros"
    tensor.zero_()
    assert not guard.overwritten(), "the target may fill its own memory"
    around(tensor, 0, 1)[-1] = 0
    assert guard.overwritten(), f"one {dtype} written past the end goes unseen"


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("name", [*UNINITIALISED, *INITIALISED])
@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 1), (100, 0), (0, 100)])
def test_one_element_past_either_end_is_found(name: str, before: int, after: int, poison: Poison) -> None:
    allocate = UNINITIALISED[name] if name in UNINITIALISED else INITIALISED[name][0]
    with AllocationGuard(poison, "cpu") as guard:
        tensor = allocate((3, 5), torch.float32)
        around(tensor, before, after)[0 if before else -1] = 1.0
    assert guard.overwritten(), f"a write {before or after} elements past an end of {name} goes unseen"


@given(
    shape=st.lists(st.integers(1, 6), max_size=4),
    dtype=st.sampled_from((*FLOATS, torch.int32, torch.uint8, torch.bool)),
    poison=st.sampled_from(POISONS),
    value=st.sampled_from((0, 1, 255, -1)),
)
def test_writes_within_bounds_are_not_accused(shape: list[int], dtype: torch.dtype, poison: Poison, value: int) -> None:
    with AllocationGuard(poison, "cpu") as guard:
        tensors = [torch.empty(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)]
        for tensor in tensors:
            tensor.fill_(value % 256 if dtype == torch.uint8 else value)
    assert not guard.overwritten(), "the target wrote its own elements only"
    assert torch.equal(*tensors), "what was written is what is read back"


@given(st.integers(0, 3), st.permutations(range(4)), st.sampled_from(POISONS))
def test_strides_are_those_that_pytorch_gives(gap: int, order: list[int], poison: Poison) -> None:
    shape, strides, extent = (2, 3, 4, 5), [0, 0, 0, 0], 1
    for dim in order:
        strides[dim] = extent
        extent *= shape[dim] + gap
    plain = torch.empty_strided(shape, strides)
    with AllocationGuard(poison, "cpu") as guard:
        asked = torch.empty_strided(shape, strides)
        alike = torch.empty_like(plain)
        last = torch.empty(shape, memory_format=torch.channels_last)
        zeros = torch.zeros_like(plain)
    assert asked.stride() == tuple(strides)
    assert alike.stride() == torch.empty_like(plain).stride(), "empty_like keeps the strides it keeps without a guard"
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert zeros.stride() == torch.zeros_like(plain).stride()
    assert is_poison(asked, poison)
    for tensor in (asked, alike, last, zeros):
        tensor.fill_(2.0)
    assert not guard.overwritten(), "gaps belong to the allocation"


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4)])
@pytest.mark.parametrize("poison", POISONS)
def test_tensors_without_elements_pass_through(shape: tuple[int, ...], poison: Poison) -> None:
    with AllocationGuard(poison, "cpu") as guard:
        tensors = [torch.empty(shape), torch.zeros(shape), torch.ones(1).new_empty(shape)]
    assert all(tensor.shape == shape for tensor in tensors)
    assert not guard.overwritten()


def test_a_scalar_is_guarded() -> None:
    with AllocationGuard("nan", "cpu") as guard:
        tensor = torch.empty(())
    assert tensor.shape == ()
    assert is_poison(tensor, "nan")
    around(tensor, 1, 0)[0] = 1.0
    assert guard.overwritten()


def test_expanded_allocation_is_guarded() -> None:
    with AllocationGuard("finite", "cpu") as guard:
        tensor = torch.empty_strided((3, 4), (0, 1))
    assert tensor.stride() == (0, 1)
    tensor[0].fill_(1.0)
    assert not guard.overwritten()


@pytest.mark.parametrize("allocate", [torch.zeros, torch.ones, torch.empty], ids=["zeros", "ones", "empty"])
def test_out_returns_the_tensor_that_was_given(allocate: Allocate) -> None:
    buffer = torch.full((4,), 5.0)
    with AllocationGuard("nan", "cpu"):
        given_back = allocate(4, out=buffer)
    assert given_back.data_ptr() == buffer.data_ptr(), "`out=` allocates nothing: the caller's own buffer comes back"


def test_outside_the_guard_nothing_changes() -> None:
    with AllocationGuard("nan", "cpu"):
        pass
    assert torch.empty(3).untyped_storage().nbytes() == 12, "no red zones once the guard is off"


def test_other_devices_are_left_alone() -> None:
    with AllocationGuard("nan", "cuda") as guard:
        tensor = torch.empty(3)
    assert tensor.untyped_storage().nbytes() == 12, "only the target's device is guarded"
    assert not guard.overwritten()


def test_arithmetic_is_unchanged() -> None:
    x, y = torch.arange(6.0).view(2, 3), torch.arange(3.0)
    with AllocationGuard("finite", "cpu") as guard:
        guarded = (x @ y.view(3, 1)).squeeze(1) + torch.zeros(2)
    assert torch.equal(guarded, x @ y)
    assert not guard.overwritten()


def test_the_start_is_as_aligned_as_without_a_guard() -> None:
    with AllocationGuard("nan", "cpu"):
        tensors = [torch.empty(size, dtype=dtype) for size in (1, 3, 17) for dtype in FLOATS]
    assert all(tensor.data_ptr() % 16 == 0 for tensor in tensors), "vector loads need 16 bytes"
