"""`Hunter`: one worker of a hunt. Hypothesis draws here, the target runs in a process of its own.

A hunter decides which drawn cases are worth their time, and how long one may take; it neither counts nor keeps
anything. Hypothesis generates and climbs; it never sees a failure, because it would stop at the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from fuzz.campaign.buckets import Bucket, is_size
from fuzz.campaign.drawing import draw_cases
from fuzz.campaign.isolation import IsolatedTarget
from fuzz.campaign.journal import Journal
from fuzz.campaign.nursery import Nursery
from fuzz.campaign.pace import Pace
from fuzz.case import Case, Dtype, Precision, decode_case, encode_case
from fuzz.coverage import LineCoverage
from fuzz.strategies import cases
from fuzz.variation import neighbours
from fuzz.verdict import Verdict

Kind = Literal["draw", "vary", "climb"]

# Shrinking goes by a shorter limit than the hunt, since every step of a hang costs all of it.
_SHRINK_SECONDS: Final = 4.0
_SHRINK_SLACK: Final = 3.0
# A case of the corpus may take what a hunt of this length would spend on one: ten seconds.
_REPLAY_SPAN: Final = 200.0
_MOST_SEEN: Final = 500_000
# Of so many cases that have all that a known bug needs, one is tried as it is; of those whose sizes alone make the bug,
# every other one, since without such sizes little else is tried.
_AS_DRAWN: Final = 8
_AS_DRAWN_SIZES: Final = 2


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a hunter is told once.

    Attributes:
        target: The target's name.
        device: `auto`, `cpu` or `cuda`.
        seed: Seed of the hunt.
        rank: Number of the worker, from 0: where there are several GPUs, it takes the one of this number, in turn.
        dtypes: Which dtypes to try; what the target promises if None.
        precisions: Likewise.
        sources: By path, texts that stand in for files.
        journal: A file that holds the case that is being tried, for the time after a machine went down with it.
    """

    target: str
    device: str
    seed: int
    rank: int = 0
    dtypes: tuple[Dtype, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    sources: dict[str, str] = {}
    journal: str | None = None


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A round of draws: a fresh start keeps Hypothesis's memory small and its choices fresh.

    Attributes:
        number: Which round of the hunt it is; the draws depend on this and on the seed.
        kind: Independent draws, neighbours of the models, or a climb towards the bound.
        examples: How many cases to draw.
        effort: Factor on the size of the calls.
        elapsed: Seconds since the hunt began.
        left: Seconds until it ends, or None for no limit.
        known: Bugs that are known, around which the draws are led.
        models: Cases that reached something, as `encode_case` wrote them.
        tried: Keys of cases that were tried in this round before a worker was lost.
    """

    number: int
    kind: Kind
    examples: int
    effort: float
    elapsed: float
    left: float | None
    known: tuple[Bucket, ...] = ()
    models: tuple[str, ...] = ()
    tried: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Trial:
    """What a hunter reports of one case.

    Attributes:
        purpose: What it was tried for.
        lines: Lines of the kernel with what was new in how their masks were.
        lost: How many processes were lost on the way.
    """

    case: Case
    verdict: Verdict
    purpose: str
    lines: tuple[str, ...] = ()
    lost: int = 0


class _RoundOverError(BaseException):
    """Leaves Hypothesis's loop; not an `Exception`, so that Hypothesis lets it through."""


@dataclass
class Hunter:
    """One worker, with a target of its own.

    Args:
        assignment: What it is told once.
        nursery: Forks the processes that run the target, if there is one.

    Raises:
        UsageError: The target cannot be loaded.
        InfrastructureError: No process can be had for it.
    """

    assignment: Assignment
    nursery: Nursery | None = None
    pace: Pace = field(default_factory=Pace)
    _seen: set[int] = field(default_factory=set)
    _lines: set[str] = field(default_factory=set)
    _lost: int = 0

    def __post_init__(self) -> None:
        """Start the process that runs the target."""
        told = self.assignment
        self._isolated = IsolatedTarget(
            told.target,
            told.device,
            sources=told.sources,
            nursery=self.nursery,
            environment={"FUZZ_RANK": str(told.rank)},
        )
        held = self._isolated
        self.device, self.versions, self.room = held.device, held.versions, held.room
        self.abilities = held.abilities
        self._journal = Journal(told.journal) if told.journal else None

    @property
    def coverage(self) -> tuple[LineCoverage, ...]:
        """How the masks of the target's kernels were exercised."""
        return self._isolated.coverage

    def close(self) -> None:
        """End the process that runs the target."""
        self._isolated.close()
        if self._journal:
            self._journal.close()

    def hunt(self, order: Round, deliver: Callable[[Trial], None]) -> None:
        """Draw and try the cases of one round, up to the first that fails, or to the end of the hunt.

        Raises:
            UsageError: The target turns out not to be one.
            InfrastructureError: No process can be had to run it.
        """
        started = time.monotonic()
        dtypes, precisions = self.assignment.dtypes, self.assignment.precisions
        drawn = cases(self.abilities, dtypes=dtypes, precisions=precisions, effort=order.effort)
        if order.kind == "vary" and order.models:
            models = tuple(map(decode_case, order.models))
            drawn = neighbours(models, drawn, self.abilities, dtypes=dtypes, precisions=precisions, effort=order.effort)
        seed = int.from_bytes(hashlib.sha256(f"{self.assignment.seed}/{order.number}".encode()).digest()[:8])

        def score(case: Case) -> tuple[str, float] | None:
            passed = time.monotonic() - started
            left = None if order.left is None else order.left - passed
            if left is not None and left <= 0:
                raise _RoundOverError
            if order.kind != "climb":
                case = led_around(case, order.known)
            span = order.elapsed + passed if left is None else min(order.elapsed + passed, left)
            if not self._is_new(case, order.tried) or not self.pace.is_worth_trying(case, span):
                return None
            trial = self._try(case, "hunt", deliver, has_hang(order.known))
            deliver(trial)
            if trial.verdict.failed:
                raise _RoundOverError
            if trial.verdict.lane != "interval" or trial.verdict.status != "pass":
                return None
            return case.arithmetic, trial.verdict.error_ratio

        with contextlib.suppress(_RoundOverError):
            draw_cases(drawn, seed, order.examples, score, climb=order.kind == "climb")

    def attempt(
        self, case: Case, purpose: str, span: float, known: tuple[Bucket, ...], deliver: Callable[[Trial], None]
    ) -> bool:
        """Try one given case; return whether it was: not if the target does not promise it, nor if it takes too long.

        Args:
            case: The case.
            purpose: What it is tried for; one of the corpus may be left out where it takes too much of the time.
            span: Seconds since the hunt began, or until it ends.
            known: Bugs that are known.
            deliver: Receives the trial.
        """
        if not self.abilities.promises(case, self.assignment.dtypes, self.assignment.precisions):
            return False
        if purpose == "corpus" and not self.pace.is_affordable(case, max(span, _REPLAY_SPAN)):
            return False
        self._is_new(case, frozenset())
        deliver(self._try(case, purpose, deliver, has_hang(known)))
        return True

    def judge(self, case: Case, purpose: Literal["shrink", "hang?"]) -> Trial:
        """Try a case on a target on which no call was made, for a step of shrinking or for as long as a hang takes."""
        if purpose == "hang?":
            return self._run(case, self.pace.hang_limit(case), purpose, fresh=True)
        limit = max(_SHRINK_SECONDS, _SHRINK_SLACK * self.pace.seconds(case) * case.calls)
        return self._run(case, limit, purpose, fresh=True)

    def _try(self, case: Case, purpose: str, deliver: Callable[[Trial], None], hang_is_known: bool) -> Trial:
        trial = self._run(case, self.pace.limit(case), purpose)
        if trial.verdict.kind == "timeout" and not hang_is_known:
            deliver(Trial(case, trial.verdict, "hang?", trial.lines, trial.lost))
            trial = self._run(case, self.pace.hang_limit(case), purpose)
        return trial

    def _run(self, case: Case, seconds: float, purpose: str, *, fresh: bool = False) -> Trial:
        if self._journal:
            self._journal.begin(case)
        verdict = self._isolated.run(case, seconds, fresh=fresh)
        if verdict.kind != "timeout":
            self.pace.observe(case, verdict.seconds)
        lost, self._lost = self._isolated.restarts - self._lost, self._isolated.restarts
        return Trial(case, verdict, purpose, self._new_lines(), lost)

    def _new_lines(self) -> tuple[str, ...]:
        states = {
            f"{line.line} {line.operation} {state}"
            for line in self._isolated.coverage
            for state in ("all_true", "mixed", "all_false")
            if getattr(line, state)
        }
        new = states - self._lines
        self._lines |= new
        return tuple(sorted(new))

    def _is_new(self, case: Case, tried: frozenset[int]) -> bool:
        """Whether a case was not tried by this worker, nor in this round by one that was lost."""
        key = case_key(case)
        if key in self._seen or key in tried:
            return False
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(key)
        return True


def case_key(case: Case) -> int:
    """Return a number of 63 bits that tells cases apart."""
    return int.from_bytes(hashlib.blake2b(encode_case(case), digest_size=8).digest()) >> 1


def has_hang(known: tuple[Bucket, ...]) -> bool:
    """Whether the target is known to hang: another case that takes too long need not be waited for."""
    return any(bucket.manifestation == "timeout" for bucket in known)


def led_around(case: Case, known: tuple[Bucket, ...]) -> Case:
    """Return a case that most likely does not show a known bug: mostly without one thing that the bug needs."""
    for _ in known:
        led = case
        for bucket in known:
            led = _led_around_one(led, bucket)
        if led == case:
            break
        case = led  # what one bug needs may come of taking out what another one does
    return case


def _led_around_one(case: Case, bucket: Bucket) -> Case:
    names = bucket.removable
    if not bucket.applies_to(case):
        return case
    as_drawn = _AS_DRAWN_SIZES if all(map(is_size, names)) else _AS_DRAWN
    turn, choice = divmod(case.seed // 16, len(names))
    if turn % as_drawn == 0:
        return case
    ways = next((ways for name in (*names[choice:], *names[:choice]) if (ways := bucket.without(name, case))), [case])
    return ways[turn % len(ways)]
