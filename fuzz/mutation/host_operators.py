"""What a programmer gets wrong around a kernel: strides, dimensions, copies, the order of arguments and results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import libcst as cst

from fuzz.mutation.place import Place
from fuzz.mutation.syntax import are_alike, arguments, call_with, called, code, keyword, last_name, receiver, swaps

_ALLOCATIONS: Final = ("empty", "empty_like", "new_empty", "zeros", "zeros_like", "new_zeros", "full", "full_like")


def stride_taken_for_contiguous(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`x.stride(i)` → what it would be if x were contiguous."""
    tensor = receiver(node, ("stride",))
    if tensor and not place.in_kernel:
        yield f"{tensor}.contiguous(){code(node).removeprefix(tensor)}"


def copy_omitted(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`x.contiguous()` → `x`."""
    tensor = receiver(node, ("contiguous",))
    if tensor and not place.in_kernel:
        yield tensor


def dimension_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`x.shape[2]` → `x.shape[3]`, `x.stride(2)` → `x.stride(3)`."""
    if place.in_kernel:
        return
    if isinstance(node, cst.Subscript) and last_name(node.value) == "shape" and len(node.slice) == 1:
        index = node.slice[0].slice
        if isinstance(index, cst.Index) and isinstance(index.value, cst.Integer):
            yield f"{code(node.value)}[{_neighbour(index.value)}]"
    if receiver(node, ("stride", "size")) and isinstance(node, cst.Call) and node.args:
        dimension = node.args[0].value
        if isinstance(dimension, cst.Integer):
            yield f"{code(node.func)}({_neighbour(dimension)})"


def arguments_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`f(h, w)` → `f(w, h)`, `{"h": a, "w": b}` → `{"h": b, "w": a}`: neighbours whose names are alike."""
    if isinstance(node, cst.Call) and (last_name(node) in place.functions or isinstance(node.func, cst.Subscript)):
        given = list(node.args)
        for swapped in swaps(given):
            first, second = next((a, b) for a, b in zip(given, swapped, strict=True) if a is not b)
            if are_alike(_label(first), _label(second)):
                values = {id(first): second.value, id(second): first.value}
                yield call_with(node, (a.with_changes(value=values.get(id(a), a.value)) for a in given))
    if isinstance(node, cst.Dict) and not place.in_kernel:
        elements = [element for element in node.elements if isinstance(element, cst.DictElement)]
        for one, other in itertools.pairwise(elements):
            if are_alike(code(one.key), code(other.key)):
                exchanged = {
                    id(one): one.with_changes(value=other.value),
                    id(other): other.with_changes(value=one.value),
                }
                yield code(node.with_changes(elements=[exchanged.get(id(each), each) for each in node.elements]))


def results_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a, b = f()` → `b, a = f()`, `return a, b` → `return b, a`."""
    if isinstance(node, cst.Tuple) and isinstance(place.parent, cst.AssignTarget | cst.Return):
        for swapped in swaps([code(element.value) for element in node.elements]):
            yield f"({', '.join(swapped)})"


def allocated_in_another_dtype(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`torch.empty(…)` → in float16."""
    if not place.in_kernel and called(node, _ALLOCATIONS) and isinstance(node, cst.Call):
        kept = [argument for argument in node.args if argument is not keyword(node, "dtype")]
        yield call_with(node, [*kept, *arguments("dtype=torch.float16")])


def _neighbour(dimension: cst.Integer) -> int:
    number = int(dimension.value)
    return number - 1 if number % 4 == 3 else number + 1


def _label(argument: cst.Arg) -> str:
    return argument.keyword.value if argument.keyword else code(argument.value)
