"""The process that holds the target: it is sent cases and answers with verdicts.

Started as `python -m fuzz.campaign.worker FD`, where FD is one end of a socket pair. Whatever the target does to this
process, exit, crash or hang, is seen from the other end.
"""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

from fuzz.campaign.marks import taken_marks
from fuzz.campaign.overlay import Overlay
from fuzz.campaign.protocol import (
    Load,
    Loaded,
    Message,
    Refused,
    Stale,
    Starting,
    Tried,
    Try,
    asked_case,
    decode,
    encode,
    versions_of,
)
from fuzz.coverage import LineCoverage

if TYPE_CHECKING:
    import torch

# What CUDA, PyTorch and the tensors of a trial take on a GPU, for each process; half of it is CUDA's own.
_GPU_BYTES: Final = 2**30
_TRIM_EVERY: Final = 1000  # trials: it takes milliseconds


def main(descriptor: int) -> None:
    """Serve one connection until the other end closes it."""
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    connection = Connection(descriptor)
    try:
        load = decode(connection.recv_bytes())
        assert isinstance(load, Load)
        device = choose_device(load.device)
        if device is None:
            send(connection, Refused(f"--device {load.device}: PyTorch finds no CUDA device on this machine"))
        else:
            _serve(connection, load, device)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The hunt is over, or was killed: there is nobody left to answer.
        return


def _end_with_parent(parent: int) -> None:
    """End this process once the hunt is gone: a target that loops for ever must not outlive it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    # It is the first of its process group, of which are all that the target has started.
    os.killpg(0, signal.SIGKILL)


def choose_device(asked: str) -> torch.device | None:
    """Decide where tensors live; on the CPU, put Triton's interpreter in force before triton is imported.

    Of several GPUs a worker takes the one of its number, in turn.
    """
    import torch

    from fuzz.on_device import wait_asleep

    torch.set_num_threads(1)
    has_cuda = torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        return None
    interpreting = os.environ.get("TRITON_INTERPRET") == "1"
    device = torch.device("cuda" if asked == "cuda" or (asked == "auto" and has_cuda and not interpreting) else "cpu")
    if device.type == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    else:
        os.environ.pop("TRITON_INTERPRET", None)
        torch.cuda.set_device(int(os.environ.get("FUZZ_RANK", "0")) % torch.cuda.device_count())
        wait_asleep()
    return device


def room_for(device: torch.device) -> int | None:
    """Return for how many processes like this one the machine's GPUs have memory; None on the CPU."""
    import torch

    if device.type != "cuda":
        return None
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return sum(max(1, gpu.total_memory // _GPU_BYTES) for gpu in gpus)


def _serve(connection: Connection, load: Load, device: torch.device) -> None:
    import torch
    import triton

    from fuzz.on_device import is_lost
    from fuzz.target import TargetError, load_target, reload_target
    from fuzz.tensors import digest
    from fuzz.trial import run_trial, warm_up

    send(connection, Starting(str(device), versions_of(torch, triton), room_for(device)))
    try:
        overlay = Overlay(load.sources)
        target = load_target(load.target)
        if overlay.unread:
            raise TargetError(f"target {load.target}: it does not import {', '.join(sorted(overlay.unread))}")
        warm_up(device)
        send(connection, Loaded(target.abilities, taken_marks()))
        for number in itertools.count(1):
            if number % _TRIM_EVERY == 0:
                give_back_memory()
            message = decode(connection.recv_bytes())
            assert isinstance(message, Try)
            if message.fresh:
                reloaded = reload_target(load.target)
                if reloaded is None:
                    send(connection, Stale())
                    continue
                target = reloaded
            coverage: list[LineCoverage] = []
            outputs: list[torch.Tensor] = []
            verdict = run_trial(
                target,
                asked_case(message),
                device,
                bare=load.bare,
                blind=message.blind,
                coverage=coverage,
                outputs=outputs,
            )
            # After an error on the device every later call in this process fails for nothing.
            spent = verdict.kind == "raised" and is_lost(device)
            bits = digest(outputs) if load.digests else ""
            send(connection, Tried(verdict, spent, tuple(coverage), bits, taken_marks()))
    except TargetError as error:
        send(connection, Refused(str(error)))


def give_back_memory() -> None:
    """Let the C library return what it holds free: tensors of all sizes leave gaps, which add up over a night."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


def send(connection: Connection, message: Message) -> None:
    """Send one message."""
    connection.send_bytes(encode(message))


if __name__ == "__main__":
    main(int(sys.argv[1]))
