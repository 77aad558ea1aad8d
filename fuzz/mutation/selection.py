"""Which mutants of a kernel are hunted."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

import libcst as cst

from fuzz.campaign.isolation import UsageError
from fuzz.mutation.catalogue import bugs_of
from fuzz.mutation.mutant import Mutant, mutants_of
from fuzz.mutation.reach import Statement, is_among
from fuzz.mutation.subject import Subject

T = TypeVar("T")


def every_mutant(subject: Subject) -> list[Mutant]:
    """Return what the operators make of a kernel, and its catalogue.

    Raises:
        UsageError: The kernel's file is not Python.
    """
    try:
        return [*mutants_of(subject.text), *bugs_of(subject.target, subject.path.name, subject.text)]
    except cst.ParserSyntaxError as error:
        raise UsageError(f"target {subject.target}: line {error.raw_line} of {subject.path} is not Python") from None


def named(mutants: Iterable[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Return the mutants that a user asks for: by name, or by what a name begins with; all of them for no names."""
    return [mutant for mutant in mutants if not names or mutant.name.startswith(tuple(names))]


def reached(mutants: Iterable[Mutant], unreached: Sequence[Statement]) -> list[Mutant]:
    """Return the mutants in lines that trials come to."""
    return [mutant for mutant in mutants if not is_among(mutant.line, unreached)]


def sample(mutants: Sequence[T], count: int, seed: int) -> list[T]:
    """Return so many of them, in their own order; the same ones for the same seed."""
    chosen = random.Random(seed).sample(range(len(mutants)), min(count, len(mutants)))
    return [mutants[place] for place in sorted(chosen)]
