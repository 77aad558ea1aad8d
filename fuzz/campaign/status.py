"""What a hunt is at, as a value: for whoever shows it while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FailureStatus:
    """One bug that was found so far.

    Attributes:
        id: Its name, by which `repro` finds it.
        message: The verdict on the shrunk case.
        hits: How many failing cases came to it.
    """

    id: str
    message: str
    hits: int = 1


@dataclass(frozen=True)
class Status:
    """A hunt at one moment.

    Attributes:
        elapsed: Seconds since it began.
        seconds: How long it is to last; None without a limit.
        cases: Trials that gave a verdict.
        cases_per_second: Its speed.
        declined: How many cases the target declined.
        restarts: How many processes were lost.
        features_met: How many of the features that the suite counts were met.
        features_known: How many there are.
        worst_error_ratio: By dtype and precision, the largest error / allowed error among trials that passed.
        failures: The bugs, in the order in which they were found.
        workers: What each worker does, in a few words.
    """

    elapsed: float
    seconds: float | None
    cases: int
    cases_per_second: float
    declined: int = 0
    restarts: int = 0
    features_met: int = 0
    features_known: int = 0
    worst_error_ratio: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[FailureStatus, ...] = ()
    workers: tuple[str, ...] = ()
