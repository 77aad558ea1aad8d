"""The fewest cases that keep every feature that a hunt has reached: a corpus that is tried on each change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.campaign.census import features
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.reading import read_records, trial_of
from fuzz.campaign.store import write
from fuzz.case import Case, CaseFile, encode_case, write_case_file


@dataclass(frozen=True)
class Candidate:
    """A case that passed, and what it reached."""

    case: Case
    reached: frozenset[str]

    @property
    def cost(self) -> int:
        """Products of a trial, roughly what it takes."""
        return (self.case.multiplications + 1) * self.case.calls


@dataclass
class Candidates:
    """Of any number of cases, those that a small corpus may need: for each feature the cheapest and the richest.

    A night's records are millions; what is kept of them is two cases for each feature.
    """

    target: str = ""
    _cheapest: dict[str, Candidate] = field(default_factory=dict)
    _richest: dict[str, Candidate] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        """Keep a case if it is the cheapest or the richest for one of its features."""
        for feature in candidate.reached:
            cheapest, richest = self._cheapest.get(feature), self._richest.get(feature)
            if cheapest is None or candidate.cost < cheapest.cost:
                self._cheapest[feature] = candidate
            if richest is None or _wealth(candidate) > _wealth(richest):
                self._richest[feature] = candidate

    @property
    def features(self) -> frozenset[str]:
        """Everything that was reached."""
        return frozenset(self._cheapest)

    def fewest(self) -> list[Candidate]:
        """A small set of cases that reaches everything: greedily, then without those that the others make needless.

        The fewest of all would be a set cover, which is NP-hard; greedy choices are within a factor of ln n (Chvátal,
        Mathematics of Operations Research 4, 1979).
        """
        kept = {encode_case(one.case): one for one in (*self._cheapest.values(), *self._richest.values())}
        left, chosen = set(self.features), []
        while left:
            best = max(kept.values(), key=lambda one: (len(one.reached & left), -one.cost))
            chosen.append(best)
            left -= best.reached
        for one in sorted(chosen, key=lambda one: -one.cost):
            others = [other for other in chosen if other is not one]
            if frozenset().union(*(other.reached for other in others)) >= self.features:
                chosen = others
        return chosen


def _wealth(candidate: Candidate) -> tuple[int, int]:
    return len(candidate.reached), -candidate.cost


def candidates(records: Iterable[dict[str, Any]]) -> Candidates:
    """Return what records hold of cases that passed; lines that cannot be read are left out."""
    found = Candidates()
    for record in records:
        if record.get("event") == "hunt":
            found.target = str(record.get("target", ""))
        trial = trial_of(record)
        if trial is not None and trial[1].status == "pass":
            found.add(Candidate(trial[0], frozenset(features(*trial))))
    return found


def distill(folder: Path, into: Path) -> tuple[int, int]:
    """Write a hunt's fewest cases as files, and return how many, and how many features they keep.

    Args:
        folder: Of the hunt.
        into: Where to put them; it is made if need be, and what lies there stays.

    Raises:
        UsageError: There are no records in the folder, or no case in them that passed.
    """
    records = folder / "records.jsonl"
    if not records.is_file():
        raise UsageError(f"{folder}: there is no hunt in it, no records.jsonl to distill")
    found = candidates(read_records(records))
    chosen = found.fewest()
    if not chosen:
        raise UsageError(f"{folder}: no case passed in this hunt, so that there is nothing to keep")
    into.mkdir(parents=True, exist_ok=True)
    for one in chosen:
        name = hashlib.sha256(encode_case(one.case)).hexdigest()[:10]
        note = f"reaches {', '.join(sorted(one.reached))}"
        write(into / f"distilled-{name}.json", write_case_file(CaseFile(case=one.case, target=found.target, note=note)))
    return len(chosen), len(found.features)
