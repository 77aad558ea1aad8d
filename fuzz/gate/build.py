"""What a target launches on a card for the headline shape, as built: registers, memory, the loop that multiplies.

Run as a program, in a process of its own, since a target is another person's file and Triton must not interpret there:
`python -m fuzz.gate.build FILE TARGET CARD DTYPE:PRECISION …` writes the calls to FILE, as JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fuzz.abilities import Abilities
from fuzz.case import Case, Dtype, Precision
from fuzz.gate.devices import CARDS, Card
from fuzz.gate.workload import HEADLINE, floor, operands, partial_products, why_skipped

if TYPE_CHECKING:
    from fuzz.gate.capture import Launch  # at run time only where Triton compiles


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
        pipe: What binds: a pipe, "latency", or the memory, "DRAM".
        milliseconds: What the card needs for all products by that loop, or, if that is more, to move every tensor that
            the launch uses once. None where an earlier launch of the call has done all products.
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


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call for the headline shape.

    Attributes:
        name: Configuration, dtype and precision.
        roofline: Milliseconds that such a call costs the card at least, whatever computes it.
        builds: What it launches, in order. A build that equals one of an earlier call has that one's name.
    """

    name: str
    roofline: float
    builds: list[Build]

    @property
    def milliseconds(self) -> float | None:
        """What the card needs for all launches; None where something is not built."""
        if any(build.error for build in self.builds):
            return None
        return sum(build.milliseconds or 0.0 for build in self.builds)


def unique(calls: Iterable[Call]) -> list[Build]:
    """Return all builds of calls, each once."""
    found: dict[str, Build] = {}
    for call in calls:
        for build in call.builds:
            found.setdefault(build.name, build)
    return [*found.values()]


def calls(target: str, card: Card, dtype: Dtype, precision: Precision) -> Iterator[Call]:
    """Build all that the target launches for the headline shape, as it chooses and in each configuration that it names.

    Args:
        target: As for `--target`.
        card: For which card.
        dtype: Of x, weight and bias. Nothing is built if the target does not promise it.
        precision: How float32 is multiplied; nothing is built for ieee if the target cannot be told.

    Raises:
        TargetError: It cannot be loaded.
    """
    from fuzz.gate.capture import on_card
    from fuzz.target import load_target

    with on_card(card) as launches:
        loaded = load_target(target)
        asked = headline(loaded.abilities, dtype, precision)
        if asked is None:
            return
        reader = _Reader(card)
        for config in (None, *loaded.abilities.configs):
            launches.clear()
            case = msgspec.structs.replace(asked, config=config)
            name = call_name(config, dtype, precision)
            least = floor(card, msgspec.structs.replace(case, precision=precision)).milliseconds
            try:
                with loaded.surroundings:
                    loaded.bind(case)(*operands(case, "meta"))
            except NotImplementedError:
                continue
            # Whatever a target raises on a card that is not there, it is a build that failed.
            except Exception as error:
                yield Call(name=name, roofline=least, builds=[Build(name=name, error=one_line(error))])
                continue
            yield Call(name=name, roofline=least, builds=reader.builds(name, launches, case))


def headline(able: Abilities, dtype: Dtype, precision: Precision) -> Case | None:
    """Return the headline shape in a kind of product; None if a target of these abilities is not for that."""
    case = msgspec.structs.replace(HEADLINE, dtype=dtype, precision=precision)
    if why_skipped(able, case):
        return None
    return case if able.precision else msgspec.structs.replace(case, precision="default")


def call_name(config: str | None, dtype: Dtype, precision: Precision) -> str:
    """Return what the gate calls a call: configuration, dtype, and how float32 is multiplied."""
    return " ".join(filter(None, (config or "chosen", dtype, precision if dtype == "float32" else "")))


class _Reader:
    """Describes launches; one that is made like an earlier one has that one's name.

    Like, not the same: equal code lies in different files where lines of the source have moved.
    """

    def __init__(self, card: Card) -> None:
        self._card = card
        self._read: dict[tuple[str, bytes, int, bool], Build] = {}
        self._told: list[Build] = []

    def builds(self, name: str, launches: list[Launch], case: Case) -> list[Build]:
        """Describe what a call of that name launched."""
        found: list[Build] = []
        multiplied = False
        for launch in launches:
            # The products are those of the first that multiplies: later ones do what is left, mostly nothing.
            key = launch.kernel, launch.cubin, launch.tensor_bytes, multiplied
            if key not in self._read:
                self._read[key] = described(launch.kernel, self._card, launch, case, done=multiplied)
            found.append(self._named(self._read[key], f"{name}: {launch.kernel}"))
            multiplied = multiplied or bool(found[-1].clocks)
        return found

    def _named(self, build: Build, name: str) -> Build:
        told = (one for one in self._told if msgspec.structs.replace(one, name=build.name) == build)
        earlier = next((one for one in told if one.name.endswith(f": {build.name}")), None)
        if earlier is None:
            earlier = msgspec.structs.replace(build, name=name)
            self._told.append(earlier)
        return earlier


def one_line(error: Exception) -> str:
    """Return what was raised, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def described(name: str, card: Card, launch: Launch, case: Case, *, done: bool) -> Build:
    """Say what a launch is made of.

    Args:
        name: What to call it.
        card: Which card it is for.
        launch: What was compiled.
        case: The call that launches it.
        done: Whether an earlier launch of the call has done all products.
    """
    from fuzz.gate.model import occupancy, predict
    from fuzz.gate.sass import counts, disassemble, usage

    listing, (registers, spilled) = disassemble(launch.cubin), usage(launch.cubin)
    held = occupancy(card, registers, launch)
    loop = listing.main_loop()
    matrix = dict(counts([one for one in loop if one.products]))
    predicted = predict(card, listing, case.multiplications * partial_products(case, matrix), launch.warps, held.blocks)
    memory = 1e3 * launch.tensor_bytes / card.bandwidth
    milliseconds, pipe = memory, "DRAM"
    if predicted and predicted.milliseconds > memory:
        milliseconds, pipe = predicted.milliseconds, predicted.pipe
    return Build(
        name=name,
        registers=registers,
        spilled=spilled,
        shared=launch.shared,
        warps=launch.warps,
        blocks=held.blocks,
        limit=held.limit,
        matrix=matrix,
        accesses=dict(counts([one for one in loop if one.bytes])),
        integer=sum(not one.products and not one.bytes for one in loop),
        clocks=predicted.clocks if predicted else {},
        pipe=pipe,
        milliseconds=None if predicted and done else round(milliseconds, 4),
    )


def main(file: str, target: str, card: str, *asked: str) -> int:
    """Write the calls."""
    return answer(file, lambda: [call for words in asked for call in calls(target, CARDS[card], *kind(words))])


def answer(file: str, found: Callable[[], Any]) -> int:
    """Write what a function returns, as JSON; returns 2, after a line that says why, if the target cannot be loaded."""
    from fuzz.target import TargetError

    try:
        value = found()
    except TargetError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # Not to standard output, which the target may use.
    Path(file).write_bytes(msgspec.json.encode(value))
    return 0


def kind(words: str) -> tuple[Dtype, Precision]:
    """Return the dtype and the precision that the gate asks for as DTYPE:PRECISION."""
    return msgspec.convert(words.split(":"), tuple[Dtype, Precision])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
