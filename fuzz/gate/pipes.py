"""What an instruction keeps busy of a multiprocessor, and for how long: published rates, and nothing of waiting."""

from __future__ import annotations

from typing import Final

from fuzz.gate.devices import Card
from fuzz.gate.sass import Instruction

# Warp instructions that a multiprocessor can issue in a clock, one for each of its schedulers.
SCHEDULERS: Final = 4
# Of these each scheduler has its own; the others are the multiprocessor's.
OF_A_SCHEDULER: Final = ("tensor", "double", "float", "integer", "special", "issue")
PIPES: Final = (*OF_A_SCHEDULER, "shuffle", "shared memory", "L1", "L2")

# Results that a multiprocessor gives in each clock: CUDA C++ Programming Guide, "Arithmetic Instructions", table of
# throughputs, compute capability 8.9 (9.0 is the same but for float64, which the card's own rate has).
_FLOAT: Final = ("FADD", "FMUL", "FFMA")
_SPECIAL: Final = ("MUFU", "I2F", "F2I", "I2FP", "F2F")
_SHUFFLE: Final = ("SHFL",)
_DOUBLE: Final = ("DADD", "DMUL", "DFMA", "DSETP")
_PER_CLOCK: Final = {"float": 128, "integer": 64, "special": 16, "shuffle": 32}
# Bytes in a clock: between shared memory and registers, and of a load that L1 may have.
_SHARED_BYTES: Final = 128
_L1_BYTES: Final = 64
_FREE: Final = ("BRA", "NOP", "EXIT", "BSSY", "BSYNC", "WARPSYNC", "DEPBAR", "LDGDEPBAR", "BAR", "SYNCS", "WARPGROUP")
GLOBAL: Final = ("LDG", "STG", "LDGSTS", "LDL", "STL")
_SHARED: Final = ("LDS", "STS", "LDSM", "LDGSTS")


def occupied(card: Card, instruction: Instruction) -> dict[str, float]:
    """Clocks that one warp's instruction keeps each pipe of a multiprocessor busy for, all of it being one pipe."""
    busy = {"issue": 1 / SCHEDULERS}
    pipe = _pipe(instruction)
    if pipe == "tensor":
        busy[pipe] = instruction.products / tensor_products(card, instruction)
    elif pipe == "double":
        busy[pipe] = 32 / card.products_per_clock("float64")
    elif pipe == "memory":
        moved = 32 * instruction.bytes
        if instruction.name in GLOBAL:
            past_l1 = "BYPASS" in instruction.opcode
            busy["L2" if past_l1 else "L1"] = moved / (card.l2_bytes if past_l1 else _L1_BYTES)
        if instruction.name in _SHARED:
            busy["shared memory"] = moved / _SHARED_BYTES
    elif pipe:
        busy[pipe] = 32 / _PER_CLOCK[pipe]
    return busy


def tensor_products(card: Card, instruction: Instruction) -> float:
    """Products of such an instruction that a multiprocessor does in a clock."""
    if instruction.name == "DMMA":
        return card.products_per_clock("float64")
    rate = card.products_per_clock("tf32" if "TF32" in instruction.opcode else "float16")
    return rate * card.synchronous if instruction.name == "HMMA" else rate


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
