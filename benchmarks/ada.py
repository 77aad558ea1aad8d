"""How near the convolution comes to a plain matrix product on the code that Ada cards run, without an Ada card.

Run as `TRITON_OVERRIDE_ARCH=sm89 python benchmarks/ada.py [--json FILE]` on a GPU of at least that architecture: Triton
then generates what it generates for sm_89 (mma.sync and asynchronous copies). Two things are timed, in turn and with
the L2 cache flushed: a plain tiled product of float16 matrices, [8192, 8192] each, in every tile of `TILES`, and the
fused kernel on the headline shape in float16, channels last, in every configuration of the fast path. Both are
TFLOP/s at the median. What counts is the best of the one over the best of the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from speed import graphed, interleaved

from fused.conv_scale_min import conv_scale_min
from fuzz.circumstances import circumstances
from fuzz.gate.clocks import ClockLog

ROUNDS = 20
SIZE = 8192
# BLOCK_M, BLOCK_N, BLOCK_K, warps, stages; those that do not fit into 99 KB, what a program has on Ada, are left out.
TILES = [
    (block_m, block_n, block_k, warps, stages)
    for block_m, block_n in ((64, 128), (128, 64), (128, 128), (128, 256), (256, 128), (256, 64))
    for block_k in (32, 64)
    for warps in (4, 8)
    for stages in (2, 3, 4)
    if stages * block_k * (block_m + block_n) * 2 <= 99 * 1024 and block_m * block_n <= warps * 32 * 128
]
CONFIGS = ("strip", "large strip", "ring")


@triton.jit
def product_kernel(
    left_ptr, right_ptr, out_ptr, SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BAND: tl.constexpr,
):  # fmt: skip
    """One tile of left [SIZE, SIZE] times right [SIZE, SIZE]; right lies by columns, as a packed weight does.

    Programs that run together cover bands of BAND rows of tiles, so that L2 holds what they share.
    """
    columns: tl.constexpr = SIZE // BLOCK_N
    program = tl.program_id(0)
    band = program // (BAND * columns)
    offs_m = (band * BAND + program % BAND) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = (program % (BAND * columns)) // BAND * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    left = left_ptr + (offs_m[:, None] * SIZE + offs_k[None, :])
    right = right_ptr + (offs_n[None, :] * SIZE + offs_k[:, None])
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for _ in range(SIZE // BLOCK_K):
        acc = tl.dot(tl.load(left), tl.load(right), acc)
        left += BLOCK_K
        right += BLOCK_K
    tl.store(out_ptr + (offs_m[:, None] * SIZE + offs_n[None, :]), acc.to(tl.float16))


def products() -> dict[str, Callable[[], torch.Tensor]]:
    """The plain product in each tile, by the tile's name, after a look at its results."""
    left, right = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.half) for _ in range(2))
    out = torch.empty(SIZE, SIZE, device="cuda", dtype=torch.half)

    def product(block_m: int, block_n: int, block_k: int, warps: int, stages: int) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            product_kernel[(SIZE // block_m * (SIZE // block_n),)](
                left, right, out, SIZE, block_m, block_n, block_k, 8, num_warps=warps, num_stages=stages
            )
            return out

        return call

    wanted = left[:64].float() @ right.float().T
    named = {}
    for tile in TILES:
        call = product(*tile)
        if not (call()[:64].float() - wanted).abs().max().item() <= 1.0:  # NaN is wrong, too
            raise RuntimeError(f"the plain product is wrong in tile {tile}")
        named["x".join(map(str, tile[:3])) + f", {tile[3]} warps, {tile[4]} stages"] = call
    return named


def convolutions() -> dict[str, Callable[[], torch.Tensor]]:
    """The fused kernel on the headline shape, by configuration, after a look at its results."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(64, 128, 3)
    weight, bias = (tensor.data.to("cuda", torch.half) for tensor in (layer.weight, layer.bias))
    x = torch.rand(64, 64, 256, 256, device="cuda").half().contiguous(memory_format=torch.channels_last)
    wanted = torch.min(torch.conv2d(x[:1].double(), weight.double(), bias.double()) * 2.0, dim=1, keepdim=True).values
    named = {}
    for config in CONFIGS:

        def call(config: str = config) -> torch.Tensor:
            return conv_scale_min(x, weight, bias, 2.0, config=config)

        if not (call()[:1].double() - wanted).abs().max().item() < 2.0**-9:
            raise RuntimeError(f"the fused kernel is wrong with config={config!r}")
        named[config] = call
    return named


def rates(calls: dict[str, Callable[[], torch.Tensor]], operations: float) -> tuple[dict[str, float], float]:
    """TFLOP/s of each call at its median time, all of them in turn, and the card's clock meanwhile, MHz."""
    graphs = {name: graphed(call, ())[0] for name, call in calls.items()}
    with ClockLog(f"GPU-{torch.cuda.get_device_properties().uuid}") as log:
        times = interleaved(graphs, ROUNDS)
    clock = statistics.median(reading.clock for reading in log.readings)
    return {name: round(operations / statistics.median(values) / 1e9, 1) for name, values in times.items()}, clock


def main() -> None:
    """Measure both, print them, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if os.environ.get("TRITON_OVERRIDE_ARCH") != "sm89":
        parser.error("set TRITON_OVERRIDE_ARCH=sm89: without it the card's own code would be timed")
    figures: dict[str, Any] = {**circumstances("cuda"), "rounds": ROUNDS}
    # Twice, in turn: a card that gets slower as it warms up does so for both.
    operations = 2.0 * 64 * 254 * 254 * 128 * 576
    plain, fused = products(), convolutions()
    (found, clock), (convolved, _) = rates(plain, 2.0 * SIZE**3), rates(fused, operations)
    best = max(found, key=found.__getitem__)
    (found_again, _), (convolved_again, _) = rates({best: plain[best]}, 2.0 * SIZE**3), rates(fused, operations)
    figures |= {"product": found, "product_mhz": clock, "fused": convolved}
    figures |= {"product_again": found_again, "fused_again": convolved_again}
    figures["ratio"] = round(max(convolved_again.values()) / max(found[best], found_again[best]), 3)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
