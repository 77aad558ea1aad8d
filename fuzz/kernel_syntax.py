"""Python syntax that means something else inside a Triton kernel than it does when Python runs the kernel.

The compiler turns `and`, `or` and `not` on blocks into elementwise operations and a loop index into an integer tensor.
Python would take the truth of a whole block and count in unbounded integers. `KernelSyntax` rewrites both into calls
on an object that the kernel can see, so that the interpreter decides.
"""

from __future__ import annotations

import ast


class KernelSyntax(ast.NodeTransformer):
    """Rewrites boolean operators to `all_of` / `any_of` / `negation` and loops over `range` to `index_range`."""

    def __init__(self, provider: str) -> None:
        """Take the name of the global that provides the four functions."""
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
