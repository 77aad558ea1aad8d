"""The score: every mutant is hunted by a hunt of its own, and what became of it is kept.

A mutant counts as killed only by a case that the kernel without the change passes, so that a kernel that is wrong by
itself gets no score.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import msgspec

from fuzz.campaign.hunt import Hunt
from fuzz.campaign.isolation import IsolatedTarget, UsageError, worker_environment
from fuzz.campaign.nursery import Nursery
from fuzz.campaign.plan import Plan
from fuzz.case import Case, encode_case
from fuzz.mutation.equivalents import Equivalent, listing
from fuzz.mutation.mutant import Mutant
from fuzz.mutation.reach import Statement, instrumented, statements_in, unreached
from fuzz.mutation.subject import Subject
from fuzz.verdict import Lane, Verdict

Status = Literal["killed", "timed out", "survived", "equivalent", "broken"]

# Trials that tell which lines are reached at all.
_REACH_CASES: Final = 200
_LIMIT_SECONDS: Final = 60.0
# How long one mutant may be hunted, whatever the number of cases: for those that make every call slow.
_HUNT_SECONDS: Final = 120.0
# One that is listed as computing the same is hunted for a part of that: its bits are compared as well.
_LISTED_SHARE: Final = 10
# A mutant that raises has no result that another lane could judge.
_WITHOUT_RESULT: Final = ("raised", "timeout", "crash")


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one mutant.

    Attributes:
        status: `broken` raises for the simplest call there is: it does not compile, or nearly so. `equivalent`
            survived and is listed: it computes the same, bit for bit over the corpus, or chooses another sound way.
        lane: The lane that saw it first.
        lanes: All lanes that see it in the case that killed it.
        cases: Trials until it was killed, or all that it survived.
        seconds: Likewise.
        case: The case that killed it, as JSON.
        message: What that case gave, or why the mutant is equivalent.
    """

    name: str
    operator: str
    line: int
    before: str
    after: str
    status: Status
    lane: Lane | None = None
    lanes: tuple[Lane, ...] = ()
    cases: int = 0
    seconds: float = 0.0
    case: str = ""
    message: str = ""


class WrongByItselfError(Exception):
    """The kernel fails a case without any change."""


@dataclass
class Score:
    """Hunts the mutants of one kernel, several at a time.

    Args:
        subject: The kernel.
        max_cases: Trials after which a mutant has survived.
        seed: With the mutant's name it decides the draws.
        jobs: Hunts at a time, each with one process of its own.
        equivalents: Changes that are known to make no difference.
        corpus: Cases for which those must give the same bits.
    """

    subject: Subject
    max_cases: int
    seed: int
    jobs: int
    equivalents: Sequence[Equivalent] = ()
    corpus: Sequence[Case] = ()
    _pristine_lock: threading.Lock = field(default_factory=threading.Lock)
    _digests: dict[Case, str] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Score:
        """Start the processes that all hunts share.

        Raises:
            UsageError: The target cannot be loaded.
        """
        self._nursery = Nursery(worker_environment())
        try:
            self._pristine = IsolatedTarget(self.subject.target, "cpu", nursery=self._nursery, digests=True)
        except BaseException:
            self._nursery.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        self._stopped.set()
        self._pristine.close()
        self._nursery.__exit__(None, None, None)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of torch and triton that the kernel runs on."""
        return self._pristine.versions

    def unreached(self) -> list[Statement]:
        """Return the parts of the kernel's host code that no trial comes to."""
        statements = statements_in(self.subject.text)
        with tempfile.TemporaryDirectory() as folder:
            text = instrumented(self.subject.text, statements, Path(folder))
            with tempfile.TemporaryDirectory() as out:
                hunt = Hunt(self._plan(text, "reach", _REACH_CASES, Path(out)), nursery=self._nursery)
                hunt.run()
            return unreached(statements, Path(folder))

    def results(self, mutants: Iterable[Mutant]) -> Iterator[Result]:
        """Hunt mutants, and yield what became of each as it is known.

        Raises:
            WrongByItselfError: The kernel without a change fails a case.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            waiting = [pool.submit(self._hunt, mutant) for mutant in mutants]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)

    def _plan(self, text: str, name: str, max_cases: int, out: Path) -> Plan:
        seed = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return Plan(
            target=self.subject.target,
            out=out,
            seed=int.from_bytes(seed[:4]),
            seconds=_HUNT_SECONDS,
            max_cases=max_cases,
            device="cpu",
            sources={str(self.subject.path): text},
        )

    def _hunt(self, mutant: Mutant) -> Result:
        found: list[Result] = []

        def examine(isolated: IsolatedTarget, case: Case, verdict: Verdict) -> None:
            found.append(self._examine(mutant, isolated, case, verdict))

        started = time.monotonic()
        with tempfile.TemporaryDirectory() as out:
            listed = listing(mutant, self.equivalents)
            compared = listed is not None and not listed.choice
            max_cases = -(-self.max_cases // _LISTED_SHARE) if compared else self.max_cases
            plan = self._plan(mutant.text, mutant.name, max_cases, Path(out))
            hunt = Hunt(plan, self._stop_with_all, nursery=self._nursery, examine=examine)
            try:
                hunt.run()
            except UsageError as refused:
                # Python or Triton would not even import it.
                return _result(mutant, status="broken", message=str(refused))
        seconds = round(time.monotonic() - started, 2)
        result = found[0] if found else self._survived(mutant)
        return msgspec.structs.replace(result, cases=hunt.census.cases, seconds=seconds)

    def _survived(self, mutant: Mutant) -> Result:
        """Return what a mutant that no trial refused comes to: equivalent only if its bits are those of the kernel.

        Of a choice other bits are admitted, since it survived the whole hunt.
        """
        listed = listing(mutant, self.equivalents)
        if listed is None:
            return _result(mutant, status="survived")
        if listed.choice:
            return _result(mutant, status="equivalent", message=listed.why)
        sources = {str(self.subject.path): mutant.text}
        with IsolatedTarget(
            self.subject.target, "cpu", sources=sources, nursery=self._nursery, digests=True
        ) as isolated:
            for case in self.corpus:
                if isolated.abilities.promises(case) and not self._agree(isolated, case):
                    return _result(mutant, status="survived", message=f"listed as equivalent, but not for {case!r}")
        return _result(mutant, status="equivalent", message=listed.why)

    def _agree(self, isolated: IsolatedTarget, case: Case) -> bool:
        isolated.run(case, _LIMIT_SECONDS)
        with self._pristine_lock:
            if case not in self._digests:
                self._pristine.run(case, _LIMIT_SECONDS)
                self._digests[case] = self._pristine.digest
            return self._digests[case] == isolated.digest

    def _stop_with_all(self, hunt: Hunt, news: str) -> None:
        if self._stopped.is_set():
            hunt.stop()

    def _examine(self, mutant: Mutant, isolated: IsolatedTarget, case: Case, verdict: Verdict) -> Result:
        with self._pristine_lock:
            own = self._pristine.run(case, _LIMIT_SECONDS)
        if own.failed:
            raise WrongByItselfError(f"target {self.subject.target} fails by itself: {own.message} · {case!r}")
        broken = verdict.kind == "raised" and isolated.run(Case(), _LIMIT_SECONDS).kind == "raised"
        return _result(
            mutant,
            status="broken" if broken else "timed out" if verdict.kind == "timeout" else "killed",
            lane=verdict.lane,
            lanes=_lanes_that_see(isolated, case, verdict),
            case=encode_case(case).decode(),
            message=verdict.message,
        )


def _lanes_that_see(isolated: IsolatedTarget, case: Case, verdict: Verdict) -> tuple[Lane, ...]:
    """Return every lane that refuses a case's result: each by itself, the ones before it blind."""
    lanes: list[Lane] = []
    while verdict.failed and verdict.lane not in lanes:
        lanes.append(verdict.lane)
        if verdict.kind in _WITHOUT_RESULT:
            break
        verdict = isolated.run(case, _LIMIT_SECONDS, fresh=True, blind=frozenset(lanes))
    return tuple(lanes)


def _result(mutant: Mutant, *, status: Status, **fields: object) -> Result:
    return msgspec.convert(
        {
            "name": mutant.name,
            "operator": mutant.operator,
            "line": mutant.line,
            "before": mutant.before,
            "after": mutant.after,
            "status": status,
            **fields,
        },
        Result,
    )
