"""What a programmer gets wrong about which elements a kernel touches: masks, bounds, offsets, strides, loops."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from fuzz.mutation.place import Place
from fuzz.mutation.syntax import argument_set, arguments, call_with, called, code, keyword, next_alike, sides


def mask_term_dropped(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a & b` → `a`, → `b`."""
    if place.in_kernel and isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.BitAnd):
        yield f"({code(node.left)})"
        yield f"({code(node.right)})"


def mask_removed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.load(p, mask=m, other=o)` → `tl.load(p)`, and likewise a store."""
    if place.in_kernel and called(node, ("load", "store")) and isinstance(node, cst.Call) and keyword(node, "mask"):
        without = (keyword(node, "mask"), keyword(node, "other"))
        yield call_with(node, (argument for argument in node.args if argument not in without))


def other_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.load(…, other=o)` → `other=1.0`, → no `other` at all."""
    if place.in_kernel and called(node, ("load",)) and isinstance(node, cst.Call):
        other = keyword(node, "other")
        if other is not None:
            yield argument_set(node, other, "1.0")
            yield call_with(node, (argument for argument in node.args if argument is not other))


def bound_widened(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a < b` → `a <= b`, `a <= b` → `a <= b + 1`, and so on."""
    yield from _moved(node, place, {"<": "{} <= {}", "<=": "{} <= {} + 1", ">": "{} >= {}", ">=": "{} >= {} - 1"})


def bound_narrowed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a <= b` → `a < b`, `a < b` → `a < b - 1`, and so on."""
    yield from _moved(node, place, {"<": "{} < {} - 1", "<=": "{} < {}", ">": "{} > {} + 1", ">=": "{} > {}"})


def number_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """A number in arithmetic → one more."""
    if place.in_kernel and isinstance(node, cst.Integer) and isinstance(place.parent, cst.BinaryOperation):
        yield f"({code(node)} + 1)"


def offset_shifted(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.load(p)` → `tl.load(p + 1)`, and likewise a store."""
    if place.in_kernel and called(node, ("load", "store")) and isinstance(node, cst.Call) and node.args:
        yield argument_set(node, node.args[0], f"({code(node.args[0].value)}) + 1")


def stride_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`c * stride_xc` → `c * stride_xh`: another stride of the same tensor."""
    in_arithmetic = isinstance(place.parent, cst.BinaryOperation)
    if place.in_kernel and in_arithmetic and isinstance(node, cst.Name) and "stride" in node.value:
        other = next_alike(node.value, place.parameters)
        if other:
            yield other


def loop_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`range(n)` → from 1, → to n - 1, → every second."""
    if (
        place.in_kernel
        and isinstance(place.parent, cst.For)
        and called(node, ("range",))
        and isinstance(node, cst.Call)
    ):
        values = [code(argument.value) for argument in node.args if argument.keyword is None]
        start, stop, step = {1: ["0", *values, "1"], 2: [*values, "1"], 3: values}[len(values)]
        rest = [argument for argument in node.args if argument.keyword is not None]
        for bounds in (f"{start} + {step}, {stop}, {step}", f"{start}, {stop} - {step}, {step}"):
            yield call_with(node, [*arguments(bounds), *rest])
        yield call_with(node, [*arguments(f"{start}, {stop}, 2 * ({step})"), *rest])


def tile_count_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`cdiv(a, b)` → `a // b`, → one less."""
    if called(node, ("cdiv",)) and isinstance(node, cst.Call) and len(node.args) == 2:
        yield f"(({code(node.args[0].value)}) // ({code(node.args[1].value)}))"
        yield f"({code(node)} - 1)"


def _moved(node: cst.CSTNode, place: Place, forms: dict[str, str]) -> Iterator[str]:
    """Yield an order between two numbers in a kernel with its bound moved."""
    if place.in_kernel and isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        form = forms.get(code(node.comparisons[0].operator))
        if form:
            yield f"({form.format(*sides(node))})"
