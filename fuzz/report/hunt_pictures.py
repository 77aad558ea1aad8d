"""A hunt as pictures (SVG): when features were met, how near results came to the bound, which sizes were tried."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes

from fuzz.report.drawing import BLUE, FAINT, INK, RED, bare, picture
from fuzz.report.history import History

_BINS: Final = 40
_WIDTH: Final = 4.7  # inches: two of them side by side on the page


def saturation_svg(found: History) -> str:
    """Distinct features over cases: a curve that has become flat says that more of the same finds nothing new."""
    with picture(_WIDTH, 2.8) as drawing:
        place = drawing.axes()
        steps = sorted(found.reached.values())
        place.step([0, *steps, max(found.trials, 1)], [*range(len(steps) + 1), len(steps)], where="post", color=BLUE)
        place.set(xlabel="cases", ylabel="features met", xlim=(0, max(found.trials, 1)), ylim=(0, None))
        bare(place)
    return drawing.svg


def error_svg(found: History) -> str:
    """For each kind of arithmetic, how many results came how near to the allowed error, which is 1."""
    ratios = {name: values for name, values in sorted(found.error_ratios.items()) if values}
    with picture(_WIDTH, 0.9 + 0.42 * max(len(ratios), 1)) as drawing:
        place = drawing.axes()
        for row, values in enumerate(ratios.values()):
            _density(place, row, np.array(values))
        place.axvline(1.0, color=RED, linewidth=1)
        place.set_yticks(range(len(ratios)), list(ratios))
        place.invert_yaxis()
        place.set(xlim=(0, 1.05), xlabel="error / allowed error, of results that pass")
        bare(place)
    return drawing.svg


def _density(place: Axes, row: int, values: np.ndarray) -> None:
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, 1.0))
    heights = 0.8 * np.log1p(counts) / max(np.log1p(counts).max(), 1e-9)
    place.bar(edges[:-1], -heights, width=1 / _BINS, bottom=row + 0.4, align="edge", color=BLUE)
    place.plot([values.max()] * 2, [row - 0.4, row + 0.4], color=INK, linewidth=1.2)


def sizes_svg(found: History) -> str:
    """How many cases were tried of each size, and in red which sizes failed."""
    with picture(_WIDTH, 3.4) as drawing:
        place = drawing.axes()
        positions, channels = zip(*(found.sizes or {(0, 0): 0}), strict=True)
        grid = np.zeros((max(channels) + 1, max(positions) + 2))
        for (position, channel), count in found.sizes.items():
            grid[channel, position + 1] = count
        shown = place.imshow(
            np.log10(np.where(grid, grid, np.nan)), origin="lower", aspect="auto", cmap="Blues", vmin=-0.5
        )
        for (position, channel), count in found.failed.items():
            if count:
                place.plot(position + 1, channel, "s", color=RED, markersize=5)
        place.set_xticks(range(grid.shape[1]), ["0", *(f"$2^{{{power}}}$" for power in range(grid.shape[1] - 1))])
        place.set_yticks(range(grid.shape[0]), [f"$2^{{{power}}}$" for power in range(grid.shape[0])])
        place.set(xlabel="positions of the output, from", ylabel="output channels, from")
        bar = drawing.figure.colorbar(shown, ax=place)
        bar.set_label("cases, powers of ten", color=FAINT)
    return drawing.svg
