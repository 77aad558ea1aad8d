"""A failing case as the hunt came upon it, which shows more of a defect than what is left of it once it is shrunk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fuzz.campaign.reading import read_case, verdict_of
from fuzz.campaign.store import json_text
from fuzz.case import Case, CaseFile, write_case_file
from fuzz.layout import CaseError
from fuzz.verdict import Verdict

# A case file, so that it can be tried again, and beside it what it gave.
_CASE: Final = "seen.json"
_VERDICT: Final = "seen-verdict.json"


@dataclass(frozen=True)
class Sighting:
    """A case that failed, and what it gave."""

    case: Case
    verdict: Verdict


def sighting_files(sighting: Sighting, target: str) -> dict[str, str]:
    """Return the files that go into the folder of a failure, by name."""
    note = f"as first seen: {sighting.verdict.message}"
    case = CaseFile(case=sighting.case, target=target, note=note)
    return {_CASE: write_case_file(case), _VERDICT: json_text(sighting.verdict)}


def read_sighting(folder: Path) -> Sighting | None:
    """Return what `sighting_files` left in the folder of a failure; None if it is not there, or damaged."""
    try:
        verdict = verdict_of(msgspec.json.decode((folder / _VERDICT).read_bytes()))
        return Sighting(read_case(folder / _CASE).case, verdict)
    except (OSError, TypeError, ValueError, CaseError, msgspec.MsgspecError):
        return None
