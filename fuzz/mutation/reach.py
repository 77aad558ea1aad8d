"""Which lines of a kernel file's host code trials come to: a mutant of any other line says nothing about the suite."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCKS = ("body", "orelse", "finalbody")


@dataclass(frozen=True)
class Block:
    """Statements of one function that run one after the other.

    Attributes:
        function: The name of the innermost function around them.
        first: The line that the first one begins on.
        last: The line that the last one ends on.
    """

    function: str
    first: int
    last: int


def blocks_in(text: str) -> list[Block]:
    """Return the blocks of every function that is not under `triton.jit`, outer ones before inner ones."""
    return list(_blocks(ast.parse(text), ""))


def instrumented(text: str, blocks: list[Block], folder: Path) -> str:
    """Return the text with a first statement in every block that leaves a file of the block's number in a folder."""
    lines = text.splitlines(keepends=True)
    for number, block in sorted(enumerate(blocks), key=lambda item: item[1].first, reverse=True):
        first = lines[block.first - 1]
        indent = first[: len(first) - len(first.lstrip())]
        lines.insert(block.first - 1, f"{indent}open({str(folder / str(number))!r}, 'a').close()\n")
    return "".join(lines)


def unreached(blocks: list[Block], folder: Path) -> list[Block]:
    """Return the blocks that an instrumented text left no file of."""
    return [block for number, block in enumerate(blocks) if not (folder / str(number)).exists()]


def is_among(line: int, blocks: Iterable[Block]) -> bool:
    """Return whether a line is in one of the blocks."""
    return any(block.first <= line <= block.last for block in blocks)


def _blocks(node: ast.AST, function: str) -> Iterator[Block]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            if any(_is_jit(decorator) for decorator in child.decorator_list):
                continue
            yield from _own(child, child.name)
            yield from _blocks(child, child.name)
        else:
            if function:
                yield from _own(child, function)
            yield from _blocks(child, function)


def _own(node: ast.AST, function: str) -> Iterator[Block]:
    for name in _BLOCKS:
        statements = getattr(node, name, None)
        if isinstance(statements, list) and statements and not _is_elif(node, statements[0]):
            first = min(part.lineno for part in (statements[0], *getattr(statements[0], "decorator_list", ())))
            # One on the line of its `if` has no place for another statement; it counts as part of the block around.
            if first > getattr(node, "lineno", 0):
                yield Block(function, first, statements[-1].end_lineno)


def _is_elif(node: ast.AST, first: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(first, ast.If) and first.col_offset == node.col_offset


def _is_jit(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) == "jit"
