"""`IsolatedTarget`: the target in a process of its own, and what becomes of that process as a verdict."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import msgspec

from fuzz.abilities import Abilities
from fuzz.campaign.nursery import ForkedChild, Nursery
from fuzz.campaign.protocol import Load, Loaded, Message, Refused, Stale, Starting, Tried, ask_to_try, decode, encode
from fuzz.case import Case
from fuzz.coverage import LineCoverage, merge
from fuzz.verdict import Lane, Verdict, failure

# Importing torch and triton takes seconds on a cold disk; a machine where it takes minutes is out of order.
_START_SECONDS: Final = 300.0
_LOG_BYTES: Final = 4000
_RELOADS: Final = 3


class UsageError(Exception):
    """The user asked for something that cannot be had; the message is one line that says what and why."""


class InfrastructureError(Exception):
    """The machine, not the target, keeps trials from running."""


@dataclass
class _Process:
    child: subprocess.Popen[bytes] | ForkedChild
    connection: Connection
    log: IO[bytes]

    def end(self) -> int:
        """Kill the process, if it still runs, and return its exit status (negative for a signal)."""
        self.connection.close()
        with contextlib.suppress(ProcessLookupError):
            # The target may have started processes of its own.
            os.killpg(self.child.pid, signal.SIGKILL)
        status = self.child.wait()
        self.log.close()
        return status

    def last_words(self) -> str:
        """Return the end of what the process wrote to its standard streams."""
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - _LOG_BYTES))
        return self.log.read().decode(errors="replace")


class IsolatedTarget:
    """A target in a process of its own, started again whenever it is lost.

    Args:
        target: The target's name, as the user gave it.
        device: `auto`, `cpu` or `cuda`.
        under: A command that runs the process, such as a tool that watches its memory; trials are bare then.
        sources: By path, texts that stand in for files, where the target is to be loaded with a change.
        nursery: Forks the processes, on the interpreter; otherwise each imports torch and triton anew.
        digests: Whether `digest` is wanted.
        environment: Variables for the process, on top of this one's.

    Attributes:
        abilities: What the target can be asked.
        device: Where its tensors live, decided by the first process.
        versions: Versions of torch and triton there.
        restarts: How many processes were lost.
        coverage: How the masks of the target's kernels were exercised, over all trials; empty on a GPU.
        digest: Tells whether two trials gave the same bits; of the last one, empty if it gave none or is not wanted.
        marks: Those that an instrumented target left in the last trial.
        loading_marks: Those that it left while it was loaded.
    """

    def __init__(
        self,
        target: str,
        device: str,
        *,
        under: tuple[str, ...] = (),
        sources: Mapping[str, str] | None = None,
        nursery: Nursery | None = None,
        digests: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.target = target
        self.device = device
        self._under = under
        self._sources = dict(sources or {})
        self._nursery = nursery
        self._digests = digests
        self._environment = dict(environment or {})
        self.versions: dict[str, str] = {}
        self.restarts = 0
        self.coverage: tuple[LineCoverage, ...] = ()
        self.digest = ""
        self.marks: frozenset[int] = frozenset()
        self._spare: _Process | None = None
        self._process = self._start()
        try:
            self.abilities = self._load(self._process)
        except BaseException:
            self._process.end()
            raise

    def __enter__(self) -> IsolatedTarget:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self.close()

    def finish(self, seconds: float) -> None:
        """Let the process end by itself, within so many seconds, so that whatever watches it can report."""
        self._process.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.child.wait(timeout=seconds)

    def close(self) -> None:
        """End the processes."""
        for process in (self._process, self._spare):
            if process is not None:
                process.end()
        self._spare = None

    def run(self, case: Case, seconds: float, *, fresh: bool = False, blind: frozenset[Lane] = frozenset()) -> Verdict:
        """Try one case.

        Args:
            case: The case.
            seconds: How long it may take; longer is a verdict of kind `timeout`.
            fresh: Whether earlier trials must not have left anything in the target.
            blind: Lanes that do not judge.

        Raises:
            UsageError: The target turns out not to be one.
            InfrastructureError: No process can be had to run it.
        """
        self.digest, self.marks = "", frozenset()
        answer = self._ask(case, seconds, fresh=fresh, blind=blind)
        if isinstance(answer, Stale):
            self._replace()
            answer = self._ask(case, seconds, fresh=False, blind=blind)
        if isinstance(answer, Verdict):
            return answer
        if isinstance(answer, Refused):
            raise UsageError(answer.reason)
        if not isinstance(answer, Tried):
            raise InfrastructureError(f"the worker answered {type(answer).__name__} where a verdict was due")
        self.digest, self.marks = answer.digest, answer.marks
        if answer.coverage:
            self.coverage = merge(self.coverage, answer.coverage)
        if answer.spent:
            self._replace()
        return answer.verdict

    def _ask(self, case: Case, seconds: float, *, fresh: bool, blind: frozenset[Lane]) -> Message | Verdict:
        started = time.monotonic()
        try:
            self._process.connection.send_bytes(encode(ask_to_try(case, fresh=fresh, blind=blind)))
            if not self._process.connection.poll(seconds):
                self._replace()
                return msgspec.structs.replace(
                    failure("timeout", "process", f"no answer within {seconds:.0f} s"),
                    seconds=time.monotonic() - started,
                )
            return decode(self._process.connection.recv_bytes())
        except (EOFError, OSError, msgspec.MsgspecError):
            words = self._process.last_words()
            return failure("crash", "process", _describe_end(self._replace(), words, self.target))

    def _replace(self) -> int:
        """End the process, put another in its place, and return the exit status of the old one."""
        status = _end_naturally(self._process)
        self.restarts += 1
        process, self._spare = self._spare or self._start(), None
        self._process = process
        for attempt in range(_RELOADS):
            try:
                self._load(self._process)
                break
            except (UsageError, InfrastructureError) as error:
                # It was loaded before: the process was killed, or is out of memory.
                self._process.end()
                if attempt == _RELOADS - 1:
                    raise InfrastructureError(f"the target was loaded before, and now it is not: {error}") from None
                self._process = self._start()
        # A target that was lost once is likely to be lost again: the next process starts while this one works.
        self._spare = self._start()
        return status

    def _start(self) -> _Process:
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by _Process.end
        with theirs:
            try:
                child = self._child(theirs.fileno(), log)
            except OSError as error:
                ours.close()
                log.close()
                raise InfrastructureError(f"no process could be started for the target: {error}") from None
        process = _Process(child, Connection(ours.detach()), log)
        process.connection.send_bytes(
            encode(Load(self.target, self.device, bool(self._under), self._sources, self._digests))
        )
        return process

    def _child(self, connection: int, log: IO[bytes]) -> subprocess.Popen[bytes] | ForkedChild:
        if self._nursery:
            return self._nursery.fork(connection, log.fileno())
        return subprocess.Popen(
            [*self._under, sys.executable, "-P", "-m", "fuzz.campaign.worker", str(connection)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[connection],
            env={**worker_environment(), **self._environment},
            start_new_session=True,
        )

    def _load(self, process: _Process) -> Abilities:
        """Wait until a started process has loaded the target."""
        starting = self._await(process, "importing torch and triton", InfrastructureError)
        if isinstance(starting, Refused):
            raise UsageError(starting.reason)
        assert isinstance(starting, Starting)
        self.device, self.versions = starting.device, starting.versions
        loaded = self._await(process, f"importing target {self.target}", UsageError)
        if isinstance(loaded, Refused):
            raise UsageError(loaded.reason)
        assert isinstance(loaded, Loaded)
        self.loading_marks = loaded.marks
        return loaded.abilities

    def _await(self, process: _Process, doing: str, error: type[Exception]) -> Message:
        try:
            if process.connection.poll(_START_SECONDS):
                return decode(process.connection.recv_bytes())
        except (EOFError, OSError):
            words = process.last_words()
            raise error(
                f"{doing} ended the process ({_describe_end(_end_naturally(process), words, self.target)})"
            ) from None
        process.end()
        raise error(f"{doing} took more than {_START_SECONDS:.0f} s")


def worker_environment() -> dict[str, str]:
    """Return the environment of a process that runs a target, under `python -P`."""
    # One thread a process: several workers share the cores, and the trials are small.
    path = os.pathsep.join(target_path())
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def target_path() -> list[str]:
    """Return where such a process looks for modules first: the packages that run here, then what the user may name.

    An installed command and a checkout in the working directory are two copies of the kernels: both processes must take
    the same one.
    """
    given = os.environ.get("PYTHONPATH")
    return [str(Path(__file__).resolve().parents[2]), *(given.split(os.pathsep) if given else []), str(Path.cwd())]


def _end_naturally(process: _Process) -> int:
    """End a process; one that is already on its way out keeps its own exit status."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.child.wait(timeout=0.0 if process.connection.poll(0) is False else 2.0)
    return process.end()


def _describe_end(status: int, words: str, target: str) -> str:
    """Say how a process ended, and where in the target's file, as far as its last words tell."""
    end = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    file = target.rpartition(":")[0] if ".py:" in target else target
    frames = [line for line in lines if line.startswith(f'File "{file}"')]
    if status < 0 and frames:
        return f"{end} in {frames[0].removeprefix('File ')}"
    return f"{end}: {lines[-1]}" if any(line.startswith("Traceback") for line in lines) else end
