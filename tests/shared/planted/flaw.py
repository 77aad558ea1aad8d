"""What a flaw is: one small change in a sound candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fuzz.case import Dtype

CANDIDATES = Path(__file__).resolve().parents[2] / "candidates"


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """One change that makes a sound candidate wrong for some call that its signature promises.

    Attributes:
        base: Name of the candidate's file, without its ending.
        sound: What stands there, exactly once.
        flawed: What stands in its place.
        wrong: What is wrong, in one line.
        dtypes: The dtypes that a hunt tries; what the signature promises if None.
        room: The kind of mistake. `in_rooms` sets it.
    """

    base: str
    sound: str
    flawed: str
    wrong: str
    dtypes: tuple[Dtype, ...] | None = None
    room: str = ""

    def source(self) -> str:
        """Return the flawed candidate."""
        return changed(self.base, self.sound, self.flawed)


def changed(base: str, there: str, instead: str) -> str:
    """Return the text of a candidate, with a change in the one place that reads so."""
    text = (CANDIDATES / f"{base}.py").read_text()
    places = text.count(there)
    assert places == 1, f"{base}.py has {places} places like {there!r}"
    return text.replace(there, instead)


def in_rooms(rooms: dict[str, dict[str, Flaw]]) -> dict[str, Flaw]:
    """Return the flaws by name, each of which knows its room."""
    return {name: replace(flaw, room=room) for room, flaws in rooms.items() for name, flaw in flaws.items()}
