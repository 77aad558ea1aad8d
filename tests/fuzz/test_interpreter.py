"""Triton's CPU interpreter, made faithful: each test runs a small kernel whose result on a GPU is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fuzz.interpreter import FalsePromiseError, faithful, is_interpreting
from fuzz.rounding import from_bfloat16, to_bfloat16, to_tf32, truncate

NAN, INF = float("nan"), float("inf")

needs_interpreter = pytest.mark.skipif(
    not is_interpreting(), reason="needs Triton's interpreter (a machine without a GPU runs it)"
)


@pytest.fixture
def interpreter() -> Iterator[None]:
    with faithful(round_dot_operands=False):
        yield


@triton.jit
def dot_kernel(a_ptr, b_ptr, out_ptr, SIZE: tl.constexpr, PRECISION: tl.constexpr, OUT: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tile = offs[:, None] * SIZE + offs[None, :]
    product = tl.dot(tl.load(a_ptr + tile), tl.load(b_ptr + tile), input_precision=PRECISION, out_dtype=OUT)
    tl.store(out_ptr + tile, product)


@triton.jit
def batched_dot_kernel(a_ptr, b_ptr, out_ptr, BATCH: tl.constexpr, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tile = tl.arange(0, BATCH)[:, None, None] * SIZE * SIZE + offs[None, :, None] * SIZE + offs[None, None, :]
    acc = tl.zeros((BATCH, SIZE, SIZE), tl.float32)
    tl.store(out_ptr + tile, tl.dot(tl.load(a_ptr + tile), tl.load(b_ptr + tile), acc))


@triton.jit
def convert_kernel(x_ptr, out_ptr, SIZE: tl.constexpr, ROUNDING: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs).to(out_ptr.dtype.element_ty, fp_downcast_rounding=ROUNDING))


@triton.jit
def arithmetic_kernel(x_ptr, y_ptr, out_ptr, smaller_ptr, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    x, y = tl.load(x_ptr + offs), tl.load(y_ptr + offs)
    tl.store(out_ptr + offs, x + y)
    tl.store(out_ptr + SIZE + offs, x - y)
    tl.store(out_ptr + 2 * SIZE + offs, x * y)
    tl.store(out_ptr + 3 * SIZE + offs, -x)
    tl.store(out_ptr + 4 * SIZE + offs, tl.abs(x))
    tl.store(out_ptr + 5 * SIZE + offs, tl.where(x < y, x, y))
    tl.store(out_ptr + 6 * SIZE + offs, tl.fma(x, y, x))
    tl.store(out_ptr + 7 * SIZE + offs, x * 2.5)
    tl.store(out_ptr + 8 * SIZE + offs, tl.minimum(x, y))
    tl.store(smaller_ptr + offs, (x < y).to(tl.int32))


@triton.jit
def masked_load_kernel(x_ptr, out_ptr, n, SIZE: tl.constexpr, OTHER: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n, other=OTHER))
    tl.store(out_ptr + SIZE + offs, tl.full((SIZE,), OTHER, out_ptr.dtype.element_ty))


@triton.jit
def nan_kernel(x_ptr, y_ptr, out_ptr, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    x, y = tl.load(x_ptr + offs), tl.load(y_ptr + offs)
    tl.store(out_ptr + offs, tl.minimum(x, y))
    tl.store(out_ptr + SIZE + offs, tl.maximum(x, y))
    tl.store(out_ptr + 2 * SIZE + offs, tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL))
    tl.store(out_ptr + 3 * SIZE + offs, tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL))
    tl.store(out_ptr + 4 * SIZE + offs, tl.clamp(x, -1.0, 1.0))
    tl.store(out_ptr + 5 * SIZE + offs, tl.clamp(x, -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def row_min_kernel(x_ptr, out_ptr, index_ptr, ROWS: tl.constexpr, COLS: tl.constexpr, AXIS: tl.constexpr):
    rows, cols = tl.arange(0, ROWS), tl.arange(0, COLS)
    x = tl.load(x_ptr + rows[:, None] * COLS + cols[None, :])
    tl.store(out_ptr + rows, tl.min(x, axis=AXIS))
    smallest, index = tl.min(x, axis=AXIS, return_indices=True)
    tl.store(out_ptr + ROWS + rows, smallest)
    tl.store(index_ptr + rows, index)
    tl.store(out_ptr + 2 * ROWS, tl.max(tl.max(x, axis=1), axis=0))


@triton.jit
def nan_min(a, b):
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def first_or_min(a, b):
    # Asks for the truth of a value, so it works on scalars only.
    result = b
    if a < b:
        result = a
    return result


@triton.jit
def affine(slope_a, shift_a, slope_b, shift_b):
    return slope_a * slope_b, shift_a * slope_b + shift_b


@triton.jit
def reduce_kernel(x_ptr, out_ptr, ROWS: tl.constexpr, COLS: tl.constexpr, AXIS: tl.constexpr, COMBINE: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :])
    tl.store(out_ptr + tl.arange(0, COLS if AXIS == 0 else ROWS), tl.reduce(x, AXIS, COMBINE))


@triton.jit
def affine_kernel(slope_ptr, shift_ptr, out_ptr, scan_ptr, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    pair = (tl.load(slope_ptr + offs), tl.load(shift_ptr + offs))
    _, total = tl.reduce(pair, 0, affine)
    tl.store(out_ptr, total)
    _, running = tl.associative_scan(pair, 0, affine)
    tl.store(scan_ptr + offs, running)
    _, backwards = tl.associative_scan(pair, 0, affine, reverse=True)
    tl.store(scan_ptr + SIZE + offs, backwards)


@triton.jit
def narrow_sum_kernel(x_ptr, out_ptr, SIZE: tl.constexpr):
    tl.store(out_ptr, tl.sum(tl.load(x_ptr + tl.arange(0, SIZE)), axis=0))


@triton.jit
def python_fold_kernel(x_ptr, y_ptr, out_ptr, n, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    x, y = tl.load(x_ptr + offs), tl.load(y_ptr + offs)
    tl.store(out_ptr + offs, min(x, y))
    tl.store(out_ptr + SIZE + offs, max(x, y, 0.0))
    tl.store(out_ptr + 2 * SIZE + offs, min(offs, max(n, 1) - 1, SIZE))


HALF = tl.constexpr(0.5)


@triton.jit
def constant_kernel(x_ptr, out_ptr, SIZE: tl.constexpr):
    """Store half of x, and whether x is larger than a half; as this does:

    def halved(x):
        return HALF * x
    """
    offs = tl.arange(0, SIZE.value)
    x = tl.load(x_ptr + offs)
    tl.store(out_ptr + offs, HALF * x)
    tl.store(out_ptr + SIZE + offs, tl.where(HALF - x < 0.0, 1.0, 0.0) + (HALF.value - HALF))


def kernel_with(combine: Any) -> Any:
    """A kernel that sees what the function sees in which it is defined."""

    @triton.jit
    def kernel(x_ptr, out_ptr, SIZE: tl.constexpr):
        offs = tl.arange(0, SIZE)
        x = tl.load(x_ptr + offs)
        tl.store(out_ptr + offs, combine(x, x))

    return kernel


@triton.jit
def method_kernel(x_ptr, key_ptr, out_ptr, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs).exp2().sqrt())
    key = tl.load(key_ptr + offs).to(tl.uint32, bitcast=True)
    tl.store(key_ptr + offs, (~key).to(tl.int32, bitcast=True))


@triton.jit
def control_kernel(x_ptr, out_ptr, n, low, scale, double: tl.float64, flag, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    inside = (offs >= low) and not (offs >= n)
    total = tl.zeros((SIZE,), tl.float64)
    for step in range(tl.cdiv(n, 2)):
        total += tl.load(x_ptr + offs.to(tl.int64) * step.to(tl.int64), mask=inside, other=0.0)
    if flag and n > 0:
        total = total * scale + double
    tl.store(out_ptr + offs, total)


@triton.jit
def integer_kernel(x_ptr, out_ptr, big, SIZE: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, SIZE))
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs, x * big)
    tl.store(out_ptr + SIZE + offs, x // 3)
    tl.store(out_ptr + 2 * SIZE + offs, x % 3)
    tl.store(out_ptr + 3 * SIZE + offs, tl.cdiv(x, 3) + tl.num_programs(0))


@triton.jit
def atomic_kernel(x_ptr, out_ptr, SIZE: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, SIZE))
    tl.atomic_min(out_ptr + tl.zeros((SIZE,), tl.int32), x)
    tl.atomic_max(out_ptr + 1 + tl.zeros((SIZE,), tl.int32), x)


@triton.jit
def descriptor_kernel(x_ptr, out_ptr, height, width, row, col, SIZE: tl.constexpr):
    x = tl.make_tensor_descriptor(x_ptr, shape=[height, width], strides=[width, 1], block_shape=[SIZE, SIZE])
    offs = tl.arange(0, SIZE)
    tl.store(out_ptr + offs[:, None] * SIZE + offs[None, :], x.load([row, col]))


@triton.autotune([triton.Config({"BLOCK": 8}), triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 4})], key=["n"])
@triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})
@triton.jit
def tuned_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n, other=0.0) + BLOCK + 100 * EVEN, mask=offs < n)


def specials(dtype: torch.dtype) -> torch.Tensor:
    values = [0.0, -0.0, 1.0, -2.5, 3.14159, 1e-3, 300.0, INF, -INF, NAN, 0.1, 1e38, 7.0, -1e-38, 2.0, 5.0]
    return torch.tensor(values).to(dtype)


def same(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.equal(torch.nan_to_num(actual, 12345.0), torch.nan_to_num(expected.to(actual.dtype), 12345.0)) and (
        torch.equal(actual.isnan(), expected.isnan())
    )


@given(npst.arrays(np.uint32, 64, elements=st.integers(0, 2**32 - 1)))
def test_to_bfloat16_equals_torch_for_any_bits(bits: Any) -> None:
    values = bits.view(np.float32)
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16)
    ours = torch.from_numpy(to_bfloat16(values).view(np.int16)).view(torch.bfloat16)
    nan = torch.from_numpy(np.isnan(values))
    assert torch.equal(ours.isnan(), nan)
    assert torch.equal(ours.view(torch.int16)[~nan], expected.view(torch.int16)[~nan])


@given(st.integers(0, 2**16 - 1), st.sampled_from([-1, 0, 1]))
def test_to_bfloat16_rounds_a_double_once(bits: int, side: int) -> None:
    # Halfway between two bfloat16 values, and one step of a double beside it: rounding to fp32 first loses the step.
    low = from_bfloat16(np.array([bits & 0x7F7E], np.uint16))[0]
    high = from_bfloat16(np.array([(bits & 0x7F7E) + 1], np.uint16))[0]
    halfway = (float(low) + float(high)) / 2
    value = np.array([np.nextafter(halfway, side * np.inf) if side else halfway])
    if np.isfinite(halfway):
        assert from_bfloat16(to_bfloat16(value))[0] == (high if side > 0 else low)


@given(npst.arrays(np.uint32, 16, elements=st.integers(0, 2**32 - 1)))
def test_cuts_keep_nan_and_never_grow(bits: Any) -> None:
    values = bits.view(np.float32)
    finite = np.isfinite(values)
    narrowed = from_bfloat16(to_bfloat16(values, toward_zero=True))
    for cut in (to_tf32(values), truncate(values, np.dtype(np.float16)), narrowed):
        assert np.array_equal(np.isnan(cut), np.isnan(values))
        assert np.array_equal(np.isinf(cut), np.isinf(values))
        assert (np.abs(cut[finite].astype(np.float64)) <= np.abs(values[finite].astype(np.float64))).all()


def test_tf32_keeps_ten_bits_and_a_nan_with_a_low_payload() -> None:
    bits = np.array([0x3F802000, 0x3F803FFF, 0x7F800000, 0x7F800001], np.uint32)
    cut = to_tf32(bits.view(np.float32)).view(np.uint32)
    assert cut[:3].tolist() == [0x3F802000, 0x3F802000, 0x7F800000]
    assert np.isnan(cut.view(np.float32)[3])


@needs_interpreter
@pytest.mark.usefixtures("interpreter")
class TestDot:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
    def test_equals_the_product_of_the_values(self, dtype: torch.dtype) -> None:
        a, b = (torch.randint(-8, 9, (16, 16), generator=torch.Generator().manual_seed(i)).to(dtype) for i in (0, 1))
        out = torch.empty(16, 16, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        dot_kernel[(1,)](a, b, out, SIZE=16, PRECISION="ieee", OUT=tl.float64 if dtype == torch.float64 else tl.float32)
        assert torch.equal(out, (a.double() @ b.double()).to(out.dtype))

    def test_half_precision_accumulator_rounds_once(self) -> None:
        a = torch.full((16, 16), 1.0, dtype=torch.float16)
        b = torch.full((16, 16), 2049 / 16, dtype=torch.float16)
        out = torch.empty(16, 16, dtype=torch.float16)
        dot_kernel[(1,)](a, b, out, SIZE=16, PRECISION="ieee", OUT=tl.float16)
        assert torch.equal(out, (a.float() @ b.float()).half())

    def test_batched(self) -> None:
        a = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
        out = torch.empty(2, 16, 16)
        batched_dot_kernel[(1,)](a, a, out, BATCH=2, SIZE=16)
        torch.testing.assert_close(out, a.float() @ a.float())

    @pytest.mark.parametrize("precision", ["tf32", "ieee", "tf32x3", "bf16x3"])
    @pytest.mark.parametrize("asked", [False, True])
    def test_operands_are_cut_to_tf32_only_when_asked(self, precision: str, asked: bool) -> None:
        a, eye, out = torch.full((16, 16), 1 + 2**-11 + 2**-20), torch.eye(16), torch.empty(16, 16)
        with faithful(round_dot_operands=asked):
            dot_kernel[(1,)](a, eye, out, SIZE=16, PRECISION=precision, OUT=tl.float32)
        assert torch.equal(out, torch.ones_like(a) if asked and precision == "tf32" else a)

    def test_rejects_a_depth_that_no_gpu_multiplies(self) -> None:
        x = torch.ones(2, 2)
        with pytest.raises(triton.runtime.errors.InterpreterError, match="K >= "):
            dot_kernel[(1,)](x, x, x, SIZE=2, PRECISION="ieee", OUT=tl.float32)


@needs_interpreter
@pytest.mark.usefixtures("interpreter")
class TestBfloat16:
    @pytest.mark.parametrize("source", [torch.float32, torch.float64, torch.float16, torch.int32])
    def test_conversion_is_to_nearest_even(self, source: torch.dtype) -> None:
        x = torch.arange(16, dtype=torch.int32) + 250 if source == torch.int32 else specials(torch.float32).to(source)
        out = torch.empty(16, dtype=torch.bfloat16)
        convert_kernel[(1,)](x, out, SIZE=16, ROUNDING=None)
        assert same(out, x.to(torch.bfloat16))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int32])
    def test_conversion_from_bfloat16(self, dtype: torch.dtype) -> None:
        x = torch.arange(-8, 8).bfloat16() if dtype == torch.int32 else specials(torch.bfloat16)
        out = torch.empty(16, dtype=dtype)
        convert_kernel[(1,)](x, out, SIZE=16, ROUNDING=None)
        assert same(out, x.to(dtype))

    @pytest.mark.parametrize(("dtype", "largest"), [(torch.bfloat16, 3.3895313892515355e38), (torch.float16, 65504.0)])
    def test_rounding_towards_zero_when_asked(self, dtype: torch.dtype, largest: float) -> None:
        x, out = torch.full((16,), 3.4e38), torch.empty(16, dtype=dtype)
        x[1], x[2], x[3] = 1.99999, NAN, INF
        convert_kernel[(1,)](x, out, SIZE=16, ROUNDING="rtz")
        assert out[0].item() == largest
        assert out[1].item() < 2
        assert out[2].isnan()
        assert out[3].item() == INF

    def test_arithmetic_equals_torch(self) -> None:
        x, y = specials(torch.bfloat16), specials(torch.bfloat16).roll(3)
        out, smaller = torch.empty(9, 16, dtype=torch.bfloat16), torch.empty(16, dtype=torch.int32)
        arithmetic_kernel[(1,)](x, y, out, smaller, SIZE=16)
        fma = (x.double() * y.double() + x.double()).float()
        expected = [x + y, x - y, x * y, -x, x.abs(), torch.where(x < y, x, y), fma, x * 2.5, torch.fmin(x, y)]
        for actual, wanted in zip(out, expected, strict=True):
            assert same(actual, wanted.bfloat16())
        assert torch.equal(smaller, (x < y).int())

    @pytest.mark.parametrize("other", [0.0, INF, -INF, 1.5])
    def test_masked_load_and_constants(self, other: float) -> None:
        x, out = torch.arange(16).bfloat16(), torch.empty(2, 16, dtype=torch.bfloat16)
        masked_load_kernel[(1,)](x, out, 5, SIZE=16, OTHER=other)
        assert torch.equal(out[0], torch.where(torch.arange(16) < 5, x, other))
        assert torch.equal(out[1], torch.full_like(x, other))

    def test_sum_rounds_at_every_step(self) -> None:
        x, out = torch.full((16,), 1.0, dtype=torch.bfloat16), torch.empty(1, dtype=torch.bfloat16)
        x[:2] = 256.0
        narrow_sum_kernel[(1,)](x, out, SIZE=16)
        assert out.item() in (524.0, 528.0)


@needs_interpreter
@pytest.mark.usefixtures("interpreter")
class TestReductions:
    def test_minimum_drops_nan_unless_told(self) -> None:
        x, y = torch.tensor([1.0, NAN, NAN, -3.0]), torch.tensor([NAN, 2.0, NAN, 5.0])
        out = torch.empty(6, 4)
        nan_kernel[(1,)](x, y, out, SIZE=4)
        clamped = torch.tensor([1.0, NAN, NAN, -1.0])
        dropped = torch.tensor([1.0, -1.0, -1.0, -1.0])
        wanted = [torch.fmin(x, y), torch.fmax(x, y), torch.minimum(x, y), torch.maximum(x, y), dropped, clamped]
        assert [same(*pair) for pair in zip(out, wanted, strict=True)] == [True] * 6

    def test_constants_are_those_of_the_compiler(self) -> None:
        x, out = torch.tensor([0.0, 1.0, 0.5, -2.0]), torch.empty(2, 4)
        constant_kernel[(1,)](x, out, SIZE=4)
        assert out.tolist() == [[0.0, 0.5, 0.25, -1.0], [0.0, 1.0, 0.0, 0.0]]

    def test_a_kernel_sees_what_is_around_its_definition(self) -> None:
        x, out = torch.tensor([1.0, NAN]), torch.empty(2)
        kernel_with(nan_min)[(1,)](x, out, SIZE=2)
        assert same(out, x)

    def test_functions_are_methods_of_a_block(self) -> None:
        x, key, out = torch.tensor([0.0, 2.0, 4.0, -2.0]), torch.tensor([0, -1, 7, 2**31 - 1]), torch.empty(4)
        key = key.int()
        before = key.clone()
        method_kernel[(1,)](x, key, out, SIZE=4)
        assert out.tolist() == [1.0, 2.0, 4.0, 0.5]
        assert torch.equal(key, ~before)

    @pytest.mark.parametrize("grid", [(1,), [1], lambda given: [given["out_ptr"].numel() // 2 // given["SIZE"]]])
    def test_a_grid_is_what_a_launch_takes(self, grid: Any) -> None:
        x, out = torch.ones(4), torch.zeros(2, 4)
        constant_kernel[grid](x, out, SIZE=4)
        assert out.tolist() == [[0.5] * 4, [1.0] * 4]

    def test_min_and_max_of_python_go_element_by_element(self) -> None:
        x, y = torch.tensor([1.0, NAN, -3.0, 4.0]), torch.tensor([2.0, 5.0, -7.0, NAN])
        out = torch.empty(3, 4)
        python_fold_kernel[(1,)](x, y, out, 3, SIZE=4)
        wanted = [torch.fmin(x, y), torch.fmax(x, y).clamp(min=0.0), torch.arange(4.0).clamp(max=2.0)]
        assert torch.equal(out, torch.stack(wanted)), "the compiler takes them for tl.minimum and tl.maximum"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32])
    @pytest.mark.parametrize("axis", [1, -1])
    def test_min_drops_nan_and_finds_the_index(self, dtype: torch.dtype, axis: int) -> None:
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(2)).mul(50).to(dtype)
        out, index = torch.empty(9, dtype=dtype), torch.empty(4, dtype=torch.int32)
        row_min_kernel[(1,)](x, out, index, ROWS=4, COLS=8, AXIS=axis)
        assert torch.equal(out[:4], x.amin(1))
        assert torch.equal(out[4:8], x.amin(1))
        assert torch.equal(index.long(), x.argmin(1))
        if dtype.is_floating_point:
            x[0, 0], x[1] = NAN, NAN
            row_min_kernel[(1,)](x, out, index, ROWS=4, COLS=8, AXIS=axis)
            assert out[0] == x[0, 1:].amin()
            assert out[1].isnan()

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_custom_combine(self, axis: int, dtype: torch.dtype) -> None:
        x = torch.randn(64, 64, generator=torch.Generator().manual_seed(3)).to(dtype)
        x[5, 7] = NAN
        out = torch.empty(64, dtype=dtype)
        seconds = []
        for _ in range(4):
            started = time.process_time()
            reduce_kernel[(1,)](x, out, ROWS=64, COLS=64, AXIS=axis, COMBINE=nan_min)
            seconds.append(time.process_time() - started)
        assert min(seconds) < 0.05
        assert same(out, x.amin(axis))

    def test_combine_that_branches_takes_the_slow_way(self) -> None:
        x, out = torch.randn(4, 8, generator=torch.Generator().manual_seed(4)), torch.empty(4)
        reduce_kernel[(1,)](x, out, ROWS=4, COLS=8, AXIS=1, COMBINE=first_or_min)
        assert torch.equal(out, x.amin(1))

    def test_order_is_kept_for_a_combine_that_does_not_commute(self) -> None:
        slope = torch.tensor([1.0, 2.0, -1.0, 3.0, 1.0, -2.0, 2.0, 1.0])
        shift = torch.arange(8.0)
        out, scan = torch.empty(1), torch.empty(2, 8)
        affine_kernel[(1,)](slope, shift, out, scan, SIZE=8)
        for row, order in ((0, list(range(8))), (1, list(reversed(range(8))))):
            running = [0.0]
            for index in order:
                running.append(running[-1] * slope[index].item() + shift[index].item())
            assert scan[row][order].tolist() == running[1:]
        assert out.item() == scan[0, -1].item()


@triton.jit
def promising_kernel(x_ptr, out_ptr, start, PROMISED: tl.constexpr):
    offs = tl.multiple_of(start, PROMISED) + tl.arange(0, 4)
    tl.store(out_ptr + tl.arange(0, 4), tl.load(tl.multiple_of(x_ptr, 4) + tl.multiple_of(offs, PROMISED)))


@needs_interpreter
@pytest.mark.usefixtures("interpreter")
class TestPromises:
    def test_a_true_promise_changes_nothing(self) -> None:
        x, out = torch.arange(24.0), torch.zeros(4)
        promising_kernel[(1,)](x, out, 16, PROMISED=8)
        assert out.tolist() == [16.0, 17.0, 18.0, 19.0]

    @pytest.mark.parametrize("start", [4, 7])
    def test_a_false_promise_ends_the_kernel(self, start: int) -> None:
        with pytest.raises(Exception, match=f"{FalsePromiseError.__name__}.*multiple of 8, and gets {start}"):
            promising_kernel[(1,)](torch.arange(24.0), torch.zeros(4), start, PROMISED=8)


@needs_interpreter
@pytest.mark.usefixtures("interpreter")
class TestLaunch:
    def test_boolean_operators_loops_and_arguments(self) -> None:
        x, out = torch.arange(64, dtype=torch.float64), torch.empty(8, dtype=torch.float64)
        control_kernel[(1,)](x, out, 6, 2, 0.1, 0.1, True, SIZE=8)
        steps = torch.where((torch.arange(8) >= 2) & (torch.arange(8) < 6), torch.arange(8.0).double() * 3, 0.0)
        # An unannotated float reaches a GPU kernel as fp32, an annotated one as what it says.
        assert torch.equal(out, steps * torch.tensor(0.1).double() + 0.1)

    def test_integers_wrap_and_divide_like_c(self) -> None:
        x = torch.tensor([7, -7, 2**30, -(2**31)], dtype=torch.int32)
        out = torch.empty(4, 4, dtype=torch.int32)
        integer_kernel[(1,)](x, out, 5, SIZE=4)
        assert torch.equal(out[0], x * 5)
        assert torch.equal(out[1], torch.div(x, 3, rounding_mode="trunc"))
        assert torch.equal(out[2], torch.fmod(x, 3))
        assert torch.equal(out[3, :3], torch.div(x[:3] + 2, 3, rounding_mode="trunc") + 1)

    def test_atomic_min_and_max_of_floats(self) -> None:
        x, out = torch.tensor([1.0, -2.5, 0.5, -0.25]), torch.tensor([INF, -INF])
        atomic_kernel[(2,)](x, out, SIZE=4)
        assert out.tolist() == [-2.5, 1.0]

    def test_infinities_and_nan_are_not_warned_about(self) -> None:
        x, out = torch.tensor([INF, -INF, 3e38, NAN]), torch.empty(4, dtype=torch.float16)
        convert_kernel[(1,)](x, out, SIZE=4, ROUNDING=None)
        assert same(out, x.half())

    @pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 3), (-1, -2), (5, 6)])
    def test_descriptor_at_any_offset(self, row: int, col: int) -> None:
        x, out = torch.arange(1.0, 65.0).reshape(8, 8), torch.empty(4, 4)
        descriptor_kernel[(1,)](x, out, 8, 8, row, col, SIZE=4)
        padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
        assert torch.equal(out, padded[row + 4 : row + 8, col + 4 : col + 8])

    def test_autotuner_takes_the_first_config(self) -> None:
        x, out = torch.arange(24.0), torch.empty(24)
        tuned_kernel[lambda meta: (triton.cdiv(24, meta["BLOCK"]),)](x, out, 24)
        assert torch.equal(out, x + 108)


def snapshot() -> dict[str, dict[str, Any]]:
    from triton.runtime import autotuner, interpreter

    owners = {
        "module": interpreter,
        "builder": interpreter.interpreter_builder,
        "semantic": interpreter.interpreter_semantic,
        "tl": tl,
        "core": tl.core,
        "tensor": tl.tensor,
        "dtype": tl.dtype,
        "Autotuner": autotuner.Autotuner,
    }
    classes = ("InterpreterBuilder", "ReduceOps", "ScanOps", "GridExecutor", "FunctionRewriter", "InterpretedFunction")
    owners |= {name: getattr(interpreter, name) for name in (*classes, "TensorDescHandle")}
    launch_state = ("grid_dim", "grid_idx")
    attributes = {name: vars(owner).items() for name, owner in owners.items()}
    return {name: {key: value for key, value in items if key not in launch_state} for name, items in attributes.items()}


@needs_interpreter
def test_restored_after_a_kernel_that_fails() -> None:
    before, x = snapshot(), torch.ones(2, 2)
    with pytest.raises(triton.runtime.errors.InterpreterError), faithful(round_dot_operands=False):
        dot_kernel[(1,)](x, x, x, SIZE=2, PRECISION="ieee", OUT=tl.float32)
    assert snapshot() == before


@needs_interpreter
@pytest.mark.parametrize("asked", [False, True])
def test_everything_is_restored(asked: bool) -> None:
    before = snapshot()
    x, out, index = torch.ones(4, 8), torch.empty(9), torch.empty(4, dtype=torch.int32)
    with faithful(round_dot_operands=asked), faithful(round_dot_operands=not asked):
        assert snapshot() != before
        row_min_kernel[(1,)](x, out, index, ROWS=4, COLS=8, AXIS=1)
    after = snapshot()
    for name, attributes in before.items():
        assert after[name].keys() == attributes.keys()
        assert [key for key, value in attributes.items() if after[name][key] is not value] == []
