"""Looking into a failing case: is it real, is it known, what is its simplest form, what does it depend on?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from fuzz.campaign.buckets import HISTORY, Bucket
from fuzz.case import EARLIER, Case
from fuzz.facets import Attribute, attributes, causes
from fuzz.shrinking import Shrinker, ordinary
from fuzz.verdict import Verdict

Run = Callable[[Case, float, str], Verdict]


@dataclass(frozen=True)
class Finding:
    """One bug, as it is kept.

    Attributes:
        bucket: What it is told apart by.
        case: The shrunk case.
        verdict: What the shrunk case gives.
        attributes: What became of it without each of its facets.
    """

    bucket: Bucket
    case: Case
    verdict: Verdict
    attributes: tuple[Attribute, ...] = ()


@dataclass
class Investigation:
    """Looks into one failing case.

    Args:
        run: Runs a case on a target that nothing was called on before: the case, the limit in seconds, the purpose.
        known: The bugs that are known.
        may_go_on: Asked before each step of shrinking.
        limit: Gives the seconds that one step may take.
        hang_limit: Gives the seconds after which a trial counts as hanging.
        notify: Told what goes on.
    """

    run: Run
    known: tuple[Bucket, ...]
    may_go_on: Callable[[], bool]
    limit: Callable[[Case], float]
    hang_limit: Callable[[Case], float]
    notify: Callable[[str], None]
    _judged: dict[Case, Verdict] = field(default_factory=dict)

    def investigate(self, case: Case, verdict: Verdict) -> Finding | None:
        """Return what a failing case comes to; None where it is a bug that is known, or none at all."""
        if verdict.kind == "timeout":
            # Established by a limit far longer than that of a step.
            self._judged[case] = verdict
        reproduced = self._reproduce(case)
        if reproduced is None:
            return self._keep_as_it_is(case, verdict)
        case, verdict = reproduced, self._judge(reproduced)
        if self._is_known(case):
            return None
        # What shows with ordinary numbers, too, does not depend on a NaN, though it may show as one.
        case = next(
            (other for other in ordinary(case) if self._judge(other).failed and not self._is_known(other)), case
        )
        verdict = self._judge(case)
        self.notify(f"shrinking: {verdict.message}")
        shrunk = Shrinker(
            case, lambda other: self._judge(other).manifestation == verdict.manifestation, self.may_go_on
        ).shrink()
        if verdict.kind == "timeout" and shrunk != case:
            self._judged[shrunk] = self.run(shrunk, self.hang_limit(shrunk), "hang?")
            if not self._judged[shrunk].failed:
                return None  # merely slow: what hangs goes on hanging however small the call becomes
        return self._describe(shrunk, verdict.manifestation)

    def _is_known(self, case: Case) -> bool:
        return any(bucket.explains(case, self._judge(case), self._judge) for bucket in self.known)

    def _judge(self, case: Case) -> Verdict:
        if case not in self._judged:
            self._judged[case] = self.run(case, self.limit(case), "shrink")
        return self._judged[case]

    def _reproduce(self, case: Case) -> Case | None:
        """Return a case that fails by itself: this one, or this one after an earlier call that made it fail.

        A relation makes a second call, too: what is stale in it is better seen without the relation.
        """
        plain = msgspec.structs.replace(case, relation=None)
        after = [msgspec.structs.replace(plain, earlier=(*case.earlier, step)) for step in EARLIER]
        candidates = [plain, *after, case] if case.relation else [case, *after]
        return next((candidate for candidate in candidates if self._judge(candidate).failed), None)

    def _keep_as_it_is(self, case: Case, verdict: Verdict) -> Finding | None:
        """Return a finding for a failure that was seen, but not again; None where something else is to blame."""
        bucket = Bucket(verdict.manifestation, (HISTORY,))
        # A target that is known to keep something fails now and then; and a process that was killed from outside, by a
        # machine short of memory for one, or kept waiting, says nothing about the target.
        if any(known.is_stateful for known in self.known) or verdict.kind in ("killed", "timeout"):
            return None
        message = f"seen once, passes in a process of its own: {verdict.message}"
        return Finding(bucket, case, msgspec.structs.replace(verdict, message=message))

    def _describe(self, case: Case, manifestation: str) -> Finding:
        found = attributes(case, lambda other: self._judge(other).manifestation == manifestation)
        return Finding(Bucket(manifestation, causes(found)), case, self._judge(case), found)
