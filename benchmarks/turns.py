"""How often a second processes that share a GPU get an answer from it, by what they put in its queue.

`python benchmarks/turns.py --processes 1 4 16`: each process queues some thirty small kernels as a trial does, with or
without copies among them, and waits for all of it; again and again. What `fuzz/on_device.py` does follows from it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import torch

from fuzz.campaign.store import write
from fuzz.circumstances import circumstances
from fuzz.on_device import Arrival, send, wait_asleep

_MEASUREMENTS: Final = Path(__file__).resolve().parent.parent / "docs" / "measurements"
_KERNELS: Final = 30
_NUMBERS: Final = 1024
_OPERANDS: Final = 3  # x, weight and bias


class Queuing:
    """What a process may put in the queue; each method is a row of the table, and ends before the device does."""

    def __init__(self) -> None:
        self._there = [torch.zeros(_NUMBERS, device="cuda") for _ in range(_OPERANDS)]
        self._here = torch.zeros(_NUMBERS)
        self._locked = torch.zeros(_NUMBERS, pin_memory=True)

    def one_kernel(self) -> None:
        """As little as there is."""
        self._run(1)

    def kernels(self) -> None:
        """All that a trial does on the device, if nothing went there."""
        self._run(_KERNELS)

    def kernels_then_a_copy(self) -> None:
        """One of the copy engine's, of what they found."""
        self._run(_KERNELS)
        self._locked.copy_(self._there[0], non_blocking=True)

    def copies_among_kernels(self) -> None:
        """Those of the copy engine, for which a kernel waits, and nobody else."""
        self._run_on_what_comes(lambda there: there.copy_(self._locked, non_blocking=True))

    def copies_by_kernels(self) -> None:
        """As the suite does it."""
        self._run_on_what_comes(lambda there: send(there, self._here))

    def blocking_copies(self) -> None:
        """From ordinary memory: the process waits for each."""
        self._run_on_what_comes(lambda there: there.copy_(self._here))

    def wait(self) -> None:
        """Wait for all of it, as the suite does."""
        Arrival([], self._there[0]).wait()

    def _run_on_what_comes(self, copy: Callable[[torch.Tensor], object]) -> None:
        for there in self._there:
            copy(there)
            there.mul_(2.0)
        self._run(_KERNELS - _OPERANDS)

    def _run(self, kernels: int) -> None:
        for number in range(kernels):
            self._there[number % _OPERANDS].fill_(1.0)


ROWS: Final = tuple(name for name in vars(Queuing) if not name.startswith("_") and name != "wait")


def main() -> int:
    """Measure, print and write down."""
    options = _options()
    table = {}
    for processes in options.processes:
        table[processes] = answers_per_second(processes, options.seconds)
        for row, answers in table[processes].items():
            sys.stdout.write(f"{processes} processes, {row.replace('_', ' ')}: {answers:.0f} answers/s\n")
    document = {**circumstances("cuda"), "seconds": options.seconds, "answers_per_second": table}
    write(options.json, json.dumps(document, indent=1) + "\n")
    sys.stdout.write(f"{options.json}\n")
    return 0


def answers_per_second(processes: int, seconds: float) -> dict[str, float]:
    """Return how many answers so many processes get together, for each row."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [context.Process(target=_ask, args=(seconds, barrier, results)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found: dict[str, float] = defaultdict(float)
    for _ in range(processes * len(ROWS)):
        row, answers = results.get(timeout=300)
        found[row] += answers / seconds
    for worker in workers:
        worker.join()
    return {row: round(found[row], 1) for row in ROWS}


def _ask(seconds: float, barrier: Barrier, results: Queue[tuple[str, int]]) -> None:
    torch.set_num_threads(1)
    wait_asleep()
    queuing = Queuing()
    for row in ROWS:
        queue, answers = getattr(queuing, row), 0
        for _ in range(3):
            queue()
        queuing.wait()
        barrier.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            queue()
            queuing.wait()
            answers += 1
        results.put((row, answers))
        barrier.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--json", type=Path, default=_MEASUREMENTS / "gpu-turns-h100.json")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
