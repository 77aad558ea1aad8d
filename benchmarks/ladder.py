"""How the kernel became fast: its versions for the headline shape, beside what PyTorch takes, on one card.

Run as `python benchmarks/ladder.py [--json FILE]` on a GPU. All versions are still there: `two-pass` is the unfused
kernels, and the others are configurations of the fused one. They are timed in turn, each on the same x in a round, with
the L2 cache overwritten before.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from fuzz.circumstances import circumstances
from fuzz.gate.devices import card_name
from fuzz.gate.stopwatch import Inputs, Stopwatch
from fuzz.gate.timing import contenders
from fuzz.gate.workload import HEADLINE, operands
from fuzz.target import load_target

ROUNDS = 40
KINDS = {"float32": ("float32", "tf32"), "ieee": ("float32", "ieee"), "float16": ("float16", "default")}
# In the order in which they came.
CONFIGS = ("medium", "large", "strip", "large strip", "ring", "flat")


def versions(kind: str) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Every version, by name, as a function of x."""
    dtype, precision = KINDS[kind]
    case = msgspec.structs.replace(HEADLINE, dtype=dtype, precision=precision)
    torch.backends.cudnn.allow_tf32 = precision != "ieee"
    _, weight, bias = operands(case, "cuda")
    fused = load_target("fused")
    named = contenders(fused, case)
    chosen = named.pop("target")
    named |= {config: fused.bind(msgspec.structs.replace(case, config=config)) for config in CONFIGS}
    return {
        name: functools.partial(call, weight=weight, bias=bias) for name, call in {**named, "chosen": chosen}.items()
    }


def milliseconds(kind: str) -> dict[str, float]:
    """Median time of each version, by name."""
    dtype, _ = KINDS[kind]
    x = operands(msgspec.structs.replace(HEADLINE, dtype=dtype), "cuda")[0]
    inputs, stopwatch, calls = Inputs([x]), Stopwatch(), versions(kind)
    for call in calls.values():
        for _ in range(3):
            call(x)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        now = inputs.next()[1]
        for name, call in calls.items():
            times[name].append(stopwatch.time(functools.partial(call, now))[0])
    return {name: round(statistics.median(taken), 4) for name, taken in times.items()}


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    card = card_name(torch.cuda.get_device_name())
    figures: dict[str, Any] = {**circumstances("cuda"), "card": card, "rounds": ROUNDS}
    with torch.no_grad():
        figures["ms"] = {kind: milliseconds(kind) for kind in KINDS}
    sys.stdout.write(json.dumps(figures["ms"], indent=1) + "\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
