"""The ladder of tiles: from a small one upwards, as long as registers and shared memory hold what comes.

The rule of tuning, made executable: begin conservative; above 128 registers of a thread look for spills; where
something spills, a BLOCK was too large, and nothing larger is tried in its direction.

Run as a program, as `fuzz.gate.build` is: `python -m fuzz.gate.walk FILE TARGET CARD DTYPE:PRECISION` writes the rungs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from fuzz.case import Dtype, Precision
from fuzz.gate.baseline import SPILL_NOISE
from fuzz.gate.build import Build, answer, described, headline, kind, one_line
from fuzz.gate.devices import CARDS, Card
from fuzz.gate.workload import operands

if TYPE_CHECKING:
    from fuzz.gate.capture import Launch  # at run time only where Triton compiles

# By name, sizes of a tile: powers of two.
Tile = dict[str, int]

_FIRST: Final = 32
_LARGEST: Final = 256
_LEAST_WALKED: Final = 16
_MOST_PER_THREAD: Final = 256
_CAREFUL: Final = 128
_WARPS: Final = (4, 8)


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A tile that was tried.

    Attributes:
        tile: Its sizes, by the names that the kernel has for them.
        warps: Of a block.
        build: What came of it.
        remark: What the rule says of it.
        climbs: Whether larger ones are worth a try.
    """

    tile: Tile
    warps: int
    build: Build
    remark: str
    climbs: bool


def climb(sizes: Tile, build: Callable[[Tile, int], Build], card: Card) -> Iterator[Rung]:
    """Try tiles, each once, in the order of their size.

    Args:
        sizes: The kernel's own tile, by name; what is smaller than 16 is not a matter of choice and stays.
        build: Gives the build of a tile with so many warps.
        card: Which card it is for.
    """
    first = {name: _FIRST if size >= _LEAST_WALKED else size for name, size in sizes.items()}
    for warps in _WARPS:
        queue, met = [first], [first]
        while queue:
            tile = min(queue, key=lambda tile: math.prod(tile.values()))
            queue.remove(tile)
            rung = _rung(tile, warps, build(tile, warps), card)
            yield rung
            for larger in _larger(tile, warps) if rung.climbs else ():
                if larger not in met:
                    met.append(larger)
                    queue.append(larger)


def rungs(target: str, card: Card, dtype: Dtype, precision: Precision) -> Iterator[Rung]:
    """Build the launch that multiplies, of those that the target chooses for the headline shape, with other tiles.

    The constants that do not say the tile's size stay as they are.

    Args:
        target: As for `--target`.
        card: For which card.
        dtype: Of x, weight and bias.
        precision: How float32 is multiplied.

    Raises:
        TargetError: It cannot be loaded.
    """
    from fuzz.gate.capture import on_card
    from fuzz.target import load_target

    with on_card(card) as launches:
        loaded = load_target(target)
        case = headline(loaded.abilities, dtype, precision)
        if case is None:
            return
        with loaded.surroundings:
            loaded.bind(case)(*operands(case, "meta"))
        for launch in launches:
            if launch.tile and described("", card, launch, case, done=False).clocks:

                def build(tile: dict[str, int], warps: int, launch: Launch = launch) -> Build:
                    try:
                        rebuilt = launch.rebuilt({**tile, "num_warps": warps})
                    # Whatever Triton or a kernel's own assertions say to a tile, it is none.
                    except Exception as error:
                        return Build(name=launch.kernel, error=one_line(error))
                    return described(launch.kernel, card, rebuilt, case, done=False)

                yield from climb(launch.tile, build, card)
                return


def fastest(rungs: list[Rung]) -> Rung | None:
    """The rung that is foretold to take the least time, of those that can be launched and do not spill."""
    sound = [rung for rung in rungs if rung.climbs and rung.build.milliseconds is not None]
    return min(sound, key=lambda rung: rung.build.milliseconds or math.inf, default=None)


def _larger(tile: Tile, warps: int) -> Iterator[Tile]:
    walked = {name for name, size in tile.items() if _FIRST <= size < _LARGEST}
    for name in tile:
        grown = {**tile, name: 2 * tile[name]}
        # Of the two largest sizes at least one result each is kept in registers.
        largest = sorted(grown.values())[-2:]
        if name in walked and math.prod(largest) <= 32 * warps * _MOST_PER_THREAD:
            yield grown


def _rung(tile: Tile, warps: int, build: Build, card: Card) -> Rung:
    remark, climbs = "", True
    if build.error:
        remark, climbs = f"not built: {build.error}", False
    elif build.spilled > SPILL_NOISE:
        remark, climbs = f"spills {build.spilled} bytes: halve a BLOCK", False
    elif build.shared > card.shared_memory_per_block:
        remark, climbs = f"{build.shared} bytes of shared memory do not fit", False
    elif not build.clocks:
        remark, climbs = "no loop multiplies in such a tile", False
    elif build.registers > _CAREFUL:
        remark = f"more than {_CAREFUL} registers, and none spilled"
    return Rung(tile=tile, warps=warps, build=build, remark=remark, climbs=climbs)


def main(file: str, target: str, card: str, asked: str) -> int:
    """Write the rungs."""
    return answer(file, lambda: list(rungs(target, CARDS[card], *kind(asked))))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
