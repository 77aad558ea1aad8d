"""What was measured on a card, as values that travel from the process that measures to the one that judges."""

from __future__ import annotations

from typing import Any

import msgspec


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """What the driver said of the card at one moment.

    Attributes:
        clock: Of the multiprocessors, MHz.
        memory_clock: MHz.
        reasons: Why the clock is not higher, as NVML's bits.
        temperature: °C.
        power: W.
    """

    clock: float
    memory_clock: float
    reasons: int
    temperature: float
    power: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One workload, all contenders in turn.

    Attributes:
        workload: Its name.
        milliseconds: By contender, of each round; nothing if the target's results were wrong before.
        flushes: How often the L2 cache was overwritten before each call, so that the host was ahead.
        late: How many calls the host was late for even so; they were timed again.
        error_ratio: Largest error of the target over the allowed one, before and after.
        complaints: What was wrong with what the target returned, a line each; empty where nothing was.
        readings: Of the card, while it ran.
    """

    workload: str
    milliseconds: dict[str, list[float]]
    flushes: int = 1
    late: int = 0
    error_ratio: float = 0.0
    complaints: list[str] = []
    readings: list[Reading] = []


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run of the runtime gate measured.

    Attributes:
        target: The kernel that is judged.
        card: Its name as the driver has it, without the maker.
        circumstances: Machine and versions.
        timings: A workload each.
        skipped: Workloads that the target's signature cannot express, and why.
    """

    target: str
    card: str
    circumstances: dict[str, Any]
    timings: list[Timing]
    skipped: dict[str, str] = {}
