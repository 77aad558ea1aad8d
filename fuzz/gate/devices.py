"""Cards, as their makers describe them: what a kernel may use of one, and how fast it can be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Card:
    """One card.

    Attributes:
        name: What its driver calls it, without the maker.
        capability: Compute capability, 89 for 8.9.
        multiprocessors: How many it has.
        clock: Boost clock, Hz; the rates below are at this clock.
        bandwidth: Of its memory, bytes per second.
        l2: Bytes of its L2 cache.
        shared_memory: Bytes on a multiprocessor.
        shared_memory_per_block: Bytes that one block may have.
        threads: Threads on a multiprocessor.
        rates: Dense operations per second by kind of product, a multiplication and an addition being two:
            `float16` (bfloat16 too) and `tf32` on tensor cores, added up in float32; `float32` and `float64` without.
        synchronous: Part of its tensor cores' rate that mma.sync, the instruction of the cards before Hopper, comes to.
        l2_latency: Clocks from a load to a value that is in L2.
        l2_bytes: That a multiprocessor gets from L2 in a clock while all of them load.
        source: Where that is from.
    """

    name: str
    capability: int
    multiprocessors: int
    clock: float
    bandwidth: float
    l2: int
    shared_memory: int
    shared_memory_per_block: int
    threads: int
    rates: dict[str, float]
    l2_latency: int
    l2_bytes: float
    source: str

    synchronous: float = 1.0
    registers: int = 65536
    blocks: int = 32

    def products_per_clock(self, kind: str) -> float:
        """Multiplications with addition that one multiprocessor does in one clock."""
        return self.rates[kind] / (2 * self.multiprocessors * self.clock)


def card_name(driver_name: str) -> str:
    """Return a card's name as `CARDS` has it, from what its driver calls it."""
    return driver_name.removeprefix("NVIDIA ").removeprefix("GeForce ")


_ADA: Final = (
    "NVIDIA Ada GPU Architecture white paper v2.1, appendix A; CUDA C++ Programming Guide, compute capability 8.9"
)
# Latencies of L2: markdewing/AI_kernels, latency/README.md, which has the 4090, the A100 and the H100; of the L40S the
# L40's, te42kyfo/gpu-benches, gpu-latency/l40.txt. Bytes from L2: the bandwidths in the latter's gpu-l2-cache, for a
# clock of a multiprocessor: 5.2 TB/s of an L40 (142 at 2.49 GHz), 5.4 of an A100 (108 at 1.41), 9.7 of an H200 (132 at
# 1.98). They are of the chip, so that they are taken for the 4090 and the H100, too.
_AD102_L2: Final = 14.7
_GH100_L2: Final = 37.1
# Luo et al. 2024, "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", arXiv 2402.13499: on average.
_SYNCHRONOUS_ON_HOPPER: Final = 0.629
_HOPPER: Final = "NVIDIA H100 Tensor Core GPU Architecture white paper, table 3; CUDA C++ Programming Guide, 9.0"

CARDS: Final = {
    card.name: card
    for card in (
        Card(
            name="RTX 4090", capability=89, multiprocessors=128, clock=2.52e9, bandwidth=1008e9, l2=72 * 2**20,
            shared_memory=100 * 1024, shared_memory_per_block=99 * 1024, threads=1536, blocks=24,
            l2_latency=296, l2_bytes=_AD102_L2,
            rates={"float16": 165.2e12, "tf32": 82.6e12, "float32": 82.6e12, "float64": 1.29e12}, source=_ADA,
        ),
        Card(
            name="L40S", capability=89, multiprocessors=142, clock=2.52e9, bandwidth=864e9, l2=96 * 2**20,
            shared_memory=100 * 1024, shared_memory_per_block=99 * 1024, threads=1536, blocks=24,
            l2_latency=277, l2_bytes=_AD102_L2,
            rates={"float16": 362.05e12, "tf32": 183e12, "float32": 91.6e12, "float64": 1.43e12},
            source="NVIDIA L40S data sheet; CUDA C++ Programming Guide, compute capability 8.9",
        ),
        Card(
            name="A100-SXM4-80GB", capability=80, multiprocessors=108, clock=1.41e9, bandwidth=2039e9, l2=40 * 2**20,
            shared_memory=164 * 1024, shared_memory_per_block=163 * 1024, threads=2048,
            l2_latency=210, l2_bytes=35.5,
            rates={"float16": 312e12, "tf32": 156e12, "float32": 19.5e12, "float64": 9.7e12},
            source="NVIDIA A100 Tensor Core GPU Architecture white paper, table 1; CUDA C++ Programming Guide, 8.0",
        ),
        Card(
            name="H100 80GB HBM3", capability=90, multiprocessors=132, clock=1.83e9, bandwidth=3350e9, l2=50 * 2**20,
            shared_memory=228 * 1024, shared_memory_per_block=227 * 1024, threads=2048,
            l2_latency=291, l2_bytes=_GH100_L2, synchronous=_SYNCHRONOUS_ON_HOPPER,
            rates={"float16": 989.4e12, "tf32": 494.7e12, "float32": 66.9e12, "float64": 33.5e12}, source=_HOPPER,
        ),
        Card(
            name="H200", capability=90, multiprocessors=132, clock=1.83e9, bandwidth=4800e9, l2=50 * 2**20,
            shared_memory=228 * 1024, shared_memory_per_block=227 * 1024, threads=2048,
            l2_latency=291, l2_bytes=_GH100_L2, synchronous=_SYNCHRONOUS_ON_HOPPER,
            rates={"float16": 989.4e12, "tf32": 494.7e12, "float32": 66.9e12, "float64": 33.5e12},
            source="NVIDIA H200 data sheet; " + _HOPPER,
        ),
    )
}  # fmt: skip
