"""Mutants that are no bugs: listed with the reason, so that they do not count as survivors.

Most compute the same, bit for bit. Others change a choice between ways that are all sound: they may give other bits, so
they have to survive all cases instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from fuzz.campaign.isolation import UsageError
from fuzz.mutation.mutant import Mutant

_BUILT_IN: Final = "equivalents.json"


class Equivalent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that makes no difference, or none that matters.

    Attributes:
        function: The function that is changed.
        operator: What is done to it; "*" in a choice: whatever survives.
        before: What stands there, as `Mutant.before` has it, blanks and line ends as one blank; "*" likewise.
        after: What stands there instead, likewise.
        why: Why the results are the same, or as good.
        choice: Whether the function only chooses between ways that are all sound.
    """

    function: str
    operator: str
    before: str
    after: str
    why: str
    choice: bool = False

    def is_of(self, mutant: Mutant) -> bool:
        """Return whether this is the change that a mutant makes."""
        own = (self.function, self.operator, self.before, self.after)
        made = (mutant.function, mutant.operator, one_line(mutant.before), one_line(mutant.after))
        return all(mine == its or (self.choice and mine == "*") for mine, its in zip(own, made, strict=True))


def one_line(text: str) -> str:
    """Return a text with every run of blanks and line ends as one blank."""
    return " ".join(text.split())


def built_in_equivalents() -> list[Equivalent]:
    """Return what is known of the kernels of this repository."""
    return _decode(files("fuzz.mutation").joinpath(_BUILT_IN).read_bytes(), _BUILT_IN)


def read_equivalents(path: Path) -> list[Equivalent]:
    """Return what a user lists: a JSON array of objects with the fields of `Equivalent`.

    Raises:
        UsageError: It cannot be read, or is no such array.
    """
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def listing(mutant: Mutant, equivalents: Iterable[Equivalent]) -> Equivalent | None:
    """Return what is said of a mutant that is no bug; None where nobody says so."""
    return next((equivalent for equivalent in equivalents if equivalent.is_of(mutant)), None)


def _decode(text: bytes, name: str) -> list[Equivalent]:
    try:
        return msgspec.json.decode(text, type=list[Equivalent])
    except msgspec.MsgspecError as error:
        raise UsageError(f"{name}: {error}") from None
