"""How fast the fused kernel is, against what one would use instead.

Run as `python benchmarks/speed.py [--only NAME …] [--skip CONTENDER …] [--json FILE]` on a machine with a GPU that does
nothing else. In each round every contender runs once on each shape, in turn, after the L2 cache was flushed; a time is
the median over the rounds, of the call as a CUDA graph: what the GPU does, without what Python does before. Results
are compared with float64 before and after timing. The peer of a shape is the fastest contender that is not ours.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fused import conv_scale_min
from fused.two_pass import two_pass
from fuzz.circumstances import circumstances

ROUNDS = 40
SCALE = 2.0
FLUSHED = 256 * 2**20  # bytes, several times an L2 cache


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One shape: x [n, c, h, w], weight [c_out, c / groups, k, k]; how x lies in memory, its dtype and precision."""

    name: str
    n: int
    c: int
    h: int
    w: int
    c_out: int
    k: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    dtype: str = "float32"
    channels_last: bool = False
    precision: str = "tf32"
    two_pass: bool = False

    @property
    def products(self) -> int:
        """Multiplications of one call."""
        h, w = ((size + 2 * self.padding - self.k) // self.stride + 1 for size in (self.h, self.w))
        return self.n * self.c_out * h * w * self.c // self.groups * self.k * self.k


def resnet(batch: int) -> list[Workload]:
    """ResNet-50's convolutions (He et al. 2016, table 1), without those that differ by little."""
    layers = [
        ("stem 7x7/2", 3, 224, 64, 7, 2, 3),
        ("56 1x1 64-64", 64, 56, 64, 1, 1, 0),
        ("56 3x3 64-64", 64, 56, 64, 3, 1, 1),
        ("56 1x1 64-256", 64, 56, 256, 1, 1, 0),
        ("28 3x3 128-128", 128, 28, 128, 3, 1, 1),
        ("28 1x1 512-128", 512, 28, 128, 1, 1, 0),
        ("14 3x3 256-256", 256, 14, 256, 3, 1, 1),
        ("7 3x3 512-512", 512, 7, 512, 3, 1, 1),
    ]
    return [
        Workload(name=f"resnet b{batch} {name}", n=batch, c=c, h=size, w=size, c_out=c_out, k=k, stride=s, padding=p)
        for name, c, size, c_out, k, s, p in layers
    ]


def workloads() -> list[Workload]:
    """Everything that is measured; the first is the headline."""
    head: dict[str, Any] = {"n": 64, "c": 64, "h": 256, "w": 256, "c_out": 128, "k": 3}
    return [
        Workload(name="headline", **head, two_pass=True),
        Workload(name="headline channels_last", **head, channels_last=True),
        Workload(name="headline fp16 channels_last", **head, dtype="float16", channels_last=True),
        Workload(name="headline bf16 channels_last", **head, dtype="bfloat16", channels_last=True),
        Workload(name="headline fp16", **head, dtype="float16"),
        Workload(name="headline ieee", **head, precision="ieee"),
        Workload(name="kernelbench old", n=128, c=3, h=32, w=32, c_out=16, k=3),
        *resnet(1),
        *resnet(64),
        Workload(name="odd", n=17, c=37, h=61, w=83, c_out=75, k=3, padding=1),
        Workload(name="odd 5x5", n=8, c=50, h=99, w=101, c_out=100, k=5, padding=2),
        Workload(name="groups 4", n=32, c=64, h=56, w=56, c_out=128, k=3, padding=1, groups=4),
        Workload(name="one large image", n=1, c=64, h=1024, w=1024, c_out=64, k=3, padding=1),
        Workload(name="wide 1024", n=8, c=256, h=32, w=32, c_out=1024, k=3, padding=1),
    ]


def tensors(workload: Workload) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """X in [0, 1), weight and bias as nn.Conv2d draws them."""
    torch.manual_seed(0)
    dtype = getattr(torch, workload.dtype)
    layer = torch.nn.Conv2d(workload.c, workload.c_out, workload.k, groups=workload.groups)
    x = torch.rand(workload.n, workload.c, workload.h, workload.w, device="cuda").to(dtype)
    if workload.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, layer.weight.data.to("cuda", dtype), layer.bias.data.to("cuda", dtype)


def contenders(workload: Workload, skipped: list[str]) -> dict[str, Callable[..., torch.Tensor]]:
    """What is timed, by name; each is a function of x, weight and bias."""
    options = {"stride": workload.stride, "padding": workload.padding, "groups": workload.groups}

    def eager(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.min(torch.conv2d(x, weight, bias, **options) * SCALE, dim=1, keepdim=True).values

    named: dict[str, Callable[..., torch.Tensor]] = {
        "fused": lambda x, weight, bias: conv_scale_min(
            x, weight, bias, SCALE, precision=workload.precision, **options
        ),
        "eager": eager,
        "compile": torch.compile(eager),
        "max-autotune": torch.compile(eager, mode="max-autotune-no-cudagraphs"),
    }
    if workload.two_pass:
        named["two-pass"] = lambda x, weight, bias: two_pass(
            x, weight, bias, SCALE, precision=workload.precision, **options
        )
    return {name: function for name, function in named.items() if name not in skipped}


def largest_error(out: torch.Tensor, workload: Workload, operands: tuple[torch.Tensor, ...]) -> float:
    """Largest |out - float64 truth| over the first and the last image."""
    x, weight, bias = operands
    options = {"stride": workload.stride, "padding": workload.padding, "groups": workload.groups}
    errors = []
    for image in {0, workload.n - 1}:
        part = slice(image, image + 1)
        sums = torch.conv2d(x[part].double(), weight.double(), bias.double(), **options)
        truth = torch.min(sums * SCALE, dim=1, keepdim=True).values
        errors.append((out[part].double() - truth).abs().max().item())
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def graphed(function: Callable[..., torch.Tensor], operands: tuple[torch.Tensor, ...]) -> tuple[Any, torch.Tensor]:
    """The call as a CUDA graph, and where it puts its result."""
    for _ in range(2):
        function(*operands)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function(*operands)
    return graph, out


def interleaved(graphs: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each graph in each round: all of them in turn, with the L2 cache flushed before."""
    flush = torch.empty(FLUSHED, dtype=torch.int8, device="cuda")
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for round_number in range(rounds + 3):
        for name, graph in graphs.items():
            flush.zero_()
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            stop.record()
            stop.synchronize()
            if round_number >= 3:
                times[name].append(start.elapsed_time(stop))
    return times


def measure(workload: Workload, skipped: list[str]) -> dict[str, Any]:
    """Time all contenders on one shape, interleaved."""
    ieee = workload.precision == "ieee"
    torch.backends.cudnn.allow_tf32 = not ieee
    operands = tensors(workload)
    graphs, errors, memory = {}, {}, {}
    for name, function in contenders(workload, skipped).items():
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        function(*operands)
        memory[name] = torch.cuda.max_memory_allocated() - held
        graphs[name] = graphed(function, operands)
        graphs[name][0].replay()
        errors[name] = largest_error(graphs[name][1], workload, operands)
    times = interleaved({name: graph for name, (graph, _) in graphs.items()}, ROUNDS)
    after = {name: largest_error(out, workload, operands) for name, (_, out) in graphs.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    peer = min((name for name in medians if name not in ("fused", "two-pass")), key=medians.__getitem__)
    return {
        **asdict(workload),
        "products": workload.products,
        "ms": {name: round(value, 5) for name, value in medians.items()},
        "spread": {
            name: round(statistics.quantiles(v, n=20)[18] / statistics.quantiles(v, n=20)[0], 3)
            for name, v in times.items()
        },
        "error": errors,
        "error_after": after,
        "peak_bytes": memory,
        "peer": peer,
        "ratio": round(medians[peer] / medians["fused"], 3),
    }


def half_precision_rate() -> float:
    """TFLOP/s of cuBLAS on float16 8192³, as the median of 20."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.half) for _ in range(2))
    times = []
    for _ in range(25):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        left @ right
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return round(2 * 8192**3 / statistics.median(times[5:]) / 1e9, 1)


def main() -> None:
    """Measure, print a line per shape, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--skip", nargs="*", default=[], choices=["eager", "compile", "max-autotune", "two-pass"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [w for w in workloads() if not options.only or any(part in w.name for part in options.only)]
    figures: dict[str, Any] = {**circumstances("cuda"), "rounds": ROUNDS, "cublas_fp16_tflops": half_precision_rate()}
    figures["workloads"] = []
    for workload in chosen:
        torch._dynamo.reset()
        found = measure(workload, options.skip)
        figures["workloads"].append(found)
        times = "  ".join(f"{name} {value:.4f}" for name, value in found["ms"].items())
        errors = "  ".join(f"{value:.1e}" for value in found["error"].values())
        sys.stdout.write(f"{workload.name:28s} {found['ratio']:6.2f}x {found['peer']:13s} {times}  err {errors}\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    ratios = [found["ratio"] for found in figures["workloads"]]
    figures["geometric_mean"] = round(math.exp(statistics.fmean(map(math.log, ratios))), 3)
    sys.stdout.write(f"geometric mean {figures['geometric_mean']}x, least {min(ratios)}x\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
