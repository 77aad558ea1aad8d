"""A database of examples that several machines share, and that may go away at any time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

Result = TypeVar("Result")

_LOG: Final = logging.getLogger(__name__)
_SCHEMES: Final = ("redis", "rediss", "unix")
_RETRY_SECONDS: Final = 30.0
_FORMS: Final = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///SOCKET or a folder"


class SharedDatabaseError(ValueError):
    """A location where no database can be; its text is one line, without a password."""


class SharedDatabase(ExampleDatabase):
    """Passes everything on to a database that may go away, and goes on without it while it is gone.

    Nothing that is asked of it raises: what is saved meanwhile is lost, and nothing is fetched. Any thread may use it.

    Args:
        database: Where the examples are. That one listens for changes is not to fail, whether it is there or not.
        name: What complaints call it.
        failures: What `database` raises when it cannot be used.
        complain: Told in one line each time that `database` goes away.
        retry_after: Seconds until a database that has gone away is tried again.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        database: ExampleDatabase,
        name: str,
        failures: tuple[type[Exception], ...],
        *,
        complain: Callable[[str], object] = _LOG.warning,
        retry_after: float = _RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = name
        self._database = database
        self._failures = failures
        self._complain = complain
        self._retry_after = retry_after
        self._clock = clock
        self._lock = threading.Lock()
        self._retry_at: float | None = None

    def __repr__(self) -> str:
        return f"SharedDatabase({self.name!r})"

    def save(self, key: bytes, value: bytes) -> None:
        """Save a value under a key, if the database is there."""
        self._attempt(lambda: self._database.save(key, value), None)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """Return the values under a key; none if the database is gone."""
        return self._attempt(lambda: list(self._database.fetch(key)), [])

    def delete(self, key: bytes, value: bytes) -> None:
        """Delete a value from a key, if the database is there."""
        self._attempt(lambda: self._database.delete(key, value), None)

    def move(self, src: bytes, dest: bytes, value: bytes) -> None:
        """Move a value to another key, if the database is there."""
        self._attempt(lambda: self._database.move(src, dest, value), None)

    def _start_listening(self) -> None:
        self._database.add_listener(self._broadcast_change)

    def _stop_listening(self) -> None:
        self._database.remove_listener(self._broadcast_change)

    def _attempt(self, operation: Callable[[], Result], otherwise: Result) -> Result:
        if not self._is_worth_trying():
            return otherwise
        try:
            result = operation()
        except self._failures as error:
            self._give_up(error)
            return otherwise
        with self._lock:
            self._retry_at = None
        return result

    def _is_worth_trying(self) -> bool:
        with self._lock:
            if self._retry_at is None:
                return True
            now = self._clock()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._retry_after  # the others need not wait for it, too
            return True

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            is_new = self._retry_at is None
            self._retry_at = self._clock() + self._retry_after
        if is_new:
            what = " ".join(str(error).split())
            self._complain(
                f"shared database {self.name} cannot be used: {type(error).__name__}: {what}; "
                f"going on without it, and trying it again after {self._retry_after:g} s"
            )


def open_shared_database(
    location: str,
    *,
    complain: Callable[[str], object] = _LOG.warning,
    retry_after: float = _RETRY_SECONDS,
) -> ExampleDatabase:
    """Return the database at a location, which need not be reachable yet.

    Args:
        location: `redis://`, `rediss://` or `unix://` as redis-py has them, or a folder, which is made.
        complain: See `SharedDatabase`.
        retry_after: Likewise.

    Raises:
        SharedDatabaseError: It is none of these, or needs a package that is not installed.
    """
    scheme, is_url, _ = location.partition("://")
    if not is_url:
        return _open_folder(location)
    if scheme not in _SCHEMES:
        raise SharedDatabaseError(f"{scheme}://…: a shared database is {_FORMS}")
    name = _public_name(location)
    try:
        from fuzz.campaign.redis_database import FAILURES, connect
    except ModuleNotFoundError:
        raise SharedDatabaseError(f"{name} needs the package redis: pip install 'fused-fuzz[redis]'") from None
    try:
        database = connect(location)
    except (ValueError, TypeError):
        # The error may quote a part of a password that was taken for an option.
        raise SharedDatabaseError(f"{name}?…: an option after ? is none of redis-py's, or has no such value") from None
    return SharedDatabase(database, name, FAILURES, complain=complain, retry_after=retry_after)


def _open_folder(location: str) -> ExampleDatabase:
    folder = Path(location)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SharedDatabaseError(f"{location!r} is no folder ({error.strerror}): a database is {_FORMS}") from None
    return DirectoryBasedExampleDatabase(folder)


def _public_name(url: str) -> str:
    """Return a URL without user, password and options.

    Raises:
        SharedDatabaseError: It is no URL of a database. What it is, is not told: it may be a part of a password.
    """
    parts = urlsplit(url)
    place = parts.path.removeprefix("/")
    hint = f"a shared database is {_FORMS}; in a password write / as %2F, ? as %3F, # as %23 and @ as %40"
    try:
        _ = parts.port
    except ValueError:
        raise SharedDatabaseError(f"{parts.scheme}://…: the port is no number below 65536: {hint}") from None
    if parts.scheme == "unix" and not place:
        raise SharedDatabaseError(f"unix://… names no socket: {hint}")
    if parts.scheme != "unix" and place and not (place.isascii() and place.isdecimal()):
        raise SharedDatabaseError(f"{parts.scheme}://…: what follows / is no number of a database: {hint}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
