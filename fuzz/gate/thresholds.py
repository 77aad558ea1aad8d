"""What a kernel must reach on a card, as `thresholds.toml` says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from fuzz.campaign.isolation import UsageError
from fuzz.gate.workload import WORKLOADS

THRESHOLDS: Final = Path(__file__).with_name("thresholds.toml")
ANY: Final = "any"

# By workload, by what the target is compared with: the least ratio, or the least part of the roofline.
Thresholds = dict[str, dict[str, float]]


def read_thresholds(card: str, path: Path = THRESHOLDS) -> tuple[str, Thresholds]:
    """Return which section of the file holds for a card, and what it asks for.

    Raises:
        UsageError: The file cannot be read, names no such workload, or says nothing of cards in general.
    """
    try:
        sections = msgspec.toml.decode(path.read_bytes(), type=dict[str, Thresholds])
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from None
    if ANY not in sections:
        raise UsageError(f"{path}: there must be a section [{ANY}], for cards that have none")
    for section, asked in sections.items():
        for workload in asked.keys() - WORKLOADS.keys():
            raise UsageError(f"{path}: [{section}] names {workload!r}; the workloads are {', '.join(WORKLOADS)}")
    section = card if card in sections else ANY
    return section, sections[section]
