"""Speed as pictures (SVG): what calls reach under a card's roofline, and how a kernel became fast."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuzz.gate.devices import Card

_INK: Final = "#1f2933"
_FAINT: Final = "#8896a5"
_BLUE: Final = "#1d5fa8"
_RED: Final = "#be3428"
_COLOURS: Final = (_BLUE, _RED, "#8896a5", "#c58a1c")
_MARKS: Final = ("o", "D", "s", "^")
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: small files, and a reader's search finds it
    "svg.hashsalt": "fused-fuzz",  # the same picture is the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.4 * len(panels), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for place, (heading, card, points) in zip(axes, panels, strict=True):
            _roofline(place, card, points)
            place.set_title(heading, loc="left", fontsize=10, fontweight="bold")
        return _svg(figure)


def ladder_svg(heading: str, ladders: Mapping[str, Mapping[str, float]], floors: Mapping[str, float]) -> str:
    """Return bars of milliseconds, a panel for each kind of product, and a line at what the card needs at least.

    Args:
        heading: What the picture shows, and where.
        ladders: By kind of product, milliseconds by version, in their order.
        floors: By kind of product, the least milliseconds.
    """
    with mpl.rc_context(_STYLE):
        rows = max(len(ladder) for ladder in ladders.values())
        figure = Figure(figsize=(4.2 * len(ladders), 0.8 + 0.3 * rows), layout="constrained")
        figure.suptitle(heading, x=0.01, ha="left", fontsize=10, fontweight="bold")
        for place, (kind, ladder) in zip(
            figure.subplots(1, len(ladders), squeeze=False)[0], ladders.items(), strict=True
        ):
            _ladder(place, kind, ladder, floors[kind])
        return _svg(figure)


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
            color=_INK if highest else _FAINT,
            linewidth=1.2 if highest else 0.8,
        )
        _label(place, words, (right, rate / 1e12), (-2, 3), ha="right", color=_FAINT)
    for number, series in enumerate(dict.fromkeys(point.series for point in points)):
        own = [point for point in points if point.series == series]
        rates = [point.rate / 1e12 for point in own]
        look: dict[str, Any] = {"s": 18, "color": _COLOURS[number], "marker": _MARKS[number], "zorder": 3}
        place.scatter([point.intensity for point in own], rates, label=series, **look)
        for point in own:
            _label(place, point.name, (point.intensity, point.rate / 1e12), (-5, -3), ha="right", fontsize=7)
    lowest = min(point.rate for point in points) / 1e12
    place.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest / 3, None))
    place.set(xlabel="operations per byte", ylabel="TFLOP/s")
    place.legend(frameon=False, loc="lower right")
    _bare(place)


def _roofs(card: Card) -> dict[float, str]:
    """Rates and what has them; equal ones are one roof."""
    roofs: dict[float, str] = {}
    for kind, words in _ROOFS.items():
        rate = card.rates[kind]
        roofs[rate] = f"{roofs[rate]}, {words}" if rate in roofs else words
    return roofs


def _ladder(place: Axes, kind: str, ladder: Mapping[str, float], floor: float) -> None:
    names = list(ladder)
    colours = [_BLUE if name == "chosen" else "#a9c2de" for name in names]
    place.barh(range(len(names)), list(ladder.values()), color=colours, height=0.7)
    place.set_yticks(range(len(names)), names)
    place.invert_yaxis()
    for row, milliseconds in enumerate(ladder.values()):
        place.annotate(
            f"{milliseconds:.2f}", (milliseconds, row), xytext=(3, 0), textcoords="offset points", va="center"
        )
    place.axvline(floor, color=_RED, linewidth=1)
    place.set(xscale="log", xlim=(floor / 2, max(ladder.values()) * 2), xlabel="ms")
    place.set_title(kind, loc="left", fontsize=9)
    above = place.get_xaxis_transform()
    _label(place, f"roofline {floor:.2f}", (floor, 1.0), (3, 0), xycoords=above, color=_RED, fontsize=7)
    _bare(place)


def _label(place: Axes, words: str, at: tuple[float, float], beside: tuple[float, float], **style: Any) -> None:
    """Write words so many points beside a place."""
    place.annotate(words, at, xytext=beside, textcoords="offset points", **style)


def _bare(place: Axes) -> None:
    place.spines[["top", "right"]].set_visible(False)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
