"""What kernels do to memory on Triton's CPU interpreter: wrong accesses are refused, sound ones never."""

from __future__ import annotations

import importlib
import inspect
import linecache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given
from hypothesis import strategies as st

from fuzz.case import Case
from fuzz.coverage import LineCoverage
from fuzz.interpreter import faithful, is_interpreting, recorded
from fuzz.interpreter_access import AccessRecorder
from fuzz.kernel_syntax import functions_in
from fuzz.layout import Layout
from fuzz.memory import Memory, Region
from fuzz.target import load_target
from fuzz.tensors import build

pytestmark = pytest.mark.skipif(
    not is_interpreting(), reason="needs Triton's interpreter (a machine without a GPU runs it)"
)

ROOT = Path(__file__).resolve().parent.parent.parent
# Loaded by Triton itself only where it interprets.
INTERPRETER = importlib.import_module("triton.runtime.interpreter")
HAS_BLOCK_POINTERS = hasattr(INTERPRETER.InterpreterBuilder, "create_make_block_ptr")
HAS_ATOMIC_STORE = hasattr(tl, "atomic_store")


@triton.jit
def copy_kernel(x_ptr, out_ptr, first, n, stride, SIZE: tl.constexpr):
    offs = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    x = tl.load(x_ptr + (first + offs) * stride, mask=offs < n, other=0.0)
    tl.store(out_ptr + offs, x, mask=offs < n)


@triton.jit
def masked_number_kernel(x_ptr, out_ptr, n, OTHER: tl.constexpr, IS_BLOCK: tl.constexpr):
    if IS_BLOCK:
        one = tl.arange(0, 1)
        tl.store(out_ptr + one, tl.load(x_ptr + one, mask=one < n, other=OTHER))
    else:
        tl.store(out_ptr, tl.load(x_ptr, mask=n > 0, other=OTHER))


@triton.jit
def discarding_kernel(x_ptr, out_ptr, n, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    x = tl.load(x_ptr + offs)
    tl.store(out_ptr + offs, tl.where(offs < n, x, 0.0), mask=offs < n)


@triton.jit
def pair_kernel(x_ptr, out_ptr, PAIRS: tl.constexpr):
    pairs = tl.load(x_ptr.to(tl.pointer_type(tl.int32)) + tl.arange(0, PAIRS))
    tl.store(out_ptr + tl.arange(0, PAIRS), pairs)


@triton.jit
def choosing_kernel(a_ptr, b_ptr, out_ptr, n, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs, tl.load(tl.where(offs < n, a_ptr + offs, b_ptr + offs)))


@triton.jit
def block_pointer_kernel(x_ptr, out_ptr, height, width, row, col, SIZE: tl.constexpr, CHECK: tl.constexpr):
    x = tl.make_block_ptr(x_ptr, (height, width), (width, 1), (row, col), (SIZE, SIZE), (1, 0))
    out = tl.make_block_ptr(out_ptr, (SIZE, SIZE), (SIZE, 1), (0, 0), (SIZE, SIZE), (1, 0))
    if CHECK:
        tl.store(out, tl.load(x, boundary_check=(0, 1), padding_option="zero"), boundary_check=(0,))
    else:
        tl.store(out, tl.load(x))


@triton.jit
def descriptor_kernel(x_ptr, out_ptr, height, width, row, SIZE: tl.constexpr):
    x = tl.make_tensor_descriptor(x_ptr, shape=[height, width], strides=[width, 1], block_shape=[SIZE, SIZE])
    out = tl.make_tensor_descriptor(out_ptr, shape=[SIZE, SIZE], strides=[SIZE, 1], block_shape=[SIZE, SIZE])
    out.store([0, 0], x.load([row, 0]))


@triton.jit
def host_descriptor_kernel(x, out_ptr, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs[:, None] * SIZE + offs[None, :], x.load([0, 0]))


@triton.jit
def atomic_kernel(x_ptr, out_ptr, n, first, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    x = tl.load(x_ptr + offs)
    tl.atomic_min(out_ptr + first + offs, x, mask=offs < n)


@triton.jit
def swap_kernel(lock_ptr, first):
    tl.atomic_cas(lock_ptr + first, 0, 1)


@triton.jit
def overlapping_kernel(x_ptr, out_ptr, step, SIZE: tl.constexpr):
    program = tl.program_id(0)
    offs = program * step + tl.arange(0, SIZE)
    tl.store(out_ptr + offs, tl.load(x_ptr + program * SIZE + tl.arange(0, SIZE)))


@triton.jit
def lanes_kernel(x_ptr, out_ptr, SIZE: tl.constexpr, FOLD: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs % FOLD, tl.load(x_ptr + offs))


@triton.jit
def accumulating_kernel(x_ptr, out_ptr, rows, SIZE: tl.constexpr):
    offs = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    tl.store(out_ptr + offs, 0.0)
    for row in range(rows):
        tl.store(out_ptr + offs, tl.load(out_ptr + offs) + tl.load(x_ptr + row * SIZE + tl.arange(0, SIZE)))


@triton.jit
def locking_kernel(x_ptr, out_ptr, lock_ptr, SIZE: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * SIZE + tl.arange(0, SIZE))
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    total = tl.load(out_ptr + tl.arange(0, SIZE)) + x
    tl.store(out_ptr + tl.arange(0, SIZE), total)
    tl.atomic_xchg(lock_ptr, 0)


@triton.jit
def table_kernel(table_ptr, out_ptr, SIZE: tl.constexpr):
    x_ptr = tl.load(table_ptr + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + tl.program_id(0) * SIZE + offs, tl.load(x_ptr + offs))


@triton.jit
def pointer_to_pointer_kernel(table_ptr, out_ptr):
    tl.store(out_ptr, tl.load(tl.load(table_ptr.to(tl.pointer_type(tl.pointer_type(tl.float32))))))


@triton.jit
def masked_read(x_ptr, offs, n):
    return tl.load(  # a comment
        x_ptr + offs,
        mask=offs < n,
        other=0.0,
    )


@triton.jit
def never_called(x_ptr):
    return tl.load(x_ptr)


@triton.jit
def covered_kernel(x_ptr, out_ptr, n, limit, FLAG: tl.constexpr, SIZE: tl.constexpr):
    offs = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    x = masked_read(x_ptr, offs, n)
    if FLAG:
        x += tl.load(x_ptr)
    if (tl.load(x_ptr) < limit) and tl.load(x_ptr + 1) < limit:
        tl.store(out_ptr + offs, x, mask=offs < n)
    else:
        tl.store(out_ptr + offs, -x, mask=offs < n)


@triton.jit
def negative_atomic_kernel(out_ptr, n, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tl.atomic_max(out_ptr + offs, (offs - 2).to(tl.float32), mask=offs < n)


if HAS_ATOMIC_STORE:

    @triton.jit
    def atomic_store_kernel(x_ptr, out_ptr):
        tl.atomic_store(out_ptr, tl.atomic_load(x_ptr + tl.program_id(0)))


def region(name: str, tensor: torch.Tensor, *, margin: int = 0) -> Region:
    """The storage of a tensor, of which only the tensor's elements may be touched, without some at both ends."""
    flat = torch.zeros(tensor.untyped_storage().nbytes() // tensor.element_size(), dtype=torch.bool)
    flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
    if margin:
        flat[:margin] = flat[-margin:] = False
    start, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
    return Region(
        name=name, start=start, size=size, itemsize=tensor.element_size(), elements=flat.numpy(), owner=tensor
    )


def memory_of(**tensors: torch.Tensor) -> Memory:
    memory = Memory()
    for name, tensor in tensors.items():
        memory.add(region(name, tensor))
    return memory


def run(kernel: Any, *args: Any, grid: tuple[int, ...] = (1,), memory: Memory | None = None, **constants: Any) -> Any:
    """Launch a kernel that must be found sound, and return the recorder."""
    recorder = AccessRecorder(memory or Memory())
    with faithful(round_dot_operands=False, recorder=recorder):
        kernel[grid](*args, **constants)
    assert recorder.violation is None
    return recorder


def refused(
    kernel: Any, *args: Any, grid: tuple[int, ...] = (1,), memory: Memory | None = None, **constants: Any
) -> Any:
    """Launch a kernel that must be stopped, and return the violation."""
    recorder = AccessRecorder(memory or Memory())
    stopped = pytest.raises(triton.runtime.errors.InterpreterError, match="AccessViolationError")
    with faithful(round_dot_operands=False, recorder=recorder), stopped:
        kernel[grid](*args, **constants)
    assert recorder.violation is not None
    return recorder.violation


def line_of(kernel: Any, text: str, occurrence: int = 0) -> int:
    """The line of a kernel on which a text stands."""
    lines, first = inspect.getsourcelines(kernel.fn)
    return [first + index for index, line in enumerate(lines) if text in line][occurrence]


@pytest.mark.parametrize("is_block", [False, True])
@pytest.mark.parametrize("other", [0, -0.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int32])
def test_a_masked_number_is_what_the_kernel_names(dtype: torch.dtype, other: float, is_block: bool) -> None:
    x, out = torch.full((1,), 7, dtype=dtype), torch.full((1,), 9, dtype=dtype)
    for n, seen in ((1, 7), (0, other)):
        recorder = AccessRecorder(memory_of(x=x, out=out), undefined=-57344.0)
        with faithful(round_dot_operands=False, recorder=recorder):
            masked_number_kernel[(1,)](x, out, n, OTHER=other, IS_BLOCK=is_block)
        assert recorder.violation is None
        assert out.item() == seen, "a number that is 0 must not count as none"


class TestViolations:
    def test_read_past_the_end_even_if_the_value_is_discarded(self) -> None:
        x, out = torch.arange(8.0)[:5].clone(), torch.zeros(5)
        violation = refused(discarding_kernel, x, out, 5, SIZE=8)
        assert (violation.kind, violation.address) == (
            "read",
            "x_ptr, 3 elements past its end",
        ) or violation.address == ("x_ptr, 1 element past its end")
        assert violation.file == __file__
        assert violation.line == line_of(discarding_kernel, "tl.load")
        assert violation.text == "x = tl.load(x_ptr + offs)"
        assert violation.program == (0, 0, 0)
        assert torch.equal(out, torch.zeros(5))

    def test_read_before_the_start(self) -> None:
        parent, out = torch.arange(16.0), torch.zeros(4)
        x = parent[4:]
        violation = refused(copy_kernel, x, out, -2, 4, 1, memory=memory_of(x=x), SIZE=4)
        assert (violation.kind, violation.address) == ("read", "x, 2 elements before its start")

    def test_gap_of_a_strided_view(self) -> None:
        x, out = torch.arange(16.0)[::2], torch.zeros(8)
        run(copy_kernel, x, out, 0, 8, 2, memory=memory_of(x=x), SIZE=8)
        violation = refused(copy_kernel, x, out, 0, 8, 1, memory=memory_of(x=x), SIZE=8)
        assert (violation.kind, violation.address) == ("read", "x, in a gap between its elements")

    def test_a_wide_read_takes_in_the_gap_between_narrow_elements(self) -> None:
        parent, out = torch.zeros(8, dtype=torch.int16), torch.zeros(4, dtype=torch.int32)
        run(pair_kernel, parent, out, memory=memory_of(x=parent), PAIRS=4)
        violation = refused(pair_kernel, parent[::2], out, memory=memory_of(x=parent[::2]), PAIRS=4)
        assert violation.address == "x, in a gap between its elements"

    def test_write_into_a_red_zone_is_refused_before_it_happens(self) -> None:
        storage = torch.zeros(64)
        memory = Memory()
        memory.add(region("out", storage, margin=16))
        violation = refused(copy_kernel, torch.ones(64), storage[16:], 0, 40, 1, grid=(6,), memory=memory, SIZE=8)
        assert (violation.kind, violation.address) == ("write", "out, 1 element past its end")
        assert violation.program == (4, 0, 0)
        assert torch.equal(storage[48:], torch.zeros(16))

    def test_a_pointer_far_away_belongs_to_nobody(self) -> None:
        violation = refused(copy_kernel, torch.zeros(4), torch.zeros(4), 2**30, 4, 1, SIZE=4)
        assert violation.address == "no tensor that the kernel was given"

    def test_one_access_to_several_tensors(self) -> None:
        a, b, out = torch.zeros(8)[:4].clone(), torch.ones(8), torch.zeros(8)
        run(choosing_kernel, a, b, out, 4, SIZE=8)
        assert out.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        memory = memory_of(b=b[:6], a=a)
        assert refused(choosing_kernel, a, b, out, 4, memory=memory, SIZE=8).address == "b, 1 element past its end"

    def test_the_first_violation_is_kept_where_the_target_catches_the_exception(self) -> None:
        x, out, recorder = torch.zeros(4), torch.zeros(8), AccessRecorder(Memory())
        with faithful(round_dot_operands=False, recorder=recorder):
            for n in (8, 4, 6):
                try:
                    copy_kernel[(1,)](x, out, 0, n, 1, SIZE=8)
                except Exception:
                    out.copy_(torch.ones(8))
        assert recorder.violation is not None
        assert recorder.violation.address == "x_ptr, 1 element past its end"
        assert "read of x_ptr, 1 element past its end, by program (0, 0, 0) at " in str(recorder.violation)

    def test_atomics_are_checked(self) -> None:
        x, out = torch.zeros(8), torch.ones(8)
        violation = refused(atomic_kernel, x, out, 8, 2, SIZE=8)
        assert (violation.kind, violation.address) == ("atomic", "out_ptr, 1 element past its end")
        assert refused(swap_kernel, torch.zeros(2, dtype=torch.int32), 2).kind == "atomic"
        assert torch.equal(out, torch.ones(8))

    @pytest.mark.skipif(not HAS_BLOCK_POINTERS, reason="this Triton has no block pointers")
    @pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
    def test_block_pointers(self) -> None:
        x, out = torch.ones(6, 6), torch.zeros(8, 8)
        for row, col in ((0, 0), (3, 5), (-2, -3)):
            run(block_pointer_kernel, x, out, 6, 6, row, col, SIZE=8, CHECK=True)
        violation = refused(block_pointer_kernel, x, out, 6, 6, 0, 0, SIZE=8, CHECK=False)
        assert violation.kind == "read"
        assert violation.line == line_of(block_pointer_kernel, "tl.store(out, tl.load(x))")

    def test_descriptors(self) -> None:
        x, out = torch.ones(8, 8), torch.zeros(4, 4)
        for row in (0, 6, -2):
            run(descriptor_kernel, x, out, 8, 8, row, SIZE=4)
        violation = refused(descriptor_kernel, x, out, 16, 8, 6, SIZE=4)  # the kernel says that there are more rows
        assert violation.kind == "read"
        assert violation.line == line_of(descriptor_kernel, "out.store")

    def test_descriptors_made_on_the_host(self) -> None:
        from triton.tools.tensor_descriptor import TensorDescriptor

        x, out = torch.ones(8, 8), torch.zeros(4, 4)
        run(host_descriptor_kernel, TensorDescriptor.from_tensor(x, [4, 4]), out, SIZE=4)
        assert torch.equal(out, torch.ones(4, 4))

    @given(data=st.data())
    def test_any_window_of_any_view_is_refused_if_a_lane_leaves_the_elements(self, data: st.DataObject) -> None:
        size, step, offset = (data.draw(st.integers(*bounds)) for bounds in ((1, 6), (1, 3), (0, 4)))
        first, stride, n = (data.draw(st.integers(*bounds)) for bounds in ((-6, 10), (0, 4), (0, 8)))
        parent, out = torch.zeros(offset + size * step + 8), torch.zeros(8)
        x = parent[offset : offset + (size - 1) * step + 1 : step]
        lanes = {offset + (first + lane) * stride for lane in range(n)}
        is_sound = lanes <= {offset + index * step for index in range(size)}
        assert (run if is_sound else refused)(copy_kernel, x, out, first, n, stride, memory=memory_of(x=x), SIZE=8)


class TestSoundAccesses:
    @pytest.mark.parametrize("n", [0, 1, 7])
    def test_lanes_that_are_masked_off_may_point_anywhere(self, n: int) -> None:
        x, out = torch.arange(7.0), torch.zeros(7)
        run(copy_kernel, x[:n], out, 0, n, 1, grid=(3,), memory=memory_of(x=x[:n], out=out), SIZE=4)
        assert torch.equal(out[:n], x[:n])

    def test_tensors_that_nobody_registered_are_whole_storages(self) -> None:
        x, out = torch.arange(24.0).view(4, 6), torch.zeros(24)
        memory = memory_of(x=x)
        for tensor in (x.t().contiguous(), x.clone(), torch.nn.functional.pad(x, (1, 1)), torch.cat([x, x])):
            run(copy_kernel, tensor, out, 0, 24, 1, grid=(3,), memory=memory, SIZE=8)
            assert torch.equal(out, tensor.flatten()[:24])
        run(copy_kernel, torch.arange(32.0)[8:], out, -8, 24, 1, grid=(3,), SIZE=8)

    def test_memory_that_was_freed_and_allocated_again(self) -> None:
        recorder, out = AccessRecorder(Memory()), torch.zeros(64)
        with faithful(round_dot_operands=False, recorder=recorder):
            for size in (4, 64, 16, 8, 32, 4, 64):
                copy_kernel[(8,)](torch.arange(float(size)), out, 0, size, 1, SIZE=8)
                assert torch.equal(out[:size], torch.arange(float(size)))
        assert recorder.violation is None

    def test_addresses_out_of_a_table_are_not_followed(self) -> None:
        tensors = [torch.full((4,), float(index)) for index in range(3)]
        table, out = torch.tensor([tensor.data_ptr() for tensor in tensors]), torch.zeros(3, 4)
        run(table_kernel, table, out, grid=(3,), memory=memory_of(table=table, out=out), SIZE=4)
        assert torch.equal(out[:, 0], torch.arange(3.0))

    def test_addresses_out_of_a_table_are_refused_in_gaps(self) -> None:
        x, out = torch.zeros(8)[::2], torch.zeros(4)
        violation = refused(table_kernel, torch.tensor([x.data_ptr()]), out, memory=memory_of(x=x), SIZE=4)
        assert violation.address == "x, in a gap between its elements"

    def test_pointers_to_pointers_are_said_to_be_unsupported(self) -> None:
        x, recorder = torch.ones(1), AccessRecorder(Memory())
        unsupported = pytest.raises(triton.runtime.errors.InterpreterError, match="not supported in interpreter mode")
        with faithful(round_dot_operands=False, recorder=recorder), unsupported:
            pointer_to_pointer_kernel[(1,)](torch.tensor([x.data_ptr()]), torch.zeros(1))
        assert recorder.violation is None

    def test_a_kernel_under_two_recorders_is_seen_by_both(self) -> None:
        x, out = torch.arange(6.0), torch.zeros(6)
        outer, inner = AccessRecorder(Memory()), AccessRecorder(memory_of(x=x))
        with faithful(round_dot_operands=False, recorder=outer), faithful(round_dot_operands=True), recorded(inner):
            copy_kernel[(2,)](x, out, 0, 6, 1, SIZE=4)
        assert outer.violation is None
        assert inner.violation is None
        assert outer.coverage == inner.coverage
        assert all(known is not None and known.stored.all() for known in (outer.stores(out), inner.stores(out)))

    def test_nothing_is_recorded_after_the_block(self) -> None:
        x, out, recorder = torch.zeros(4), torch.zeros(4), AccessRecorder(Memory())
        with faithful(round_dot_operands=False):
            with recorded(recorder):
                copy_kernel[(1,)](x, out, 0, 4, 1, SIZE=4)
            before = recorder.coverage
            copy_kernel[(1,)](x, out, 0, 4, 1, SIZE=4)
        assert recorder.coverage == before

    def test_everything_is_restored_even_after_a_refusal(self) -> None:
        interpreter = INTERPRETER
        names = ("_interpreter", "TritonSemantic", "GridExecutor", "InterpreterBuilder")
        owners = (interpreter, *(getattr(interpreter, name) for name in names))
        before = [dict(vars(owner)) for owner in owners]
        refused(copy_kernel, torch.zeros(4), torch.zeros(8), 0, 8, 1, SIZE=8)
        assert [dict(vars(owner)) for owner in owners] == before

    CASES = (
        Case(),
        Case(n=2, c_in=3, h=7, w=6, c_out=5, kh=3, kw=3, bias=True),
        Case(n=1, c_in=17, h=5, w=5, c_out=33, kh=2, kw=2, bias=True, dtype="float16"),
        Case(
            n=2, c_in=4, h=6, w=5, c_out=6, kh=3, kw=3, bias=True,
            stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2,
        ),
        Case(
            n=2, c_in=3, h=5, w=6, c_out=4, kh=2, kw=2, bias=True,
            x_layout=Layout(order=(0, 2, 3, 1), step=(1, 2, 1, 3), margin=1, offset=3),
            weight_layout=Layout(expand=(0,), margin=2), bias_layout=Layout(step=(3,)),
        ),
        Case(n=0),
    )  # fmt: skip

    @pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
    @pytest.mark.parametrize(
        "name", ["fused", "two-pass", *sorted(str(path) for path in (ROOT / "tests" / "candidates").glob("*.py"))]
    )
    def test_sound_targets_are_never_accused(self, name: str) -> None:
        if "block_pointers" in name and not HAS_BLOCK_POINTERS:
            pytest.skip("this Triton has no block pointers")
        target = load_target(name)
        for case in filter(target.abilities.promises, self.CASES):
            operands = build(case, poison="nan", device=torch.device("cpu"))
            recorder = AccessRecorder(memory_of(**{key: operand.tensor for key, operand in operands.items()}))
            with faithful(round_dot_operands=False, recorder=recorder), torch.no_grad():
                call = target.bind(case)
                x, weight, bias = (operands[key].tensor if key in operands else None for key in ("x", "weight", "bias"))
                output = call(x, weight, bias)
            assert recorder.violation is None
            known = recorder.stores(output)
            assert known is None or (known.stored.all() and not known.twice.any())


class TestStores:
    def test_items_that_no_program_stored(self) -> None:
        out = torch.zeros(10)
        known = run(copy_kernel, torch.zeros(10), out, 0, 7, 1, grid=(3,), SIZE=4).stores(out)
        assert known.stored.tolist() == [True] * 7 + [False] * 3
        assert not known.twice.any()
        assert known.example is None

    def test_a_tensor_that_was_only_read_is_unknown(self) -> None:
        x = torch.zeros(4)
        assert run(copy_kernel, x, torch.zeros(4), 0, 4, 1, SIZE=4).stores(x) is None

    def test_atomic_updates_are_stores_but_never_double(self) -> None:
        out = torch.zeros(8)
        known = run(atomic_kernel, torch.zeros(8), out, 5, 1, grid=(3,), SIZE=8).stores(out)
        assert np.flatnonzero(known.stored).tolist() == [1, 2, 3, 4, 5]
        assert not known.twice.any()

    def test_two_programs_that_store_one_item(self) -> None:
        x, out = torch.tensor([1.0, 1, 1, 1, 2, 1, 1, 1]), torch.zeros(6)
        known = run(overlapping_kernel, x, out, 2, grid=(2,), SIZE=4).stores(out)
        assert np.flatnonzero(known.twice).tolist() == [2, 3]
        assert np.flatnonzero(known.differing).tolist() == [2]
        assert known.example.programs == ((0, 0, 0), (1, 0, 0))
        assert known.example.differing
        line = line_of(overlapping_kernel, "tl.store")
        assert str(known.example).startswith(
            f"stored by programs (0, 0, 0) and (1, 0, 0) at {__file__}:{line}: tl.store("
        )

    def test_the_example_differs_if_any_does(self) -> None:
        x, out = torch.tensor([1.0, 1, 1, 1, 1, 1, 3, 3]), torch.zeros(6)
        known = run(overlapping_kernel, x, out, 1, grid=(4,), SIZE=2).stores(out)
        assert known.example.programs == ((2, 0, 0), (3, 0, 0))

    def test_lanes_of_one_store_may_agree(self) -> None:
        out = torch.zeros(2)
        known = run(lanes_kernel, torch.tensor([1.0, 2, 1, 2]), out, SIZE=4, FOLD=2).stores(out)
        assert not known.twice.any()
        known = run(lanes_kernel, torch.tensor([1.0, 2, 1, 3]), out, SIZE=4, FOLD=2).stores(out)
        assert known.differing.tolist() == [False, True]
        assert "two lanes of program (0, 0, 0)" in str(known.example)

    def test_one_program_may_store_an_item_again(self) -> None:
        out = torch.zeros(8)
        known = run(accumulating_kernel, torch.ones(12), out, 3, grid=(2,), SIZE=4).stores(out)
        assert known.stored.all()
        assert not known.twice.any()
        assert torch.equal(out, torch.full((8,), 3.0))

    def test_launches_may_store_an_item_again(self) -> None:
        out, recorder = torch.zeros(8), AccessRecorder(Memory())
        with faithful(round_dot_operands=False, recorder=recorder):
            for value in (1.0, 2.0):
                copy_kernel[(2,)](torch.full((8,), value), out, 0, 8, 1, SIZE=4)
        assert not recorder.stores(out).twice.any()

    def test_programs_that_take_turns_at_a_lock_may_store_an_item_again(self) -> None:
        out, lock = torch.zeros(4), torch.zeros(1, dtype=torch.int32)
        known = run(locking_kernel, torch.arange(12.0), out, lock, grid=(3,), SIZE=4).stores(out)
        assert known.stored.all()
        assert not known.twice.any()

    @pytest.mark.skipif(not HAS_ATOMIC_STORE, reason="this Triton has no atomic store")
    def test_atomic_stores_and_loads(self) -> None:
        x, out = torch.arange(3, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        recorder = run(atomic_store_kernel, x, out, grid=(3,))
        assert recorder.stores(out).stored.all()
        assert not recorder.stores(out).twice.any()
        counts = [entry for entry in recorder.coverage if entry.line == line_of(atomic_store_kernel, "tl.atomic_store")]
        assert [(entry.operation, entry.all_true) for entry in counts] == [("atomic", 6)]

    def test_a_view_of_the_output(self) -> None:
        out = torch.zeros(2, 5)
        recorder = run(copy_kernel, torch.zeros(10), out, 0, 7, 1, grid=(3,), SIZE=4)
        assert recorder.stores(out.t()).stored.T.tolist() == [[True] * 5, [True, True, False, False, False]]
        assert recorder.stores(out[0]).stored.all()
        assert recorder.stores(out.view(torch.int16)) is None


class TestCoverage:
    def counts(self, recorder: AccessRecorder, kernel: Any) -> dict[tuple[int, str], tuple[int, int, int]]:
        lines, first = inspect.getsourcelines(kernel.fn)
        return {
            (entry.line, entry.operation): (entry.all_true, entry.mixed, entry.all_false)
            for entry in recorder.coverage
            if first <= entry.line < first + len(lines) and entry.file == __file__
        }

    def test_masks_that_were_all_true_mixed_and_all_false(self) -> None:
        recorder = run(covered_kernel, torch.zeros(10), torch.zeros(10), 10, 1.0, grid=(4,), FLAG=False, SIZE=4)
        connected = line_of(covered_kernel, "tl.load(x_ptr + 1)")
        assert self.counts(recorder, covered_kernel) == {
            (line_of(covered_kernel, "x += tl.load"), "load"): (0, 0, 0),
            (connected, "load"): (8, 0, 0),
            (connected + 1, "store"): (2, 1, 1),
            (connected + 3, "store"): (0, 0, 0),
        }
        assert self.counts(recorder, masked_read) == {(line_of(masked_read, "return tl.load"), "load"): (2, 1, 1)}

    def test_kernels_of_the_file_that_never_ran_are_listed(self) -> None:
        recorder = run(copy_kernel, torch.zeros(4), torch.zeros(4), 0, 4, 1, SIZE=4)
        assert self.counts(recorder, never_called) == {(line_of(never_called, "tl.load"), "load"): (0, 0, 0)}
        assert {entry.file for entry in recorder.coverage} == {__file__}

    def test_lines_and_their_text(self) -> None:
        recorder = run(covered_kernel, torch.zeros(4), torch.zeros(4), 4, 1.0, FLAG=True, SIZE=4)
        assert all(entry.text == linecache.getline(entry.file, entry.line).strip() for entry in recorder.coverage)
        text = {entry.line: entry.text for entry in recorder.coverage}
        assert text[line_of(masked_read, "return tl.load")] == "return tl.load(  # a comment"

    def test_the_mask_of_an_atomic_is_the_kernels_own(self) -> None:
        recorder = run(negative_atomic_kernel, torch.zeros(4), 4, SIZE=4)
        assert list(self.counts(recorder, negative_atomic_kernel).values()) == [(1, 0, 0)]
        recorder = run(negative_atomic_kernel, torch.zeros(4), 3, SIZE=4)
        assert list(self.counts(recorder, negative_atomic_kernel).values()) == [(0, 1, 0)]

    def test_functions_of_other_files_are_listed_if_they_were_called(self) -> None:
        target, case = load_target("two-pass"), Case()
        operands, recorder = build(case, poison="nan", device=torch.device("cpu")), AccessRecorder(Memory())
        with faithful(round_dot_operands=False, recorder=recorder), torch.no_grad():
            target.bind(case)(operands["x"].tensor, operands["weight"].tensor, None)
        source = inspect.getsourcefile(importlib.import_module("fused.conv_scale_min"))
        shared = {entry.text: entry.executions for entry in recorder.coverage if entry.file == source}
        # Case() has fewer channels than a tile of K, so that no tile is of one tap, and no bias.
        assert [text for text, executions in shared.items() if not executions] == [
            "x_tile = tl.load(x_ptr + x_offsets, mask=mask_x, other=0.0)",
            "bias = tl.load(bias_ptr + channel * stride_b, mask=mask_n, other=0.0).to(accumulator)",
        ]
        assert not any("out_ptr" in text for text in shared)

    def test_it_travels_as_json(self) -> None:
        coverage = run(copy_kernel, torch.zeros(4), torch.zeros(4), 0, 4, 1, SIZE=4).coverage
        assert msgspec.json.decode(msgspec.json.encode(coverage), type=tuple[LineCoverage, ...]) == coverage


class TestSource:
    SOURCE = """
import numpy as np
import triton
import triton.language as tl
from helpers import load
from triton.language import store as put, load_tensor_descriptor

@triton.autotune([
    triton.Config({}),
], key=[])
@triton.jit
def kernel(x, desc):
    y = np.load(tl.load(x)) + load(x)
    put(x,
        tl.load(
            x))
    tl.atomic_add(x, y); desc.store([0], desc.load([0]))
    tl.gather(load_tensor_descriptor(desc), x, 0)

def host(x):
    x.load()
"""

    def test_accesses_are_triton_calls_at_the_line_where_they_begin(self) -> None:
        kernel, host = functions_in(self.SOURCE)
        assert kernel.is_kernel
        assert not host.is_kernel
        assert kernel.accesses == {
            (13, "load"),
            (14, "store"),
            (15, "load"),
            (17, "atomic"),
            (17, "store"),
            (17, "load"),
            (18, "load"),
        }

    def test_an_access_without_a_mask_is_told_from_one_that_has_or_may_have_one(self) -> None:
        source = """
import triton
import triton.language as tl

@triton.jit
def kernel(x, desc, mask, both):
    tl.load(x)
    tl.load(x, mask)
    tl.load(x, mask=mask, other=0.0)
    tl.load(x, boundary_check=(0,))
    tl.load(x, **both)
    desc.load([0])
    tl.store(x, 1.0)
    tl.store(x, 1.0, mask)
    tl.store(*both)
    tl.atomic_add(x, 1)
    tl.atomic_add(x, 1, mask=mask)
    tl.load(x) + tl.load(x, mask=mask)
"""
        (kernel,) = functions_in(source)
        assert kernel.unmasked == {(7, "load"), (13, "store"), (16, "atomic")}
        assert (kernel.name, kernel.last) == ("kernel", 18)

    def test_a_function_begins_anywhere_from_its_decorators_to_its_definition(self) -> None:
        kernel, host = functions_in(self.SOURCE)
        assert [line for line in range(30) if kernel.begins_at(line)] == [8, 9, 10, 11, 12]
        assert [line for line in range(30) if host.begins_at(line)] == [20]

    def test_text_that_is_no_program_has_no_functions(self) -> None:
        assert functions_in("def (") == ()
