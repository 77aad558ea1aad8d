"""Looking into a failing case: is it real, is it known, what is its simplest form, what does it depend on?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from fuzz.campaign.buckets import HISTORY, Bucket, is_size
from fuzz.campaign.sighting import Sighting
from fuzz.case import EARLIER, Case
from fuzz.facets import Attribute, attributes, causes
from fuzz.second_call import second_call
from fuzz.shrinking import Shrinker, ordinary
from fuzz.sizes import sizes_of
from fuzz.verdict import Verdict

# Runs a case on a target that nothing was called on before: a step of shrinking, or one that may take as long as it
# takes to know that it hangs.
Run = Callable[[Case, Literal["shrink", "hang?"]], Verdict]

# What kills processes from outside, a machine short of memory for one, may hit one case twice; this often more, not.
_MORE_KILLS: Final = 2


@dataclass(frozen=True)
class Finding:
    """One bug, as it is kept.

    Attributes:
        bucket: What it is told apart by.
        case: The shrunk case.
        verdict: What the shrunk case gives.
        seen: What the hunt came upon, before anything was shrunk.
        attributes: What became of it without each of its facets.
    """

    bucket: Bucket
    case: Case
    verdict: Verdict
    seen: Sighting
    attributes: tuple[Attribute, ...] = ()


@dataclass
class Investigation:
    """Looks into one failing case.

    Args:
        run: Runs a case.
        known: Gives the bugs that are known; other workers may find one meanwhile.
        may_go_on: Asked before each step of shrinking.
        notify: Told what goes on.
        alone: Held while a bug is shrunk that nobody knows, so that two workers do not shrink the same one.
    """

    run: Run
    known: Callable[[], tuple[Bucket, ...]]
    may_go_on: Callable[[], bool]
    notify: Callable[[str], None]
    alone: AbstractContextManager[Any] = field(default_factory=nullcontext)
    _judged: dict[Case, Verdict] = field(default_factory=dict)

    def investigate(self, case: Case, verdict: Verdict, keep: Callable[[Finding], None]) -> Bucket | None:
        """Find out what a failing case comes to.

        Args:
            case: The case.
            verdict: What it gave.
            keep: Receives the finding, if there is one.

        Returns:
            The bug, where it is one that is known; None where it is a new one, or none at all.
        """
        seen = Sighting(case, verdict)
        if verdict.kind == "timeout":
            # Established by a limit far longer than that of a step.
            self._judged[case] = verdict
        reproduced = self._reproduce(case)
        if reproduced is None:
            return self._keep_as_it_is(seen, keep)
        known = self._known(reproduced)
        if known is not None:
            return known
        with self.alone:
            known = self._known(reproduced)
            if known is None:
                finding = self._shrink(reproduced, seen)
                if finding is not None:
                    keep(finding)
            return known

    def _shrink(self, case: Case, seen: Sighting) -> Finding | None:
        # What shows with ordinary numbers, too, does not depend on a NaN, though it may show as one.
        case = next(
            (other for other in ordinary(case) if self._judge(other).failed and self._known(other) is None), case
        )
        verdict = self._judge(case)
        self.notify(f"shrinking: {verdict.message}")
        shrunk = Shrinker(
            case, lambda other: self._judge(other).manifestation == verdict.manifestation, self.may_go_on
        ).shrink()
        if verdict.kind == "timeout" and shrunk != case:
            self._judged[shrunk] = self.run(shrunk, "hang?")
            if not self._judged[shrunk].failed:
                return None  # merely slow: what hangs goes on hanging however small the call becomes
        return self._describe(shrunk, verdict.manifestation, seen)

    def _known(self, case: Case) -> Bucket | None:
        known = self.known()
        alone = next((bucket for bucket in known if bucket.explains(case, self._judge(case), self._judge)), None)
        return alone or self._known_together(case, [bucket for bucket in known if bucket.applies_to(case)])

    def _known_together(self, case: Case, known: list[Bucket]) -> Bucket | None:
        """Return one of several bugs that show in a case at once: it passes without all of them, whichever way.

        In some way only: what is taken out might be what another bug needs, too.
        """
        if len(known) < 2:
            return None
        for choice in range(max(len(bucket.removable) for bucket in known)):
            other = case
            for bucket in known:
                name = bucket.removable[choice % len(bucket.removable)]
                other = [other, *bucket.without(name, other)][-1]
            if self._judge(other).failed:
                return None
        return known[0]

    def _judge(self, case: Case) -> Verdict:
        if case not in self._judged:
            verdict = self.run(case, "shrink")
            for _ in range(_MORE_KILLS):
                if verdict.kind != "killed":
                    break
                verdict = self.run(case, "shrink")
            self._judged[case] = verdict
        return self._judged[case]

    def _reproduce(self, case: Case) -> Case | None:
        """Return a case that fails by itself: this one, or this one after an earlier call that made it fail.

        A relation makes a second call, too: what is stale in it, or what it would do as the only one, is better seen
        without the relation.
        """
        plain = msgspec.structs.replace(case, relation=None)
        after = [msgspec.structs.replace(plain, earlier=(*case.earlier, step)) for step in EARLIER]
        second = [second_call(case)] if case.relation else []
        candidates = [plain, *second, *after, case] if case.relation else [case, *after]
        return next((other for other in candidates if other is not None and self._judge(other).failed), None)

    def _keep_as_it_is(self, seen: Sighting, keep: Callable[[Finding], None]) -> Bucket | None:
        """Keep a failure that was seen, but not again; return the known bug that is to blame, if there is one."""
        verdict = seen.verdict
        stateful = next((known for known in self.known() if known.is_stateful), None)
        # A target that is known to keep something fails now and then; and a process that was killed from outside, by a
        # machine short of memory for one, or kept waiting, says nothing about the target.
        if stateful is None and verdict.kind not in ("killed", "timeout"):
            message = f"seen once, passes in a process of its own: {verdict.message}"
            bucket = Bucket(verdict.manifestation, (HISTORY,))
            keep(Finding(bucket, seen.case, msgspec.structs.replace(verdict, message=message), seen))
        return stateful

    def _describe(self, case: Case, manifestation: str, seen: Sighting) -> Finding:
        found = attributes(case, lambda other: self._judge(other).manifestation == manifestation)
        facets = causes(found)
        bucket = Bucket(manifestation, facets, sizes_of(case) if any(map(is_size, facets)) else None)
        return Finding(bucket, case, self._judge(case), seen, found)
