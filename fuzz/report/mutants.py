"""The kill matrix as text, and what a terminal shows while it is measured."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from fuzz.mutation.equivalents import one_line
from fuzz.mutation.matrix import LANES, Row, row, rows
from fuzz.mutation.record import Record
from fuzz.mutation.score import Result
from fuzz.verdict import Lane

_SOURCE_WIDTH: Final = 60
_PLAIN_SECONDS: Final = 15.0


class MutantProgress:
    """Shows on stderr how far a score is: a bar on a terminal, otherwise a line now and then; survivors at once."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("mutants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self._task = self._bar.add_task("mutants") if self._bar else None
        self._due = 0.0

    def __enter__(self) -> MutantProgress:
        """Start the bar, on a terminal."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def __call__(self, result: Result, done: int, total: int) -> None:
        """Show one result, out of so many."""
        if result.status == "survived":
            change = f"{one_line(result.before)[:_SOURCE_WIDTH]} → {one_line(result.after)[:_SOURCE_WIDTH]}"
            self._console.print(Text(f"survived: {result.name}, line {result.line}: {change}"))
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + _PLAIN_SECONDS
            self._console.print(Text(f"{done} of {total} mutants"))


def mutants_text(record: Record) -> str:
    """Return the table, what survived, and what no trial came to."""
    results = record.results
    total = row("all", results)
    width = max(len(each.operator) for each in (*rows(results), total))
    lines = [_header(width), *[_line(each, width) for each in rows(results)], _line(total, width)]
    lines += [f"{'no other lane sees it':{width + 46}}{_by_lane(total.alone)}", "", *_score(total)]
    if record.untried:
        lines.append(f"interrupted: {record.untried} more were not tried")
    for result in results:
        if result.status == "survived":
            words = f": {result.message}" if result.message else ""
            lines += ["", f"survived: {result.name}, line {result.line}, {result.cases} cases{words}", *_change(result)]
    for result in results:
        if result.status == "equivalent":
            lines += ["", f"the same: {result.name}, line {result.line}: {result.message}", *_change(result)]
    for kernel in record.kernels:
        if kernel.unreached:
            lines += ["", f"no trial comes to all of these in {kernel.file}: {', '.join(kernel.unreached)}"]
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


def _score(total: Row) -> list[str]:
    counted = total.killed + total.survived
    share = f" ({100 * total.killed / counted:.1f} %)" if counted else ""
    return [
        f"{total.killed} of {counted} mutants killed{share}",
        f"{total.equivalent} more compute the same, {total.broken} do not run",
        f"cases until killed: median {total.median:g}, 95 % within {total.most}",
    ]


def _change(result: Result) -> list[str]:
    return [f"  - {one_line(result.before)[:_SOURCE_WIDTH]}", f"  + {one_line(result.after)[:_SOURCE_WIDTH]}"]
