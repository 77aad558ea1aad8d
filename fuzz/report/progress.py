"""What a hunt shows while it runs: a panel on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from fuzz.campaign.status import FailureStatus, Status

_PLAIN_SECONDS: Final = 15.0
_LIVE_PER_SECOND: Final = 5
_BAR: Final = 24
# The rest is in the summary: a panel that is higher than the terminal would be cut below.
_MOST_FAILURES: Final = 8
_MOST_WORKERS: Final = 16


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Be silent from now on; rich would end the process."""
        self.quiet = True


class Progress:
    """Shows a hunt on stderr.

    Args:
        console: Where to; the default writes to stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _Console(stderr=True, highlight=False)
        self._status: Callable[[], Status] | None = None
        self._live: Live | None = None
        if self._console.is_terminal:
            # By itself, so that the clock runs and workers are seen at work while nothing is told for a while.
            self._live = Live(
                console=self._console,
                get_renderable=self._panel,
                refresh_per_second=_LIVE_PER_SECOND,
                transient=True,
            )
        self._due = 0.0

    def __enter__(self) -> Progress:
        """Start the panel, on a terminal."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the panel away."""
        if self._live:
            with suppress(OSError):
                self._live.stop()

    def __call__(self, status: Callable[[], Status], news: str) -> None:
        """Show news at once, and what the hunt is at now and then.

        Args:
            status: Says what the hunt is at. Called seldom, though this is called for every trial.
            news: A line that is worth keeping; may be empty.
        """
        # A terminal that was closed, or a pipe that nobody reads, must not end the hunt.
        with suppress(OSError):
            self._show(status, news)

    def _show(self, status: Callable[[], Status], news: str) -> None:
        self._status = status
        if news:
            self._print(status(), news)
        now = time.monotonic()
        if self._live or now < self._due:
            return
        seen = status()
        if seen.cases:
            self._print(seen, status_line(seen))
        self._due = now + _PLAIN_SECONDS

    def _print(self, status: Status, words: str) -> None:
        self._console.print(Text(f"{_clock(status.elapsed)}  {_one_line(words)}"), soft_wrap=True)

    def _panel(self) -> RenderableType:
        return status_panel(self._status()) if self._status else Text("")


def status_line(status: Status) -> str:
    """Return what a hunt is at on one line."""
    parts = [*_counts(status), _number(len(status.failures), "failure")]
    ratios = status.worst_error_ratio
    if ratios:
        name = max(ratios, key=lambda key: ratios[key])
        parts.append(f"worst error {ratios[name]:.2f} of allowed ({name})")
    return " · ".join(parts)


def status_panel(status: Status) -> Panel:
    """Return what a hunt is at as a panel: nothing in it is wider than the terminal."""
    met = f"{status.features_met} of {status.features_known} features met"
    parts: list[RenderableType] = [_time(status), _cut(" · ".join([*_counts(status), met]))]
    if status.failures:
        parts += [Text(), _failures(status.failures)]
    if status.worst_error_ratio:
        parts += [Text(), _errors(status)]
    if status.workers:
        parts += [Text(), _workers(status.workers)]
    title, colour = "no failure so far", "blue"
    if status.failures:
        title, colour = _number(len(status.failures), "failure"), "red"
    return Panel(Group(*parts), title=title, title_align="left", border_style=colour)


def _counts(status: Status) -> list[str]:
    parts = [_number(status.cases, "case"), f"{status.cases_per_second:.1f}/s"]
    if status.declined:
        parts.append(f"{status.declined} declined")
    if status.restarts:
        parts.append(f"{_number(status.restarts, 'process', 'processes')} lost")
    return parts


def _number(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def _time(status: Status) -> RenderableType:
    elapsed = _clock(status.elapsed)
    if status.seconds is None:
        return _cut(f"{elapsed} so far")
    left = status.seconds - status.elapsed
    words = f"{elapsed}, {_clock(left)} left" if left > 0 else f"{elapsed}, finishing what was found"
    row = Table.grid(padding=(0, 2))
    row.add_row(_bar(status.elapsed / status.seconds, "blue"), _cut(words))
    return row


def _failures(failures: tuple[FailureStatus, ...]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for failure in failures[-_MOST_FAILURES:]:
        table.add_row(Text(failure.id, style="red"), Text(f"×{failure.hits}"), _cut(failure.message))
    hidden = len(failures) - _MOST_FAILURES
    return Group(_cut(f"and {hidden} before these"), table) if hidden > 0 else table


def _errors(status: Status) -> RenderableType:
    """Show how near results came to the allowed error, which is where a bar ends."""
    table = Table.grid(padding=(0, 2))
    for name, ratio in sorted(status.worst_error_ratio.items()):
        table.add_row(_cut(name), _bar(ratio, "yellow"), _cut(f"{ratio:.2f} of allowed"))
    return table


def _workers(workers: tuple[str, ...]) -> RenderableType:
    shown = [f"{number} {_one_line(words)}" for number, words in enumerate(workers[:_MOST_WORKERS], 1)]
    if len(workers) > _MOST_WORKERS:
        shown.append(f"and {len(workers) - _MOST_WORKERS} more")
    return Text(f"workers: {' · '.join(shown)}", style="dim")


def _bar(share: float, colour: str) -> ProgressBar:
    return ProgressBar(total=1.0, completed=min(max(share, 0.0), 1.0), width=_BAR, complete_style=colour)


def _cut(words: str) -> Text:
    """Return words that end where the terminal does."""
    return Text(_one_line(words), no_wrap=True, overflow="ellipsis")


def _one_line(words: str) -> str:
    """Return words without what would move the cursor or change colours: a kernel's message may hold anything."""
    return "".join(sign if sign.isprintable() else " " for sign in words)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
