"""`tl.reduce` and `tl.associative_scan` on Triton's CPU interpreter: whole blocks at a time, NaN as on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzz.interpreter_arithmetic import Block, Triton
from fuzz.rounding import Array


class _NotElementwiseError(Exception):
    """A combine function asked for the truth of a whole block."""


class Reductions:
    """Reductions and scans, over the neighbours of a block rather than element by element."""

    def __init__(self, triton: Triton) -> None:
        self._triton = triton
        self._combining = False

    def install(self) -> None:
        """Replace what Triton does with a combine function."""
        interpreter = self._triton.interpreter
        self._triton.wrap(interpreter, "_patch_lang_tensor", self.enter_tensor)
        self._triton.wrap(interpreter.ReduceOps, "apply_impl", self.reduce)
        self._triton.wrap(interpreter.ScanOps, "apply_impl", self.scan)

    def enter_tensor(self, original: Any, tensor: Any, scope: Any) -> None:
        """Make the truth of a whole block an error while a combine function runs on blocks."""
        original(tensor, scope)
        truth = tensor.__bool__

        def guarded(block: Block) -> bool:
            if self._combining and block.handle.data.size != 1:
                raise _NotElementwiseError
            return bool(truth(block))

        scope.set_attr(tensor, "__bool__", guarded)

    def reduce(self, original: Any, operation: Any, blocks: tuple[Block, ...]) -> Any:
        """Reduce along an axis, a pair of half blocks at a time."""
        rank = blocks[0].handle.data.ndim
        arrays = [block.handle.data for block in blocks]
        axis = _axis(operation.axis, rank)
        if axis is None:
            arrays, axis = [array.reshape(-1) for array in arrays], 0
            kept: tuple[int, ...] = (1,) * rank
        else:
            operation.axis = axis
            kept = (*arrays[0].shape[:axis], 1, *arrays[0].shape[axis + 1 :])
        dtypes = [block.type.scalar for block in blocks]
        try:
            reduced = self._fold(operation.combine_fn, arrays, dtypes, axis)
        except Exception:  # whatever a foreign combine function does to a block that it would not do to a scalar
            return original(operation, blocks)
        shape = kept if operation.keep_dims else () if operation.axis is None else kept[:axis] + kept[axis + 1 :]
        return tuple(self._packed(array, shape, dtype) for array, dtype in zip(reduced, dtypes, strict=True))

    def _packed(self, array: Array, shape: tuple[int, ...], dtype: Any) -> Block:
        if shape:
            return self._triton.block(array.reshape(shape), dtype)
        return self._triton.tl.tensor(self._triton.handle(array.reshape(1), dtype), dtype)

    def _fold(self, combine: Any, arrays: list[Array], dtypes: list[Any], axis: int) -> list[Array]:
        standard = self._triton.tl.standard
        exact = {standard._elementwise_min: np.fmin, standard._elementwise_max: np.fmax}
        if combine in exact and dtypes[0] != self._triton.tl.bfloat16:
            return [exact[combine].reduce(arrays[0], axis=axis)]
        if combine is standard._sum_combine and dtypes[0].primitive_bitwidth >= 32:
            return [np.sum(arrays[0], axis=axis, dtype=arrays[0].dtype)]
        # Neighbours first: the order of the elements stays, and there are only log2 steps. Narrow sums come this
        # way too, so that every step is rounded as it is on a GPU.
        while (length := arrays[0].shape[axis]) > 1:
            if length % 2:
                raise _NotElementwiseError
            pairs = [np.moveaxis(array, axis, 0) for array in arrays]
            left = [np.moveaxis(pair[0::2], 0, axis) for pair in pairs]
            right = [np.moveaxis(pair[1::2], 0, axis) for pair in pairs]
            arrays = self._combine(combine, left, right, dtypes)
        return arrays

    def _combine(self, combine: Any, left: list[Array], right: list[Array], dtypes: list[Any]) -> list[Array]:
        """Call a combine function once on whole blocks instead of once per element."""
        triton, semantic = self._triton, self._triton.interpreter.interpreter_semantic
        operands = [triton.block(array, dtype) for array, dtype in zip(left + right, dtypes * 2, strict=True)]
        outer, self._combining = self._combining, True
        try:
            returned = combine(*operands)
        finally:
            self._combining = outer
        results = returned if isinstance(returned, tuple) else (returned,)
        cast = [semantic.cast(semantic.to_tensor(result), dtype) for result, dtype in zip(results, dtypes, strict=True)]
        return [np.broadcast_to(block.handle.data, left[0].shape) for block in cast]

    def scan(self, original: Any, operation: Any, blocks: tuple[Block, ...]) -> Any:
        """Scan along an axis, a slice at a time."""
        arrays = [block.handle.data for block in blocks]
        axis = operation.axis = _axis(operation.axis, arrays[0].ndim)
        dtypes = [block.type.scalar for block in blocks]
        standard = self._triton.tl.standard
        wide = dtypes[0].primitive_bitwidth >= 32
        if axis is None or (wide and operation.combine_fn in (standard._sum_combine, standard._prod_combine)):
            return original(operation, blocks)
        try:
            scanned = self._scan_slices(operation, arrays, dtypes, axis)
        except Exception:  # as in reduce
            return original(operation, blocks)
        return tuple(self._triton.block(array, dtype) for array, dtype in zip(scanned, dtypes, strict=True))

    def _scan_slices(self, operation: Any, arrays: list[Array], dtypes: list[Any], axis: int) -> list[Array]:
        ordered = [np.flip(array, axis) for array in arrays] if operation.reverse else arrays
        slices = zip(*(np.split(array, array.shape[axis], axis) for array in ordered), strict=True)
        steps = [list(next(slices))]
        for step in slices:
            steps.append(self._combine(operation.combine_fn, steps[-1], list(step), dtypes))
        joined = [np.concatenate(column, axis) for column in zip(*steps, strict=True)]
        return [np.flip(array, axis).copy() for array in joined] if operation.reverse else joined


def _axis(axis: Any, rank: int) -> int | None:
    plain = getattr(axis, "value", axis)
    return None if plain is None else int(plain) % rank
