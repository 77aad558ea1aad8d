"""Cases that are worth having again, in a database of Hypothesis's: the folder's own, and one that machines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from hypothesis.database import (
    BackgroundWriteDatabase,
    DirectoryBasedExampleDatabase,
    ExampleDatabase,
    MultiplexedDatabase,
)

from fuzz.campaign.isolation import UsageError
from fuzz.campaign.shared_database import SharedDatabaseError, open_shared_database
from fuzz.case import Case, decode_case, encode_case
from fuzz.layout import CaseError

Worth = Literal["failing", "reaching"]

_FOLDER: Final = "examples"


class Examples:
    """Keeps cases, and gives those that were kept.

    Args:
        folder: Of the hunt.
        shared: Where a database is that others write to, too; None without one.
        complain: Told when the shared database goes away: the hunt goes on without it.

    Raises:
        UsageError: There can be no database at that place.
    """

    def __init__(self, folder: Path, shared: str | None, complain: Callable[[str], None]) -> None:
        self._own: ExampleDatabase = DirectoryBasedExampleDatabase(folder / _FOLDER)
        self._all: ExampleDatabase = self._own
        if shared is not None:
            try:
                # In a thread of its own: a slow network must not slow the hunt.
                others = BackgroundWriteDatabase(open_shared_database(shared, complain=complain))
            except SharedDatabaseError as error:
                raise UsageError(f"--database {error}") from None
            self._all = MultiplexedDatabase(self._own, others)

    def keep(self, worth: Worth, case: Case) -> None:
        """Keep a case that fails, shrunk, or one that reached something first."""
        self._all.save(_key(worth), encode_case(case))

    def close(self) -> None:
        """Wait until all is written: the thread that writes does not outlive the process."""
        list(self._all.fetch(_key("failing")))

    def own(self, worth: Worth) -> list[Case]:
        """Return the cases that earlier hunts in this folder kept."""
        return _cases(self._own, worth)

    def others(self, worth: Worth) -> list[Case]:
        """Return the cases that others kept where all share them; none if there is no such place."""
        own = set(self.own(worth))
        return [case for case in _cases(self._all, worth) if case not in own]


def _cases(database: ExampleDatabase, worth: Worth) -> list[Case]:
    found = []
    # A shared one may hold what a later version wrote, and a folder what a crash left.
    for value in sorted(set(database.fetch(_key(worth)))):
        try:
            found.append(decode_case(value))
        except CaseError:
            continue
    return found


def _key(worth: Worth) -> bytes:
    """Cases are worth trying on any target, so that the key names none."""
    return f"fused-fuzz {worth}".encode()
