"""What a target launches on a card for the headline shape, as built: registers, memory, the loop that multiplies.

Run as a program, in a process of its own, since a target is another person's file and Triton must not interpret there:
`python -m fuzz.gate.build FILE TARGET CARD DTYPE:PRECISION …` writes the builds to FILE, as JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fuzz.case import Case, Dtype, Precision
from fuzz.gate.devices import CARDS, Card

if TYPE_CHECKING:
    from fuzz.gate.capture import Launch  # at run time only where Triton compiles

# KernelBench level 2, problem 32: the workload that the card is to be fastest at.
HEADLINE: Final = Case(n=64, c_in=64, h=256, w=256, c_out=128, kh=3, kw=3, scale=2.0, bias=True)


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel as it is launched for the headline shape.

    Attributes:
        name: Configuration, dtype, precision and kernel.
        registers: Of each thread.
        spilled: Bytes of each thread that registers could not hold.
        shared: Bytes of shared memory of a block.
        warps: Of a block.
        blocks: Blocks that a multiprocessor holds at once.
        limit: What keeps it from holding more.
        matrix: Matrix instructions of the main loop's usual turn, by opcode.
        accesses: Its loads and stores, by opcode.
        integer: Its instructions for addresses and conditions.
        clocks: What it keeps each pipe busy for, in clocks of a multiprocessor, for one warp's turn.
        pipe: The one that binds, or "latency".
        milliseconds: What the card needs for all products by that loop; None where no loop multiplies.
        error: Why there is no build; the other attributes then mean nothing.
    """

    name: str
    registers: int = 0
    spilled: int = 0
    shared: int = 0
    warps: int = 0
    blocks: int = 0
    limit: str = ""
    matrix: dict[str, int] = {}
    accesses: dict[str, int] = {}
    integer: int = 0
    clocks: dict[str, float] = {}
    pipe: str = ""
    milliseconds: float | None = None
    error: str = ""

    @property
    def loads(self) -> dict[str, int]:
        """Of the accesses, the loads from global memory."""
        return {code: count for code, count in self.accesses.items() if code.partition(".")[0] in ("LDG", "LDGSTS")}


def products(case: Case) -> int:
    """Multiplications of a call."""
    height, width = case.out_size
    return case.n * case.c_out * height * width * case.c_in // case.groups * case.kh * case.kw


def builds(target: str, card: Card, dtype: Dtype, precision: Precision) -> Iterator[Build]:
    """Build all that the target launches for the headline shape, as it chooses and in each configuration that it names.

    Args:
        target: As for `--target`.
        card: For which card.
        dtype: Of x, weight and bias; 16 bits lie channels last, as is usual for them. Nothing is built if the target
            does not promise it.
        precision: How float32 is multiplied; nothing is built for ieee if the target cannot be told.

    Raises:
        TargetError: It cannot be loaded.
    """
    from fuzz.gate.capture import on_card
    from fuzz.target import load_target

    with on_card(card) as launches:
        loaded = load_target(target)
        able = loaded.abilities
        if dtype not in able.dtypes or (precision == "ieee" and not able.precision):
            return
        known: dict[tuple[str, bytes], Build] = {}
        told: list[Build] = []
        for config in (None, *able.configs):
            launches.clear()
            asked = precision if able.precision else "default"
            case = msgspec.structs.replace(HEADLINE, dtype=dtype, precision=asked, config=config)
            prefix = " ".join(filter(None, (config or "chosen", dtype, precision if dtype == "float32" else "")))
            try:
                loaded.bind(case)(*_operands(dtype))
            except NotImplementedError:
                continue
            # Whatever a target raises on a card that is not there, it is a build that failed.
            except Exception as error:
                yield Build(name=prefix, error=" ".join(f"{type(error).__name__}: {error}".split())[:300])
                continue
            multiplied = False
            for launch in launches:
                # Code is read once, and one build that equals another is told once: by the name that came first.
                key = launch.kernel, launch.cubin
                known[key] = known.get(key) or _described(card, launch)
                if known[key] not in told:
                    told.append(known[key])
                    build = msgspec.structs.replace(known[key], name=f"{prefix}: {launch.kernel}")
                    # The products are those of the first that multiplies: later ones do what is left, mostly nothing.
                    yield msgspec.structs.replace(build, milliseconds=None) if multiplied else build
                multiplied = multiplied or known[key].milliseconds is not None


def _operands(dtype: Dtype) -> list[Any]:
    import torch

    shapes = (
        (HEADLINE.n, HEADLINE.c_in, HEADLINE.h, HEADLINE.w),
        (HEADLINE.c_out, HEADLINE.c_in, HEADLINE.kh, HEADLINE.kw),
        (HEADLINE.c_out,),
    )
    x, weight, bias = (torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for shape in shapes)
    halves = dtype in ("float16", "bfloat16")
    return [x.to(memory_format=torch.channels_last) if halves else x, weight, bias]


def _described(card: Card, launch: Launch) -> Build:
    from fuzz.gate.model import occupancy, predict
    from fuzz.gate.sass import counts, disassemble, usage

    listing, (registers, spilled) = disassemble(launch.cubin), usage(launch.cubin)
    held = occupancy(card, registers, launch)
    loop = listing.main_loop()
    predicted = predict(card, listing, products(HEADLINE), launch.warps, held.blocks)
    return Build(
        name=launch.kernel,
        registers=registers,
        spilled=spilled,
        shared=launch.shared,
        warps=launch.warps,
        blocks=held.blocks,
        limit=held.limit,
        matrix=dict(counts([one for one in loop if one.products])),
        accesses=dict(counts([one for one in loop if one.bytes])),
        integer=sum(not one.products and not one.bytes for one in loop),
        clocks=predicted.clocks if predicted else {},
        pipe=predicted.pipe if predicted else "",
        milliseconds=round(predicted.milliseconds, 4) if predicted else None,
    )


def main(file: str, target: str, card: str, *calls: str) -> int:
    """Write the builds; 2, and a line that says why, where the target cannot be loaded."""
    from fuzz.target import TargetError

    try:
        found = [build for call in calls for build in builds(target, CARDS[card], *call.split(":"))]  # type: ignore[arg-type]  # the gate's own words
    except TargetError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # Not to standard output, which the target may use.
    Path(file).write_bytes(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
