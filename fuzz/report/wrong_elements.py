"""Where an output is wrong, as a picture: of characters, and as SVG."""

from __future__ import annotations

import itertools
from typing import Final

from fuzz.verdict import WrongElements

# Pixels, at most: a picture is as wide as this, and a small one has cells that can be counted.
_WIDTH: Final = 640
_CELL: Final = 20


def wrong_text(wrong: WrongElements) -> str:
    """Return the picture as lines of characters, below a line that says what they are."""
    return "\n".join([f"{caption(wrong)}; # wrong, . right:", *(f"  {row}" for row in wrong.rows)])


def wrong_svg(wrong: WrongElements) -> str:
    """Return the picture as SVG, whose classes `wrong` and `right` the page gives their colours."""
    width, height = len(wrong.rows[0]), len(wrong.rows)
    bars = "".join(
        f'<rect class="wrong" x="{x}" y="{y}" width="{length}" height="1"/>'
        for y, row in enumerate(wrong.rows)
        for x, length in _bars(row)
    )
    pixels = min(_CELL * width, _WIDTH)
    return (
        f'<svg role="img" aria-label="{caption(wrong)}" viewBox="0 0 {width} {height}" width="{pixels}" '
        f'shape-rendering="crispEdges"><rect class="right" width="{width}" height="{height}"/>{bars}</svg>'
    )


def caption(wrong: WrongElements) -> str:
    """Say which image it is, how large, how much of it is wrong, and what a cell stands for."""
    words = f"image {wrong.image}: {wrong.wrong} of {wrong.height} × {wrong.width} elements wrong"
    if wrong.images > 1:
        words += f", the most of {wrong.images} images that have any"
    down, across = wrong.cell
    return words if wrong.cell == (1, 1) else f"{words}; a cell is {down} × {across} elements, wrong if one of them is"


def _bars(row: str) -> list[tuple[int, int]]:
    """Return start and length of each run of wrong cells."""
    bars, x = [], 0
    for cell, run in itertools.groupby(row):
        length = len(list(run))
        if cell == "#":
            bars.append((x, length))
        x += length
    return bars
