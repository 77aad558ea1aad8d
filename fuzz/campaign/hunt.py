"""The hunt: workers draw and try cases, each served by a thread; what they report goes to the desk.

A worker that is lost is replaced, and what it was at is done again, by whoever is free first.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from fuzz.campaign.census import Census
from fuzz.campaign.crew import Crewman, LostHunterError, NoRoomError
from fuzz.campaign.desk import Desk, HuntOverError
from fuzz.campaign.engine import Engine, LocalEngine
from fuzz.campaign.failure import Failure
from fuzz.campaign.follow_up import FollowUp
from fuzz.campaign.isolation import InfrastructureError, UsageError
from fuzz.campaign.job import Attempt, Draw, Job
from fuzz.campaign.nursery import Nursery
from fuzz.campaign.plan import Plan
from fuzz.campaign.reading import read_cases
from fuzz.campaign.status import Status

# Calls start small and grow, while it is learnt how slow they are.
_FIRST_EFFORT: Final = 1 / 4
_ROUND: Final = 200
_GROWING_ROUND: Final = 25
_SUMMARY_SECONDS: Final = 20.0
# So many workers, one after the other, that are lost without a single trial say that none can be made here.
_MOST_LOST: Final = 5
_WAIT_SECONDS: Final = 1.0
_WAITING: Final = "waits for room"


@dataclass
class Hunt:
    """One hunt.

    Args:
        plan: What the user asked for.
        notify: Told of every trial, and of what is found: what says how things stand, and the news, often empty.
        nursery: Forks the processes that run the target, if there is one.
        engine: Where workers come from; this machine if None.
    """

    plan: Plan
    notify: Callable[[Callable[[], Status], str], None] = lambda status, news: None
    nursery: Nursery | None = None
    engine: Engine | None = None
    effort: float = _FIRST_EFFORT
    _crew: dict[int, Crewman] = field(default_factory=dict)
    _waiting: deque[Job] = field(default_factory=deque)
    _doing: dict[int, str] = field(default_factory=dict)
    _error: BaseException | None = None
    _summary_due: float = 0.0

    def __post_init__(self) -> None:
        """Set up the desk, and the engine."""
        self.desk = Desk(self.plan, lambda news: self.notify(self.status, news))
        self._follow_up = FollowUp(self.desk)
        self._engine = self.engine or LocalEngine(self.plan, self.nursery)

    def run(self) -> int:
        """Hunt until the time is up and return the exit status.

        Raises:
            UsageError: The target cannot be loaded.
            InfrastructureError: Trials cannot be run.
            CaseError: A kept case is malformed.
            OSError: The folder cannot be written.
            KeyboardInterrupt: The user interrupted it; everything found is kept.
        """
        try:
            first = self._first()
            self.desk.open(first.device, first.versions)
            try:
                self.notify(self.status, f"hunting {self.plan.target} on {first.device}")
                self._work()
            except KeyboardInterrupt:
                self.desk.summarise(exit_status=130)
                raise
            except (InfrastructureError, OSError):
                with contextlib.suppress(OSError):
                    self.desk.summarise(exit_status=3)
                raise
            finally:
                self._dismiss()
                self.desk.close()
        finally:
            self._dismiss()
            self._engine.close()
        return self.desk.exit_status

    def _first(self) -> Crewman:
        """Return the first worker: what it says of the target and of the device holds for all."""
        try:
            return self._hire(0)
        except (LostHunterError, NoRoomError) as error:
            raise InfrastructureError(f"no worker can be had: {error}") from None

    def stop(self) -> None:
        """End the hunt before the next trial."""
        self.desk.stopped.set()

    @property
    def failures(self) -> dict[str, Failure]:
        """The bugs that were found, by id."""
        return self.desk.failures

    @property
    def census(self) -> Census:
        """What was counted."""
        return self.desk.census

    @property
    def elapsed(self) -> float:
        """Seconds since the target was loaded."""
        return self.desk.elapsed

    def status(self) -> Status:
        """Return what the hunt is at."""
        return self.desk.status(tuple(self._doing[rank] for rank in sorted(self._doing.copy())))

    def summary(self, exit_status: int | None) -> dict[str, Any]:
        """Return what `summary.json` holds; `exit` is null while the hunt goes on."""
        return self.desk.summary(exit_status)

    def _work(self) -> None:
        # Before anybody draws: what this hunt tries and keeps is not what was known when it began.
        self._waiting.extend(self._replays())
        threads = [
            threading.Thread(target=self._guarded, args=(rank,), daemon=True) for rank in range(self._engine.workers)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                threads[0].join(0.2) if threads[0].is_alive() else time.sleep(0.2)
                if time.monotonic() >= self._summary_due:
                    self._summary_due = time.monotonic() + _SUMMARY_SECONDS
                    self.desk.summarise(exit_status=None)
        finally:
            # After an interrupt nobody wants to wait for a trial; the threads end with the process.
            self.stop()
            for thread in threads:
                thread.join(1.0)
        if self._error is not None:
            raise self._error
        self._look_into_orphans()
        self.desk.store.forget_journals()
        self.desk.summarise(exit_status=self.desk.exit_status)

    def _guarded(self, rank: int) -> None:
        """Serve one worker; the first error of any of them ends the hunt."""
        try:
            self._serve(rank)
        except HuntOverError:
            pass
        # Handed to the main thread, which raises it again.
        except BaseException as error:
            self._error = self._error or error
            self.stop()

    def _serve(self, rank: int) -> None:
        """Give one worker its jobs; where it is lost, what is left of its job goes to whoever is free first."""
        lost, tried = 0, 0
        while True:
            self.desk.check_over()
            job, before = None, 0
            try:
                crewman = self._hire(rank)
                job = self._next_job()
                before = len(job.delivered)
                self._do(job, rank, crewman)
                lost = 0
            except NoRoomError as error:
                self._wait_for_room(rank, error)
            except LostHunterError as error:
                # Where others get on, this one had bad luck: only if nobody does can none be made here.
                idle = self.census.tried == tried and (job is None or len(job.delivered) == before)
                lost, tried = lost + 1 if idle else 1, self.census.tried
                if job is not None:
                    self._waiting.appendleft(job)
                self._lose(rank, error, lost)

    def _next_job(self) -> Job:
        """Return what a lost worker left, or what was known before, if another one did not take it; or a new round."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return self._draw()

    def _do(self, job: Job, rank: int, crewman: Crewman) -> None:
        """Do what is left of a job: it may have been begun by a worker that was lost."""
        self._doing[rank] = job.words
        if job.failing is None:
            job.do(crewman, self.desk, lambda trial: self.desk.take(trial, job))
            self.desk.take_coverage(crewman)
        if job.failing is not None:
            self._doing[rank] = "looks into a failure"
        self._follow_up.look_into(job, crewman)

    def _look_into_orphans(self) -> None:
        """Look into what failed on workers that were lost when the hunt was about to end."""
        for job in [job for job in self._waiting if job.failing is not None]:
            for attempt in range(1, _MOST_LOST + 1):
                try:
                    self._do(job, 0, self._hire(0))
                    break
                except (LostHunterError, NoRoomError) as error:
                    self._lose(0, LostHunterError(str(error)), attempt)

    def _draw(self) -> Draw:
        """Return the next round."""
        effort, self.effort = self.effort, min(1.0, self.effort * 2)
        number, models = self.desk.next_round()
        examples = _ROUND if effort >= 1 else _GROWING_ROUND
        return Draw(number=number, examples=examples, effort=effort, models=models)

    def _replays(self) -> Iterator[Attempt]:
        """Yield what is tried before anything is drawn."""
        for waiver in self.plan.ledger:
            yield Attempt(case=waiver.case, purpose="waived", waiver=waiver)
        for case in self.desk.interrupted():
            yield Attempt(case=case, purpose="interrupted")
        for path, case in self.desk.store.known_cases():
            yield Attempt(case=case, purpose="known failure", failure=path.parent.name)
        for case in self.desk.examples.others("failing"):
            yield Attempt(case=case, purpose="shared")
        corpus = [case for folder in self.plan.corpus for _, case in read_cases(sorted(folder.glob("*.json")))]
        # From the smallest on, so that a slow kernel is known as one before a large case would take all the time.
        for case in sorted(corpus, key=lambda case: case.multiplications):
            yield Attempt(case=case, purpose="corpus")

    def _hire(self, rank: int) -> Crewman:
        """Return the worker of this number; hire one if there is none."""
        if rank not in self._crew:
            try:
                self._crew[rank] = self._engine.hire(rank)
            except (UsageError, InfrastructureError) as error:
                if not self.desk.device:
                    raise
                # The target was loaded before: something else went wrong, and may not do so again.
                raise LostHunterError(str(error)) from None
        return self._crew[rank]

    def _wait_for_room(self, rank: int, error: NoRoomError) -> None:
        """Wait a while, and say so if it is the first time."""
        if self._doing.get(rank) != _WAITING:
            self._doing[rank] = _WAITING
            self.notify(self.status, f"worker {rank} waits: {error}")
        time.sleep(_WAIT_SECONDS)

    def _lose(self, rank: int, error: LostHunterError, times: int) -> None:
        """Take leave of a worker that is gone."""
        self.notify(self.status, f"worker {rank} was lost, what it was at is done again: {error}")
        if times >= _MOST_LOST:
            raise InfrastructureError(f"{times} workers were lost one after the other without a trial: {error}")
        crewman = self._crew.pop(rank, None)
        if crewman is not None:
            crewman.close()

    def _dismiss(self) -> None:
        """End all workers."""
        while self._crew:
            self._crew.popitem()[1].close()
