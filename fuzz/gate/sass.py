"""Reads machine code as nvdisasm prints it: instructions, loops, and what the loop that multiplies consists of."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(
    r"^\s*/\*[0-9a-f]+\*/\s+(?:\{\s*)?(?P<guard>@!?U?P[0-9T]+\s+)?(?P<opcode>[A-Z][A-Z0-9_.]*)(?P<rest>[^;]*)"
)
# The upper half of an instruction's 128 bits, which is printed below it.
_UPPER: Final = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/\s*$")
_LIMIT: Final = re.compile(r"SB(?P<barrier>\d), 0x(?P<count>[0-9a-f]+)")
_LABEL: Final = re.compile(r"^(\.L_\w+):")
_TARGET: Final = re.compile(r"`\((\.L_\w+)\)")
# M, N and K of one instruction, by the digits in its name; a Hopper warp group of four warps shares one HGMMA.
_SHAPE: Final = re.compile(r"^(?:HMMA\.(?P<m>16|8)(?P<n>8)(?P<k>16|8|4)|HGMMA\.(?P<gm>\d+)x(?P<gn>\d+)x(?P<gk>\d+))")
_WIDTHS: Final = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
_NO_BARRIER: Final = 7
_ADDRESSED: Final = ("LDG", "LDGSTS", "LDS", "STS", "STG", "LDL", "STL")


@dataclass(frozen=True)
class Control:
    """What the compiler tells the scheduler, which looks at no registers; barriers are six counters of a warp.

    Attributes:
        stall: Clocks until the warp's next instruction may be issued.
        write: The barrier that is up until the results are there, or None.
        read: The barrier that is up until the operands have been read, or None.
        waits: A bit for each barrier that has to be down before.
        limit: For `DEPBAR.LE`, a barrier and how often it may be up when this is issued; else None.
    """

    stall: int = 1
    write: int | None = None
    read: int | None = None
    waits: int = 0
    limit: tuple[int, int] | None = None


@dataclass(frozen=True)
class Instruction:
    """One instruction of a warp.

    Attributes:
        opcode: Its name with all modifiers, `LDGSTS.E.BYPASS.128`; `NOP` for what is never done.
        guarded: Whether it is done only if a predicate says so.
        target: The label that it jumps to, or None.
        control: When it and what follows may be issued.
    """

    opcode: str
    guarded: bool
    target: str | None
    control: Control = Control()

    @property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def products(self) -> int:
        """Multiplications on tensor cores that are one warp's."""
        found = _SHAPE.match(self.opcode)
        if found is None:
            return 8 * 8 * 4 if self.name == "DMMA" else 0
        if found["gm"]:
            return int(found["gm"]) * int(found["gn"]) * int(found["gk"]) // 4
        return int(found["m"]) * int(found["n"]) * int(found["k"])

    @property
    def bytes(self) -> int:
        """Bytes that each thread reads or writes, 0 for what is no access to memory by an address of its own."""
        if self.name == "LDSM":
            return 4 * int(self.opcode[-1]) if self.opcode[-1].isdigit() else 4
        if self.name not in _ADDRESSED:
            return 0
        return next((_WIDTHS[part] for part in reversed(self.opcode.split(".")) if part in _WIDTHS), 4)


@dataclass(frozen=True)
class Listing:
    """The instructions of a kernel, in order, and where labels point."""

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]

    @cached_property
    def loops(self) -> list[range]:
        """The places of each jump back and of what it repeats."""
        back = (
            (self.labels.get(instruction.target or "", place + 1), place)
            for place, instruction in enumerate(self.instructions)
        )
        return [range(first, last + 1) for first, last in back if first <= last and first != last]

    def main_loop(self) -> list[Instruction]:
        """The innermost loop with the most products, of tensor cores if there are any, in its usual turn.

        What a guarded jump skips is left out if nothing is multiplied there: the end of a tile, inside a loop over all
        tiles. Empty where no loop multiplies.
        """
        for weight in (lambda instruction: instruction.products, _is_multiplication):
            busy = [loop for loop in self.loops if any(weight(self.instructions[place]) for place in loop)]
            inner = [loop for loop in busy if not any(_contains(loop, other) for other in busy)]
            if inner:
                loop = max(inner, key=lambda loop: sum(weight(self.instructions[place]) for place in loop))
                return self._usual_turn(loop, weight)
        return []

    def _usual_turn(self, loop: range, weight) -> list[Instruction]:  # type: ignore[no-untyped-def]
        turn, place = [], loop.start
        while place < loop.stop:
            instruction = self.instructions[place]
            turn.append(instruction)
            place += 1
            end = self.labels.get(instruction.target or "", 0)
            skipped = range(place, end)
            if instruction.guarded and end <= loop.stop and not any(weight(self.instructions[at]) for at in skipped):
                place = max(place, end)
        return turn


def _contains(outer: range, inner: range) -> bool:
    return outer != inner and outer.start <= inner.start and inner.stop <= outer.stop


def _is_multiplication(instruction: Instruction) -> int:
    return int(instruction.name in ("FFMA", "DFMA", "HFMA2"))


def parse(text: str) -> Listing:
    """Read what `nvdisasm -c -hex` prints of one kernel."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        label = _LABEL.match(line)
        if label:
            labels[label[1]] = len(instructions)
            continue
        found = _LINE.match(line)
        if found:
            upper = _UPPER.match(below)
            control = _control(int(upper[1], 16) if upper else 0, found["rest"])
            target = _TARGET.search(found["rest"])
            # ptxas puts loads that no thread ever does between asynchronous copies and what they follow.
            opcode = "NOP" if (found["guard"] or "").strip() == "@!PT" else found["opcode"]
            instructions.append(Instruction(opcode, found["guard"] is not None, target[1] if target else None, control))
    return Listing(tuple(instructions), labels)


def _control(upper: int, operands: str) -> Control:
    """Bits 105 to 121 of an instruction, the same from Volta to Hopper.

    In `upper`, the half that has them, they begin at 41. Jia et al. 2018, "Dissecting the NVIDIA Volta GPU Architecture
    via Microbenchmarking", arXiv 1804.06826, chapter 2.
    """
    bits = upper >> 41
    write, read = bits >> 5 & 7, bits >> 8 & 7
    limit = _LIMIT.search(operands)
    return Control(
        stall=bits & 15,
        write=write if write != _NO_BARRIER else None,
        read=read if read != _NO_BARRIER else None,
        waits=bits >> 11 & 63,
        limit=(int(limit["barrier"]), int(limit["count"], 16)) if limit else None,
    )


def disassemble(cubin: bytes) -> Listing:
    """The code of a kernel."""
    return parse(_output(cubin, "nvdisasm", "-c", "-hex"))


def usage(cubin: bytes) -> tuple[int, int]:
    """A kernel's registers for each thread, and the bytes for each thread that they could not hold."""
    said = _output(cubin, "cuobjdump", "-res-usage")
    registers, stack = (re.search(rf"{key}:(\d+)", said) for key in ("REG", "STACK"))
    if registers is None or stack is None:
        raise RuntimeError(f"cuobjdump -res-usage names no registers or stack: {said!r}")
    return int(registers[1]), int(stack[1])


def _output(cubin: bytes, tool: str, *options: str) -> str:
    import triton  # the process that compares builds does without

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tools / tool, *options, file.name], capture_output=True, text=True, check=True).stdout


def counts(instructions: list[Instruction]) -> Counter[str]:
    """How often each opcode comes."""
    return Counter(instruction.opcode for instruction in instructions)
