"""How much of cuBLAS's rate the convolution reaches on the headline shape.

Run as `python benchmarks/cublas.py [--json FILE]` on a machine with a GPU that does nothing else. For each dtype, three
things run in turn, as CUDA graphs, with the L2 cache flushed before: cuBLAS's product of two matrices [8192, 8192], in
float16 for float32; the whole call, as it is chosen; and of the call with the configuration `flat` the convolution
alone, after what was packed is there. float32 lies channels first, 16 bits channels last. Results are compared with
float64 before and after.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from speed import SCALE, Workload, graphed, interleaved, largest_error, tensors

from fuzz.circumstances import circumstances

kernel = importlib.import_module("fused.conv_scale_min")
ROUNDS = 40
SIZE = 8192
# Of a result of about 1, whose operands have 11 or 8 bits.
TOLERANCES = {"float32": 2.0**-9, "float16": 2.0**-9, "bfloat16": 2.0**-6}


def headline(dtype: str) -> Workload:
    """The headline shape in one dtype, as it is usual for that."""
    last = dtype != "float32"
    return Workload(name=dtype, n=64, c=64, h=256, w=256, c_out=128, k=3, dtype=dtype, channels_last=last)


def convolution_alone(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The launch that multiplies, after all that comes before it was done once."""
    out = x.new_empty(x.shape[0], 1, x.shape[2] - 2, x.shape[3] - 2)
    precision = "tf32" if x.dtype == torch.float32 else "ieee"
    buffers, (pack, multiply, *_), _ = kernel.plan_of(
        x, weight, bias, SCALE, [1, 1], [0] * 4, [1, 1], 1, precision, "flat", out
    )
    named = {"x": x, "weight": weight, "bias": bias, "out": out}
    named |= {name: x.new_empty(shape, dtype=dtype) for name, (shape, dtype) in buffers.items()}

    def start(launch: Any) -> torch.Tensor:
        function, programs, pointers, others = launch
        bound = {**others, **{name: named.get(source) for name, source in pointers.items()}}
        kernel.launch(function, programs, x.device, bound)
        return out

    start(pack)
    return lambda: start(multiply)


def check(outs: dict[str, torch.Tensor], workload: Workload, operands: tuple[torch.Tensor, ...]) -> None:
    """Compare results with float64; raise RuntimeError where one is wrong.

    Alone, the convolution leaves NaN where float16 cannot vouch for a result: on this shape there is no such result.
    """
    for name, out in outs.items():
        error = largest_error(out, workload, operands)
        if not error < TOLERANCES[workload.dtype]:
            raise RuntimeError(f"{workload.name}, {name}: the error is {error}, not below {TOLERANCES[workload.dtype]}")


def measure(dtype: str) -> dict[str, Any]:
    """Milliseconds and TFLOP/s of the three, and what part of cuBLAS's rate the other two reach."""
    workload = headline(dtype)
    operands = tensors(workload)
    half = torch.bfloat16 if dtype == "bfloat16" else torch.float16
    left, right = (torch.randn(SIZE, SIZE, device="cuda", dtype=half) for _ in range(2))
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "cublas": lambda: left @ right,
        "whole call": lambda: kernel.conv_scale_min(*operands, SCALE, precision="tf32"),
        "convolution alone": convolution_alone(*operands),
    }
    graphs = {name: graphed(call, ()) for name, call in calls.items()}
    outs = {name: out for name, (_, out) in graphs.items() if name != "cublas"}
    for graph, _ in graphs.values():
        graph.replay()
    check(outs, workload, operands)
    times = interleaved({name: graph for name, (graph, _) in graphs.items()}, ROUNDS)
    check(outs, workload, operands)
    milliseconds = {name: statistics.median(values) for name, values in times.items()}
    operations = {name: 2.0 * (SIZE**3 if name == "cublas" else workload.products) for name in calls}
    rates = {name: operations[name] / value / 1e9 for name, value in milliseconds.items()}
    return {
        "ms": {name: round(value, 4) for name, value in milliseconds.items()},
        "tflops": {name: round(value, 1) for name, value in rates.items()},
        "ratio": {name: round(value / rates["cublas"], 3) for name, value in rates.items() if name != "cublas"},
    }


def main() -> None:
    """Measure all dtypes, print them, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {**circumstances("cuda"), "rounds": ROUNDS}
    figures |= {dtype: measure(dtype) for dtype in TOLERANCES}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
