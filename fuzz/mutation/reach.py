"""Which parts of a kernel file trials come to: a change in any other says nothing about the suite.

On Triton's interpreter a kernel is Python like the rest of the file: what a branch leaves out, no program comes to.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import takewhile

_BLOCKS = ("body", "orelse", "finalbody")
_MARK = "__import__('fuzz.campaign.marks', fromlist=['LEFT']).LEFT.add"


@dataclass(frozen=True)
class Statement:
    """A statement of a function, which begins on a line of its own.

    Attributes:
        function: The name of the innermost function around it.
        first: The line that it begins on.
        last: The line that it ends on; what is inside it counts, too.
    """

    function: str
    first: int
    last: int


def statements_in(text: str) -> list[Statement]:
    """Return the statements of every function."""
    return list(_statements(ast.parse(text), ""))


def instrumented(text: str, statements: list[Statement]) -> str:
    """Return the text with a line before every statement that leaves its number among the process's marks."""
    lines = text.splitlines(keepends=True)
    for number, statement in sorted(enumerate(statements), key=lambda item: item[1].first, reverse=True):
        first = lines[statement.first - 1]
        indent = first[: len(first) - len(first.lstrip())]
        lines.insert(statement.first - 1, f"{indent}{_MARK}({number})\n")
    return "".join(lines)


def unreached(statements: list[Statement], marks: Set[int]) -> list[Statement]:
    """Return the statements whose numbers are not among the marks."""
    return [statement for number, statement in enumerate(statements) if number not in marks]


def is_among(line: int, statements: Iterable[Statement]) -> bool:
    """Return whether a line is in one of the statements."""
    return any(statement.first <= line <= statement.last for statement in statements)


def changed_in(text: str, other: str, statements: list[Statement]) -> set[int] | None:
    """Return the numbers of the statements of `text` that are different in `other`, innermost ones only.

    None where something outside of all statements is: it is read when the file is loaded, and may show in any call.
    """
    before, after = text.splitlines(), other.splitlines()
    head = _common(before, after)
    tail = min(_common(before[::-1], after[::-1]), len(before) - head, len(after) - head)
    # What is only inserted changes the line that it comes before.
    changed = range(head + 1, max(head + 1, len(before) - tail) + 1)
    numbers = {_innermost(line, statements) for line in changed}
    return None if None in numbers else {number for number in numbers if number is not None}


def _common(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _innermost(line: int, statements: list[Statement]) -> int | None:
    around = [number for number, each in enumerate(statements) if each.first <= line <= each.last]
    return max(around, key=lambda number: (statements[number].first, -statements[number].last), default=None)


def _statements(node: ast.AST, function: str) -> Iterator[Statement]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield from _own(child, child.name)
            yield from _statements(child, child.name)
        else:
            if function:
                yield from _own(child, function)
            yield from _statements(child, function)


def _own(node: ast.AST, function: str) -> Iterator[Statement]:
    for name in _BLOCKS:
        inside = getattr(node, name, None)
        if not isinstance(inside, list) or not inside or _is_elif(node, inside[0]):
            continue
        before = getattr(node, "lineno", 0)
        for each in inside:
            first = min(part.lineno for part in (each, *getattr(each, "decorator_list", ())))
            # One on the line of its `if`, or behind a semicolon, has no place before it; it counts as part of those.
            if first > before:
                yield Statement(function, first, each.end_lineno)
            before = each.end_lineno


def _is_elif(node: ast.AST, first: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(first, ast.If) and first.col_offset == node.col_offset
