"""Conversions, elementwise operations and `tl.dot` on Triton's CPU interpreter, as a GPU computes them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np

from fuzz.rounding import Array, from_bfloat16, to_bfloat16, to_tf32, truncate

Handle = Any  # triton.runtime.interpreter.TensorHandle: .data (numpy), .dtype (Triton's scalar type)
Block = Any  # triton.language.tensor: .handle, .type

_ABSENT: Final = object()


class Triton:
    """Triton's modules, and replacements in them that `restore` undoes."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []
        self.interpreter: Any = _module("triton.runtime.interpreter")
        self.autotuner: Any = _module("triton.runtime.autotuner")
        self.jit: Any = _module("triton.runtime.jit")
        self.tl: Any = _module("triton.language")
        self.ir: Any = _module("triton._C.libtriton").ir

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute until `restore`; then it is what it was, or absent again."""
        self._replaced.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def restore(self) -> None:
        """Undo every replacement, the last one first."""
        while self._replaced:
            owner, name, value = self._replaced.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    def wrap(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        """Route calls of a function or method through `replacement(original, ...)`."""
        original = getattr(owner, name)

        def routed(*args: Any, **kwargs: Any) -> Any:
            return replacement(original, *args, **kwargs)

        self.put(owner, name, routed)

    def handle(self, data: Array, dtype: Any) -> Handle:
        """Return an interpreter's handle for an array."""
        return self.interpreter.TensorHandle(data, dtype.scalar)

    def block(self, data: Array, dtype: Any) -> Block:
        """Return a block tensor for an array."""
        shape = list(data.shape)
        return self.tl.tensor(self.handle(data, dtype), self.tl.block_type(dtype, shape))

    def scalar(self, value: Any, dtype: Any) -> Block:
        """Return a scalar tensor for a number."""
        data = np.array([value])
        bits = to_bfloat16(data) if dtype == self.tl.bfloat16 else data.astype(self.numpy_dtype(dtype))
        return self.tl.tensor(self.handle(bits, dtype), dtype)

    def filled(self, shape: tuple[int, ...], dtype: Any, value: float) -> Handle:
        """Return a handle that holds one number everywhere; an integer type gets one that is far from any index."""
        if dtype == self.tl.bfloat16:
            return self.handle(to_bfloat16(np.full(shape, value, np.float32)), dtype)
        kind = self.numpy_dtype(dtype)
        odd = np.iinfo(kind).max // 3 if np.issubdtype(kind, np.integer) else value
        return self.handle(np.full(shape, odd, kind), dtype)

    def numpy_dtype(self, dtype: Any) -> np.dtype[Any]:
        """Return the numpy dtype in which Triton stores a dtype."""
        converted: np.dtype[Any] = self.interpreter._get_np_dtype(dtype)
        return converted

    def is_bfloat16(self, handle: Handle) -> bool:
        """Return whether a handle holds bfloat16 bits."""
        # A comparison of bfloat16 blocks also carries the type bfloat16, on booleans.
        return bool(handle.dtype.scalar == self.tl.bfloat16 and handle.data.dtype == np.uint16)

    def values(self, handle: Handle) -> Array:
        """Return the numbers of a handle: bfloat16 bits as float32, everything else as it is stored."""
        data: Array = handle.data
        return from_bfloat16(data) if self.is_bfloat16(handle) else data


@cache
def _module(name: str) -> Any:
    # Every trial asks; importlib takes longer to answer than a dictionary.
    return importlib.import_module(name)


class Arithmetic:
    """Conversions, elementwise operations and `tl.dot`, method by method of Triton's InterpreterBuilder."""

    def __init__(self, triton: Triton, *, round_dot_operands: bool) -> None:
        self._triton = triton
        self._round_dot_operands = round_dot_operands

    def install(self) -> None:
        """Replace the builder's methods."""
        triton, builder = self._triton, self._triton.interpreter.InterpreterBuilder
        triton.wrap(builder, "cast_impl", self.cast)
        triton.wrap(builder, "create_fp_to_fp", self.convert)
        triton.wrap(builder, "binary_op", self.elementwise)
        triton.wrap(builder, "unary_op", self.elementwise)
        triton.wrap(builder, "create_fma", self.fma)
        triton.wrap(builder, "create_clampf", self.clamp)
        triton.wrap(builder, "create_dot", self.dot)
        for name, operation in (("create_minnumf", np.fmin), ("create_maxnumf", np.fmax)):
            triton.put(builder, name, _binary(operation))
        triton.put(builder, "get_bf16", lambda _, value: triton.scalar(value, triton.tl.bfloat16).handle)
        triton.wrap(triton.interpreter.TensorDescHandle, "materialize_pointers", self.descriptor_pointers)

    def cast(self, original: Any, builder: Any, source: Handle, target: Any) -> Handle:
        """Convert between number types, rounding to nearest even."""
        triton, dtype = self._triton, target.scalar
        if dtype == triton.tl.bfloat16:
            return triton.handle(to_bfloat16(triton.values(source)), dtype)
        if triton.is_bfloat16(source):
            return triton.handle(triton.values(source).astype(triton.numpy_dtype(dtype)), dtype)
        return original(builder, source, target)

    def convert(self, original: Any, builder: Any, source: Handle, target: Any, rounding: Any) -> Handle:
        """Convert between floating-point types with the rounding that the kernel asks for."""
        triton, dtype = self._triton, target.scalar
        if source.dtype.scalar.is_fp8() or dtype.is_fp8():
            return self._convert_fp8(original, builder, source, dtype, rounding)
        if rounding != triton.ir.ROUNDING_MODE.RTZ:
            return builder.cast_impl(source, target)
        if dtype == triton.tl.bfloat16:
            return triton.handle(to_bfloat16(triton.values(source), toward_zero=True), dtype)
        return triton.handle(truncate(triton.values(source), triton.numpy_dtype(dtype)), dtype)

    def _convert_fp8(self, original: Any, builder: Any, source: Handle, dtype: Any, rounding: Any) -> Handle:
        single = self._triton.tl.float32
        if self._triton.is_bfloat16(source):
            source = builder.cast_impl(source, single)
        if dtype == self._triton.tl.bfloat16:
            return builder.cast_impl(original(builder, source, single, rounding), dtype)
        return original(builder, source, dtype, rounding)

    def elementwise(self, original: Any, builder: Any, *operands_and_operation: Any) -> Handle:
        """Compute on numbers rather than on bfloat16's bits."""
        triton = self._triton
        *operands, operation = operands_and_operation
        if any(triton.is_bfloat16(operand) for operand in operands):
            result = operation(*map(triton.values, operands))
            narrowed = result if result.dtype == np.bool_ else to_bfloat16(result)
            handle = triton.handle(narrowed, triton.tl.bfloat16)
        else:
            handle = original(builder, *operands_and_operation)
        if handle.data.dtype == np.bool_:
            handle.dtype = triton.tl.int1  # Triton leaves the type of the operands on a comparison
        return handle

    def fma(self, original: Any, builder: Any, x: Handle, y: Handle, z: Handle) -> Handle:
        """Multiply and add with one rounding where that can be had."""
        triton = self._triton
        native = hasattr(triton.interpreter._interpreter, "fma_fp32")  # since 3.9 it rounds once by itself
        if z.data.dtype == np.float64 or (native and not triton.is_bfloat16(z)):
            return original(builder, x, y, z)
        wide = [triton.values(operand).astype(np.float64) for operand in (x, y, z)]
        total = wide[0] * wide[1] + wide[2]
        narrow = to_bfloat16(total) if triton.is_bfloat16(z) else total.astype(z.data.dtype)
        return triton.handle(narrow, z.dtype)

    def clamp(self, original: Any, builder: Any, x: Handle, low: Handle, high: Handle, propagate: Any) -> Handle:
        """Clamp, dropping NaN unless the kernel asks to keep it."""
        drop = propagate == self._triton.ir.PROPAGATE_NAN.NONE
        lower, upper = (np.fmax, np.fmin) if drop else (np.maximum, np.minimum)
        return builder.binary_op(builder.binary_op(x, low, lower), high, upper)

    def dot(self, original: Any, builder: Any, a: Handle, b: Handle, acc: Handle, precision: Any, *rest: Any) -> Handle:
        """Multiply matrices of numbers, with operands rounded to tf32 when asked."""
        triton = self._triton
        if not all(operand.dtype.scalar.is_standard_floating() for operand in (a, b)):
            return original(builder, a, b, acc, precision, *rest)  # int8 and fp8
        compute = np.float64 if acc.data.dtype == np.float64 else np.float32
        left, right = (triton.values(operand).astype(compute) for operand in (a, b))
        cut = self._round_dot_operands and precision == triton.ir.INPUT_PRECISION.TF32
        if cut and a.dtype.scalar == triton.tl.float32:
            left, right = to_tf32(left), to_tf32(right)
        total = np.matmul(left, right) + acc.data.astype(compute)
        return triton.handle(total.astype(acc.data.dtype), acc.dtype)

    def descriptor_pointers(self, _: Any, descriptor: Any, offsets: list[Handle]) -> tuple[Handle, Handle]:
        """Return a descriptor's pointers and mask without the alignment that hardware does not ask for."""
        # Triton asserts that the innermost offset is a multiple of 16 bytes; only base and strides need to be.
        triton, shape = self._triton, descriptor.block_shape
        itemsize = descriptor.base.dtype.element_ty.primitive_bitwidth // 8
        pointers = np.broadcast_to(descriptor.base.data, shape)
        mask = np.ones(shape, dtype=bool)
        for axis, offset in enumerate(offsets):
            ruler = [-1 if other == axis else 1 for other in range(len(shape))]
            index = (offset.data.astype(np.int64) + np.arange(shape[axis])).reshape(ruler)
            stride = descriptor.strides[axis].data.astype(np.int64)
            pointers = pointers + (itemsize * index * stride).astype(np.uint64)
            mask = mask & (index >= 0) & (index < descriptor.shape[axis].data)
        return triton.handle(pointers, descriptor.base.dtype), triton.handle(mask, triton.tl.int1)


def _binary(operation: Any) -> Callable[..., Handle]:
    def create(builder: Any, lhs: Handle, rhs: Handle) -> Handle:
        return builder.binary_op(lhs, rhs, operation)

    return create
