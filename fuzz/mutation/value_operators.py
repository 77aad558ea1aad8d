"""What a programmer gets wrong about numbers: arithmetic, the minimum and its identity, NaN, types, sums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import libcst as cst

from fuzz.mutation.place import Place
from fuzz.mutation.syntax import argument_set, call_with, called, code, keyword, receiver, sides

_LOWER: Final = {"float64": "float32", "float32": "float16", "int64": "int32"}
_OPPOSITE: Final = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
_EXTREME: Final = ("inf", "-inf", "+inf")


def equality_flipped(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a == b` → `a != b`, `a is None` → `a is not None`, and the other way round."""
    opposite = {"==": "!=", "!=": "==", "is": "is not", "is not": "is"}
    if place.in_kernel and isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        left, right, sign = *sides(node), code(node.comparisons[0].operator)
        if sign in opposite and left != right:
            yield f"({left} {opposite[sign]} {right})"


def nan_test_disabled(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a != a` → never, `a == a` → always."""
    if place.in_kernel and isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        left, right, sign = *sides(node), code(node.comparisons[0].operator)
        if left == right and sign == "!=":
            yield f"({left} < {right})"
        if left == right and sign == "==":
            yield f"(({left} == {right}) | ({left} != {right}))"


def nan_dropped(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.minimum(a, b, propagate_nan=…)` → `tl.minimum(a, b)`."""
    if place.in_kernel and isinstance(node, cst.Call):
        asked = keyword(node, "propagate_nan")
        if asked is not None:
            yield call_with(node, (argument for argument in node.args if argument is not asked))


def sum_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a + b` → `a - b`, `a - b` → `a + b`."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add | cst.Subtract):
        sign = "-" if isinstance(node.operator, cst.Add) else "+"
        yield f"({code(node.left)} {sign} {code(node.right)})"


def term_dropped(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a + b` → `a`, → `b`."""
    if place.in_kernel and isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        yield f"({code(node.left)})"
        yield f"({code(node.right)})"


def factor_dropped(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a * b` → `a`, → `b`."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        yield f"({code(node.left)})"
        yield f"({code(node.right)})"


def quotient_and_remainder_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a // b` → `a % b`, `a % b` → `a // b`."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.FloorDivide | cst.Modulo):
        sign = "%" if isinstance(node.operator, cst.FloorDivide) else "//"
        yield f"({code(node.left)} {sign} {code(node.right)})"


def identity_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`float("inf")` → 0, → 1e30, → the other sign."""
    if place.in_kernel and called(node, ("float",)) and isinstance(node, cst.Call) and len(node.args) == 1:
        value = node.args[0].value
        text = value.raw_value if isinstance(value, cst.SimpleString) else ""
        if text in _EXTREME:
            yield "0.0"
            yield "-1e30" if text == "-inf" else "1e30"
            yield 'float("inf")' if text == "-inf" else 'float("-inf")'


def minimum_and_maximum_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.min` → `tl.max`, and the other way round."""
    if place.in_kernel and called(node, _OPPOSITE) and isinstance(node, cst.Call):
        if isinstance(node.func, cst.Attribute):
            opposite = code(node.func.with_changes(attr=cst.Name(_OPPOSITE[node.func.attr.value])))
        else:
            opposite = _OPPOSITE[code(node.func)]
        yield f"{opposite}({', '.join(code(a.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for a in node.args)})"


def choice_removed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.where(c, a, b)` → `a`, → `b`; on the host `a if c else b` likewise, unless c asks for a type."""
    if place.in_kernel and called(node, ("where",)) and isinstance(node, cst.Call) and len(node.args) == 3:
        yield f"({code(node.args[1].value)})"
        yield f"({code(node.args[2].value)})"
    if not place.in_kernel and isinstance(node, cst.IfExp) and "isinstance" not in code(node.test):
        yield f"({code(node.body)})"
        yield f"({code(node.orelse)})"


def dtype_lowered(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.float32` → `tl.float16`, `tl.int64` → `tl.int32`, and so on."""
    compared = isinstance(place.parent, cst.ComparisonTarget | cst.Comparison)
    if place.in_kernel and isinstance(node, cst.Attribute) and node.attr.value in _LOWER and not compared:
        yield f"{code(node.value)}.{_LOWER[node.attr.value]}"


def conversion_omitted(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a.to(dtype)` → `a`; not where it is stored, since a store converts by itself."""
    block = receiver(node, ("to",))
    if block and place.in_kernel and not place.is_stored:
        yield f"({block})"


def precision_lowered(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.dot(…, input_precision=p)` → tf32."""
    if place.in_kernel and called(node, ("dot",)) and isinstance(node, cst.Call):
        precision = keyword(node, "input_precision")
        if precision is not None and "tf32" not in code(precision.value):
            yield argument_set(node, precision, '"tf32"')


def accumulation_broken(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`acc += a` → `acc = a`, → nothing; `tl.dot(a, b, acc)` → `tl.dot(a, b)`."""
    if place.in_kernel and isinstance(node, cst.AugAssign):
        yield f"{code(node.target)} = {code(node.value)}"
        yield "pass"
    if place.in_kernel and called(node, ("dot",)) and isinstance(node, cst.Call):
        acc = keyword(node, "acc") or (node.args[2] if len(node.args) > 2 and node.args[2].keyword is None else None)
        if acc is not None:
            yield call_with(node, (argument for argument in node.args if argument is not acc))


def start_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`tl.zeros(…)` → ones."""
    if place.in_kernel and called(node, ("zeros",)) and isinstance(node, cst.Call):
        yield f"({code(node)} + 1)"
