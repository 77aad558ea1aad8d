"""`IsolatedTarget`: the target in a process of its own, and what becomes of that process as a verdict."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import msgspec

from fuzz.abilities import Abilities
from fuzz.campaign.nursery import ForkedChild, Nursery
from fuzz.campaign.process import OutgrownError, Process, connected, mark, open_log
from fuzz.campaign.protocol import Load, Loaded, Message, Refused, Stale, Starting, Tried, ask_to_try, decode, encode
from fuzz.case import Case
from fuzz.coverage import LineCoverage, merge
from fuzz.verdict import Kind, Lane, Verdict, declined, failure

# Importing torch and triton takes seconds on a cold disk; a machine where it takes minutes is out of order.
_START_SECONDS: Final = 300.0
_RELOADS: Final = 3
# Sent by people, by batch systems and by a machine that is short of memory, and seldom by a target to itself.
_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT})


class UsageError(Exception):
    """The user asked for something that cannot be had; the message is one line that says what and why."""


class InfrastructureError(Exception):
    """The machine, not the target, keeps trials from running."""


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
        room: For how many such processes the GPUs have memory; None on the CPU.
        restarts: How many processes were lost, or given up because they had gathered too much memory.
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
        self.room: int | None = None
        self.restarts = 0
        self.coverage: tuple[LineCoverage, ...] = ()
        self.digest = ""
        self.marks: frozenset[int] = frozenset()
        self._spare: Process | None = None
        self._closed = False
        self._process = self._start()
        try:
            self.abilities = self._load(self._process)
        # Whatever it is, nobody else knows of the process.
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
        self._process.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.child.wait(timeout=seconds)

    def close(self) -> None:
        """End the processes; whoever waits for an answer gets an `InfrastructureError`."""
        self._closed = True
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
        answer = self._answer(case, seconds, fresh=fresh, blind=blind)
        if isinstance(answer, Verdict):
            return answer
        if isinstance(answer, Refused):
            raise UsageError(answer.reason)
        if not isinstance(answer, Tried):
            raise InfrastructureError(f"the worker answered {type(answer).__name__} where a verdict was due")
        self.digest, self.marks = answer.digest, answer.marks
        if answer.coverage:
            self.coverage = merge(self.coverage, answer.coverage)
        if answer.spent or self._is_outgrown():
            self._replace()
        return answer.verdict

    def _answer(self, case: Case, seconds: float, *, fresh: bool, blind: frozenset[Lane]) -> Message | Verdict:
        """Ask once, and again in another process where this one holds what earlier trials left."""
        try:
            answer = self._ask(case, seconds, fresh=fresh, blind=blind)
            if not isinstance(answer, Stale):
                return answer
            self._replace()
        except OutgrownError:
            self._replace()
        try:
            return self._ask(case, seconds, fresh=False, blind=blind)
        except OutgrownError as error:
            self._replace()
            return declined(f"out of memory: {error}")

    def _is_outgrown(self) -> bool:
        try:
            self._process.look()
        except OutgrownError:
            return True
        return False

    def _ask(self, case: Case, seconds: float, *, fresh: bool, blind: frozenset[Lane]) -> Message | Verdict:
        started = time.monotonic()
        try:
            self._process.send(encode(ask_to_try(case, fresh=fresh, blind=blind)))
            if not self._process.answers(seconds):
                self._replace()
                return msgspec.structs.replace(
                    failure("timeout", "process", f"no answer within {seconds:.0f} s"),
                    seconds=time.monotonic() - started,
                )
            return decode(self._process.receive())
        except (EOFError, OSError, msgspec.MsgspecError):
            words = self._process.last_words()
            status = self._replace()
            kind: Kind = "killed" if status is not None and -status in _FROM_OUTSIDE else "crash"
            return failure(kind, "process", _describe_end(status, words, self.target))

    def _replace(self) -> int | None:
        """End the process, put another in its place, and return what `Process.end_naturally` does for the old one."""
        status = self._process.end_naturally()
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

    def _start(self) -> Process:
        if self._closed:
            raise InfrastructureError("the hunt is over")
        ours, theirs = connected()
        log = open_log()
        with theirs:
            try:
                child = self._child(theirs.fileno(), log)
            except OSError as error:
                ours.close()
                log.close()
                raise InfrastructureError(f"no process could be started for the target: {error}") from None
        process = Process(child, ours, log)
        # One that is gone already is told by what it answers.
        with contextlib.suppress(OSError):
            process.send(encode(Load(self.target, self.device, bool(self._under), self._sources, self._digests)))
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

    def _load(self, process: Process) -> Abilities:
        """Wait until a started process has loaded the target."""
        starting = self._await(process, "importing torch and triton", InfrastructureError)
        if isinstance(starting, Refused):
            raise UsageError(starting.reason)
        assert isinstance(starting, Starting)
        self.device, self.versions, self.room = starting.device, starting.versions, starting.room
        loaded = self._await(process, f"importing target {self.target}", UsageError)
        if isinstance(loaded, Refused):
            raise UsageError(loaded.reason)
        assert isinstance(loaded, Loaded)
        self.loading_marks = loaded.marks
        process.settle()
        return loaded.abilities

    def _await(self, process: Process, doing: str, error: type[Exception]) -> Message:
        try:
            if process.answers(_START_SECONDS):
                return decode(process.receive())
        except OutgrownError as outgrown:
            process.end()
            raise error(f"{doing} took too much memory: {outgrown}") from None
        except (EOFError, OSError, msgspec.MsgspecError):
            words = process.last_words()
            end = _describe_end(process.end_naturally(), words, self.target)
            raise error(f"{doing} ended the process ({end})") from None
        process.end()
        raise error(f"{doing} took more than {_START_SECONDS:.0f} s")


def worker_environment() -> dict[str, str]:
    """Return the environment of a process that runs a target, under `python -P`."""
    # One thread a process: several workers share the cores, and the trials are small.
    path = os.pathsep.join(target_path())
    return {**os.environ, **mark(), "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def target_path() -> list[str]:
    """Return where such a process looks for modules first: the packages that run here, then what the user may name.

    An installed command and a checkout in the working directory are two copies of the kernels: both processes must take
    the same one.
    """
    given = os.environ.get("PYTHONPATH")
    return [str(Path(__file__).resolve().parents[2]), *(given.split(os.pathsep) if given else []), str(Path.cwd())]


def _describe_end(status: int | None, words: str, target: str) -> str:
    """Say how a process ended, and where in the target's file, as far as its last words tell."""
    if status is None:
        return "closed its connection, or wrote into it, and went on"
    end = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    file = target.rpartition(":")[0] if ".py:" in target else target
    frames = [line for line in lines if line.startswith(f'File "{file}"')]
    if status < 0 and frames:
        return f"{end} in {frames[0].removeprefix('File ')}"
    return f"{end}: {lines[-1]}" if any(line.startswith("Traceback") for line in lines) else end
