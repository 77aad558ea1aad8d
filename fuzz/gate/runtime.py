"""`gate runtime`: what was measured on a GPU → whether the target is fast enough there, or why that cannot be said."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Final

from fuzz.campaign.isolation import InfrastructureError
from fuzz.gate.child import answer_of
from fuzz.gate.clocks import REASONS
from fuzz.gate.devices import CARDS
from fuzz.gate.interval import Interval, median, ratio
from fuzz.gate.measurement import Measurement, Reading, Timing
from fuzz.gate.thresholds import Thresholds
from fuzz.gate.workload import WORKLOADS, floor

# What the gate promises of a ratio: another run gives the same within this part. So an interval that is wider, or a
# clock that moved by more, is no ground for a verdict.
REPEATS_WITHIN: Final = 0.03
_POWER_CAP: Final = 0x4
_LEAST_READINGS: Final = 6
ROOFLINE: Final = "roofline"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One comparison.

    Attributes:
        workload: Its name.
        against: A contender, or `roofline`.
        found: How many times as long that one takes; or, of the roofline, the part that the target reaches.
        threshold: What `found` must reach, None if it need not reach anything.
    """

    workload: str
    against: str
    found: Interval
    threshold: float | None

    @property
    def missed(self) -> bool:
        """Whether the lower end of the interval is under the threshold."""
        return self.threshold is not None and self.found.low < self.threshold


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What came of one measurement.

    Attributes:
        measurement: The measurement.
        section: Of the thresholds, which one holds.
        claims: All comparisons.
        refusals: By workload, why nothing can be said of its times.
        medians: By workload and contender, milliseconds.
    """

    measurement: Measurement
    section: str
    claims: list[Claim]
    refusals: dict[str, str]
    medians: dict[str, dict[str, Interval]]

    @property
    def status(self) -> int:
        """Exit status: 1 for a wrong result, or a threshold that was surely missed, 3 where no verdict is possible."""
        wrong = any(timing.complaints for timing in self.measurement.timings)
        if wrong or any(claim.missed and claim.workload not in self.refusals for claim in self.claims):
            return 1
        return 3 if self.refusals else 0


def measure(target: str, rounds: int, workloads: tuple[str, ...]) -> Measurement:
    """Time a target on this machine's GPU, in a process of its own.

    Raises:
        UsageError: The target cannot be loaded.
        InfrastructureError: There is no GPU, the process died, or no workload is for the target.
    """
    found = answer_of("fuzz.gate.timing", Measurement, f"timing {target}", target, str(rounds), *workloads)
    if not found.timings:
        raise InfrastructureError(f"no workload is for target {target}: {'; '.join(found.skipped.values())}")
    return found


def judge(measurement: Measurement, section: str, thresholds: Thresholds) -> Judgement:
    """Hold a measurement against thresholds.

    Args:
        measurement: What was measured.
        section: Where the thresholds are from.
        thresholds: By workload and contender.
    """
    claims, refusals = [], {}
    for timing in measurement.timings:
        made = _claims(timing, measurement.card, thresholds.get(timing.workload, {}))
        claims += made
        reason = why_refused(timing, made)
        if reason:
            refusals[timing.workload] = reason
    medians = {
        timing.workload: {name: median(times) for name, times in timing.milliseconds.items()}
        for timing in measurement.timings
    }
    return Judgement(measurement=measurement, section=section, claims=claims, refusals=refusals, medians=medians)


def _claims(timing: Timing, card: str, thresholds: dict[str, float]) -> list[Claim]:
    if not timing.milliseconds:
        return []
    target = timing.milliseconds["target"]
    found = {name: ratio(times, target) for name, times in timing.milliseconds.items() if name != "target"}
    if card in CARDS:
        least = floor(CARDS[card], WORKLOADS[timing.workload]).milliseconds
        found[ROOFLINE] = ratio([least] * len(target), target)
    return [
        Claim(workload=timing.workload, against=name, found=interval, threshold=thresholds.get(name))
        for name, interval in found.items()
    ]


def why_refused(timing: Timing, claims: list[Claim]) -> str:
    """Return why nothing can be said of a workload's times; empty if something can."""
    held = Counter(name for reading in timing.readings for bit, name in REASONS.items() if reading.reasons & bit)
    held.pop(REASONS[_POWER_CAP], None)
    if held:
        name, count = held.most_common(1)[0]
        return f"the card was held back: {name} in {count} of {len(timing.readings)} readings"
    moved = _moved([reading.clock for reading in timing.readings])
    if moved > REPEATS_WITHIN:
        return f"the clock moved by {moved:.1%} from the first third of the rounds to the last"
    for claim in claims:
        if claim.threshold is not None and claim.found.width > 2 * REPEATS_WITHIN:
            return f"times vary: {claim.against} is {claim.found.low:.3f} to {claim.found.high:.3f}"
    return ""


def _moved(clocks: list[float]) -> float:
    """By which part the clock has changed: medians of the first and of the last third."""
    third = len(clocks) // 3
    if len(clocks) < _LEAST_READINGS:
        return 0.0
    first, last = statistics.median(clocks[:third]), statistics.median(clocks[-third:])
    return abs(last - first) / first


def power_capped(readings: list[Reading]) -> float:
    """Return in which part of the readings power held the clock down."""
    return statistics.fmean(bool(reading.reasons & _POWER_CAP) for reading in readings) if readings else 0.0
