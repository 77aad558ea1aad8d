"""The bugs of one hunt: each kept once, under the simplest form in which it was seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.investigation import Finding
from fuzz.campaign.store import Failure, Store, failure_id
from fuzz.report.text import failure_report


@dataclass
class Bugs:
    """What was found so far.

    Attributes:
        failures: By id.
        buckets: What the bugs are told apart by.
        duplicates: How many failing cases showed a bug that was known.
    """

    failures: dict[str, Failure] = field(default_factory=dict)
    buckets: tuple[Bucket, ...] = ()
    duplicates: int = 0

    def has(self, manifestation: str) -> bool:
        """Return whether some bug shows itself in this way."""
        return any(bucket.manifestation == manifestation for bucket in self.buckets)

    def add(self, finding: Finding | None, found_at: tuple[int, float], store: Store, target: str) -> str:
        """Keep a finding, unless it is known; return the news, empty if there are none.

        Args:
            finding: What an investigation came to; None stands for a bug that is known.
            found_at: After how many cases, and seconds, it was first seen.
            store: Where failures are kept.
            target: The target's name.
        """
        name = failure_id(str(finding.bucket)) if finding else ""
        if finding is None or name in self.failures or any(known.covers(finding.bucket) for known in self.buckets):
            self.duplicates += 1
            return ""
        self.buckets = (*self.buckets, finding.bucket)
        bucket, verdict = str(finding.bucket), finding.verdict
        store.keep_failure(bucket, finding.case, verdict, target, failure_report(name, finding, target, store.folder))
        self.failures[name] = Failure(
            id=name,
            bucket=bucket,
            message=verdict.message,
            case_file=f"failures/{name}/case.json",
            cases_to_find=found_at[0],
            seconds_to_find=round(found_at[1], 1),
        )
        # Only now: where the new one cannot be written, the old one is still there.
        for known in [known for known in self.buckets if finding.bucket.covers(known) and known != finding.bucket]:
            store.drop_failure(failure_id(str(known)))
            self.failures.pop(failure_id(str(known)), None)
        return f"failure {name}: {verdict.message}"
