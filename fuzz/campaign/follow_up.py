"""Looking into what failed, on the worker that it failed on: a new bug is kept, shrunk, and a known one is counted."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final, Literal

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.crew import Crewman
from fuzz.campaign.desk import Desk
from fuzz.campaign.hunter import Trial
from fuzz.campaign.investigation import Finding, Investigation
from fuzz.campaign.job import Attempt, Job
from fuzz.case import Case, encode_case
from fuzz.verdict import Verdict

# How long the time limit may be overrun to finish shrinking what was found within it.
_GRACE_SECONDS: Final = 60.0


@dataclass
class FollowUp:
    """What happens to failing trials; the threads that serve the workers share it.

    Args:
        desk: Where everything is counted and kept.
    """

    desk: Desk
    _shrinking: threading.Lock = field(default_factory=threading.Lock)

    def look_into(self, job: Job, crewman: Crewman) -> None:
        """Find out what the failing trial of a job comes to, if it has one, on the worker that made it."""
        attempt = job if isinstance(job, Attempt) else None
        if job.failing is None:
            if attempt:
                self._tell_mended(attempt)
                self._settle(attempt.case)
            return
        listed = attempt is not None and attempt.failure in self.desk.failures
        if not listed and not self._may_investigate():
            return  # it stays among the pending ones
        if not listed:
            self._investigate(job.failing, crewman, attempt.waiver.issue if attempt and attempt.waiver else "")
        self._settle(job.failing.case)
        job.failing = None

    def _settle(self, case: Case) -> None:
        """Note that a case that failed was looked into, or passes now."""
        with self.desk.lock:
            written, pending = encode_case(case).decode(), self.desk.census.pending
            while written in pending:
                pending.remove(written)
                self.desk.record("settled", case=written)

    def _tell_mended(self, attempt: Attempt) -> None:
        """Say that a case which was to fail passed."""
        desk, passed = self.desk, attempt.last is not None and attempt.last.verdict.status == "pass"
        if attempt.waiver and passed:
            desk.mended.append(attempt.waiver.path)
        if attempt.waiver:
            outcome = "no longer fails: take it out of the ledger" if passed else "is not one that the target promises"
            desk.notify(f"{attempt.waiver.path}, waived for {attempt.waiver.issue}, {outcome}")
        elif passed and attempt.failure:
            stays = "; the hunt that found it goes on, and keeps it" if attempt.failure in desk.failures else ""
            desk.notify(f"known failure {attempt.failure} passes now{stays}")

    def _investigate(self, trial: Trial, crewman: Crewman, waived: str) -> None:
        """Keep a failing case, shrunk, unless it is a bug that is known already."""
        desk, found_at = self.desk, (self.desk.census.cases, self.desk.at)

        def run(other: Case, purpose: Literal["shrink", "hang?"]) -> Verdict:
            made = crewman.judge(other, purpose)
            with desk.lock:
                desk.keep(made)
            return made.verdict

        def keep(finding: Finding) -> None:
            with desk.lock:
                known = desk.bugs.covering(finding.bucket)
                if known is not None:
                    self._hit(known, waived)
                    return
                failure = desk.bugs.add(finding, found_at, desk.store, desk.plan.target, waived=waived)
                desk.record("failure", failure=failure)
                desk.examples.keep("failing", finding.case)
            desk.notify(f"failure {failure.id}: {failure.message}")
            if desk.plan.exit_first and not failure.waived:
                desk.stopped.set()

        known = Investigation(
            run=run,
            known=lambda: desk.known,
            may_go_on=self._may_shrink,
            notify=desk.notify,
            alone=self._shrinking,
        ).investigate(trial.case, trial.verdict, keep)
        if known is not None:
            with desk.lock:
                self._hit(known, waived)

    def _hit(self, known: Bucket, waived: str) -> None:
        desk = self.desk
        name = desk.bugs.waive(known, waived) if waived else desk.bugs.hit(known)
        desk.census.hits[name] = desk.census.hits.get(name, 0) + 1
        desk.record("hit", failure=name)

    def _may_investigate(self) -> bool:
        """Whether a failing case is still looked into: always until one is kept that counts, which decides the exit."""
        desk = self.desk
        over = desk.stopped.is_set() or (desk.left is not None and desk.left <= 0)
        return not over or all(failure.waived for failure in desk.failures.values())

    def _may_shrink(self) -> bool:
        return self.desk.left is None or self.desk.left > -_GRACE_SECONDS
