"""A hunt as pictures (SVG): when features were met, how near results came to the bound, which sizes were tried."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes

from fuzz.campaign.census import ERROR_CLASSES, Census, SizeCount
from fuzz.report.drawing import BLUE, FAINT, INK, RED, bare, picture

_WIDTH: Final = 4.7  # inches: two of them side by side on the page


def saturation_svg(found: Census) -> str:
    """Distinct traits over cases: a curve that has become flat says that more of the same finds nothing new."""
    with picture(_WIDTH, 2.8) as drawing:
        place = drawing.axes()
        cases, met = zip((0, 0), *found.curve, (max(found.cases, 1), len(found.traits)), strict=True)
        place.step(cases, met, where="post", color=BLUE)
        place.set(xlabel="cases", ylabel="traits met", xlim=(0, max(found.cases, 1)), ylim=(0, None))
        bare(place)
    return drawing.svg


def error_svg(found: Census) -> str:
    """For each kind of arithmetic, how many results came how near to the allowed error, which is 1."""
    ratios = dict(sorted(found.error_ratios.items()))
    with picture(_WIDTH, 0.9 + 0.42 * max(len(ratios), 1)) as drawing:
        place = drawing.axes()
        for row, (name, counts) in enumerate(ratios.items()):
            _density(place, row, np.array(counts), found.worst_error_ratio[name])
        place.axvline(1.0, color=RED, linewidth=1)
        place.set_yticks(range(len(ratios)), list(ratios))
        place.invert_yaxis()
        place.set(xlim=(0, 1.05), xlabel="error / allowed error, of results that pass")
        bare(place)
    return drawing.svg


def _density(place: Axes, row: int, counts: np.ndarray, worst: float) -> None:
    heights = 0.8 * np.log1p(counts) / max(np.log1p(counts).max(), 1e-9)
    left = np.arange(ERROR_CLASSES) / ERROR_CLASSES
    place.bar(left, -heights, width=1 / ERROR_CLASSES, bottom=row + 0.4, align="edge", color=BLUE)
    place.plot([worst] * 2, [row - 0.4, row + 0.4], color=INK, linewidth=1.2)


def sizes_svg(found: Census) -> str:
    """How many cases were tried of each size, and in red which sizes failed."""
    with picture(_WIDTH, 3.4) as drawing:
        place = drawing.axes()
        sizes = {tuple(map(int, name.split())): count for name, count in found.sizes.items()} or {(0, 0): SizeCount()}
        positions, channels = zip(*sizes, strict=True)
        grid = np.zeros((max(channels) + 1, max(positions) + 2))
        for (position, channel), count in sizes.items():
            grid[channel, position + 1] = count.tried
        shown = place.imshow(
            np.log10(np.where(grid, grid, np.nan)), origin="lower", aspect="auto", cmap="Blues", vmin=-0.5
        )
        for (position, channel), count in sizes.items():
            if count.failed:
                place.plot(position + 1, channel, "s", color=RED, markersize=5)
        place.set_xticks(range(grid.shape[1]), ["0", *(f"$2^{{{power}}}$" for power in range(grid.shape[1] - 1))])
        place.set_yticks(range(grid.shape[0]), [f"$2^{{{power}}}$" for power in range(grid.shape[0])])
        place.set(xlabel="positions of the output, from", ylabel="output channels, from")
        bar = drawing.figure.colorbar(shown, ax=place)
        bar.set_label("cases, powers of ten", color=FAINT)
    return drawing.svg
