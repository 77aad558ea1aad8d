"""The ledger: bugs that a team knows of and lives with for the time being, each with the issue that says why.

A waived bug is still hunted, counted and shown, and does not make the hunt fail. One that no longer fails does: a
waiver that nobody needs would hide the next bug of its kind.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fuzz.campaign.isolation import UsageError
from fuzz.campaign.reading import read_case
from fuzz.case import Case


@dataclass(frozen=True)
class Waiver:
    """One entry of a ledger.

    Attributes:
        case: A call that shows the bug.
        path: Where that is kept, as the ledger names it.
        issue: Link of the issue.
    """

    case: Case
    path: str
    issue: str


def read_ledger(path: Path) -> tuple[Waiver, ...]:
    """Return the waivers of a ledger: TOML, a table `[[waived]]` for each, with `case` and `issue`.

    `case` is the path of a case file or of a failure's folder, from the ledger's own folder.

    Raises:
        UsageError: The file cannot be read, or an entry is not as it must be; the message says which.
    """
    try:
        ledger = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--ledger {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"--ledger {path}: not TOML: {error}") from None
    entries = ledger.get("waived", [])
    unknown = sorted(ledger.keys() - {"waived"})
    if unknown or not isinstance(entries, list):
        raise UsageError(f"--ledger {path}: must hold tables [[waived]] and nothing else")
    return tuple(_waiver(entry, f"--ledger {path}: [[waived]] number {number}", path.parent)
                 for number, entry in enumerate(entries, 1))  # fmt: skip


def _waiver(entry: Any, where: str, folder: Path) -> Waiver:
    if not isinstance(entry, dict) or entry.keys() != {"case", "issue"}:
        raise UsageError(f"{where}: must have case and issue, and nothing else")
    case, issue = entry["case"], entry["issue"]
    if not isinstance(case, str) or not isinstance(issue, str):
        raise UsageError(f"{where}: case and issue must be strings")
    if not _is_link(issue):
        raise UsageError(f"{where}: issue={issue!r} must be a link to an issue, as https://…")
    try:
        return Waiver(read_case(folder / case).case, case, issue)
    except ValueError as error:  # a malformed case, or a path that no file can have
        raise UsageError(f"{where}: {error}") from None


def _is_link(text: str) -> bool:
    try:
        link = urlsplit(text)
    except ValueError:
        return False
    return link.scheme in ("http", "https") and bool(link.netloc)
