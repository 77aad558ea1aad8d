"""How large a call is: sizes that are drawn, and fitted to what a trial may cost on Triton's CPU interpreter.

Tiles are powers of two from 16 up. Kernels go wrong next to their multiples, where one dimension leaves a tail; where
two dimensions take several tiles at once, so that one loop runs inside another; and where everything is a multiple, for
which many kernels have a path without masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from hypothesis import strategies as st

from fuzz.case import Case

# Small sizes, and larger ones for the one dimension that a case makes something of: sizes next to multiples of tiles.
_CHANNELS: Final = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65)
_EXTENTS: Final = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
_BATCHES: Final = (1, 2, 3, 5)
_SIZES: Final = {"columns": _EXTENTS, "rows": _EXTENTS, "c_out": _CHANNELS, "c_in": _CHANNELS, "batch": _BATCHES}
_EDGES: Final = (33, 65, 17, 97, 127, 128, 129, 130, 255, 256, 257, 300, 513, 1025)
_ODD_SIZES: Final = (6, 150)
_KERNELS: Final = (
    (1, 1),
    (3, 3),
    (2, 2),
    (1, 3),
    (3, 1),
    (2, 3),
    (3, 2),
    (5, 5),
    (4, 1),
    (1, 7),
    (5, 3),
    (7, 7),
    (1, 11),
)
# Two or three dimensions that take several tiles each, of 64 or even 128, while all others are small.
_TOGETHER: Final = (
    ("c_out", "c_in"),
    ("columns", "c_out"),
    ("columns", "c_in"),
    ("rows", "c_out"),
    ("columns", "c_out", "c_in"),
    ("rows", "c_in", "c_out"),
)
_SEVERAL_TILES: Final = (33, 65, 70, 64, 129, 128, 200)
# All of them multiples: of 16 first, since that is what a compiler knows of an argument.
_WHOLE_SIZES: Final = {
    "columns": (16, 32, 64, 128),
    "rows": (1, 2, 4, 16),
    "c_out": (16, 32, 64, 128),
    "c_in": (16, 32, 64, 128),
    "batch": (1, 2, 4),
}
_WHOLE_KERNELS: Final = ((1, 1), (3, 3), (2, 2), (4, 4))
# For a configuration of its own: channels enough, and several tiles of positions in both directions.
_TILED_TILES: Final = 24
_TILED_KERNELS: Final = ((1, 1), (3, 3), (2, 2), (2, 3), (3, 3), (4, 2))
_TILED_SIZES: Final = {
    "columns": (3, 17, 33, 40, 47, 70, 140),
    "rows": (1, 2, 3, 5, 9),
    "c_out": (1, 5, 16, 33),
    "c_in": (16, 3, 17, 32, 40, 70),
    "batch": (1, 1, 2),
}

# Size of one call in tiles of 32 positions, 32 channels and 32 products: what it costs on Triton's CPU interpreter,
# about 4 ms a tile. Most calls are small, because two small ones find more than one large one.
_TILE: Final = 32
_IMAGE_TILES: Final = 4
_TILES: Final = (3, 6, 12, 12, 48, 96)
MOST_TILES: Final = _TILES[-1]


@dataclass(frozen=True)
class CallSizes:
    """Sizes as they were drawn.

    Attributes:
        sizes: Columns and rows of the output, channels and batch; channels of one group.
        kernel: Its height and width.
        tiles: What the call may cost.
        kept: The dimension that is lowered last; none if empty.
        least: What some dimensions are not lowered below.
        whole: Whether sizes stay multiples when they are lowered.
    """

    sizes: dict[str, int]
    kernel: tuple[int, int]
    tiles: int
    kept: str = ""
    least: dict[str, int] = field(default_factory=dict)
    whole: bool = False

    def fitted(self, share: float, effort: float, *, by_image: bool) -> dict[str, int]:
        """Return sizes lowered until a call takes at most its tiles; the one that is kept, only if it takes too many.

        Sizes are drawn independently and then fitted, so that what one draw means does not hang on another: Hypothesis
        shrinks each by itself.

        Args:
            share: Of how many calls and groups one is to be paid for, as a fraction.
            effort: Factor on what a call may cost.
            by_image: Whether the kernel may be one that goes by images.
        """
        sizes, taps = dict(self.sizes), math.prod(self.kernel)
        most, allowed = effort * MOST_TILES, max(1.0, effort * share * self.tiles)
        while (cost := _tiles(sizes, taps, by_image)) > allowed:
            others = [name for name in sizes if name != self.kept and sizes[name] > self.least.get(name, 1)]
            if not others and (sizes.get(self.kept, 1) == 1 or cost <= most):
                break
            name = max(others, key=lambda other: sizes[other]) if others else self.kept
            lower = sizes[name] // 2 if self.whole else sizes[name] * 2 // 3
            sizes[name] = max(self.least.get(name, 1), lower)
        return sizes


def tiles_of(case: Case) -> int:
    """Return the size of a call in tiles, as `MOST_TILES` bounds it."""
    rows, columns = (max(1, size) for size in case.out_size)
    sizes = {"columns": columns, "rows": rows, "batch": case.n, "c_out": case.c_out, "c_in": case.c_in // case.groups}
    return _tiles(sizes, case.kh * case.kw, by_image=case.config is not None)


@cache
def call_sizes() -> st.SearchStrategy[CallSizes]:
    """Draw how large a call is."""
    kinds = {"one": _one_large(), "several": _several_large(), "whole": _whole()}
    often = ("one", "one", "one", "one", "one", "several", "whole")
    return st.sampled_from(often).flatmap(kinds.__getitem__)


@st.composite
def tiled_sizes(draw: st.DrawFn) -> CallSizes:
    """Draw sizes that a configuration is for: it may take channels enough, and more than one tile of positions."""
    sizes = draw(_each_of("tiled"))
    return CallSizes(
        sizes=sizes,
        kernel=draw(sampled(_TILED_KERNELS)),
        tiles=max(draw(sampled(_TILES)), _TILED_TILES),
        kept=draw(sampled(("columns", "rows", "columns"))),
        least={"c_in": sizes["c_in"]},
    )


@st.composite
def _one_large(draw: st.DrawFn) -> CallSizes:
    kept = draw(sampled(("", *_SIZES)))
    # With one tap there are as many products as input channels, and their number may be next to that of a tile.
    kernel = (1, 1) if kept == "c_in" and draw(_one_in(2)) else draw(sampled(_KERNELS))
    sizes = draw(_each_of("any"))
    if kept:
        if draw(_one_in(3)):
            # A tail of one shows where nothing else makes positions, channels or products; and such a call is quick.
            sizes = dict.fromkeys(sizes, 1)
        sizes[kept] = draw(_large_sizes())
    return CallSizes(sizes=sizes, kernel=kernel, tiles=draw(sampled(_TILES)), kept=kept)


@st.composite
def _several_large(draw: st.DrawFn) -> CallSizes:
    kept, *others = draw(sampled(_TOGETHER))
    kernel = (1, 1) if draw(_one_in(2)) else draw(sampled(_KERNELS))
    # All are drawn, though most are not used: a call must not look simpler because it needs fewer draws.
    sizes = dict.fromkeys(_SIZES, 1) | {"batch": draw(_each_of("any"))["batch"]}
    for name in (kept, *others):
        sizes[name] = draw(sampled(_SEVERAL_TILES if len(others) == 1 else _SEVERAL_TILES[:4]))
    if "c_in" in others and draw(_one_in(2)):
        sizes["c_in"] = max(17, sizes["c_in"] // math.prod(kernel))  # taps make products of a channel
    least = {name: sizes[name] for name in others}
    return CallSizes(sizes=sizes, kernel=kernel, tiles=draw(sampled(_TILES)), kept=kept, least=least)


@st.composite
def _whole(draw: st.DrawFn) -> CallSizes:
    return CallSizes(
        sizes=draw(_each_of("whole")),
        kernel=draw(sampled(_WHOLE_KERNELS)),
        tiles=max(draw(sampled(_TILES)), _TILED_TILES),
        kept=draw(sampled(("", *_SIZES))),
        whole=True,
    )


@cache
def _each_of(kind: str) -> st.SearchStrategy[dict[str, int]]:
    choices = {"any": _SIZES, "tiled": _TILED_SIZES, "whole": _WHOLE_SIZES}[kind]
    return st.fixed_dictionaries({name: st.sampled_from(sizes) for name, sizes in choices.items()})


@cache
def _large_sizes() -> st.SearchStrategy[int]:
    return st.one_of(st.sampled_from(_EDGES), st.integers(*_ODD_SIZES))


@cache
def _one_in(number: int) -> st.SearchStrategy[bool]:
    return st.integers(0, number - 1).map(lambda drawn: drawn == number - 1)


@cache
def sampled(choices: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Draw one of the choices; the strategy is made once for each list of them."""
    return st.sampled_from(choices)


def _tiles(sizes: dict[str, int], taps: int, by_image: bool) -> int:
    """Return what a call costs: tiles of positions, or a quarter of that for each row where a kernel goes by rows.

    A configuration may be of a kernel that goes by images, and does in each of them what a large tile takes.
    """
    lines = sizes["batch"] * sizes["rows"]
    images = _IMAGE_TILES * sizes["batch"] if by_image else 0
    positions = max(math.ceil(lines * sizes["columns"] / _TILE), math.ceil(lines / 4), images)
    return positions * math.prod(math.ceil(size / _TILE) for size in (sizes["c_out"], sizes["c_in"] * taps))
