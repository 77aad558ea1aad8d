"""Counting what ran: a hunt that says "clean" must say of what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import msgspec

from fuzz.case import DTYPES, EARLIER, RELATIONS, Case, Family, Special, TensorName
from fuzz.coverage import LineCoverage
from fuzz.facets import FACETS
from fuzz.layout import CONTIGUOUS
from fuzz.verdict import Verdict

# A target may name sizes or addresses where it declines; the summary must not grow with each case.
_MOST_REASONS: Final = 50
_TILES: Final = (16, 32, 64, 128)


@dataclass
class Census:
    """Counts over the trials of a hunt.

    Attributes:
        cases: Trials that gave a verdict.
        declined: How many cases the target declined, by reason.
        features: How many trials had each feature.
        worst_error_ratio: By dtype and precision, the largest error / allowed error among trials that passed.
        coverage: Mask coverage of earlier hunts in the same folder.
    """

    cases: int = 0
    declined: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    worst_error_ratio: dict[str, float] = field(default_factory=dict)
    coverage: tuple[LineCoverage, ...] = ()

    def add(self, case: Case, verdict: Verdict) -> None:
        """Count one trial."""
        if verdict.status == "declined":
            told = verdict.message in self.declined or len(self.declined) < _MOST_REASONS
            self.declined[verdict.message if told else "for other reasons"] += 1
            return
        self.cases += 1
        self.features.update(features(case, verdict))
        if verdict.lane == "interval" and not verdict.failed:
            name = arithmetic_name(case)
            self.worst_error_ratio[name] = max(verdict.error_ratio, self.worst_error_ratio.get(name, 0.0))

    def add_earlier(self, summary: dict[str, Any]) -> None:
        """Add the counts of the hunt that this one resumes."""
        self.cases += int(summary.get("cases", 0))
        self.declined.update(summary.get("declined_reasons", {}))
        self.features.update(summary.get("features", {}))
        for name, ratio in summary.get("worst_error_ratio", {}).items():
            self.worst_error_ratio[name] = max(ratio, self.worst_error_ratio.get(name, 0.0))
        self.coverage = msgspec.convert(summary.get("mask_coverage", ()), tuple[LineCoverage, ...])


def arithmetic_name(case: Case) -> str:
    """Return the name under which error ratios of this case are comparable."""
    return case.dtype if case.precision == "default" else f"{case.dtype} {case.precision}"


def features(case: Case, verdict: Verdict) -> list[str]:
    """Return the names of what this trial had, for counting."""
    found = [f"lane: {verdict.lane}", f"dtype: {arithmetic_name(case)}", f"values: {case.values}"]
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
