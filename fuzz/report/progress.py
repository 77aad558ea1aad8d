"""What a hunt shows while it runs: a live line on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from fuzz.campaign.hunt import Hunt

_PLAIN_SECONDS: Final = 15.0
_LIVE_SECONDS: Final = 0.2


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
        self._console = console or _Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._due = 0.0

    def __enter__(self) -> Progress:
        """Start the live line, on a terminal."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live line away."""
        if self._live:
            with suppress(OSError):
                self._live.stop()

    def __call__(self, hunt: Hunt, news: str) -> None:
        """Show news at once, and the state of the hunt now and then."""
        # A terminal that was closed, or a pipe that nobody reads, must not end the hunt.
        with suppress(OSError):
            self._show(hunt, news)

    def _show(self, hunt: Hunt, news: str) -> None:
        now = time.monotonic()
        if news:
            self._console.print(Text(f"{_clock(hunt.elapsed)}  {news}"))
        if now < self._due:
            return
        line = Text(f"{_clock(hunt.elapsed)}  {status_line(hunt)}")
        if self._live:
            self._live.update(line, refresh=True)
        elif hunt.census.cases:
            self._console.print(line)
        self._due = now + (_LIVE_SECONDS if self._live else _PLAIN_SECONDS)


def status_line(hunt: Hunt) -> str:
    """Return the state of a hunt on one line."""
    census = hunt.census
    parts = [
        f"{census.cases} cases",
        f"{hunt.cases_per_second:.1f}/s",
        f"{len(hunt.failures)} failures",
    ]
    if census.declined:
        parts.append(f"{census.declined.total()} declined")
    if hunt.restarts:
        parts.append(f"{hunt.restarts} processes lost")
    ratios = census.worst_error_ratio
    if ratios:
        name = max(ratios, key=lambda key: ratios[key])
        parts.append(f"worst error {ratios[name]:.2f} of allowed ({name})")
    return " · ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
