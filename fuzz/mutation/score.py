"""The score: every mutant is tried on the same drawn cases, and what became of it is kept.

A mutant counts as killed only by a case that the kernel without the change passes, so that a kernel that is wrong by
itself gets no score.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal

import msgspec

from fuzz.campaign.isolation import IsolatedTarget, UsageError, worker_environment
from fuzz.campaign.nursery import Nursery
from fuzz.case import Case, encode_case
from fuzz.mutation.equivalents import Equivalent, listing
from fuzz.mutation.mutant import Mutant
from fuzz.mutation.reach import Statement, changed_in, instrumented, statements_in, unreached
from fuzz.mutation.subject import Subject
from fuzz.mutation.trials import Trial, Trials, drawn
from fuzz.verdict import Lane, Verdict

Status = Literal["killed", "timed out", "survived", "equivalent", "broken"]

# Trials that tell which lines are reached at all.
_REACH_CASES: Final = 200
_LIMIT_SECONDS: Final = 60.0
# How long one mutant may be tried, whatever the number of cases: for those that make every call slow.
_MUTANT_SECONDS: Final = 120.0
# A call that takes so many times as long as without the change is suspect, and hangs if it does with twice the time.
_SUSPECT: Final = 20
_LEAST_LIMIT: Final = 5.0
_HANGS: Final = 2
# One that is listed as computing the same gets a part of the cases: its bits are compared as well.
_LISTED_SHARE: Final = 10
# A mutant that raises has no result that another lane could judge.
_WITHOUT_RESULT: Final = ("raised", "timeout", "crash", "killed")


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one mutant.

    Attributes:
        status: `broken` raises for the simplest call there is: it does not compile, or nearly so. `equivalent`
            survived and is listed: it computes the same, bit for bit over the corpus, or chooses another sound way.
        lane: The lane that saw it first.
        lanes: All lanes that see it in the case that killed it.
        cases: Cases until it was killed, or all that it survived, those that do not come to the change counted in.
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


@dataclass
class Score:
    """Tries the mutants of one kernel, several at a time.

    Args:
        subject: The kernel.
        max_cases: Trials after which a mutant has survived.
        seed: Decides the draws.
        jobs: Mutants at a time, each with one process of its own.
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
        """Start the processes that all mutants share, and draw the cases.

        Raises:
            UsageError: The target cannot be loaded.
        """
        with ExitStack() as stack:
            self._nursery = stack.enter_context(Nursery(worker_environment()))
            self._pristine = stack.enter_context(self._isolated(self.subject.text, digests=True))
            self._statements = statements_in(self.subject.text)
            text = instrumented(self.subject.text, self._statements)
            targets = [stack.enter_context(self._isolated(text)) for _ in range(self.jobs)]
            self._loading_marks = targets[0].loading_marks
            self._trials = Trials(targets, drawn(self._pristine.abilities, self.seed, self.max_cases))
            self._processes = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        self._stopped.set()
        self._processes.close()

    @property
    def versions(self) -> dict[str, str]:
        """Versions of torch and triton that the kernel runs on."""
        return self._pristine.versions

    def unreached(self) -> list[Statement]:
        """Return the parts of the kernel's file that no trial comes to, as far as the first ones tell.

        Raises:
            WrongByItselfError: The kernel without a change fails a case.
        """
        first = islice(self._trials, _REACH_CASES)
        return unreached(self._statements, self._loading_marks.union(*(trial.marks for trial in first)))

    def results(self, mutants: Iterable[Mutant]) -> Iterator[Result]:
        """Try mutants, and yield what became of each as it is known.

        Raises:
            WrongByItselfError: The kernel without a change fails a case.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            waiting = [pool.submit(self._try, mutant) for mutant in mutants]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)

    def _trials_of(self, mutant: Mutant) -> Iterator[Trial]:
        """Yield the trials that come to what a mutant changes."""
        changed = changed_in(self.subject.text, mutant.text, self._statements)
        if changed is None or changed & self._loading_marks:
            return iter(self._trials)
        sought = frozenset(changed)
        return (trial for trial in self._trials if trial.marks & sought)

    def _isolated(self, text: str, *, digests: bool = False) -> IsolatedTarget:
        """Start a process of the kernel with another text."""
        return IsolatedTarget(
            self.subject.target,
            "cpu",
            sources={str(self.subject.path): text},
            nursery=self._nursery,
            digests=digests,
        )

    def _try(self, mutant: Mutant) -> Result:
        started = time.monotonic()
        try:
            with self._isolated(mutant.text) as isolated:
                result = self._first_failure(mutant, isolated) or self._survived(mutant)
        except UsageError as refused:
            # Python or Triton would not even import it.
            result = _result(mutant, status="broken", message=str(refused))
        return msgspec.structs.replace(result, seconds=round(time.monotonic() - started, 2))

    def _first_failure(self, mutant: Mutant, isolated: IsolatedTarget) -> Result | None:
        listed = listing(mutant, self.equivalents)
        compared = listed is not None and not listed.choice
        most = -(-self.max_cases // _LISTED_SHARE) if compared else self.max_cases
        spent = 0.0
        for trial in self._trials_of(mutant):
            if trial.place > most or spent > _MUTANT_SECONDS or self._stopped.is_set():
                break
            verdict = self._verdict(isolated, trial)
            if verdict.failed:
                return self._examine(mutant, isolated, trial, verdict)
            spent += verdict.seconds
        return None

    def _verdict(self, isolated: IsolatedTarget, trial: Trial) -> Verdict:
        limit = max(_LEAST_LIMIT, _SUSPECT * trial.seconds)
        verdict = isolated.run(trial.case, limit)
        return isolated.run(trial.case, _HANGS * limit) if verdict.kind == "timeout" else verdict

    def _survived(self, mutant: Mutant) -> Result:
        """Return what a mutant that no trial refused comes to: equivalent only if its bits are those of the kernel.

        Of a choice other bits are admitted, since it survived all cases.
        """
        count = len(self._trials)
        listed = listing(mutant, self.equivalents)
        if listed is None:
            return _result(mutant, status="survived", cases=count)
        if not listed.choice:
            with self._isolated(mutant.text, digests=True) as isolated:
                for case in self.corpus:
                    if isolated.abilities.promises(case) and not self._agree(isolated, case):
                        message = f"listed as equivalent, but not for {case!r}"
                        return _result(mutant, status="survived", cases=count, message=message)
        return _result(mutant, status="equivalent", cases=count, message=listed.why)

    def _agree(self, isolated: IsolatedTarget, case: Case) -> bool:
        isolated.run(case, _LIMIT_SECONDS)
        with self._pristine_lock:
            if case not in self._digests:
                self._pristine.run(case, _LIMIT_SECONDS)
                self._digests[case] = self._pristine.digest
            return self._digests[case] == isolated.digest

    def _examine(self, mutant: Mutant, isolated: IsolatedTarget, trial: Trial, verdict: Verdict) -> Result:
        broken = verdict.kind == "raised" and isolated.run(Case(), _LIMIT_SECONDS).kind == "raised"
        return _result(
            mutant,
            status="broken" if broken else "timed out" if verdict.kind == "timeout" else "killed",
            lane=verdict.lane,
            lanes=_lanes_that_see(isolated, trial.case, verdict),
            cases=trial.place,
            case=encode_case(trial.case).decode(),
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
