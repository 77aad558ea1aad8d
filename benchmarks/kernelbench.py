"""What a check such as KernelBench makes would have said of the same mutants.

Run as `python benchmarks/kernelbench.py` after `python -m fuzz mutants --json docs/measurements/mutants.json`. The
check is KernelBench's: one shape (scaled down to what Triton's interpreter can do), inputs from `torch.rand`, weights
as `nn.Conv2d` draws them, five trials, `torch.allclose` with one number for both tolerances; 1e-2 was its first, 1e-4
is its present one for float32. A mutant that it accepts five times has survived it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final

from fuzz.campaign.overlay import Overlay
from fuzz.circumstances import circumstances
from fuzz.mutation.record import read_record
from fuzz.mutation.selection import every_mutant
from fuzz.mutation.subject import Subject, subject_of

_MEASUREMENTS: Final = Path(__file__).resolve().parent.parent / "docs" / "measurements"
# KernelBench level 2, problem 32: x [64, 64, 256, 256], 128 channels, 3×3, scale 2.
_SHAPE: Final = (2, 16, 16, 16)
_CHANNELS: Final = 32
_KERNEL: Final = 3
_SCALE: Final = 2.0
_TRIALS: Final = 5
_TOLERANCES: Final = (1e-4, 1e-2)
_LIMIT_SECONDS: Final = 120.0
_ITSELF: Final = "without a change"


def main() -> int:
    """Check every mutant of the record, and write down which ones are accepted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--mutants", type=Path, default=_MEASUREMENTS / "mutants.json", help="what `mutants --json` wrote"
    )
    parser.add_argument("--json", type=Path, default=_MEASUREMENTS / "kernelbench.json")
    options = parser.parse_args()
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    import_everything()
    accepted: dict[str, dict[str, list[str]]] = {}
    for kernel in read_record(options.mutants).kernels:
        subject = subject_of(kernel.target)
        texts = {mutant.name: mutant.text for mutant in every_mutant(subject)}
        tasks = {_ITSELF: subject.text} | {result.name: texts[result.name] for result in kernel.results}
        found = dict(in_forks(subject, tasks))
        assert len(found.pop(_ITSELF)) == len(_TOLERANCES), f"{kernel.target} itself is not accepted"
        accepted[kernel.target] = {name: found[name] for name in tasks if name in found}
    document = {
        **circumstances("cpu"),
        "shape": {"x": _SHAPE, "c_out": _CHANNELS, "kernel": _KERNEL, "scale": _SCALE},
        "trials": _TRIALS,
        "tolerances": _TOLERANCES,
        "accepted": accepted,
    }
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for tolerance in map(str, _TOLERANCES):
        count = sum(tolerance in passed for kernel in accepted.values() for passed in kernel.values())
        sys.stdout.write(f"tolerance {tolerance}: accepts {count} of {sum(map(len, accepted.values()))} mutants\n")
    return 0


def import_everything() -> None:
    """Import what the forked processes would otherwise import one by one, except for the kernels."""
    import torch
    import torch._dynamo  # what the first call of an operator imports

    import fuzz.target  # noqa: F401

    torch.set_num_threads(1)


def in_forks(subject: Subject, texts: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what `check` gives for each text, in a process of its own; nothing where that dies or takes too long."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(texts), {}
    while waiting or running:
        while waiting and len(running) < len(os.sched_getaffinity(0)):
            name = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=lambda name=name, pipe=theirs: pipe.send(check(subject, texts[name])))
            process.start()
            theirs.close()
            running[ours] = name, process, time.monotonic() + _LIMIT_SECONDS
        ready = wait(list(running), timeout=1.0)
        for pipe, (name, process, limit) in list(running.items()):
            if pipe not in ready and time.monotonic() < limit:
                continue
            try:
                yield name, pipe.recv() if pipe in ready else []
            except EOFError:
                yield name, []
            process.kill()
            process.join()
            del running[pipe]


def check(subject: Subject, text: str) -> list[str]:
    """Return the tolerances at which a changed kernel passes all trials."""
    import torch

    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  # a mutant that raises does so as expected
    Overlay({str(subject.path): text})
    from fuzz.target import load_target

    module = load_target(subject.target)
    left = set(_TOLERANCES)
    for seed in range(_TRIALS):
        torch.manual_seed(seed)
        conv = torch.nn.Conv2d(_SHAPE[1], _CHANNELS, _KERNEL)
        x = torch.rand(_SHAPE)
        with torch.no_grad():
            expected = torch.min(conv(x) * _SCALE, dim=1, keepdim=True)[0]
            given: Any = module.bind(_case())(x, conv.weight, conv.bias)
        if given.shape != expected.shape:
            return []
        left = {t for t in left if torch.allclose(expected, given, atol=t, rtol=t)}
    return [str(tolerance) for tolerance in _TOLERANCES if tolerance in left]


def _case() -> Any:
    from fuzz.case import Case

    n, c_in, h, w = _SHAPE
    return Case(n=n, c_in=c_in, h=h, w=w, c_out=_CHANNELS, kh=_KERNEL, kw=_KERNEL, bias=True, scale=_SCALE)


if __name__ == "__main__":
    raise SystemExit(main())
