"""Hunters in processes of their own: Hypothesis's draws keep a core busy, and each worker should have one.

Started as `python -m fuzz.campaign.crew FD`, where FD is one end of a socket pair. Neither torch nor triton is imported
there: the target runs in a third process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Final, Literal, Protocol

import msgspec

from fuzz.abilities import Abilities
from fuzz.campaign.buckets import Bucket
from fuzz.campaign.hunter import Assignment, Round, Trial
from fuzz.campaign.isolation import InfrastructureError, worker_environment
from fuzz.campaign.orders import (
    Answer,
    Attempting,
    Done,
    Failed,
    Hunting,
    Judging,
    Order,
    Ready,
    Tried,
    carry_out,
    decode_answer,
    decode_order,
    error_of,
    loaded,
)
from fuzz.campaign.process import end_all
from fuzz.case import Case, decode_case, encode_case
from fuzz.coverage import LineCoverage

_END_SECONDS: Final = 2.0


class LostHunterError(Exception):
    """A worker is gone, by itself or with its machine: whatever it was doing is to be done again."""


class NoRoomError(Exception):
    """There is nowhere to put a worker for the time being."""


class Crewman(Protocol):
    """A hunter, wherever it is; what it does and raises is `Hunter`'s, and `LostHunterError`."""

    device: str
    versions: dict[str, str]
    room: int | None
    abilities: Abilities

    @property
    def coverage(self) -> tuple[LineCoverage, ...]:
        """As `Hunter.coverage`, when the last order was done."""

    def hunt(self, order: Round, deliver: Callable[[Trial], None]) -> None:
        """As `Hunter.hunt`."""

    def attempt(
        self, case: Case, purpose: str, span: float, known: tuple[Bucket, ...], deliver: Callable[[Trial], None]
    ) -> bool:
        """As `Hunter.attempt`."""

    def judge(self, case: Case, purpose: Literal["shrink", "hang?"]) -> Trial:
        """As `Hunter.judge`."""

    def close(self) -> None:
        """As `Hunter.close`."""


def ready_of(answer: bytes) -> Ready:
    """Return what a hunter says that has loaded the target; raises what kept it from that."""
    said = decode_answer(answer)
    if isinstance(said, Failed):
        raise error_of(said)
    if not isinstance(said, Ready):
        raise LostHunterError(f"answered {type(said).__name__} when it was to load the target")
    return said


class RemoteHunter:
    """A hunter somewhere else, which is sent orders and answers with trials.

    Args:
        ready: What it answered when it had loaded the target.
    """

    def __init__(self, ready: Ready) -> None:
        self.device, self.versions, self.room = ready.device, ready.versions, ready.room
        self.abilities = ready.abilities
        self._coverage: tuple[LineCoverage, ...] = ()

    @property
    def coverage(self) -> tuple[LineCoverage, ...]:
        """As `Hunter.coverage`, when the last order was done."""
        return self._coverage

    def hunt(self, order: Round, deliver: Callable[[Trial], None]) -> None:
        """As `Hunter.hunt`."""
        self._coverage = self._order(Hunting(order), deliver).coverage

    def attempt(
        self, case: Case, purpose: str, span: float, known: tuple[Bucket, ...], deliver: Callable[[Trial], None]
    ) -> bool:
        """As `Hunter.attempt`."""
        done = self._order(Attempting(encode_case(case).decode(), purpose, span, known), deliver)
        self._coverage = done.coverage
        return done.tried

    def judge(self, case: Case, purpose: Literal["shrink", "hang?"]) -> Trial:
        """As `Hunter.judge`."""
        trials: list[Trial] = []
        self._order(Judging(encode_case(case).decode(), purpose), trials.append)
        return trials[0]

    def _order(self, order: Order, deliver: Callable[[Trial], None]) -> Done:
        raise NotImplementedError

    def _take(self, answer: bytes, deliver: Callable[[Trial], None]) -> Done | None:
        """Deliver a trial; return how an order was done, when it is."""
        said = decode_answer(answer)
        if isinstance(said, Failed):
            raise error_of(said)
        if isinstance(said, Done):
            return said
        if not isinstance(said, Tried):
            raise LostHunterError(f"answered {type(said).__name__} where a trial was due")
        deliver(Trial(decode_case(said.case), said.verdict, said.purpose, said.lines, said.lost))
        return None


class HunterProcess(RemoteHunter):
    """A hunter in a process of its own on this machine.

    Args:
        assignment: What it is told once.

    Raises:
        UsageError: The target cannot be loaded.
        InfrastructureError: No process can be had.
        LostHunterError: The process died.
    """

    def __init__(self, assignment: Assignment) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "fuzz.campaign.crew", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=worker_environment(),
                    start_new_session=True,  # an interrupt is for the process that keeps the records
                )
            except OSError as error:
                ours.close()
                raise InfrastructureError(f"no process could be started for a worker: {error}") from None
        self._connection = Connection(ours.detach())
        try:
            self._send(msgspec.json.encode(assignment))
            ready = ready_of(self._receive())
        # Whatever it is, nobody else knows of the process.
        except BaseException:
            self.close()
            raise
        super().__init__(ready)

    def close(self) -> None:
        """End the process, and with it the one that holds the target."""
        self._connection.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _order(self, order: Order, deliver: Callable[[Trial], None]) -> Done:
        self._send(msgspec.json.encode(order))
        while True:
            done = self._take(self._receive(), deliver)
            if done is not None:
                return done

    def _send(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError as error:
            raise LostHunterError(f"process {self._process.pid} is gone: {error}") from None

    def _receive(self) -> bytes:
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            raise LostHunterError(f"process {self._process.pid} is gone") from None


def main(descriptor: int) -> None:
    """Serve one hunt until it closes the connection, whatever this process is doing then."""
    connection = Connection(descriptor)
    orders: SimpleQueue[bytes] = SimpleQueue()

    def receive() -> None:
        try:
            while True:
                orders.put(connection.recv_bytes())
        except (EOFError, OSError):
            # The hunt is over, or was killed: nobody waits for an answer, nor for a target that is at work.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the other thread is about to lose its target, and to say so
            end_all()
            os._exit(0)

    def answer(message: Answer) -> None:
        with contextlib.suppress(OSError):
            connection.send_bytes(msgspec.json.encode(message))

    assignment = connection.recv_bytes()
    threading.Thread(target=receive, daemon=True).start()
    hunter, outcome = loaded(assignment)
    answer(outcome)
    while hunter is not None:
        carry_out(hunter, decode_order(orders.get()), answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
