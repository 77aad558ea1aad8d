"""The kill matrix as text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fuzz.mutation.equivalents import one_line
from fuzz.mutation.matrix import LANES, Row, row, rows
from fuzz.mutation.score import Result
from fuzz.verdict import Lane

_SOURCE_WIDTH: Final = 60


def matrix_text(results: Sequence[Result], unreached: Sequence[str]) -> str:
    """Return the table, what survived, and what no trial came to."""
    total = row("all", results)
    width = max(len(each.operator) for each in (*rows(results), total))
    lines = [_header(width), *[_line(each, width) for each in rows(results)], _line(total, width)]
    lines += ["", f"{'no other lane sees it':{width}}  {'':41}{_by_lane(total.alone)}", "", _score(total)]
    for result in results:
        if result.status == "survived":
            lines += ["", f"survived: {result.name}, line {result.line}, {result.cases} cases", *_change(result)]
    for result in results:
        if result.status == "equivalent":
            lines += ["", f"equivalent: {result.name}, line {result.line}: {result.message}", *_change(result)]
    if unreached:
        lines += ["", f"not mutated, because no trial comes there: {', '.join(unreached)}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _header(width: int) -> str:
    counts = "".join(f"{name:>8}" for name in ("mutants", "broken", "killed"))
    lanes = "".join(f"{lane:>10}" for lane in LANES)
    return f"{'':{width}}{counts}{'same':>6}{'survived':>9}{'median':>7}{'95 %':>6}{lanes}"


def _line(each: Row, width: int) -> str:
    counts = f"{each.made:>8}{each.broken:>8}{each.killed:>8}{each.equivalent:>6}{each.survived:>9}"
    return f"{each.operator:{width}}{counts}{each.median:>7g}{each.most:>6}{_by_lane(each.first)}"


def _by_lane(counts: dict[Lane, int]) -> str:
    return "".join(f"{counts[lane] or '·':>10}" for lane in LANES)


def _score(total: Row) -> str:
    counted = total.killed + total.survived
    share = f"{100 * total.killed / counted:.1f} %" if counted else "none"
    killed = f"{total.killed} of {counted} killed ({share}); {total.equivalent} compute the same, {total.broken} do not run"
    return f"{killed} · cases until killed: median {total.median:g}, 95 % within {total.most}"


def _change(result: Result) -> list[str]:
    return [f"  - {one_line(result.before)[:_SOURCE_WIDTH]}", f"  + {one_line(result.after)[:_SOURCE_WIDTH]}"]
