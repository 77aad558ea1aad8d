"""From a kernel's machine code to what it occupies of a card, and how long the card needs for its products.

For each pipe of a multiprocessor it counts the clocks that the loop that multiplies keeps it busy for: the busiest is a
bound. What that leaves out, latencies and warps that wait for each other, the simulation of `pipeline` adds. Neither
knows of caches beyond L2, nor of what is before and after that loop: both compare one build of a kernel with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fuzz.gate.capture import Launch
from fuzz.gate.devices import Card
from fuzz.gate.pipeline import turn_clocks
from fuzz.gate.pipes import PIPES, occupied
from fuzz.gate.sass import Instruction, Listing

# Up to this much above the bound a pipe is what binds: it is busy but for gaps that no better order would close.
_NEAR: Final = 1.1


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
    busy = dict.fromkeys(PIPES, 0.0)
    for instruction in loop:
        for pipe, taken in occupied(card, instruction).items():
            busy[pipe] += taken
    return busy


@dataclass(frozen=True)
class Prediction:
    """How long a card needs for all products by the loop that multiplies.

    Attributes:
        milliseconds: As simulated.
        bound: Milliseconds that the busiest pipe needs, whatever waits for what.
        pipe: What binds: the busiest, or "latency" where it is idle for lack of warps that can go on.
        clocks: Of each pipe, for one warp's turn.
        products: Of one warp's turn.
    """

    milliseconds: float
    bound: float
    pipe: str
    clocks: dict[str, float]
    products: int


def predict(card: Card, listing: Listing, products: int, warps: int, blocks: int) -> Prediction | None:
    """The time for so many products by the kernel's main loop; None where none of its loops multiplies.

    Args:
        card: Which.
        listing: The kernel.
        products: Of a call.
        warps: Of a block.
        blocks: That a multiprocessor holds; a block that does not fit is taken for one that has it for itself.
    """
    loop = listing.main_loop()
    of_a_turn = sum(i.products for i in loop) or 32 * sum(i.name in ("FFMA", "DFMA") for i in loop)
    if not of_a_turn:
        return None
    busy = clocks(card, loop)
    pipe = max(busy, key=busy.__getitem__)
    resident = max(1, blocks)
    simulated = max(busy[pipe], turn_clocks(card, loop, warps, resident) / (warps * resident))
    turns = products / of_a_turn / card.multiprocessors
    return Prediction(
        milliseconds=turns * simulated / card.clock * 1e3,
        bound=turns * busy[pipe] / card.clock * 1e3,
        pipe=pipe if simulated <= _NEAR * busy[pipe] else "latency",
        clocks={name: round(value, 2) for name, value in busy.items() if value},
        products=of_a_turn,
    )
