"""What all pictures share: colours, type, and SVG that is the same file for the same figures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK: Final = "#1f2933"
FAINT: Final = "#8896a5"
BLUE: Final = "#1d5fa8"
RED: Final = "#be3428"
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: small files, and a reader's search finds it
    "svg.hashsalt": "fused-fuzz",  # else identifiers would be drawn by chance
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Picture:
    """A picture while it is drawn.

    Attributes:
        figure: Matplotlib's.
        svg: The text of the file, once the drawing has ended.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.svg = ""

    def axes(self) -> Axes:
        """The one place to draw in."""
        return self.figure.subplots()

    def row(self, count: int) -> list[Axes]:
        """So many places side by side."""
        return list(self.figure.subplots(1, count, squeeze=False)[0])


@contextlib.contextmanager
def picture(width: float, height: float) -> Iterator[Picture]:
    """Draw a picture of this size, in inches; its text is there afterwards."""
    with mpl.rc_context(_STYLE):
        drawing = Picture(width, height)
        yield drawing
        text = io.StringIO()
        drawing.figure.savefig(text, format="svg", metadata={"Date": None})
        drawing.svg = text.getvalue()


def label(place: Axes, words: str, at: tuple[float, float], beside: tuple[float, float], **style: Any) -> None:
    """Write words so many points beside a place."""
    place.annotate(words, at, xytext=beside, textcoords="offset points", **style)


def bare(place: Axes) -> None:
    """Take away the frame's upper and right side."""
    place.spines[["top", "right"]].set_visible(False)
