"""What a programmer gets wrong: every operator turns a node of a kernel file into wrong ones.

An operator knows Triton and PyTorch, and no particular kernel. It is given a node and where that stands, and yields the
source of what may stand there instead. Mistakes that give the same program are left out where the syntax tells: with
integers `a < b + 1` is `a <= b`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import libcst as cst

from fuzz.mutation.syntax import (
    are_alike,
    argument_set,
    call_with,
    called,
    code,
    keyword,
    last_name,
    next_alike,
    receiver,
    swaps,
)

_ALLOCATIONS: Final = ("empty", "empty_like", "new_empty", "zeros", "zeros_like", "new_zeros", "full", "full_like")
_LOWER: Final = {"float64": "float32", "float32": "float16", "int64": "int32"}
_OPPOSITE: Final = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
_EXTREME: Final = ("inf", "-inf", "+inf")


@dataclass(frozen=True)
class Place:
    """Where a node stands.

    Attributes:
        parent: The node around it.
        in_kernel: Whether that is in a function under `triton.jit`.
        parameters: Names of that function's parameters.
        functions: Names of the functions that the file defines or imports.
        is_stored: Whether the node is an argument of a store.
    """

    parent: cst.CSTNode
    in_kernel: bool
    parameters: tuple[str, ...]
    functions: frozenset[str]
    is_stored: bool


Operator = Callable[[cst.CSTNode, Place], Iterator[str]]


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


def equality_flipped(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a == b` → `a != b`, `a is None` → `a is not None`, and the other way round."""
    opposite = {"==": "!=", "!=": "==", "is": "is not", "is not": "is"}
    if place.in_kernel and isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        left, right, sign = *_sides(node), code(node.comparisons[0].operator)
        if sign in opposite and left != right:
            yield f"({left} {opposite[sign]} {right})"


def nan_test_disabled(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a != a` → never, `a == a` → always."""
    if place.in_kernel and isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        left, right, sign = *_sides(node), code(node.comparisons[0].operator)
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


def tile_count_changed(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`cdiv(a, b)` → `a // b`, → one less."""
    if called(node, ("cdiv",)) and isinstance(node, cst.Call) and len(node.args) == 2:
        yield f"(({code(node.args[0].value)}) // ({code(node.args[1].value)}))"
        yield f"({code(node)} - 1)"


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


def results_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`a, b = f()` → `b, a = f()`, `return a, b` → `return b, a`."""
    if isinstance(node, cst.Tuple) and isinstance(place.parent, cst.AssignTarget | cst.Return):
        for swapped in swaps([code(element.value) for element in node.elements]):
            yield f"({', '.join(swapped)})"


def arguments_exchanged(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`f(h, w)` → `f(w, h)`, `{"h": a, "w": b}` → `{"h": b, "w": a}`: neighbours whose names are alike."""
    if isinstance(node, cst.Call) and (last_name(node) in place.functions or isinstance(node.func, cst.Subscript)):
        arguments = list(node.args)
        for swapped in swaps(arguments):
            first, second = next((a, b) for a, b in zip(arguments, swapped, strict=True) if a is not b)
            if are_alike(_label(first), _label(second)):
                values = {id(first): second.value, id(second): first.value}
                yield call_with(node, (a.with_changes(value=values.get(id(a), a.value)) for a in arguments))
    if isinstance(node, cst.Dict) and not place.in_kernel:
        elements = [element for element in node.elements if isinstance(element, cst.DictElement)]
        for one, other in itertools.pairwise(elements):
            if are_alike(code(one.key), code(other.key)):
                exchanged = {
                    id(one): one.with_changes(value=other.value),
                    id(other): other.with_changes(value=one.value),
                }
                yield code(node.with_changes(elements=[exchanged.get(id(each), each) for each in node.elements]))


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
            yield call_with(node, [*_arguments(bounds), *rest])
        yield call_with(node, [*_arguments(f"{start}, {stop}, 2 * ({step})"), *rest])


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


def allocated_in_another_dtype(node: cst.CSTNode, place: Place) -> Iterator[str]:
    """`torch.empty(…)` → in float16."""
    if not place.in_kernel and called(node, _ALLOCATIONS) and isinstance(node, cst.Call):
        kept = [argument for argument in node.args if argument is not keyword(node, "dtype")]
        yield call_with(node, [*kept, *_arguments("dtype=torch.float16")])


OPERATORS: Final[tuple[Operator, ...]] = (
    mask_term_dropped,
    mask_removed,
    other_changed,
    bound_widened,
    bound_narrowed,
    equality_flipped,
    nan_test_disabled,
    nan_dropped,
    sum_changed,
    term_dropped,
    factor_dropped,
    quotient_and_remainder_exchanged,
    tile_count_changed,
    number_changed,
    offset_shifted,
    stride_exchanged,
    stride_taken_for_contiguous,
    copy_omitted,
    dimension_exchanged,
    results_exchanged,
    arguments_exchanged,
    identity_changed,
    minimum_and_maximum_exchanged,
    choice_removed,
    dtype_lowered,
    conversion_omitted,
    precision_lowered,
    loop_changed,
    accumulation_broken,
    start_changed,
    allocated_in_another_dtype,
)


def _moved(node: cst.CSTNode, place: Place, forms: dict[str, str]) -> Iterator[str]:
    """Yield an order between two numbers in a kernel with its bound moved."""
    if place.in_kernel and isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        form = forms.get(code(node.comparisons[0].operator))
        if form:
            yield f"({form.format(*_sides(node))})"


def _sides(node: cst.Comparison) -> tuple[str, str]:
    return code(node.left), code(node.comparisons[0].comparator)


def _neighbour(dimension: cst.Integer) -> int:
    number = int(dimension.value)
    return number - 1 if number % 4 == 3 else number + 1


def _label(argument: cst.Arg) -> str:
    return argument.keyword.value if argument.keyword else code(argument.value)


def _arguments(text: str) -> list[cst.Arg]:
    call = cst.parse_expression(f"f({text})")
    assert isinstance(call, cst.Call)
    return list(call.args)
