"""The bugs of one hunt: each kept once, under the simplest form in which it was seen, with how often it was hit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.failure import Failure, KeptFailure, failure_id
from fuzz.campaign.investigation import Finding
from fuzz.campaign.sighting import read_sighting, sighting_files
from fuzz.campaign.store import Store
from fuzz.report.text import failure_report


@dataclass
class Bugs:
    """What was found so far.

    Attributes:
        kept: By id.
    """

    kept: dict[str, KeptFailure] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, Failure]:
        """What `summary.json` says of each, by id."""
        return {name: one.failure for name, one in self.kept.copy().items()}

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """What the bugs are told apart by."""
        return tuple(one.bucket for one in self.kept.values())

    def has(self, manifestation: str) -> bool:
        """Return whether some bug shows itself in this way."""
        return any(bucket.manifestation == manifestation for bucket in self.buckets)

    def restore(self, store: Store, hits: dict[str, int]) -> None:
        """Take over what the hunt found that this one goes on with, and how often each was hit again since.

        What was waived then is not now, unless the ledger still says so.
        """
        earlier = store.kept_failures()
        simpler = {name: one.failure.id for one in earlier for name in one.failure.earlier_ids}
        for one in earlier:
            name, names = one.failure.id, (one.failure.id, *one.failure.earlier_ids)
            if name in simpler:
                # The hunt was killed when it had kept the simpler form, and not yet moved this one there.
                store.merge_failure(name, into=simpler[name])
                continue
            count = sum(1 + hits.get(each, 0) for each in names)
            self.kept[name] = msgspec.structs.replace(
                one, failure=msgspec.structs.replace(one.failure, hits=count, waived="")
            )

    def covering(self, bucket: Bucket) -> Bucket | None:
        """Return the known bug that this one is, perhaps seen in a case that was shrunk less far; None if it is new."""
        return next((known for known in self.buckets if known.covers(bucket)), None)

    def hit(self, bucket: Bucket) -> str:
        """Count another case that shows a known bug, which may have been merged into another by now; return its id."""
        name = next(name for name, one in self.kept.items() if one.bucket.covers(bucket))
        self._change(name, hits=self.kept[name].failure.hits + 1)
        return name

    def waive(self, bucket: Bucket, issue: str) -> str:
        """Count such a case, and let the bug not count, for the reason that the issue gives; return its id."""
        name = self.hit(bucket)
        self._change(name, waived=issue)
        return name

    def add(
        self, finding: Finding, found_at: tuple[int, float], store: Store, target: str, *, waived: str = ""
    ) -> Failure:
        """Keep a finding that no known bug covers, with those that it covers merged into it; return the failure.

        Args:
            finding: What an investigation came to.
            found_at: After how many cases, and seconds, it was first seen.
            store: Where failures are kept.
            target: The target's name.
            waived: Link of the issue that waives it.
        """
        name = failure_id(str(finding.bucket))
        same = [one.failure for one in self.kept.values() if finding.bucket.covers(one.bucket)]
        first = min([(one.cases_to_find, one.seconds_to_find) for one in same] + [found_at])
        failure = Failure(
            id=name,
            bucket=str(finding.bucket),
            message=finding.verdict.message,
            case_file=f"failures/{name}/case.json",
            cases_to_find=first[0],
            seconds_to_find=round(first[1], 1),
            hits=1 + sum(one.hits for one in same),
            waived=waived or next((one.waived for one in same if one.waived), ""),
            earlier_ids=tuple(name for one in same for name in (*one.earlier_ids, one.id)),
        )
        kept = KeptFailure(failure=failure, bucket=finding.bucket)
        earlier = read_sighting(store.folder / "failures" / name)
        if earlier and finding.seen.case == finding.case:
            # A kept case was tried again: it was shrunk from what an earlier hunt in this folder came upon.
            finding = replace(finding, seen=earlier)
        report = failure_report(name, finding, target, store.folder)
        more = {"report.txt": report, **sighting_files(finding.seen, target)}
        store.keep_failure(kept, finding.case, target, more)
        for one in same:
            store.merge_failure(one.id, into=name)
            del self.kept[one.id]
        self.kept[name] = kept
        return failure

    def _change(self, name: str, **changes: object) -> None:
        one = self.kept[name]
        self.kept[name] = msgspec.structs.replace(one, failure=msgspec.structs.replace(one.failure, **changes))
