"""`python -m fuzz mutants`: from what a user asks for to a `Record`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.abilities import BUILT_IN
from fuzz.campaign.isolation import InfrastructureError, UsageError
from fuzz.campaign.reading import read_cases
from fuzz.circumstances import circumstances
from fuzz.mutation.equivalents import built_in_equivalents, read_equivalents
from fuzz.mutation.mutant import Mutant
from fuzz.mutation.reach import Statement
from fuzz.mutation.record import KernelScore, Record
from fuzz.mutation.score import Result, Score
from fuzz.mutation.selection import every_mutant, named, reached, sample
from fuzz.mutation.subject import Subject, subject_of

BUILT_IN_TARGETS: Final = tuple(BUILT_IN)

# Told of each result, and of how many there are and will be.
Notify = Callable[[Result, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asked for.

    Attributes:
        targets: Whose files are mutated.
        only: Names of mutants, or what they begin with; all if empty.
        max_cases: Trials after which a mutant has survived.
        sample: How many mutants to choose from all kernels together, or None for all.
        seed: Decides the draws and the sample.
        jobs: Hunts at a time.
        equivalents: A file with changes that make no difference, besides those of the built-in kernels.
        corpus: The folder of cases for which equivalent mutants must give the same bits.
    """

    targets: tuple[str, ...]
    only: tuple[str, ...]
    max_cases: int
    sample: int | None
    seed: int
    jobs: int
    equivalents: Path | None
    corpus: Path


def measure(wish: Wish, notify: Notify) -> Record:
    """Hunt the mutants that a user asks for, and return what became of them; of those that it came to, if interrupted.

    Raises:
        UsageError: A target cannot be loaded, a file cannot be read, or no mutant has such a name.
        WrongByItselfError: A target fails a case without any change.
        InfrastructureError: No mutant could be hunted.
    """
    started = time.monotonic()
    equivalents = built_in_equivalents() + (read_equivalents(wish.equivalents) if wish.equivalents else [])
    corpus = [case for _, case in read_cases(sorted(wish.corpus.glob("*.json")))]
    chosen = _chosen(wish)
    left, kernels = _Countdown(sum(len(mutants) for _, mutants in chosen), notify), []
    try:
        for subject, mutants in chosen:
            results: list[Result] = []
            with Score(subject, wish.max_cases, wish.seed, wish.jobs, equivalents, corpus) as score:
                unreached = score.unreached()
                hunted = reached(mutants, unreached)
                left.total -= len(mutants) - len(hunted)
                kernels.append((subject, unreached, hunted, results))
                for result in score.results(hunted):
                    results.append(result)
                    left.tell(result)
    except KeyboardInterrupt:
        if not left.done:
            raise
    if not left.done:
        raise InfrastructureError("no mutant was hunted: no trial comes to the lines that they change")
    return Record(
        circumstances=circumstances("cpu"),
        seed=wish.seed,
        max_cases=wish.max_cases,
        jobs=wish.jobs,
        seconds=round(time.monotonic() - started, 1),
        kernels=tuple(_kernel_score(*kernel) for kernel in kernels),
        untried=left.total - left.done,
    )


@dataclass
class _Countdown:
    """How many mutants there are, and how many were tried."""

    total: int
    notify: Notify
    done: int = 0

    def tell(self, result: Result) -> None:
        """Count one, and say so."""
        self.done += 1
        self.notify(result, self.done, self.total)


def _kernel_score(
    subject: Subject, unreached: Iterable[Statement], hunted: Iterable[Mutant], results: Iterable[Result]
) -> KernelScore:
    """Return what became of one kernel's mutants, in their order in its file."""
    order = {mutant.name: place for place, mutant in enumerate(hunted)}
    return KernelScore(
        target=subject.target,
        file=subject.path.name,
        unreached=_functions(unreached),
        results=tuple(sorted(results, key=lambda result: order[result.name])),
    )


def _chosen(wish: Wish) -> list[tuple[Subject, list[Mutant]]]:
    """Return the mutants of each target that are to be hunted, reached or not."""
    subjects = [subject_of(target) for target in wish.targets]
    every = [(subject, mutant) for subject in subjects for mutant in every_mutant(subject)]
    for name in wish.only:
        if not named((mutant for _, mutant in every), (name,)):
            raise UsageError(f"--only {name}: no mutant has a name that begins so")
    wanted = set(map(id, named((mutant for _, mutant in every), wish.only)))
    left = [(subject, mutant) for subject, mutant in every if id(mutant) in wanted]
    if not left:
        raise UsageError(f"target {', '.join(wish.targets)}: there is nothing in it that could be mutated")
    if wish.sample is not None:
        left = sample(left, wish.sample, wish.seed)
    by_subject = [(subject, [mutant for owner, mutant in left if owner is subject]) for subject in subjects]
    return [(subject, mutants) for subject, mutants in by_subject if mutants]


def _functions(unreached: Iterable[Statement]) -> tuple[str, ...]:
    """Return the functions that no trial comes to, or some part of them."""
    return tuple(dict.fromkeys(statement.function for statement in unreached))
