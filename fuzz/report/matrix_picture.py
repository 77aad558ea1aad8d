"""The kill matrix as a picture (SVG): operators by lanes, and beside them what another check lets pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from fuzz.mutation.matrix import LANES, Row, row, rows
from fuzz.mutation.record import Record

_ROW: Final = 22
_COLUMN: Final = 84
_NAMES: Final = 260
_HEAD: Final = 84
_MARGIN: Final = 16
_FONT: Final = "font-family='ui-sans-serif, system-ui, sans-serif' font-size='12'"
_INK: Final = "#1f2933"
_FAINT: Final = "#8896a5"
_BLUE: Final = (29, 95, 168)
_RED: Final = (190, 52, 40)

# By the name of another check, how many mutants of each operator it accepts.
Accepted = Mapping[str, Mapping[str, int]]


def matrix_svg(record: Record, accepted: Accepted | None = None) -> str:
    """Return the picture.

    Args:
        record: What became of the mutants.
        accepted: What other checks let pass, of the mutants that run; each becomes a column.
    """
    others = accepted or {}
    total = row("all", record.results)
    lines = [*rows(record.results), total]
    columns = ["survived", *LANES, *others]
    width = 2 * _MARGIN + _NAMES + len(columns) * _COLUMN
    height = 2 * _MARGIN + _HEAD + len(lines) * _ROW
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' {_FONT}>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        _text(_MARGIN, _MARGIN + 12, _headline(total), bold=True),
        _text(_MARGIN, _MARGIN + 30, "Rows: what was done to the kernel. Columns: how many of its mutants survive, and "
              "how many each check is the first to kill.", ink=_FAINT),
    ]  # fmt: skip
    if others:
        parts.append(
            _text(_MARGIN, _MARGIN + 46, "In red: what survives, here and under the other checks.", ink=_FAINT)
        )
    top = _MARGIN + _HEAD
    parts += [_text(_x(place), top - 8, name, anchor="middle") for place, name in enumerate(columns)]
    for number, line in enumerate(lines):
        y = top + number * _ROW
        label = f"{line.operator} ({line.killed + line.survived})"
        parts.append(_text(_MARGIN + _NAMES - 10, y + 15, label, anchor="end", bold=line is total))
        survived = [line.survived, *([0] * len(LANES)), *(_of(counts, line, total) for counts in others.values())]
        killed = [0, *(line.first[lane] for lane in LANES), *([0] * len(others))]
        for place in range(len(columns)):
            parts += _cell(place, y, killed[place], survived[place], line.killed + line.survived)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _of(counts: Mapping[str, int], line: Row, total: Row) -> int:
    return sum(counts.values()) if line is total else counts.get(line.operator, 0)


def _headline(total: Row) -> str:
    counted = total.killed + total.survived
    return f"{total.killed} of {counted} mutants killed, half of them within {total.median:g} cases"


def _cell(place: int, y: int, killed: int, survived: int, of: int) -> Sequence[str]:
    count, colour = (survived, _RED) if survived else (killed, _BLUE)
    share = count / of if of else 0.0
    strength = 0.12 + 0.88 * share if count else 0.0
    red, green, blue = (round(255 + (part - 255) * strength) for part in colour)
    fill = f"rgb({red},{green},{blue})" if count else "#f5f7f9"
    left = _x(place) - _COLUMN // 2
    box = f"<rect x='{left + 1}' y='{y + 1}' width='{_COLUMN - 2}' height='{_ROW - 2}' fill='{fill}'/>"
    ink = "#ffffff" if strength > 0.55 else _INK
    return [box, _text(_x(place), y + 15, str(count), anchor="middle", ink=ink)] if count else [box]


def _x(place: int) -> int:
    return _MARGIN + _NAMES + place * _COLUMN + _COLUMN // 2


def _text(x: int, y: int, words: str, *, anchor: str = "start", ink: str = _INK, bold: bool = False) -> str:
    weight = " font-weight='600'" if bold else ""
    return f"<text x='{x}' y='{y}' text-anchor='{anchor}' fill='{ink}'{weight}>{escape(words)}</text>"
