"""Counting what ran: a hunt that says "clean" must say of what.

All counts are of bounded size, whatever the number of trials, and are written beside the records from time to time:
what a folder holds is those counts, and the records that were appended since.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from fuzz.campaign.reading import read_records, read_state, trial_of
from fuzz.campaign.traits import traits
from fuzz.case import DTYPES, EARLIER, RELATIONS, Case, Family, Special, TensorName, encode_case
from fuzz.coverage import LineCoverage
from fuzz.facets import FACETS
from fuzz.layout import CONTIGUOUS
from fuzz.verdict import Verdict

# Error ratios are counted in so many classes from 0 to 1.
ERROR_CLASSES: Final = 40
# What trials are for that are not steps of shrinking.
TRIED: Final = ("hunt", "corpus", "known failure", "waived", "interrupted", "shared")
_TILES: Final = (16, 32, 64, 128)
_MOST_POINTS: Final = 512  # even, so that thinning keeps the newest
# A target may name sizes in its reasons, and so have one for each case.
_MOST_REASONS: Final = 50
_OTHER_REASONS: Final = "other reasons"


class SizeCount(msgspec.Struct):
    """Cases of one size.

    Attributes:
        tried: How many there were.
        failed: How many of them failed.
    """

    tried: int = 0
    failed: int = 0


class Census(msgspec.Struct, kw_only=True):
    """Counts over the trials of all hunts in a folder.

    Attributes:
        target: The kernel, of the last hunt; likewise the device.
        hunts: How many began.
        rounds: How many rounds of draws began.
        seconds: How long they ran, in all.
        cases: Trials that gave a verdict.
        declined: How many cases the target declined, by reason.
        features: How many trials had each feature.
        reached: After how many trials each feature was met first, in order.
        traits: How many trials had each trait.
        curve: After how many trials how many traits had been met: a thinned curve.
        worst_error_ratio: By dtype and precision, the largest error / allowed error among trials that passed.
        error_ratios: By dtype and precision, how many such trials were in each class of error ratios.
        sizes: By powers of two, rounded down, of positions and channels of the output, as in `3 5`.
        hits: How many trials showed each failure, by id.
        pending: Cases that failed and are still to be looked into, as `encode_case` writes them.
        restarts: How many processes that held the target were lost.
        coverage: How the masks of the target's kernels were exercised.
        records_bytes: How much of the records is counted here.
    """

    target: str = ""
    device: str = ""
    hunts: int = 0
    rounds: int = 0
    seconds: float = 0.0
    cases: int = 0
    declined: dict[str, int] = {}
    features: dict[str, int] = {}
    reached: dict[str, int] = {}
    traits: dict[str, int] = {}
    curve: list[tuple[int, int]] = []
    worst_error_ratio: dict[str, float] = {}
    error_ratios: dict[str, list[int]] = {}
    sizes: dict[str, SizeCount] = {}
    hits: dict[str, int] = {}
    pending: list[str] = []
    restarts: int = 0
    coverage: tuple[LineCoverage, ...] = ()
    records_bytes: int = 0

    def add(self, case: Case, verdict: Verdict, had: Iterable[str]) -> int:
        """Count one trial and the traits that it had; return how many of them are new."""
        if verdict.status == "declined":
            known = verdict.message in self.declined or len(self.declined) < _MOST_REASONS
            reason = verdict.message if known else _OTHER_REASONS
            self.declined[reason] = self.declined.get(reason, 0) + 1
            return 0
        self.cases += 1
        if verdict.failed:
            self.pending.append(encode_case(case).decode())
        for feature in features(case, verdict):
            self.features[feature] = self.features.get(feature, 0) + 1
            self.reached.setdefault(feature, self.cases)
        self._add_error(case, verdict)
        self._add_size(case, verdict)
        return self._add_traits(had)

    def add_record(self, record: dict[str, Any]) -> None:
        """Count what a record says; one that cannot be read, of a later version or damaged, is left out."""
        self.seconds = max(self.seconds, _number(record.get("at")))
        event = record.get("event")
        if event == "hunt":
            self.hunts += 1
            self.target, self.device = str(record.get("target", "")), str(record.get("device", ""))
        elif event == "round":
            self.rounds = max(self.rounds, int(_number(record.get("number"))) + 1)
        elif event == "hit":
            name = str(record.get("failure", ""))
            self.hits[name] = self.hits.get(name, 0) + 1
        elif event == "settled":
            self.pending = [other for other in self.pending if other != record.get("case")]
        trial = trial_of(record)
        if trial is None:
            return
        self.restarts += int(_number(record.get("lost")))
        if record.get("purpose") in TRIED:
            lines = record.get("lines")
            self.add(*trial, traits(*trial, map(str, lines) if isinstance(lines, list) else ()))

    @property
    def tried(self) -> int:
        """Trials, those included that the target declined."""
        return self.cases + sum(self.declined.values())

    def _add_error(self, case: Case, verdict: Verdict) -> None:
        if verdict.lane != "interval" or verdict.failed or not math.isfinite(verdict.error_ratio):
            return
        name, ratio = case.arithmetic, verdict.error_ratio
        self.worst_error_ratio[name] = max(ratio, self.worst_error_ratio.get(name, 0.0))
        counts = self.error_ratios.setdefault(name, [0] * ERROR_CLASSES)
        counts[min(ERROR_CLASSES - 1, int(ratio * ERROR_CLASSES))] += 1

    def _add_size(self, case: Case, verdict: Verdict) -> None:
        positions = case.n * math.prod(max(0, size) for size in case.out_size)
        count = self.sizes.setdefault(f"{positions.bit_length() - 1} {case.c_out.bit_length() - 1}", SizeCount())
        count.tried += 1
        count.failed += verdict.failed

    def _add_traits(self, had: Iterable[str]) -> int:
        before = len(self.traits)
        for trait in had:
            self.traits[trait] = self.traits.get(trait, 0) + 1
        new = len(self.traits) - before
        if new:
            self.curve.append((self.cases, len(self.traits)))
            if len(self.curve) > _MOST_POINTS:
                del self.curve[1::2]
        return new


def census_of(folder: Path) -> Census:
    """Return what all hunts in a folder came to: the counts that were written last, and the records since then."""
    try:
        census = msgspec.convert(read_state(folder), Census)
    except msgspec.ValidationError:
        census = Census()
    records = folder / "records.jsonl"
    if records.is_file():
        if not _ends_record(records, census.records_bytes):
            census = Census()  # of other records
        for record in read_records(records, census.records_bytes):
            if record.get("event") == "hunt" and record.get("resume") is not True:
                census = Census()
            census.add_record(record)
        census.records_bytes = records.stat().st_size
    return census


def _ends_record(records: Path, place: int) -> bool:
    """Whether the records reach to a place, and one of them ends there."""
    if place <= 0:
        return place == 0
    with records.open("rb") as lines:
        lines.seek(place - 1)
        return lines.read(1) == b"\n"


def features(case: Case, verdict: Verdict) -> list[str]:
    """Return the names of what this trial had, for counting."""
    found = [f"lane: {verdict.lane}", f"dtype: {case.arithmetic}", f"values: {case.values}"]
    found += [facet.name for facet in FACETS if not facet.is_size and facet.name != "dtype" and facet.present(case)]
    found += [f"{sprinkle.value} in {sprinkle.tensor}" for sprinkle in case.specials]
    found += [f"earlier: {step}" for step in case.earlier]
    if case.relation:
        found.append(f"relation: {case.relation}")
    if case.kh != case.kw:
        found.append("kernel not square")
    if case.w > 128:
        found.append("wider than 128")
    for tile in _TILES:
        if case.c_out % tile:
            found.append(f"c_out not a multiple of {tile}")
    if min(case.out_size) < 1:
        found.append("rejected by PyTorch")
    if case.x_layout == case.weight_layout == case.bias_layout == CONTIGUOUS:
        found.append("all contiguous")
    return sorted(set(found))


def known_features() -> set[str]:
    """Return the names of everything that a trial may have, whatever the target: what a hunt never met is in it."""
    arithmetics = (*DTYPES, "float32 ieee", "float32 tf32")
    return {
        *(f"lane: {lane}" for lane in ("exact", "interval", "errors")),
        *(f"dtype: {name}" for name in arithmetics),
        *(f"values: {family}" for family in get_args(Family)),
        *(facet.name for facet in FACETS if not facet.is_size and facet.name != "dtype"),
        *(f"{value} in {tensor}" for value in get_args(Special) for tensor in get_args(TensorName)),
        *(f"earlier: {step}" for step in EARLIER),
        *(f"relation: {relation}" for relation in RELATIONS),
        *(f"c_out not a multiple of {tile}" for tile in _TILES),
        *("kernel not square", "wider than 128", "rejected by PyTorch", "all contiguous"),
    }


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
