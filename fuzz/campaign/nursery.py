"""A process that has imported everything and called nothing: it forks processes for targets in milliseconds.

To import torch and triton takes seconds, which is most of what a short hunt takes. Only for Triton's interpreter: CUDA
does not survive a fork.

Started as `python -m fuzz.campaign.nursery FD`, where FD is one end of a socket pair. A request is a letter and a
number, the answer a number.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Final

_REQUEST: Final = struct.Struct("=cq")
_ANSWER: Final = struct.Struct("=q")
_FORK: Final = b"f"
_ASK: Final = b"a"
_RUNNING: Final = 2**32  # no exit status
_POLL_SECONDS: Final = 0.005


class ForkedChild:
    """A process that a nursery forked; what of `subprocess.Popen` is needed.

    Attributes:
        pid: Its process id, and that of its process group.
    """

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: It still runs after so many seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._status is None:
            status = self._nursery.ask(_ASK, self.pid)
            if status != _RUNNING:
                self._status = status
            elif end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
            else:
                time.sleep(_POLL_SECONDS)
        return self._status


class Nursery:
    """The process that forks, from the outside; several threads may use it."""

    def __init__(self, environment: dict[str, str]) -> None:
        """Start it with this environment."""
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fuzz.campaign.nursery", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # a Ctrl-C is for the process that uses it
            )

    def __enter__(self) -> Nursery:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process; those that it forked end with it."""
        self._socket.close()
        self._process.wait()

    def fork(self, connection: int, log: int) -> ForkedChild:
        """Fork a worker that serves one file descriptor and writes its standard streams to another.

        Raises:
            OSError: The nursery is gone.
        """
        return ForkedChild(self, self.ask(_FORK, 0, [connection, log]))

    def ask(self, letter: bytes, number: int, descriptors: list[int] | None = None) -> int:
        """Make one request and return the answer."""
        with self._lock:
            socket.send_fds(self._socket, [_REQUEST.pack(letter, number)], descriptors or [])
            answer = self._socket.recv(_ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < _ANSWER.size:
            raise ConnectionError("the process that forks workers has ended")
        return int(_ANSWER.unpack(answer)[0])


def main(descriptor: int) -> None:
    """Import everything, then serve requests until the other end closes."""
    from fuzz.campaign.worker import choose_device

    device = choose_device("cpu")
    assert device is not None
    # What the first call of an operator that a target registers would import, for seconds. It imports triton in turn.
    import torch._dynamo  # noqa: F401  # for what it leaves in sys.modules

    from fuzz.trial import warm_up

    warm_up(device)
    with socket.socket(fileno=descriptor) as requests:
        while True:
            request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST.size, 2)
            if len(request) < _REQUEST.size:
                return
            letter, number = _REQUEST.unpack(request)
            answer = _fork(requests, *descriptors) if letter == _FORK else _status_of(number)
            requests.sendall(_ANSWER.pack(answer))


def _fork(requests: socket.socket, connection: int, log: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            requests.close()
            os.setsid()
            os.dup2(log, 1)
            os.dup2(log, 2)
            from fuzz.campaign.worker import main as work

            work(connection)
            sys.stdout.flush()
        # The fork must never return into the loop above, whatever the target raises; the exit status tells.
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    os.close(connection)
    os.close(log)
    return child


def _status_of(child: int) -> int:
    finished, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if finished else _RUNNING


if __name__ == "__main__":
    main(int(sys.argv[1]))
