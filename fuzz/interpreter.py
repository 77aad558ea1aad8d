"""The adapter on Triton's CPU interpreter.

All contact with Triton's private names is here and in the `interpreter_*` modules beside it.

The interpreter runs a kernel with numpy, and differs from a GPU in ways that accuse sound kernels and hide flawed
ones: it multiplies bfloat16 by its bits, ignores `input_precision`, lets NaN through `tl.minimum`, and so on.
`faithful` replaces the methods that differ, for as long as its block runs.

The replacements take whatever arguments a Triton version appends (`*rest`), and hand on what they do not care about
to the method that they replace.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import operator
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from fuzz.interpreter_access import AccessRecorder
from fuzz.interpreter_arithmetic import Arithmetic, Block, Triton
from fuzz.interpreter_reduction import Reductions
from fuzz.kernel_syntax import KernelSyntax

_DIVISIBILITY = "tt.divisibility"

# The global that every interpreted kernel sees (Triton puts it there); it provides what `KernelSyntax` calls.
_PROVIDER = "interpreter_semantic"

# Kernels as rewritten here. Triton keeps its own, which must not serve a faithful run, nor ours an ordinary one.
_REWRITTEN: dict[Any, Any] = {}
# What a constant and a block may be joined by.
_OPERATORS: Final = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod"),
    *("lt", "le", "gt", "ge", "eq", "ne", "and_", "or_", "xor", "lshift", "rshift"),
)


def is_interpreting() -> bool:
    """Return whether a `@triton.jit` kernel that is defined now would run on the CPU interpreter."""
    return bool(importlib.import_module("triton").knobs.runtime.interpret)


@contextmanager
def faithful(*, round_dot_operands: bool, recorder: AccessRecorder | None = None) -> Iterator[None]:
    """Make Triton's CPU interpreter compute what a GPU computes, until the block ends; blocks may nest.

    Args:
        round_dot_operands: cut the fp32 operands of a `tl.dot` whose input precision is tf32 to tf32.
        recorder: sees every access to memory, as under `recorded`.

    Raises:
        RuntimeError: if `TRITON_INTERPRET` is not in force.
    """
    with _replacements() as triton:
        Arithmetic(triton, round_dot_operands=round_dot_operands).install()
        Reductions(triton).install()
        _Launch(triton).install()
        if recorder is not None:
            recorder.install(triton)
        yield


@contextmanager
def recorded(recorder: AccessRecorder) -> Iterator[None]:
    """Let a recorder see every access to memory until the block ends; inside a `faithful` block it costs little.

    Raises:
        RuntimeError: if `TRITON_INTERPRET` is not in force.
    """
    with _replacements() as triton:
        recorder.install(triton)
        yield


@contextmanager
def _replacements() -> Iterator[Triton]:
    if not is_interpreting():
        raise RuntimeError("the interpreter needs TRITON_INTERPRET=1 in the environment before triton is imported")
    triton = Triton()
    try:
        yield triton
    finally:
        triton.restore()


class FalsePromiseError(AssertionError):
    """Ends a kernel that tells the compiler something untrue, as Triton's interpreter does for `tl.assume`."""


@dataclasses.dataclass(frozen=True)
class _TypedScalar:
    """A number for a parameter whose annotation names its type, as in `scale: tl.float64`."""

    value: Any
    type_name: str


class _Launch:
    """What happens around a kernel's operations: arguments, control flow, autotuning, numpy's warnings."""

    def __init__(self, triton: Triton) -> None:
        self._triton = triton
        self._language_scope: Any = None  # what Triton replaced in triton.language for the launch under way
        self._languages: set[int] = set()
        tl = triton.tl
        functions = [name for name, member in vars(tl.math).items() if tl.core.is_builtin(member)]
        # Those that are methods of a block, too, which Triton overlooks.
        methods = [name for name in functions if hasattr(tl.tensor, name)]
        self._methods = [name for name in methods if not tl.core.is_builtin(getattr(tl.tensor, name))]

    def install(self) -> None:
        triton, interpreter = self._triton, self._triton.interpreter
        triton.wrap(interpreter.GridExecutor, "__call__", self.launch)
        triton.wrap(interpreter.GridExecutor, "_restore_args_dev", self.copy_back)
        triton.wrap(interpreter, "_implicit_cvt", self.argument)
        triton.wrap(interpreter.TensorHandle, "set_attr", self.promise)
        triton.wrap(interpreter.InterpreterBuilder, "get_all_ones_value", self.ones)
        triton.wrap(interpreter, "_patch_lang", self.enter_language)
        triton.wrap(interpreter, "_patch_lang_tensor", self.enter_tensor)
        triton.wrap(interpreter.FunctionRewriter, "_find_def", self.definition)
        triton.wrap(interpreter.FunctionRewriter, "_transform_ast", self.rewrite)
        triton.wrap(interpreter.FunctionRewriter, "_compile_and_exec", self.compile)
        triton.wrap(interpreter.GridExecutor, "__init__", self.prepare)
        for name in _OPERATORS:
            triton.wrap(
                triton.tl.constexpr,
                f"__{name.rstrip('_')}__",
                functools.partial(self.constant, getattr(operator, name)),
            )
        triton.put(interpreter.InterpretedFunction, "rewritten_fn", _REWRITTEN)
        for provided in (self.all_of, self.any_of, self.negation, self.call_of, self.value_of, self.index_range):
            triton.put(interpreter.interpreter_semantic, provided.__name__, provided)
        # Without a GPU nothing can be timed. Equal times make the autotuner take the first config that pruning left.
        triton.put(triton.autotuner.Autotuner, "_bench", lambda *_, **__: [0.0, 0.0, 0.0])
        self._adopt_gpu_limits(interpreter.interpreter_builder)

    def _adopt_gpu_limits(self, builder: Any) -> None:
        nvidia = importlib.import_module("triton.backends.nvidia.compiler")
        allowed = nvidia.CUDAOptions.allowed_dot_input_precisions
        # The overflow checks assert only in debug mode, and cost three operations for each one.
        options = dataclasses.replace(builder.options, allowed_dot_input_precisions=allowed, sanitize_overflow=False)
        functions = {**builder.codegen_fns, "min_dot_size": nvidia.min_dot_size(None)}
        self._triton.put(builder, "options", options)
        self._triton.put(builder, "codegen_fns", functions)

    # Arguments and the language

    def launch(self, original: Any, executor: Any, *args: Any, **kwargs: Any) -> Any:
        types = self._annotated_types(executor)
        typed = [_typed(value, types.get(name)) for name, value in zip(executor.arg_names, args, strict=False)]
        named = {name: _typed(value, types.get(name)) for name, value in kwargs.items()}
        outer = self._language_scope, self._languages
        self._language_scope, self._languages = None, set()
        executor.grid = self._grid(executor, args, kwargs)
        try:
            with np.errstate(all="ignore"):  # inf and NaN are results here, not mistakes
                return original(executor, *typed, *args[len(typed) :], **named)
        finally:
            self._language_scope, self._languages = outer

    def _grid(self, executor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...]:
        # As a launch on a GPU has it: a function sees the arguments as they were given, and a list will do.
        given = {name: value for name, value in kwargs.items() if name in executor.arg_names}
        grid = executor.grid
        return tuple(grid(inspect.getcallargs(executor.fn, *args, **given)) if callable(grid) else grid)

    def prepare(self, original: Any, executor: Any, function: Any, names: list[str], *rest: Any) -> None:
        original(executor, function, names, *rest)
        # An annotation may be a text, as under `from __future__ import annotations`, by whatever name it goes.
        annotations = function.__annotations__
        executor.constexprs = [name for name in names if "constexpr" in str(annotations.get(name, ""))]

    def copy_back(self, original: Any, executor: Any, device: Any, host: Any, named: Any, named_host: Any) -> None:
        # On the CPU both are views of the same storages, and copying one onto itself would touch all of its memory.
        given = [*device, *named.values()]
        if any(getattr(each, "is_cuda", False) for each in given):
            original(executor, device, host, named, named_host)

    def _annotated_types(self, executor: Any) -> dict[str, str]:
        annotations = executor.fn.__annotations__.items()
        types = {name: self._triton.jit._normalize_ty(annotation) for name, annotation in annotations}
        known = set(self._triton.jit.type_canonicalisation_dict.values())
        return {name: type_name for name, type_name in types.items() if type_name in known}

    def argument(self, original: Any, value: Any) -> Any:
        triton = self._triton
        if isinstance(value, _TypedScalar):
            return triton.scalar(value.value, triton.tl.str_to_ty(value.type_name, None))
        if isinstance(value, (bool, int, float)):  # Triton's interpreter leaves a float in double precision
            return triton.scalar(value, triton.tl.str_to_ty(triton.jit.mangle_type(value), None))
        return original(value)

    def promise(self, original: Any, handle: Any, name: str, values: Any) -> Any:
        # A GPU would load 16 bytes from an address that is no multiple of 16. In a block only the first element is
        # certain to begin a run that the promise is about: indices that wrap around are promised to be whole, too.
        if name == _DIVISIBILITY and handle.data.size:
            first = int(handle.data.flat[0])
            for value in values:
                if first % value:
                    raise FalsePromiseError(f"tl.multiple_of promises a multiple of {value}, and gets {first}")
        return original(handle, name, values)

    def enter_language(self, original: Any, function: Any) -> Any:
        # Triton patches the language anew for every device function called, and never undoes those patches.
        tl, scope_type = self._triton.tl, self._triton.interpreter._LangPatchScope
        found = {id(module) for module in function.__globals__.values() if module is tl or module is tl.core}
        if self._language_scope is not None and found <= self._languages:
            return scope_type()
        scope = original(function)
        self._languages |= found
        if self._language_scope is None:
            self._language_scope = scope
            return scope
        self._language_scope._changes.extend(scope._changes)
        return scope_type()

    def enter_tensor(self, original: Any, tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        # Triton 3.6 leaves the conversion of a one-element array to numpy, which warns, and from 2.4 on refuses.
        scope.set_attr(tensor, "__index__", lambda block: int(block.handle.data.item()))
        for name in self._methods:
            scope.set_attr(tensor, name, self._method(name))

    def _method(self, name: str) -> Callable[..., Any]:
        return lambda block, *more, **named: getattr(self._triton.tl.math, name)(block, *more, **named)

    def ones(self, original: Any, builder: Any, type: Any) -> Any:
        # NumPy 2 refuses -1 as an unsigned integer.
        kind = self._triton.numpy_dtype(type)
        if not np.issubdtype(kind, np.unsignedinteger):
            return original(builder, type)
        return self._triton.handle(np.full(1, np.iinfo(kind).max, kind), type)

    # Control flow, for KernelSyntax

    def definition(self, original: Any, rewriter: Any, lines: list[str]) -> int:
        # Triton takes the last line that looks like one, which may be in the kernel's documentation.
        return next((number for number, line in enumerate(lines, 1) if line.strip().startswith("def ")), 0)

    def rewrite(self, original: Any, rewriter: Any, source: str) -> Any:
        return KernelSyntax(_PROVIDER).visit(original(rewriter, source))

    def compile(self, original: Any, rewriter: Any, tree: Any) -> Any:
        # What a kernel sees of the function in which it is defined: Triton executes it where only globals are seen.
        function = rewriter.fn
        outer = inspect.getclosurevars(function).nonlocals
        if outer:
            scope = {**function.__globals__, **outer}
            rewriter.fn = types.FunctionType(function.__code__, scope, function.__name__, closure=function.__closure__)
        try:
            return original(rewriter, tree)
        finally:
            rewriter.fn = function

    def all_of(self, *operands: Callable[[], Any]) -> Any:
        return self._connect(operands, "logical_and", decisive=False)

    def any_of(self, *operands: Callable[[], Any]) -> Any:
        return self._connect(operands, "logical_or", decisive=True)

    def _connect(self, operands: tuple[Callable[[], Any], ...], method: str, *, decisive: bool) -> Any:
        # As the compiler does: plain values short-circuit or drop out, blocks and scalars are all evaluated.
        dynamic: list[Block] = []
        value: Any = None
        for operand in operands:
            value = operand()
            if isinstance(value, self._triton.tl.tensor):
                dynamic.append(value)
            elif bool(value) is decisive:
                return value
        if not dynamic:
            return value
        result = dynamic.pop()
        while dynamic:
            result = getattr(dynamic.pop(), method)(result)
        return result

    def negation(self, value: Any) -> Any:
        is_condition = isinstance(value, self._triton.tl.tensor) and value.type.scalar == self._triton.tl.int1
        return value.__not__() if is_condition else not value

    def call_of(self, function: Callable[..., Any], *values: Any, **named: Any) -> Any:
        folds = {min: self._triton.tl.minimum, max: self._triton.tl.maximum}
        if function in folds and any(isinstance(value, self._triton.tl.tensor) for value in values):
            return functools.reduce(functools.partial(folds[function], **named), values)
        return function(*values, **named)

    def value_of(self, constant: Any) -> Any:
        return constant if isinstance(constant, (bool, int, float, str, self._triton.tl.dtype)) else constant.value

    def constant(self, operation: Callable[[Any, Any], Any], original: Any, constant: Any, other: Any) -> Any:
        # A global that is a constant, on the left of a block: Triton would make a constant out of the block.
        if isinstance(other, self._triton.tl.tensor):
            return operation(constant.value, other)
        return original(constant, other)

    def index_range(self, arg1: Any, arg2: Any = None, step: Any = None, **_: Any) -> Iterator[Block]:
        semantic = self._triton.interpreter.interpreter_semantic
        bounds = [semantic.to_tensor(bound) for bound in (arg1, arg2, step) if bound is not None]
        dtype = bounds[0].dtype
        for bound in bounds[1:]:
            dtype = semantic.integer_promote_impl(dtype, bound.dtype)
        start, stop = (0, arg1) if arg2 is None else (arg1, arg2)
        for index in range(start, stop, 1 if step is None else step):
            yield self._triton.scalar(index, dtype)


def _typed(value: Any, type_name: str | None) -> Any:
    return _TypedScalar(value, type_name) if type_name and isinstance(value, (bool, int, float)) else value
