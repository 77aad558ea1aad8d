"""Mask coverage → the source of a kernel with what each access saw beside it."""

from __future__ import annotations

import tokenize
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fuzz.coverage import LineCoverage
from fuzz.kernel_syntax import SourceFunction, functions_in

# Above an access are the masks that it is given, below it the rest of a call that spans lines.
_BEFORE: Final = 14
_AFTER: Final = 4
_Body = tuple[int, int, str]  # first line, last line and name of a function

NEVER_REACHED: Final = "never reached"
NEVER_MIXED: Final = "never mixed"
UNMASKED: Final = "unmasked"


@dataclass(frozen=True)
class Access:
    """One access to memory, and the word for what is missing in how it was exercised; none if nothing is."""

    seen: LineCoverage
    word: str


@dataclass(frozen=True)
class SourceLine:
    """One line of a kernel's source, and the accesses that begin on it."""

    number: int
    text: str
    accesses: tuple[Access, ...]


@dataclass(frozen=True)
class Excerpt:
    """The part of a function that accesses memory; without a name where it is not in one."""

    name: str
    lines: tuple[SourceLine, ...]

    @property
    def accesses(self) -> tuple[Access, ...]:
        """All accesses in it."""
        return tuple(access for line in self.lines for access in line.accesses)


@dataclass(frozen=True)
class CoveredFile:
    """A file of kernels.

    Attributes:
        path: The file, as Python named it when the kernels ran.
        accesses: All accesses in it, in the order of the source.
        excerpts: The source around them; none if the file cannot be read, or is not what ran.
    """

    path: str
    accesses: tuple[Access, ...]
    excerpts: tuple[Excerpt, ...]


def covered_files(coverage: Iterable[LineCoverage]) -> list[CoveredFile]:
    """Return the files of a hunt's coverage, those first that have the most accesses."""
    by_path: dict[str, list[LineCoverage]] = {}
    for seen in coverage:
        by_path.setdefault(seen.file, []).append(seen)
    files = [_covered_file(path, entries) for path, entries in by_path.items()]
    return sorted(files, key=lambda file: -len(file.accesses))


def count_words(accesses: Iterable[Access]) -> dict[str, int]:
    """Return how many accesses have which word, the worst first."""
    counts = Counter(access.word for access in accesses)
    return {word: counts[word] for word in (NEVER_REACHED, NEVER_MIXED, UNMASKED) if counts[word]}


def _covered_file(path: str, entries: Sequence[LineCoverage]) -> CoveredFile:
    source = _source(path, entries)
    functions = functions_in(source)
    unmasked = frozenset().union(*(function.unmasked for function in functions))
    accesses = tuple(
        Access(seen, _word(seen, has_mask=(seen.line, seen.operation) not in unmasked)) for seen in entries
    )
    lines = source.split("\n") if source else []
    return CoveredFile(path, accesses, _excerpts(lines, functions, accesses) if lines else ())


def _word(seen: LineCoverage, *, has_mask: bool) -> str:
    if not seen.executions:
        return NEVER_REACHED
    if seen.mixed or (seen.lanes == 1 and seen.all_true and seen.all_false):
        return ""
    return NEVER_MIXED if has_mask else UNMASKED


def _source(path: str, entries: Sequence[LineCoverage]) -> str:
    """Return the text of a file; empty if it cannot be read, or has changed since it ran."""
    try:
        with tokenize.open(path) as file:
            source = file.read()
    except (OSError, SyntaxError, ValueError):
        return ""
    lines = source.split("\n")
    same = all(seen.line <= len(lines) and lines[seen.line - 1].strip() == seen.text for seen in entries)
    return source if same else ""


def _excerpts(
    lines: Sequence[str], functions: Sequence[SourceFunction], accesses: Sequence[Access]
) -> tuple[Excerpt, ...]:
    bodies = [(function.first, function.last, function.name) for function in functions]
    inside: dict[_Body, list[Access]] = {}
    for access in accesses:
        around = [body for body in bodies if body[0] <= access.seen.line <= body[1]]
        inside.setdefault(max(around, default=(1, len(lines), "")), []).append(access)
    return tuple(_excerpt(lines, body, found) for body, found in inside.items())


def _excerpt(lines: Sequence[str], body: _Body, accesses: Sequence[Access]) -> Excerpt:
    numbers = [access.seen.line for access in accesses]
    first, last = max(body[0], min(numbers) - _BEFORE), min(body[1], max(numbers) + _AFTER)
    return Excerpt(
        body[2],
        tuple(
            SourceLine(number, lines[number - 1], tuple(each for each in accesses if each.seen.line == number))
            for number in range(first, last + 1)
        ),
    )
