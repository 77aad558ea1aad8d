"""The hunt: Hypothesis draws here, the target runs elsewhere.

Each worker is a thread with an isolated target of its own. Hypothesis generates and climbs; it never sees a failure,
because it would stop at the first. A failing case is compared with the bugs already known, shrunk by `fuzz.shrinking`,
put into a bucket and kept, and the hunt goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fuzz.campaign.bugs import Bugs
from fuzz.campaign.census import Census, arithmetic_name
from fuzz.campaign.drawing import draw_cases
from fuzz.campaign.investigation import Investigation
from fuzz.campaign.isolation import InfrastructureError, IsolatedTarget
from fuzz.campaign.nursery import Nursery
from fuzz.campaign.pace import Pace
from fuzz.campaign.plan import Plan
from fuzz.campaign.store import Failure, Store, read_cases, read_summary
from fuzz.case import Case
from fuzz.coverage import LineCoverage, merge
from fuzz.strategies import cases
from fuzz.verdict import Verdict

# Shrinking goes by a shorter limit than the hunt, since every step of a hang costs all of it.
_SHRINK_SECONDS: Final = 4.0
_SHRINK_SLACK: Final = 3.0
# Calls start small and grow, while it is learnt how slow they are.
_FIRST_EFFORT: Final = 1 / 4
# How long the time limit may be overrun to finish shrinking what was found within it.
_GRACE_SECONDS: Final = 60.0
_ROUND: Final = 200
_GROWING_ROUND: Final = 25
# One round in so many climbs towards the bound; the others draw independently.
_CLIMB_EVERY: Final = 8
_SUMMARY_SECONDS: Final = 20.0
# A case of the corpus may take what a hunt of this length would spend on one: ten seconds.
_REPLAY_SPAN: Final = 200.0


class _HuntOver(BaseException):
    """Leaves Hypothesis's loop; not an `Exception`, so that Hypothesis lets it through."""


@dataclass
class Hunt:
    """One hunt and its state, which the worker threads share under `_lock`.

    Args:
        plan: What the user asked for.
        notify: Told of every trial, and of what is found.
        nursery: Forks the processes that run the target, if there is one.
    """

    plan: Plan
    notify: Callable[[Hunt, str], None] = lambda hunt, news: None
    nursery: Nursery | None = None
    census: Census = field(default_factory=Census)
    bugs: Bugs = field(default_factory=Bugs)
    restarts: int = 0
    effort: float = _FIRST_EFFORT
    pace: Pace = field(default_factory=Pace)
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _seen: set[Case] = field(default_factory=set)
    _coverage: dict[int, tuple[LineCoverage, ...]] = field(default_factory=dict)
    _rounds: int = 0
    _cases_before: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _investigation: threading.Lock = field(default_factory=threading.Lock)
    _error: BaseException | None = None
    _summary_due: float = 0.0

    def run(self) -> int:
        """Hunt until the time is up and return the exit status.

        Raises:
            UsageError: The target cannot be loaded.
            InfrastructureError: Trials cannot be run.
            CaseError: A kept case is malformed.
            OSError: The folder cannot be written.
            KeyboardInterrupt: The user interrupted it; everything found is kept.
        """
        with self._isolated(self.plan.device) as first:
            self.device, self.versions = first.device, first.versions
            self._store = Store(self.plan.out)
            try:
                self._begin()
                self._work(first)
            except KeyboardInterrupt:
                self._summarise(exit_status=130)
                raise
            except (InfrastructureError, OSError):
                with contextlib.suppress(OSError):
                    self._summarise(exit_status=3)
                raise
            finally:
                self._store.close()
        return self._finish()

    def stop(self) -> None:
        """End the hunt before the next trial."""
        self._stop.set()

    @property
    def failures(self) -> dict[str, Failure]:
        """The bugs that were found, by id."""
        return self.bugs.failures

    @property
    def elapsed(self) -> float:
        """Seconds since the target was loaded."""
        return time.monotonic() - self.started

    @property
    def cases_per_second(self) -> float:
        """Speed of this hunt."""
        return self._cases_now / max(self.elapsed, 1e-9)

    @property
    def _span(self) -> float:
        """Seconds since the hunt began or until it ends, whichever is less."""
        return self.elapsed if self.plan.seconds is None else min(self.elapsed, self.plan.seconds - self.elapsed)

    @property
    def exit_status(self) -> int:
        """What the hunt comes to so far: 1 with a failure, 3 without a single trial, else 0."""
        return 1 if self.failures else 0 if self.census.cases else 3

    @property
    def _cases_now(self) -> int:
        """Cases of this hunt, without those of the one that it resumes."""
        return self.census.cases - self._cases_before

    def _begin(self) -> None:
        earlier = read_summary(self.plan.out) if self.plan.resume else {}
        self.census.add_earlier(earlier)
        self._cases_before = self.census.cases
        self._rounds = int(earlier.get("rounds", 0))
        self.started = time.monotonic()
        self._store.record({"event": "hunt", "target": self.plan.target, "seed": self.plan.seed, "device": self.device})
        self.notify(self, f"hunting {self.plan.target} on {self.device}")

    def _finish(self) -> int:
        self._summarise(exit_status=self.exit_status)
        return self.exit_status

    def _work(self, first: IsolatedTarget) -> None:
        threads = [threading.Thread(target=self._guarded, args=(self._lead, first), daemon=True)]
        threads += [
            threading.Thread(target=self._guarded, args=(self._follow, first), daemon=True)
            for _ in range(1, self.plan.workers)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                threads[0].join(0.2) if threads[0].is_alive() else time.sleep(0.2)
                self._summarise_at_times()
        finally:
            # After an interrupt nobody wants to wait for a trial; the threads end with the process.
            self._stop.set()
            for thread in threads:
                thread.join(1.0)
        if self._error is not None:
            raise self._error

    def _guarded(self, work: Callable[[IsolatedTarget], None], first: IsolatedTarget) -> None:
        """Run one worker's share; the first error of any worker ends the hunt."""
        try:
            work(first)
        except _HuntOver:
            pass
        # Handed to the main thread, which raises it again.
        except BaseException as error:
            self._error = self._error or error
            self._stop.set()

    def _lead(self, first: IsolatedTarget) -> None:
        """Replay what is known before anything else, then hunt like the others."""
        known = [case for _, case in self._store.known_cases()]
        corpus = [case for folder in self.plan.corpus for _, case in read_cases(sorted(folder.glob("*.json")))]
        # From the smallest on, so that a slow kernel is known as one before a large case would take all the time.
        corpus.sort(key=lambda case: case.multiplications)
        for purpose, replayed in (("known failure", known), ("corpus", corpus)):
            for case in replayed:
                affordable = purpose != "corpus" or self.pace.is_affordable(case, max(self._span, _REPLAY_SPAN))
                if affordable and first.abilities.promises(case, self.plan.dtypes, self.plan.precisions):
                    self._one(first, case, purpose)
        self._hunt(first)

    def _follow(self, first: IsolatedTarget) -> None:
        with self._isolated(first.device) as isolated:
            self._hunt(isolated)

    def _isolated(self, device: str) -> IsolatedTarget:
        return IsolatedTarget(self.plan.target, device, sources=self.plan.sources, nursery=self.nursery)

    def _hunt(self, isolated: IsolatedTarget) -> None:
        while True:
            with self._lock:
                number = self._rounds
                self._rounds += 1
            self._round(isolated, number)

    def _round(self, isolated: IsolatedTarget, number: int) -> None:
        """Draw for a while; a fresh start keeps Hypothesis's memory small and its choices fresh."""
        strategy = cases(
            isolated.abilities, dtypes=self.plan.dtypes, precisions=self.plan.precisions, effort=self.effort
        )
        seed = int.from_bytes(hashlib.sha256(f"{self.plan.seed}/{number}".encode()).digest()[:8])
        examples = _ROUND if self.effort >= 1 else _GROWING_ROUND
        climb = number % _CLIMB_EVERY == _CLIMB_EVERY - 1
        draw_cases(strategy, seed, examples, lambda case: self._score(isolated, case), climb=climb)
        self.effort = min(1.0, self.effort * 2)

    def _score(self, isolated: IsolatedTarget, case: Case) -> tuple[str, float] | None:
        """Try a drawn case; return what Hypothesis may climb: the error in units of the allowed one, by arithmetic."""
        self._check_over()
        verdict = self._one(isolated, case, "hunt") if self.pace.is_worth_trying(case, self._span) else None
        if verdict is None or verdict.failed or verdict.lane != "interval":
            return None
        return arithmetic_name(case), verdict.error_ratio

    def _one(self, isolated: IsolatedTarget, case: Case, purpose: str) -> Verdict | None:
        """Try one case, count it, and look into it if it fails; None if it was tried before."""
        self._check_over()
        with self._lock:
            if case in self._seen:
                return None
            self._seen.add(case)
        verdict = self._run(isolated, case, self.pace.limit(case), purpose)
        if verdict.kind == "timeout" and not self.bugs.has("timeout"):
            verdict = self._run(isolated, case, self.pace.hang_limit(case), "hang?")
        with self._lock:
            self.census.add(case, verdict)
            found_at = self.census.cases, self.elapsed
        if verdict.failed:
            with self._investigation:
                if self._may_investigate():
                    self._investigate(isolated, case, verdict, found_at)
        self.notify(self, "")
        return verdict

    def _check_over(self) -> None:
        over_cases = self.plan.max_cases is not None and self._cases_now >= self.plan.max_cases
        if self._over_time() or over_cases or self._stop.is_set():
            raise _HuntOver

    def _over_time(self) -> bool:
        return self.plan.seconds is not None and self.elapsed >= self.plan.seconds

    def _run(
        self, isolated: IsolatedTarget, case: Case, seconds: float, purpose: str, *, fresh: bool = False
    ) -> Verdict:
        before = isolated.restarts
        verdict = isolated.run(case, seconds, fresh=fresh)
        with self._lock:
            self.restarts += isolated.restarts - before
            self._coverage[id(isolated)] = isolated.coverage
            if verdict.kind != "timeout":
                self.pace.observe(case, verdict.seconds)
            self._store.record_trial(case, verdict, purpose=purpose, at=self.elapsed)
        return verdict

    def _investigate(self, isolated: IsolatedTarget, case: Case, verdict: Verdict, found_at: tuple[int, float]) -> None:
        """Keep a failing case, shrunk, unless it is a bug that is known already."""

        def run(other: Case, seconds: float, purpose: str) -> Verdict:
            return self._run(isolated, other, seconds, purpose, fresh=True)

        finding = Investigation(
            run=run,
            known=self.bugs.buckets,
            may_go_on=self._may_shrink,
            limit=self._shrink_limit,
            hang_limit=self.pace.hang_limit,
            notify=lambda news: self.notify(self, news),
        ).investigate(case, verdict)
        news = self.bugs.add(finding, found_at, self._store, self.plan.target)
        if news:
            self.notify(self, news)
            if self.plan.exit_first:
                self._stop.set()

    def _shrink_limit(self, case: Case) -> float:
        return max(_SHRINK_SECONDS, _SHRINK_SLACK * self.pace.seconds(case) * case.calls)

    def _may_investigate(self) -> bool:
        """Whether a failing case is still looked into; the first one always is."""
        return not self.failures or not (self._over_time() or self._stop.is_set())

    def _may_shrink(self) -> bool:
        return self.plan.seconds is None or self.elapsed < self.plan.seconds + _GRACE_SECONDS

    def _summarise_at_times(self) -> None:
        if time.monotonic() >= self._summary_due:
            self._summary_due = time.monotonic() + _SUMMARY_SECONDS
            self._summarise(exit_status=None)

    def _summarise(self, exit_status: int | None) -> None:
        with self._lock:
            self._store.write_summary(self.summary(exit_status))

    def summary(self, exit_status: int | None) -> dict[str, Any]:
        """Return what `summary.json` holds; `exit` is null while the hunt goes on."""
        census = self.census
        return {
            "target": self.plan.target,
            "device": self.device,
            "versions": self.versions,
            "seed": self.plan.seed,
            "rounds": self._rounds,
            "seconds": round(self.elapsed, 1),
            "cases": census.cases,
            "cases_per_second": round(self.cases_per_second, 2),
            "declined": census.declined.total(),
            "declined_reasons": dict(census.declined),
            "features": dict(sorted(census.features.items())),
            "worst_error_ratio": dict(sorted(census.worst_error_ratio.items())),
            "mask_coverage": msgspec.to_builtins(merge(self.census.coverage, *self._coverage.values())),
            "duplicates": self.bugs.duplicates,
            "restarts": self.restarts,
            "failures": [msgspec.to_builtins(failure) for failure in self.failures.values()],
            "exit": exit_status,
        }
