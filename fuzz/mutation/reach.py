"""Which lines of a kernel file's host code trials come to: a mutant of any other line says nothing about the suite."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzz.kernel_syntax import is_kernel

_BLOCKS = ("body", "orelse", "finalbody")


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
    """Return the statements of every function that is not under `triton.jit`."""
    return list(_statements(ast.parse(text), ""))


def instrumented(text: str, statements: list[Statement], folder: Path) -> str:
    """Return the text with a line before every statement that leaves a file of the statement's number in a folder."""
    lines = text.splitlines(keepends=True)
    for number, statement in sorted(enumerate(statements), key=lambda item: item[1].first, reverse=True):
        first = lines[statement.first - 1]
        indent = first[: len(first) - len(first.lstrip())]
        lines.insert(statement.first - 1, f"{indent}open({str(folder / str(number))!r}, 'a').close()\n")
    return "".join(lines)


def unreached(statements: list[Statement], folder: Path) -> list[Statement]:
    """Return the statements that an instrumented text left no file of."""
    return [statement for number, statement in enumerate(statements) if not (folder / str(number)).exists()]


def is_among(line: int, statements: Iterable[Statement]) -> bool:
    """Return whether a line is in one of the statements."""
    return any(statement.first <= line <= statement.last for statement in statements)


def _statements(node: ast.AST, function: str) -> Iterator[Statement]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            if is_kernel(child):
                continue
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
