"""Every access to memory on Triton's CPU interpreter: checked before it happens, and recorded.

Whatever a kernel loads or stores through, plain pointers, block pointers or descriptors, ends in four functions of
Triton's C++ module, the same in every version. `AccessRecorder` stands before these. The first rule is that a sound
kernel is never accused: where an address may come from somewhere that cannot be followed, it is let through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import numpy as np

from fuzz.coverage import LineCoverage, Operation
from fuzz.interpreter_arithmetic import Triton
from fuzz.interpreter_lines import LineRecorder
from fuzz.memory import Addresses, Flags, Memory, Program, Region, Violation
from fuzz.store_log import DoubleStore, StoreLog, Stores

_KIND: Final[dict[Operation, Literal["read", "write", "atomic"]]] = {
    "load": "read",
    "store": "write",
    "atomic": "atomic",
}
# Builder methods of Triton 3.9 that are atomic, and load or store like ordinary ones.
_ATOMIC_METHODS: Final = ("create_atomic_load", "create_atomic_store", "create_atomic_poll")


class AccessViolationError(Exception):
    """Ends a kernel before it touches memory that it was not given; the message says which."""


class AccessRecorder:
    """Checks and records what kernels do to memory, over all launches under one `faithful`.

    Kernels may touch the elements of the regions of a memory, and the whole storage of any other tensor that a launch
    is given.

    Attributes:
        violation: The first access outside of these. Also where a target swallows the exception that it raises.
        race: What two programs of one launch did to one item in no certain order; empty if nothing was seen.
    """

    def __init__(self, memory: Memory, *, undefined: float = 0.0) -> None:
        """Take what kernels may touch; regions may be added to it until a launch begins.

        `undefined` is what a load gives where its mask is false and the kernel names no other value.
        """
        self.violation: Violation | None = None
        self.race = ""
        self._memory = memory
        self._undefined = undefined
        self._lines = LineRecorder()
        self._logs: dict[int, StoreLog] = {}
        self._storages: dict[int, Region] = {}  # of tensors that nobody registered
        # Of the launch under way:
        self._here = memory
        self._first_writer = 1  # the number of its program (0, 0, 0)
        self._last_writer = 0  # the highest number of a program so far
        self._follows_pointers = True  # until the kernel makes a pointer out of an integer
        self._is_ordered = False  # whether an atomic operation may have put programs in order
        self._atomic_regions: set[int] = set()  # where atomic operations went
        self._is_atomic = False  # inside an atomic operation that loads or stores like an ordinary one
        self._names_other = False  # inside a load that says what masked lanes hold

    @property
    def coverage(self) -> tuple[LineCoverage, ...]:
        """What the masks of each line did, with zeros for accesses that no program came to.

        These are the ones in kernels of a launched kernel's own file, and in whatever functions it called elsewhere.
        """
        return self._lines.coverage()

    def stores(self, tensor: Any) -> Stores | None:
        """Return what kernels stored in the elements of a tensor.

        None if no kernel wrote to its memory, or if some did in units other than its elements.
        """
        for log in reversed(self._logs.values()):
            if log.region.start <= tensor.data_ptr() < log.region.end:
                return log.of(tensor)
        return None

    def install(self, triton: Triton) -> None:
        """Stand before Triton's accesses to memory."""
        self._triton = triton
        interpreter, builder = triton.interpreter, triton.interpreter.InterpreterBuilder
        for name in ("load", "store", "atomic_rmw", "atomic_cas"):
            triton.wrap(interpreter._interpreter, name, getattr(self, f"_{name}"))
        triton.wrap(interpreter.TritonSemantic, "atom_red_typechecking_impl", self._atomic_mask)
        triton.wrap(interpreter.TritonSemantic, "_load_legacy", self._typed_load)
        triton.wrap(interpreter.GridExecutor, "_init_args_hst", self._launch)
        triton.wrap(interpreter, "_patch_lang", self._call)
        triton.wrap(builder, "create_int_to_ptr", self._integer_to_pointer)
        triton.wrap(builder, "create_masked_load", self._masked_load)
        for name in _ATOMIC_METHODS:
            if hasattr(builder, name):
                triton.wrap(builder, name, self._atomic_method)

    # What Triton calls

    def _launch(self, original: Any, executor: Any, *arguments: Any) -> Any:
        host = original(executor, *arguments)  # on the CPU these are views of the same storages
        positional, named = host
        tensors = [*zip(executor.arg_names, positional, strict=False), *named.items()]
        self._begin(tensor for name, value in tensors for tensor in _tensors(name, value))
        self._lines.enter(executor.fn.__code__, launched=True)
        return host

    def _call(self, original: Any, function: Any) -> Any:
        self._lines.enter(function.__code__, launched=False)
        return original(function)

    def _integer_to_pointer(self, original: Any, *arguments: Any) -> Any:
        self._follows_pointers = False
        return original(*arguments)

    def _atomic_method(self, original: Any, *arguments: Any) -> Any:
        self._is_atomic = self._is_ordered = True
        try:
            return original(*arguments)
        finally:
            self._is_atomic = False

    def _atomic_mask(self, original: Any, *arguments: Any, **named: Any) -> Any:
        # A minimum of floats becomes two operations, one for either sign: the kernel's own mask is seen only here.
        typed = original(*arguments, **named)
        self._lines.count("atomic", typed[2].handle.data)
        return typed

    def _masked_load(
        self, original: Any, builder: Any, addresses: Any, mask: Any, other: Any, *rest: Any, **named: Any
    ) -> Any:
        # The mask of a block pointer is a plain array in some versions; its `data` is a view of it all the same.
        if other is None and not self._names_other and not np.asarray(mask.data).all():
            other = self._triton.filled(addresses.data.shape, addresses.get_element_ty(), self._undefined)
        return original(builder, addresses, mask, other, *rest, **named)

    def _typed_load(self, original: Any, semantic: Any, pointer: Any, mask: Any, other: Any, *rest: Any) -> Any:
        # A single number that is 0 counts as false there, and is dropped as if the kernel had named none.
        self._names_other = other is not None
        try:
            return original(semantic, pointer, mask, other, *rest)
        finally:
            self._names_other = False

    def _load(self, original: Any, addresses: Any, mask: Any, other: Any, dtype: Any) -> Any:
        touched = self._examine("atomic" if self._is_atomic else "load", addresses, np.asarray(mask), dtype.itemsize)
        if not self._is_ordered:
            self._look_for_race(touched, dtype.itemsize, "read")
        return original(addresses, mask, other, dtype)

    def _store(self, original: Any, addresses: Any, values: Any, mask: Any) -> Any:
        flags = np.asarray(mask)
        touched = self._examine("atomic" if self._is_atomic else "store", addresses, flags, values.itemsize)
        if self._is_atomic:
            self._record_atomic(touched, values.itemsize)
        else:
            self._record_store(touched, values.ravel()[flags.ravel()])
        return original(addresses, values, mask)

    def _atomic_rmw(self, original: Any, operator: Any, addresses: Any, values: Any, mask: Any, order: Any) -> Any:
        touched = self._examine("atomic", addresses, np.asarray(mask), values.itemsize, counted=True)
        self._record_atomic(touched, values.itemsize)
        return original(operator, addresses, values, mask, order)

    def _atomic_cas(self, original: Any, addresses: Any, expected: Any, values: Any, order: Any) -> Any:
        touched = self._examine("atomic", addresses, np.ones(addresses.shape, np.bool_), values.itemsize)
        self._record_atomic(touched, values.itemsize)
        return original(addresses, expected, values, order)

    # What it means

    def _begin(self, tensors: Iterable[tuple[str, Any]]) -> None:
        self._here = self._memory.copy()
        self._first_writer = self._last_writer + 1
        self._follows_pointers, self._is_ordered = True, False
        self._atomic_regions = set()
        # Where several tensors share a storage, its items are those of the smallest.
        for name, tensor in sorted(tensors, key=lambda named: named[1].element_size()):
            storage = tensor.untyped_storage()
            start, size = storage.data_ptr(), storage.nbytes()
            if not self._here.overlaps(start, size):
                self._here.add(self._region(name, storage, start, size, tensor.element_size()))

    def _region(self, name: str, storage: Any, start: int, size: int, itemsize: int) -> Region:
        known = self._storages.get(start)
        if known is None or known.size != size:
            known = Region(name=name, start=start, size=size, itemsize=itemsize, owner=storage)
            self._storages[start] = known
        return known

    def _examine(
        self, operation: Operation, addresses: Addresses, mask: Flags, width: int, *, counted: bool = False
    ) -> Addresses:
        """Check an access, and return the addresses that it touches, 1-D."""
        if addresses.dtype != np.uint64:
            # Triton's interpreter reads what a pointer to pointers points to as numbers.
            raise NotImplementedError("a pointer loaded from memory is not supported in interpreter mode")
        lanes = int(np.count_nonzero(mask)) if counted else self._lines.count(operation, mask)
        touched = addresses.ravel()
        if lanes != mask.size:
            touched = touched[mask.ravel()]
        if lanes:
            first, end = int(touched.min()), int(touched.max()) + width
            region = self._here.at(first)
            spanned = region if region is not None and region.spans(first, end) else None
            if spanned is None or (spanned.has_gaps and not spanned.are_elements(touched, width).all()):
                self._search(operation, touched, width)
        return touched

    def _search(self, operation: Operation, addresses: Addresses, width: int) -> None:
        for region, lanes in self._by_region(addresses):
            outcasts = addresses[lanes]
            if region is not None:
                outcasts = outcasts[~region.admits(outcasts, width)]
            if outcasts.size and (region is not None or self._follows_pointers):
                self._refuse(operation, int(outcasts.min()), width)

    def _by_region(self, addresses: Addresses) -> Iterator[tuple[Region | None, Flags]]:
        """Yield the regions that an access touches, from the lowest address up, and the lanes that begin in each."""
        left = np.ones(addresses.shape, np.bool_)
        while left.any():
            first = int(addresses[left].min())
            region = self._here.at(first)
            end = self._here.next_start(first) if region is None else region.end
            yield region, left & (addresses < end)
            left &= addresses >= end

    def _refuse(self, operation: Operation, address: int, width: int) -> None:
        file, line, text = self._lines.place()
        violation = Violation(
            kind=_KIND[operation],
            address=self._here.describe(address, width),
            file=file,
            line=line,
            text=text,
            program=self._triton.interpreter.interpreter_builder.grid_idx,
        )
        self.violation = self.violation or violation
        raise AccessViolationError(str(violation))

    def _record_atomic(self, touched: Addresses, width: int) -> None:
        self._is_ordered = True
        for log, lanes in self._logs_of(touched):
            self._atomic_regions.add(log.region.start)
            # An atomic operation elsewhere may be a lock, or count who has finished. These here are the data itself.
            if self._atomic_regions == {log.region.start}:
                self._look_for_race(touched[lanes], width, "updated atomically")
            log.update(touched[lanes], width)

    def _look_for_race(self, touched: Addresses, width: int, deed: str) -> None:
        """Note where this program meets what another one stored in the same launch."""
        if self.race or not touched.size:
            return
        for region, lanes in self._by_region(touched):
            log = self._logs.get(region.start) if region is not None else None
            if log is None or log.region is not region:
                continue
            other = log.other_writer(touched[lanes], width, writer=self._writer(), since=self._first_writer)
            if other is not None:
                file, line, text = self._lines.place()
                programs = f"program {self._program(other)} stored and program {self._program(self._writer())} {deed}"
                self.race = f"{programs}, in no certain order, at {file}:{line}: {text}"

    def _record_store(self, touched: Addresses, values: Any) -> None:
        writer = self._writer()
        self._last_writer = max(self._last_writer, writer)
        for log, lanes in self._logs_of(touched):
            # What programs did before an atomic operation, they may have done in an order that it imposed.
            since = writer if self._is_ordered else self._first_writer
            found = log.store(touched[lanes], values[lanes], writer=writer, since=since)
            if found and (log.example is None or (found[1] and not log.example.differing)):
                log.example = self._double_store(found[0], found[1])

    def _writer(self) -> int:
        """Return the number of the program that is running."""
        x, y, z = self._triton.interpreter.interpreter_builder.grid_idx
        _, ny, nz = self._triton.interpreter.interpreter_builder.grid_dim
        return int(self._first_writer + (x * ny + y) * nz + z)

    def _program(self, number: int) -> Program:
        """Return the place in the grid of a program of this launch."""
        grid = self._triton.interpreter.interpreter_builder.grid_dim
        x, y, z = (int(index) for index in np.unravel_index(number - self._first_writer, grid))
        return x, y, z

    def _double_store(self, first: int, differing: bool) -> DoubleStore:
        file, line, text = self._lines.place()
        programs = self._program(first), self._program(self._writer())
        return DoubleStore(differing=differing, programs=programs, file=file, line=line, text=text)

    def _logs_of(self, addresses: Addresses) -> Iterator[tuple[StoreLog, Flags]]:
        for region, lanes in self._by_region(addresses):
            if region is not None:
                log = self._logs.get(region.start)
                if log is None or log.region is not region:
                    log = self._logs[region.start] = StoreLog(region)
                yield log, lanes


def _tensors(name: str, argument: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of an argument: itself, or what a tuple, a descriptor or a wrapper holds."""
    if isinstance(argument, tuple):
        for part in argument:
            yield from _tensors(name, part)
    elif hasattr(argument, "untyped_storage"):
        yield name, argument
    elif hasattr(argument, "base"):
        yield from _tensors(name, argument.base)
