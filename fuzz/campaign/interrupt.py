"""Signals that ask a command to end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Final

from fuzz.campaign.process import end_all

_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let every signal that asks for an end raise `KeyboardInterrupt`, and a second one end the process at once.

    What is ignored stays ignored: a shell has its background jobs ignore Ctrl-C, and `nohup` the end of the terminal.
    """
    before = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def interrupt(number: int, frame: object) -> None:
        for each in handled:
            signal.signal(each, _end_at_once)
        raise KeyboardInterrupt

    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, before[number])


def _end_at_once(number: int, frame: object) -> None:
    end_all()
    os._exit(130)
