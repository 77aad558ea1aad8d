"""Speed as pictures (SVG): what calls reach under a card's roofline, and how a kernel became fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes

from fuzz.gate.devices import Card
from fuzz.report.drawing import BLUE, FAINT, INK, RED, bare, label, picture

_COLOURS: Final = (BLUE, RED, FAINT, "#c58a1c")
_MARKS: Final = ("o", "D", "s", "^")
_ROOFS: Final = {"float16": "16 bits", "tf32": "tf32", "float32": "float32 without tensor cores"}


@dataclass(frozen=True)
class Point:
    """A call under a roofline.

    Attributes:
        name: What to write beside it; nothing if it is empty.
        series: What it belongs to, as the legend names it.
        intensity: Operations for each byte of x, weight, bias and output.
        rate: Operations a second that it reaches.
    """

    name: str
    series: str
    intensity: float
    rate: float


def roofline_svg(panels: Sequence[tuple[str, Card, Sequence[Point]]]) -> str:
    """Return rooflines side by side, each with a heading, a card, and the points under it."""
    with picture(5.4 * len(panels), 4.2) as drawing:
        for place, (heading, card, points) in zip(drawing.row(len(panels)), panels, strict=True):
            _roofline(place, card, points)
            place.set_title(heading, loc="left", fontsize=10, fontweight="bold")
    return drawing.svg


def ladder_svg(heading: str, ladders: Mapping[str, Mapping[str, float]], floors: Mapping[str, float]) -> str:
    """Return bars of milliseconds, a panel for each kind of product, and a line at what the card needs at least.

    Args:
        heading: What the picture shows, and where.
        ladders: By kind of product, milliseconds by version, in their order.
        floors: By kind of product, the least milliseconds.
    """
    rows = max(len(ladder) for ladder in ladders.values())
    with picture(4.2 * len(ladders), 0.8 + 0.3 * rows) as drawing:
        drawing.figure.suptitle(heading, x=0.01, ha="left", fontsize=10, fontweight="bold")
        for place, (kind, ladder) in zip(drawing.row(len(ladders)), ladders.items(), strict=True):
            _ladder(place, kind, ladder, floors[kind])
    return drawing.svg


def _roofline(place: Axes, card: Card, points: Sequence[Point]) -> None:
    intensities = [point.intensity for point in points]
    slope = card.rates["float32"] / card.bandwidth
    left, right = min(*intensities, slope) / 2, max(intensities) * 2
    for rate, words in _roofs(card).items():
        corners = [left, min(max(left, rate / card.bandwidth), right), right]
        highest = rate == max(card.rates.values())
        place.plot(
            corners,
            [min(rate, corner * card.bandwidth) / 1e12 for corner in corners],
            color=INK if highest else FAINT,
            linewidth=1.2 if highest else 0.8,
        )
        label(place, words, (right, rate / 1e12), (-2, 3), ha="right", color=FAINT)
    for number, series in enumerate(dict.fromkeys(point.series for point in points)):
        own = [point for point in points if point.series == series]
        rates = [point.rate / 1e12 for point in own]
        look: dict[str, Any] = {"s": 18, "color": _COLOURS[number], "marker": _MARKS[number], "zorder": 3}
        place.scatter([point.intensity for point in own], rates, label=series, **look)
        for point in own:
            label(place, point.name, (point.intensity, point.rate / 1e12), (-5, -3), ha="right", fontsize=7)
    lowest = min(point.rate for point in points) / 1e12
    place.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest / 3, None))
    place.set(xlabel="operations per byte", ylabel="TFLOP/s")
    place.legend(frameon=False, loc="lower right")
    bare(place)


def _roofs(card: Card) -> dict[float, str]:
    """Rates and what has them; equal ones are one roof."""
    roofs: dict[float, str] = {}
    for kind, words in _ROOFS.items():
        rate = card.rates[kind]
        roofs[rate] = f"{roofs[rate]}, {words}" if rate in roofs else words
    return roofs


def _ladder(place: Axes, kind: str, ladder: Mapping[str, float], floor: float) -> None:
    names = list(ladder)
    colours = [BLUE if name == "chosen" else "#a9c2de" for name in names]
    place.barh(range(len(names)), list(ladder.values()), color=colours, height=0.7)
    place.set_yticks(range(len(names)), names)
    place.invert_yaxis()
    for row, milliseconds in enumerate(ladder.values()):
        place.annotate(
            f"{milliseconds:.2f}", (milliseconds, row), xytext=(3, 0), textcoords="offset points", va="center"
        )
    place.axvline(floor, color=RED, linewidth=1)
    place.set(xscale="log", xlim=(floor / 2, max(ladder.values()) * 2), xlabel="ms")
    place.set_title(kind, loc="left", fontsize=9)
    above = place.get_xaxis_transform()
    label(place, f"roofline {floor:.2f}", (floor, 1.0), (3, 0), xycoords=above, color=RED, fontsize=7)
    bare(place)
