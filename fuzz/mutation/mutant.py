"""`Mutant`: one wrong change to a kernel file, as a value; and all those that the operators make of a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider

from fuzz.mutation.operators import OPERATORS
from fuzz.mutation.place import Operator, Place
from fuzz.mutation.syntax import called, last_name

# What stands in these is no part of what a call computes.
_LEFT_OUT: Final = (
    cst.Raise,
    cst.Assert,
    cst.Annotation,
    cst.Decorator,
    cst.Parameters,
    cst.FormattedString,
    cst.Import,
)


@dataclass(frozen=True)
class Mutant:
    """One wrong change.

    Attributes:
        name: `function/operator/number`, unique in a file; the number counts from 1.
        function: The function that is changed.
        operator: What was done to it.
        line: Where, in the original.
        before: The source that was replaced.
        after: What stands there instead.
        text: The whole file.
    """

    name: str
    function: str
    operator: str
    line: int
    before: str
    after: str
    text: str


def mutants_of(text: str) -> list[Mutant]:
    """Return every mutant that the operators make of a file's text, in the order of its lines.

    Raises:
        libcst.ParserSyntaxError: The text is not Python.
    """
    source = text.encode()
    wrapper = MetadataWrapper(cst.parse_module(source))
    finder = _Finder(_functions_in(wrapper.module))
    wrapper.visit(finder)
    count: Counter[tuple[str, str]] = Counter()
    mutants, seen = [], {text}
    for change in finder.changes:
        changed = (source[: change.start] + change.after.encode() + source[change.end :]).decode()
        if changed in seen:
            continue
        seen.add(changed)
        count[change.function, change.operator] += 1
        mutants.append(
            Mutant(
                name=f"{change.function}/{change.operator}/{count[change.function, change.operator]}",
                function=change.function,
                operator=change.operator,
                line=change.line,
                before=source[change.start : change.end].decode(),
                after=change.after,
                text=changed,
            )
        )
    return mutants


@dataclass(frozen=True)
class _Change:
    function: str
    operator: str
    line: int
    start: int  # in bytes, like `end`
    end: int
    after: str


class _Finder(cst.CSTVisitor):
    """Applies every operator to every node inside a function."""

    METADATA_DEPENDENCIES = (PositionProvider, ByteSpanPositionProvider)

    def __init__(self, functions: frozenset[str]) -> None:
        super().__init__()
        self.changes: list[_Change] = []
        self._known = functions
        self._path: list[cst.CSTNode] = []
        self._inside: list[cst.FunctionDef] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _LEFT_OUT) or _is_docstring(node) or self._is_guard(node):
            return False
        if isinstance(node, cst.FunctionDef):
            self._inside.append(node)
        elif self._inside:
            self.changes.extend(self._changes(node))
        self._path.append(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._path and self._path[-1] is original_node:
            self._path.pop()
            if isinstance(original_node, cst.FunctionDef):
                self._inside.pop()

    def _is_guard(self, node: cst.CSTNode) -> bool:
        """Whether a node is the condition under which a call is refused: cases express few such calls."""
        around = self._path[-1] if self._path else None
        return isinstance(around, cst.If) and around.test is node and _only_raises(around.body)

    def _changes(self, node: cst.CSTNode) -> Iterator[_Change]:
        function = self._inside[-1]
        parameters = tuple(parameter.name.value for parameter in function.params.params)
        place = Place(
            parent=self._path[-1],
            in_kernel=any(map(is_kernel, self._inside)),
            parameters=parameters,
            functions=self._known,
            is_stored=len(self._path) > 1 and called(self._path[-2], ("store",)),
        )
        for operator in OPERATORS:
            for text in operator(node, place):
                line = self.get_metadata(PositionProvider, node).start.line
                span = self.get_metadata(ByteSpanPositionProvider, node)
                end = span.start + span.length
                yield _Change(function.name.value, name_of(operator), line, span.start, end, text)


def name_of(operator: Operator) -> str:
    """Return how an operator is called where people read it."""
    return operator.__name__.replace("_", " ")


def is_kernel(function: cst.FunctionDef) -> bool:
    """Return whether a function is one of Triton's: under `triton.jit`, with or without arguments."""
    return any(last_name(decorator.decorator) == "jit" for decorator in function.decorators)


def _functions_in(module: cst.Module) -> frozenset[str]:
    """Return the names of what a file defines, or imports by name, and may call."""
    names = set()
    for statement in module.body:
        if isinstance(statement, cst.FunctionDef):
            names.add(statement.name.value)
        elif isinstance(statement, cst.SimpleStatementLine):
            for part in statement.body:
                if isinstance(part, cst.ImportFrom) and not isinstance(part.names, cst.ImportStar):
                    names.update(alias.evaluated_name for alias in part.names)
    return frozenset(names)


def _only_raises(body: cst.BaseSuite) -> bool:
    lines = [line for line in body.body if isinstance(line, cst.SimpleStatementLine)]
    return bool(lines) and len(lines) == len(body.body) and all(isinstance(line.body[0], cst.Raise) for line in lines)


def _is_docstring(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString)
