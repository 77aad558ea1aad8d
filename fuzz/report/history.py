"""What a hunt's records say, as values: what was reached and when, how near results came, which sizes were tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from fuzz.campaign.census import arithmetic_name, features
from fuzz.campaign.store import trial_of
from fuzz.case import Case
from fuzz.verdict import Verdict

# What trials are for that are not steps of shrinking.
_TRIED: Final = ("hunt", "corpus", "known failure")
# Positions and channels of the output, as powers of two rounded down.
Size = tuple[int, int]


@dataclass
class History:
    """All hunts in one folder, one after the other.

    Attributes:
        target: The kernel; of the last hunt, like the device.
        device: Where it ran.
        hunts: How many began in this folder.
        trials: How many cases were tried, shrinking apart.
        declined: How many of them the target declined.
        reached: After how many cases a feature was met for the first time, in order: the names, and the numbers.
        error_ratios: By dtype and precision, of trials that passed in the interval lane, error over allowed error.
        sizes: How many cases of each size were tried.
        failed: How many of them failed.
    """

    target: str = ""
    device: str = ""
    hunts: int = 0
    trials: int = 0
    declined: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    error_ratios: dict[str, list[float]] = field(default_factory=dict)
    sizes: Counter[Size] = field(default_factory=Counter)
    failed: Counter[Size] = field(default_factory=Counter)

    def add(self, case: Case, verdict: Verdict) -> None:
        """Count one trial."""
        self.trials += 1
        if verdict.status == "declined":
            self.declined += 1
            return
        for feature in features(case, verdict):
            self.reached.setdefault(feature, self.trials)
        if verdict.lane == "interval" and not verdict.failed:
            self.error_ratios.setdefault(arithmetic_name(case), []).append(verdict.error_ratio)
        height, width = (max(0, size) for size in case.out_size)
        size = (case.n * height * width).bit_length() - 1, case.c_out.bit_length() - 1
        self.sizes[size] += 1
        self.failed[size] += verdict.failed


def history(records: Iterable[dict[str, Any]]) -> History:
    """Return what records say; those that cannot be read, of a later version or damaged, are left out."""
    found = History()
    for record in records:
        if record.get("event") == "hunt":
            found.hunts += 1
            found.target, found.device = str(record.get("target", "")), str(record.get("device", ""))
        trial = trial_of(record)
        if trial is not None and record.get("purpose") in _TRIED:
            found.add(*trial)
    return found
