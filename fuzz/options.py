"""What several commands have in common: words → values, and one line that says what is wrong."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final

import click

from fuzz.campaign.engine import cores
from fuzz.campaign.isolation import UsageError

TARGET_HELP: Final = "fused, two-pass, FILE.py, FILE.py:NAME or package.module:NAME"
device_option: Final = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
# Shipped with the repository, not with the package: an installed package hunts without it.
CORPUS: Final = Path(__file__).resolve().parent.parent / "tests" / "corpus"
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Return the seconds that `--time` asks for; raises `UsageError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"--time {text}: must be a positive number with s, m or h, like 60s, 30m or 8h")
    return float(match[1]) * _UNITS[match[2]]


def worker_count(text: str) -> int:
    """Return the number that `--workers` asks for; raises `UsageError`."""
    if text == "auto":
        return cores()
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--workers {text}: must be auto or a number of at least 1")
    return int(text)


def resolved(target: str) -> str:
    """Make a file target independent of the working directory, so that its cases replay from anywhere."""
    place, colon, name = target.rpartition(":") if not target.endswith(".py") else (target, "", "")
    if place.endswith(".py"):
        return f"{Path(place).resolve()}{colon}{name}"
    return target


def complain(message: str, status: int) -> int:
    """Say in one line what is wrong; returns the exit status."""
    with contextlib.suppress(OSError):  # the terminal may be closed
        click.echo(f"fuzz: {' '.join(message.split())}", err=True)
    return status
