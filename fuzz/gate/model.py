"""From a kernel's machine code to what it occupies of a card, and how long the card needs for its products.

The model counts, for each pipe of a multiprocessor, the clocks that the loop that multiplies keeps it busy for: the
busiest pipe binds. It knows nothing of latencies, of caches, or of what is before and after that loop, so that it is a
lower bound, and good for comparing one build of a kernel with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fuzz.gate.capture import Launch
from fuzz.gate.devices import Card
from fuzz.gate.sass import Instruction, Listing

# Results that a multiprocessor gives in each clock: CUDA C++ Programming Guide, "Arithmetic Instructions", table of
# throughputs, compute capability 8.9 (9.0 is the same but for float64, which the card's own rate has).
_FLOAT: Final = ("FADD", "FMUL", "FFMA")
_SPECIAL: Final = ("MUFU", "I2F", "F2I", "I2FP", "F2F")
_SHUFFLE: Final = ("SHFL",)
_DOUBLE: Final = ("DADD", "DMUL", "DFMA", "DSETP")
_PER_CLOCK: Final = {"float": 128, "integer": 64, "special": 16, "shuffle": 32}
# Warp instructions that a multiprocessor can issue in a clock, one for each of its four schedulers.
_ISSUED: Final = 4
# Bytes in a clock: between shared memory and registers, and between L2 and a multiprocessor.
_SHARED_BYTES: Final = 128
_L2_BYTES: Final = 64
# Hopper does the instructions of the cards before it, mma.sync, at this part of its peak, on average (Luo et al. 2024,
# "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", arXiv 2402.13499).
_SYNCHRONOUS_ON_HOPPER: Final = 0.629
_FREE: Final = ("BRA", "NOP", "EXIT", "BSSY", "BSYNC", "WARPSYNC", "DEPBAR", "LDGDEPBAR", "BAR", "SYNCS", "WARPGROUP")


@dataclass(frozen=True)
class Occupancy:
    """How many blocks of a kernel a multiprocessor holds, and what keeps it from holding more."""

    blocks: int
    limit: str


def occupancy(card: Card, registers: int, launch: Launch) -> Occupancy:
    """Blocks of the launch on a multiprocessor at once; registers are given to warps in steps of 256."""
    of_a_warp = -(-registers * 32 // 256) * 256
    reserved = 1024  # of shared memory, for each block, by the driver (CUDA C++ Programming Guide, 8.x and 9.0)
    limits = {
        "registers": card.registers // (of_a_warp * launch.warps),
        "shared memory": card.shared_memory // (launch.shared + reserved),
        "threads": card.threads // (32 * launch.warps),
        "blocks": card.blocks,
    }
    limit = min(limits, key=limits.__getitem__)
    return Occupancy(limits[limit], limit)


def clocks(card: Card, loop: list[Instruction]) -> dict[str, float]:
    """Clocks that one warp's turn of the loop keeps each pipe of a multiprocessor busy for."""
    busy = dict.fromkeys(
        ("tensor", "double", "float", "integer", "special", "shuffle", "shared memory", "L2", "issue"), 0.0
    )
    for instruction in loop:
        busy["issue"] += 1 / _ISSUED
        pipe = _pipe(instruction)
        if pipe == "tensor":
            busy[pipe] += instruction.products / tensor_products(card, instruction)
        elif pipe == "double":
            busy[pipe] += 32 / card.products_per_clock("float64")
        elif pipe == "memory":
            moved = 32 * instruction.bytes
            if instruction.name in ("LDG", "STG", "LDGSTS", "LDL", "STL"):
                busy["L2"] += moved / _L2_BYTES
            if instruction.name in ("LDS", "STS", "LDSM", "LDGSTS"):
                busy["shared memory"] += moved / _SHARED_BYTES
        elif pipe:
            busy[pipe] += 32 / _PER_CLOCK[pipe]
    return busy


def tensor_products(card: Card, instruction: Instruction) -> float:
    """Products of such an instruction that a multiprocessor does in a clock."""
    if instruction.name == "DMMA":
        return card.products_per_clock("float64")
    rate = card.products_per_clock("tf32" if "TF32" in instruction.opcode else "float16")
    return rate * _SYNCHRONOUS_ON_HOPPER if card.capability >= 90 and instruction.name == "HMMA" else rate


def _pipe(instruction: Instruction) -> str:
    name = instruction.name
    if instruction.products:
        return "tensor"
    if instruction.bytes:
        return "memory"
    if name in _FREE or name.startswith("U"):
        return ""
    groups = {"double": _DOUBLE, "float": _FLOAT, "special": _SPECIAL, "shuffle": _SHUFFLE}
    return next((pipe for pipe, names in groups.items() if name in names), "integer")


@dataclass(frozen=True)
class Prediction:
    """How long a card needs at least.

    Attributes:
        milliseconds: For all products.
        pipe: What binds.
        clocks: Of each pipe, for one warp's turn of the loop.
        products: Of one warp's turn.
    """

    milliseconds: float
    pipe: str
    clocks: dict[str, float]
    products: int


def predict(card: Card, listing: Listing, products: int) -> Prediction | None:
    """The time for so many products by the kernel's main loop; None where none of its loops multiplies."""
    loop = listing.main_loop()
    of_a_turn = sum(i.products for i in loop) or 32 * sum(i.name in ("FFMA", "DFMA") for i in loop)
    if not of_a_turn:
        return None
    busy = clocks(card, loop)
    pipe = max(busy, key=busy.__getitem__)
    seconds = products / of_a_turn * busy[pipe] / card.multiprocessors / card.clock
    return Prediction(seconds * 1e3, pipe, {name: round(value, 2) for name, value in busy.items() if value}, of_a_turn)
