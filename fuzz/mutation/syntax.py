"""Reading and rewriting expressions of a kernel file, as libcst sees them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import libcst as cst

T = TypeVar("T")

_NOWHERE = cst.Module([])


def code(node: cst.CSTNode) -> str:
    """Return a node's source."""
    return _NOWHERE.code_for_node(node).strip()


def expression(text: str) -> cst.BaseExpression:
    """Return the expression that a text is."""
    return cst.parse_expression(text)


def last_name(node: cst.CSTNode) -> str:
    """Return `load` for `load`, `tl.load` and `tl.load(…)`; empty for anything that has no name."""
    if isinstance(node, cst.Call):
        return last_name(node.func)
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""


def called(node: cst.CSTNode, names: Iterable[str]) -> bool:
    """Return whether a node calls one of these functions or methods."""
    return isinstance(node, cst.Call) and last_name(node) in names


def receiver(node: cst.CSTNode, methods: Iterable[str]) -> str | None:
    """Return the source of x in `x.method(…)`; None for anything but a call of one of these methods."""
    is_method = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and called(node, methods)
    return code(node.func.value) if is_method else None  # type: ignore[attr-defined]  # as was just asked


def keyword(call: cst.Call, name: str) -> cst.Arg | None:
    """Return a call's argument by its keyword."""
    return next((argument for argument in call.args if argument.keyword and argument.keyword.value == name), None)


def call_with(call: cst.Call, arguments: Iterable[cst.Arg]) -> str:
    """Return the source of the same call with other arguments."""
    texts = [code(argument.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for argument in arguments]
    return f"{code(call.func)}({', '.join(texts)})"


def argument_set(call: cst.Call, argument: cst.Arg, value: str) -> str:
    """Return the source of a call where one argument has another value."""
    changed = argument.with_changes(value=expression(f"({value})"))
    return call_with(call, (changed if other is argument else other for other in call.args))


def arguments(text: str) -> list[cst.Arg]:
    """Return the arguments that a text between parentheses is."""
    call = cst.parse_expression(f"f({text})")
    assert isinstance(call, cst.Call)
    return list(call.args)


def sides(node: cst.Comparison) -> tuple[str, str]:
    """Return the source of both sides of a comparison of two."""
    return code(node.left), code(node.comparisons[0].comparator)


def swaps(items: Sequence[T]) -> Iterator[list[T]]:
    """Yield a list with each pair of neighbours exchanged in turn."""
    for place in range(len(items) - 1):
        swapped = list(items)
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        yield swapped


def are_alike(one: str, other: str) -> bool:
    """Return whether two names differ in one character: `stride_xh` and `stride_xw`, `KH` and `KW`."""
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


def next_alike(name: str, names: Sequence[str]) -> str | None:
    """Return the name after this one, round about, that differs from it in one character."""
    if name not in names:
        return None
    place = names.index(name)
    return next((other for other in itertools.chain(names[place + 1 :], names[:place]) if are_alike(name, other)), None)
