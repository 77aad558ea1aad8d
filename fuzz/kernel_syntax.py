"""Python syntax that means something else inside a Triton kernel than it does when Python runs the kernel.

The compiler turns `and`, `or` and `not` on blocks into elementwise operations, as it does Python's `min` and `max`,
and a loop index into an integer tensor. Python would take the truth of a whole block and count in unbounded integers.
`KernelSyntax` rewrites them into calls on an object that the kernel can see, so that the interpreter decides.

`functions_in` says where a kernel's source accesses memory, for the lines that no program reaches, and which accesses
have no mask.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fuzz.coverage import Operation

# A descriptor's `gather` is missing: only when it runs can it be told from a gather within a block.
_OPERATIONS: Final[dict[str, Operation]] = {
    "load": "load",
    "load_tensor_descriptor": "load",
    "store": "store",
    "store_tensor_descriptor": "store",
    "scatter": "store",
}
_BOUNDS: Final = ("mask", "boundary_check")


@dataclass(frozen=True)
class SourceFunction:
    """A function in a source file.

    Attributes:
        name: What it is called.
        first: Its first line, decorators included.
        last: Its last line.
        definition: The line of its `def`.
        is_kernel: Whether it is decorated with `triton.jit`.
        accesses: Lines on which a call begins that loads, stores or updates memory, as far as the source tells.
        unmasked: Those of them where no call is given a mask or bounds to check.
    """

    name: str
    first: int
    last: int
    definition: int
    is_kernel: bool
    accesses: frozenset[tuple[int, Operation]]
    unmasked: frozenset[tuple[int, Operation]]

    def begins_at(self, line: int) -> bool:
        """Return whether a code object whose first line this is may be the function's."""
        return self.first <= line <= self.definition


@lru_cache(maxsize=64)
def functions_in(source: str) -> tuple[SourceFunction, ...]:
    """Return the functions that a source file defines; none if Python cannot parse it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ()
    imported = dict(_imports(tree))
    return tuple(_describe(node, imported) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


class KernelSyntax(ast.NodeTransformer):
    """Rewrites boolean operators to `all_of` / `any_of` / `negation`, and loops over `range` to `index_range`.

    Calls of `min` and `max`, whatever the kernel means by these names, go through `call_of`, and `x.value`, which a
    constant has when it is compiled, through `value_of`.
    """

    def __init__(self, provider: str) -> None:
        """Take the name of the global that provides these functions."""
        self._provider = provider

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """Rewrite `a and b` to `all_of(lambda: a, lambda: b)`: in order, and only as far as needed."""
        self.generic_visit(node)
        name = "all_of" if isinstance(node.op, ast.And) else "any_of"
        return self._call(name, [_deferred(value) for value in node.values], node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Rewrite `not a` to `negation(a)`."""
        self.generic_visit(node)
        return self._call("negation", [node.operand], node) if isinstance(node.op, ast.Not) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Rewrite `min(a, b)` to `call_of(min, a, b)`."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
            node.args.insert(0, node.func)
            node.func = self._function("call_of", node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Rewrite `x.value` to `value_of(x)`."""
        self.generic_visit(node)
        is_read = node.attr == "value" and isinstance(node.ctx, ast.Load)
        return self._call("value_of", [node.value], node) if is_read else node

    def visit_For(self, node: ast.For) -> ast.AST:
        """Rewrite `for i in range(n)` and `tl.range(n)` to `index_range(n)`; not `static_range`."""
        self.generic_visit(node)
        loop = node.iter
        if isinstance(loop, ast.Call) and _name(loop.func) == "range":
            loop.func = self._function("index_range", loop)
        return node

    def _call(self, name: str, arguments: list[ast.expr], origin: ast.expr) -> ast.AST:
        return ast.copy_location(ast.Call(self._function(name, origin), arguments, []), origin)

    def _function(self, name: str, origin: ast.expr) -> ast.expr:
        provider = ast.copy_location(ast.Name(self._provider, ast.Load()), origin)
        return ast.copy_location(ast.Attribute(provider, name, ast.Load()), origin)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _deferred(value: ast.expr) -> ast.expr:
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.copy_location(ast.Lambda(nothing, value), value)


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what each imported name stands for, as a dotted path; relative paths start with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{'.' * node.level}{node.module or ''}.{alias.name}"


def is_kernel(function: ast.FunctionDef) -> bool:
    """Return whether a function is one of Triton's: under `triton.jit`, with or without arguments."""
    decorators = [node.func if isinstance(node, ast.Call) else node for node in function.decorator_list]
    return any(_name(node) == "jit" for node in decorators)


def _describe(function: ast.FunctionDef, imported: dict[str, str]) -> SourceFunction:
    decorators = [node.func if isinstance(node, ast.Call) else node for node in function.decorator_list]
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    # By line and operation, whether any of the calls is bounded.
    found: dict[tuple[int, Operation], bool] = {}
    for call in calls:
        operation = _operation(call.func, imported)
        if operation:
            place = call.func.end_lineno or call.lineno, operation
            found[place] = found.get(place, False) or _is_bounded(call, operation, imported)
    return SourceFunction(
        name=function.name,
        first=min([function.lineno, *(node.lineno for node in decorators)]),
        last=function.end_lineno or function.lineno,
        definition=function.lineno,
        is_kernel=is_kernel(function),
        accesses=frozenset(found),
        unmasked=frozenset(place for place, bounded in found.items() if not bounded),
    )


def _operation(function: ast.expr, imported: dict[str, str]) -> Operation | None:
    """Return what a call does to memory; None for calls of anything but Triton's functions and methods."""
    name = _name(function)
    if isinstance(function, ast.Name):
        path = imported.get(name, "")
        name = path.rpartition(".")[2]
    else:
        owner = function.value if isinstance(function, ast.Attribute) else None
        path = imported.get(owner.id, "triton") if isinstance(owner, ast.Name) else "triton"
    if path.partition(".")[0] != "triton":
        return None
    return "atomic" if name.startswith("atomic_") else _OPERATIONS.get(name)


def _is_bounded(call: ast.Call, operation: Operation, imported: dict[str, str]) -> bool:
    """Return whether an access has a mask, or may have one: a descriptor knows its own bounds."""
    function = call.func
    owner = function.value if isinstance(function, ast.Attribute) else None
    is_method = owner is not None and not (isinstance(owner, ast.Name) and owner.id in imported)
    names = [keyword.arg for keyword in call.keywords]
    is_unpacked = None in names or any(isinstance(argument, ast.Starred) for argument in call.args)
    # The mask comes after the pointer and what is stored there.
    is_third = len(call.args) > (1 if operation == "load" else 2)
    return is_method or is_unpacked or is_third or any(name in names for name in _BOUNDS)
