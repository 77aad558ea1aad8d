"""The desk: where all that workers report is counted and kept; the threads that serve them share it."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.bugs import Bugs
from fuzz.campaign.census import TRIED, Census, census_of, known_features
from fuzz.campaign.crew import Crewman
from fuzz.campaign.examples import Examples
from fuzz.campaign.failure import Failure
from fuzz.campaign.frontier import Frontier
from fuzz.campaign.hunter import Trial, case_key
from fuzz.campaign.job import Job
from fuzz.campaign.plan import Plan
from fuzz.campaign.status import FailureStatus, Status
from fuzz.campaign.store import Store
from fuzz.campaign.traits import traits
from fuzz.case import Case, decode_case, encode_case
from fuzz.coverage import LineCoverage, merge

_MOST_DRAWN: Final = 1_000_000


class HuntOverError(Exception):
    """The time is up, or as many cases were tried as were asked for, or somebody stopped the hunt."""


@dataclass
class Desk:
    """The state of one hunt.

    Args:
        plan: What the user asked for.
        notify: Told of what is found, and with no words of every trial.

    Attributes:
        census: What was counted.
        bugs: What was found.
        mended: Waived cases that no longer fail, as the ledger names them.
        device: Where the target's tensors live.
        versions: Versions of torch and triton there.
        stopped: Set when the hunt is to end.
        lock: Held while anything of it is changed.
    """

    plan: Plan
    notify: Callable[[str], None]
    census: Census = field(default_factory=Census)
    bugs: Bugs = field(default_factory=Bugs)
    mended: list[str] = field(default_factory=list)
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    stopped: threading.Event = field(default_factory=threading.Event)
    _drawn: set[int] = field(default_factory=set)
    _earlier: Census = field(default_factory=Census)
    _frontier: Frontier = field(default_factory=Frontier)
    _coverage: dict[int, tuple[Crewman, tuple[LineCoverage, ...]]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def open(self, device: str, versions: dict[str, str]) -> None:
        """Take the hunt's folder, and what an earlier hunt left there if this one goes on with it.

        Raises:
            OSError: It cannot be written.
            UsageError: Another hunt is writing there, or there can be no shared database where the plan says.
        """
        self.device, self.versions = device, versions
        self.examples = Examples(self.plan.out, self.plan.database, self.notify)
        self.store = Store(self.plan.out)
        if self.plan.resume:
            self._earlier = census_of(self.plan.out)
            self.census = copy.deepcopy(self._earlier)
            self._drawn = {case_key(case) for case in self.store.lately_drawn()}
            self.bugs.restore(self.store, self.census.hits)
        for case in (*(self.examples.own("reaching") if self.plan.resume else ()), *self.examples.others("reaching")):
            self._frontier.add(case, ())
        self.census.target, self.census.device = self.plan.target, device
        self.census.hunts += 1
        self.started = time.monotonic()
        about = {"target": self.plan.target, "seed": self.plan.seed, "device": device, "resume": self.plan.resume}
        self.record("hunt", **about)
        self.summarise(exit_status=None)

    def close(self) -> None:
        """Let another hunt have the folder, and see that others get what was found."""
        self.store.close()
        self.examples.close()

    @property
    def elapsed(self) -> float:
        """Seconds since the target was loaded."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds until the hunt ends; None without a limit."""
        return None if self.plan.seconds is None else self.plan.seconds - self.elapsed

    @property
    def known(self) -> tuple[Bucket, ...]:
        """The bugs that are known."""
        return self.bugs.buckets

    @property
    def failures(self) -> dict[str, Failure]:
        """The bugs that were found, by id."""
        return self.bugs.failures

    @property
    def cases_now(self) -> int:
        """Cases of this hunt, without those of the one that it goes on with."""
        return self.census.cases - self._earlier.cases

    @property
    def cases_per_second(self) -> float:
        """Speed of this hunt."""
        return self.cases_now / max(self.elapsed, 1e-9)

    @property
    def exit_status(self) -> int:
        """What the hunt comes to so far: 1 with a failure, or a waiver that nobody needs; 3 without a trial, else 0."""
        counts = any(not failure.waived for failure in self.failures.values())
        if counts or self.mended or self.census.pending:
            return 1
        return 0 if self.census.cases else 3

    def check_over(self) -> None:
        """Raise `HuntOverError` once the hunt is to end."""
        self._check_wanted()
        if self.left is not None and self.left <= 0:
            raise HuntOverError

    def interrupted(self) -> list[Case]:
        """Return the cases that the hunt which this one goes on with was at, and those that it did not look into."""
        if not self.plan.resume:
            return []
        return [*map(decode_case, self._earlier.pending), *self.store.interrupted_cases()]

    def next_round(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of the next round, and cases whose neighbours may be drawn in it."""
        with self.lock:
            number = self.census.rounds
            self.census.rounds += 1
            self.record("round", number=number)
            return number, tuple(encode_case(case).decode() for case in self._frontier.models(self.census.traits))

    def take(self, trial: Trial, job: Job) -> None:
        """Keep and count a trial that was made for a job.

        Raises:
            HuntOverError: The hunt is over: the trial is one too many.
            OSError: It cannot be written.
        """
        with self.lock:
            if trial.purpose in TRIED:
                self._check_wanted()
            if trial.purpose == "hunt" and not self._is_new(trial.case):
                return
            if trial.purpose in TRIED:
                job.take(trial)
            self.keep(trial)
        self.notify("")

    def take_coverage(self, crewman: Crewman) -> None:
        """Note how the masks of the target's kernels were exercised by one worker up to now."""
        with self.lock:
            self._coverage[id(crewman)] = crewman, crewman.coverage

    def status(self, workers: tuple[str, ...]) -> Status:
        """Return what the hunt is at, for whoever shows it: takes no lock, which a worker may hold for long.

        Args:
            workers: What each of them does.
        """
        known, census = known_features(), self.census
        return Status(
            elapsed=self.elapsed,
            seconds=self.plan.seconds,
            cases=census.cases,
            cases_per_second=self.cases_per_second,
            declined=sum(census.declined.copy().values()),
            restarts=census.restarts,
            features_met=sum(name in census.features for name in known),
            features_known=len(known),
            worst_error_ratio=census.worst_error_ratio.copy(),
            failures=tuple(FailureStatus(one.id, one.message, one.hits) for one in self.failures.values()),
            workers=workers,
        )

    def summarise(self, exit_status: int | None) -> None:
        """Write `summary.json`, and what the counts are by now."""
        with self.lock:
            self.census.seconds = self.at
            self.census.coverage = self._coverage_now()
            self.census.records_bytes = self.store.records_bytes
            self.store.write_state(msgspec.to_builtins(self.census))
            self.store.write_summary(self.summary(exit_status))

    def summary(self, exit_status: int | None) -> dict[str, Any]:
        """Return what `summary.json` holds; `exit` is null while the hunt goes on."""
        census = self.census
        return {
            "target": self.plan.target,
            "device": self.device,
            "versions": self.versions,
            "seed": self.plan.seed,
            "rounds": census.rounds,
            "seconds": round(self.at, 1),
            "cases": census.cases,
            "cases_per_second": round(self.cases_per_second, 2),
            "declined": sum(census.declined.values()),
            "declined_reasons": census.declined,
            "features": dict(sorted(census.features.items())),
            "traits": len(census.traits),
            "worst_error_ratio": dict(sorted(census.worst_error_ratio.items())),
            "mask_coverage": msgspec.to_builtins(self._coverage_now()),
            "restarts": census.restarts,
            "failures": [msgspec.to_builtins(failure) for failure in self.failures.values()],
            "mended": self.mended,
            "exit": exit_status,
        }

    @property
    def at(self) -> float:
        """Seconds of all hunts that make up this one."""
        return round(self._earlier.seconds + self.elapsed, 2)

    def _coverage_now(self) -> tuple[LineCoverage, ...]:
        return merge(self._earlier.coverage, *(coverage for _, coverage in self._coverage.values()))

    def record(self, event: str, **what: object) -> None:
        """Append a record of something that happened."""
        self.store.record({"event": event, "at": self.at, **what})

    def _check_wanted(self) -> None:
        """Raise `HuntOverError` where not even a trial that was made in time is wanted any more."""
        over_cases = self.plan.max_cases is not None and self.cases_now >= self.plan.max_cases
        if self.stopped.is_set() or over_cases:
            raise HuntOverError

    def _is_new(self, case: Case) -> bool:
        """Whether a case was not drawn before: a worker knows its own draws alone, and only as long as it lives."""
        if len(self._drawn) >= _MOST_DRAWN:
            self._drawn.clear()
        before = len(self._drawn)
        self._drawn.add(case_key(case))
        return len(self._drawn) > before

    def keep(self, trial: Trial) -> None:
        """Write down a trial, and count it unless it is a step of shrinking."""
        case, verdict = trial.case, trial.verdict
        self.census.restarts += trial.lost
        self.store.record_trial(case, verdict, purpose=trial.purpose, at=self.at, lines=trial.lines, lost=trial.lost)
        if trial.purpose not in TRIED:
            return
        had = traits(case, verdict, trial.lines)
        new = [trait for trait in had if trait not in self.census.traits]
        self.census.add(case, verdict, had)
        if new and verdict.status == "pass":
            self._frontier.add(case, new)
            self.examples.keep("reaching", case)
