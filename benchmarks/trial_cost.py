"""What one trial costs, and where the time goes.

Run as `python benchmarks/trial_cost.py [--target T] [--device cpu|cuda] [--json FILE]` on a machine that does nothing
else. It runs small cases of every dtype, warms all of them up first, then times whole trials and, by the same clock,
the parts of which they are made. "outside the kernel" is a trial less the two calls that it makes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuzz.circumstances import circumstances

ROUNDS = 30


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", default="fused")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    figures = measure(options.target, options.device)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def measure(name: str, device_name: str) -> dict[str, Any]:
    """Return the figures, in milliseconds unless named otherwise."""
    import torch

    from fuzz.target import load_target
    from fuzz.trial import run_trial, warm_up

    torch.set_num_threads(1)
    device, target = torch.device(device_name), load_target(name)
    warm_up(device)
    cases = [case for case in small_cases() if case.dtype in target.abilities.dtypes]
    for case in cases:
        verdict = run_trial(target, case, device)
        assert verdict.status == "pass", f"{case!r}: {verdict.message}"
    trials, kernels = [], []
    with timed_calls() as calls:
        for case in cases * ROUNDS:
            calls.clear()
            started = time.perf_counter()
            run_trial(target, case, device)
            trials.append(time.perf_counter() - started)
            kernels.append(sum(calls))
    outside = [trial - kernel for trial, kernel in zip(trials, kernels, strict=True)]
    return {
        "target": name,
        **circumstances(device_name),
        "trials": len(trials),
        "trials_per_second": round(len(trials) / sum(trials), 1),
        "median": {
            "trial": milliseconds(trials),
            "the two calls": milliseconds(kernels),
            "outside the kernel": milliseconds(outside),
        },
        "largest": {"trial": round(1e3 * max(trials), 3), "outside the kernel": round(1e3 * max(outside), 3)},
        "parts": {name: milliseconds(times) for name, times in parts(target, cases, device)},
    }


@contextmanager
def timed_calls() -> Iterator[list[float]]:
    """Give a list that receives the seconds of every call of a target, until the block ends.

    On a GPU those in which it is asked to work; the calls of a trial are waited for together.
    """
    from fuzz.session import Begun, Session

    seconds: list[float] = []
    original = Session.begin

    def begin(self: Session, *arguments: Any, **named: Any) -> Begun:
        begun = original(self, *arguments, **named)
        seconds.append(begun.seconds)
        return begun

    Session.begin = begin
    try:
        yield seconds
    finally:
        Session.begin = original


def small_cases() -> list[Any]:
    """Return calls such as most draws are: a few channels, a small image, every dtype, exact and inexact numbers."""
    from fuzz.case import DTYPES, Case

    shapes = (
        {"n": 1, "c_in": 3, "h": 8, "w": 8, "c_out": 4, "kh": 3, "kw": 3},
        {"n": 2, "c_in": 4, "h": 9, "w": 9, "c_out": 17, "kh": 3, "kw": 3, "bias": True},
        {"n": 1, "c_in": 16, "h": 4, "w": 5, "c_out": 33, "bias": True, "scale": -2.0},
    )
    return [
        Case(**shape, dtype=dtype, values=values, seed=seed)
        for seed, shape in enumerate(shapes)
        for dtype in DTYPES
        for values in ("lattice", "gaussian")
    ]


def parts(target: Any, cases: list[Any], device: Any) -> Iterator[tuple[str, list[float]]]:
    """Yield what a trial is made of, with the time of each part in seconds."""
    from fuzz.judge import judge
    from fuzz.machine import machine
    from fuzz.oracle import admissible
    from fuzz.session import Session
    from fuzz.tensors import full_tensors, numbers_of, poison_value

    names = ("numbers", "truth and bounds", "tensors in memory", "call, with guards", "the kernel itself", "verdict")
    times: dict[str, list[float]] = {name: [] for name in names}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        times[name].append(time.perf_counter() - started)
        return result

    for case in cases * ROUNDS:
        numbers = timed("numbers", lambda case=case: numbers_of(case))
        operands = full_tensors(case, numbers)
        truth = timed(
            "truth and bounds",
            lambda case=case, operands=operands: admissible(case, *operands, precision="tf32", in_order=True),
        )
        with machine(case, device):
            session, bound = Session(target, device, "finite"), target.bind(case)
            placed = timed(
                "tensors in memory", lambda session=session, case=case, numbers=numbers: session.place(case, numbers)
            )
            outcome = timed(
                "call, with guards", lambda session=session, bound=bound, placed=placed: session.call(bound, placed)
            )
        times["the kernel itself"].append(outcome.seconds)
        out = outcome.answer
        timed("verdict", lambda case=case, out=out, truth=truth: judge(case, out, truth, poison=poison_value("finite")))
    yield from times.items()


def milliseconds(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return round(1e3 * statistics.median(seconds), 3)


if __name__ == "__main__":
    main()
