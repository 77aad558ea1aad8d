"""What a hunt is asked to do, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.campaign.ledger import Waiver
from fuzz.case import Dtype, Precision


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the user asked for.

    Attributes:
        seconds: Length of the hunt, or None for no limit.
        max_cases: Trials after which it ends, or None for no limit.
        workers: Processes that run the target, or None for as many as the machines have room for.
        corpus: Folders whose cases are replayed first.
        dtypes: Which dtypes to try; what the target promises if None.
        precisions: Likewise.
        database: Where a database of cases is that other hunts share; None without one.
        ledger: Bugs that are known and do not count.
        sources: By path, texts that stand in for files, where the target is hunted with a change.
    """

    target: str
    out: Path
    seed: int
    seconds: float | None = None
    max_cases: int | None = None
    workers: int | None = 1
    device: str = "auto"
    dtypes: tuple[Dtype, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    corpus: tuple[Path, ...] = ()
    resume: bool = False
    exit_first: bool = False
    ledger: tuple[Waiver, ...] = ()
    database: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
