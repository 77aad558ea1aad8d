"""Jobs: what workers are given to do, and what is left of it when a worker is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.crew import Crewman
from fuzz.campaign.hunter import Kind, Round, Trial, case_key
from fuzz.campaign.ledger import Waiver
from fuzz.case import Case

# In which order rounds of the kinds come. Most draw independently, since neighbours of what is known find what is like
# it; the climb towards the bound takes the most rounds to come to anything.
_KINDS: Final[tuple[Kind, ...]] = ("draw", "draw", "vary", "draw", "draw", "vary", "draw", "climb")
_WORDS: Final[dict[Kind, str]] = {"draw": "draws", "vary": "varies what was new", "climb": "climbs"}


class Clock(Protocol):
    """What a job asks of the hunt when it begins, or begins again."""

    @property
    def elapsed(self) -> float:
        """Seconds since the hunt began."""

    @property
    def left(self) -> float | None:
        """Seconds until it ends; None without a limit."""

    @property
    def known(self) -> tuple[Bucket, ...]:
        """The bugs that are known."""


@dataclass
class Job:
    """Something to do.

    Attributes:
        failing: A trial that failed and is still to be looked into.
        last: The last trial.
        delivered: Keys of the cases that were tried.
    """

    failing: Trial | None = None
    last: Trial | None = None
    delivered: set[int] = field(default_factory=set)

    @property
    def words(self) -> str:
        """What a worker that has it does."""
        raise NotImplementedError

    def do(self, crewman: Crewman, clock: Clock, deliver: Callable[[Trial], None]) -> None:
        """Have a worker do what is left of it."""
        raise NotImplementedError

    def take(self, trial: Trial) -> None:
        """Note that a trial was made."""
        self.last = trial
        self.delivered.add(case_key(trial.case))
        if trial.verdict.failed:
            self.failing = trial


@dataclass
class Attempt(Job):
    """Try one given case.

    Attributes:
        case: The case.
        purpose: What it is tried for.
        waiver: The entry of the ledger that it comes from.
        failure: Id of the failure that it stands for.
    """

    case: Case = field(default_factory=Case)
    purpose: str = "corpus"
    waiver: Waiver | None = None
    failure: str = ""

    @property
    def words(self) -> str:
        """What a worker that has it does."""
        return f"replays: {self.purpose}"

    def do(self, crewman: Crewman, clock: Clock, deliver: Callable[[Trial], None]) -> None:
        """Try it, unless that was done."""
        if not self.delivered:
            span = clock.elapsed if clock.left is None else min(clock.elapsed, clock.left)
            crewman.attempt(self.case, self.purpose, span, clock.known, deliver)


@dataclass
class Draw(Job):
    """Draw and try the cases of one round, up to the first that fails.

    Attributes:
        number: Which round it is.
        examples: How many cases to draw.
        effort: Factor on the size of the calls.
        models: Cases whose neighbours may be drawn.
    """

    number: int = 0
    examples: int = 1
    effort: float = 1.0
    models: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What a worker that has it does."""
        return f"round {self.number}: {_WORDS[self.kind]}"

    @property
    def kind(self) -> Kind:
        """How the cases are drawn."""
        return _KINDS[self.number % len(_KINDS)]

    def do(self, crewman: Crewman, clock: Clock, deliver: Callable[[Trial], None]) -> None:
        """Have the round drawn, without the cases that were tried before a worker was lost."""
        crewman.hunt(
            Round(
                number=self.number,
                kind=self.kind,
                examples=self.examples,
                effort=self.effort,
                elapsed=clock.elapsed,
                left=clock.left,
                known=clock.known,
                models=self.models,
                tried=frozenset(self.delivered),
            ),
            deliver,
        )
