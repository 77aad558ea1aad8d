"""A process that holds a target, from outside: whatever it does has a bound, and nothing of it is left behind."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Final

from fuzz.campaign.footprint import bytes_held, bytes_left, offer_to_the_kernel
from fuzz.campaign.nursery import ForkedChild

_LOG_BYTES: Final = 4000
# What a target prints is kept in memory, so that no full disk makes printing fail; of more than this the end is kept.
_LONGEST_LOG: Final = 2**20
_LOOK_SECONDS: Final = 0.25
# What any target may gather: a process that is no larger is not what the machine is short of.
_MODEST_BYTES: Final = 2**29
# A message, once begun, is there within milliseconds, and none is so long.
_MESSAGE_SECONDS: Final = 30
_LONGEST_MESSAGE: Final = 2**27
_MARKS: Final = "FUZZ_STARTED_BY"
_MARK: Final = f"{os.getpid()}-{secrets.token_hex(8)}"
_SELF: Final = os.getpid()


class OutgrownError(Exception):
    """The process has taken more memory than the machine has left; the message says how much."""


class Process:
    """A started process.

    Args:
        child: The process, the first of a process group.
        connection: To it.
        log: What its standard streams go to.
    """

    def __init__(self, child: subprocess.Popen[bytes] | ForkedChild, connection: Connection, log: IO[bytes]) -> None:
        self.child, self._connection, self._log = child, connection, log
        self._modest, self._look_due = _MODEST_BYTES, 0.0
        offer_to_the_kernel(child.pid)
        _RUNNING.add(self)

    def send(self, message: bytes) -> None:
        """Send a message; raises `OSError` where nobody takes it."""
        self._connection.send_bytes(message)

    def receive(self) -> bytes:
        """Return the next message; raises `OSError` or `EOFError` where none comes, or only a part."""
        return self._connection.recv_bytes(_LONGEST_MESSAGE)

    def answers(self, seconds: float) -> bool:
        """Wait for a message, or the end of the process; False if neither comes within so many seconds.

        Raises:
            OutgrownError: It takes too much memory.
        """
        if self._log.closed:
            raise EOFError("the process was ended")
        end = time.monotonic() + seconds
        while not self._connection.poll(min(_LOOK_SECONDS, max(0.0, end - time.monotonic()))):
            self.look()
            if time.monotonic() >= end:
                return False
        return True

    def look(self) -> None:
        """Keep the log short, and look at how much memory the process takes; most calls come too soon to do so.

        Raises:
            OutgrownError: It takes too much.
        """
        if time.monotonic() < self._look_due or self._log.closed:
            return
        self._look_due = time.monotonic() + _LOOK_SECONDS
        if os.fstat(self._log.fileno()).st_size > _LONGEST_LOG:
            os.ftruncate(self._log.fileno(), 0)
        held = bytes_held(self.child.pid)
        if held > self._modest and held - self._modest > bytes_left():
            raise OutgrownError(f"{held / 2**30:.1f} GiB in one process, {bytes_left() / 2**30:.1f} GiB left")

    def settle(self) -> None:
        """Count what the process holds now, with everything loaded, as what it needs."""
        self._modest = bytes_held(self.child.pid) + _MODEST_BYTES

    def close(self) -> None:
        """Close the connection, upon which a worker ends by itself."""
        self._connection.close()

    def end(self) -> int:
        """Kill the process, if it still runs, and return its exit status (negative for a signal)."""
        self.close()
        self.kill()
        status = self.child.wait()
        self._log.close()
        _RUNNING.discard(self)
        return status

    def end_naturally(self) -> int | None:
        """End the process; return the exit status of one that was on its way out already, None of another."""
        natural = True
        try:
            self.child.wait(timeout=2.0 if self._connection.poll(0) else 0.0)
        except (subprocess.TimeoutExpired, OSError):
            natural = False
        status = self.end()
        return status if natural else None

    def kill(self) -> None:
        """Kill the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """Return the end of what the process wrote to its standard streams."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)).decode(errors="replace")


_RUNNING: Final[set[Process]] = set()


def mark() -> dict[str, str]:
    """Return the variable by which all that a target starts is known, even where it has left the process group.

    What was started by something that was started here is known by both.
    """
    return {_MARKS: " ".join([*os.environ.get(_MARKS, "").split(), _MARK])}


@atexit.register
def end_all() -> None:
    """Kill every process that was started here, and what they started: nothing outlives this one."""
    if os.getpid() != _SELF:
        return  # a fork of the process that has started them
    for process in list(_RUNNING):
        process.kill()
    for stray in _strays():
        with contextlib.suppress(OSError):
            os.kill(stray, signal.SIGKILL)


def _strays() -> Iterator[int]:
    """Yield the processes that carry the mark."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        # Those of other users cannot be read, and some end meanwhile.
        with contextlib.suppress(OSError):
            if _MARK.encode() in environment.read_bytes():
                yield int(environment.parent.name)


def connected() -> tuple[Connection, socket.socket]:
    """Return a connection and the socket at its other end; one that is not served in time raises `OSError`."""
    ours, theirs = socket.socketpair()
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _MESSAGE_SECONDS, 0))
    return Connection(ours.detach()), theirs


def open_log() -> IO[bytes]:
    """Return a file in memory that grows at its end, whoever cuts it."""
    log = os.memfd_create("log")
    fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND)
    return os.fdopen(log, "r+b", buffering=0)
