"""Mutants that compute the same: listed one by one, each with its reason, so that they do not count as survivors."""

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
    """A change that makes no difference.

    Attributes:
        function: The function that is changed.
        operator: What is done to it.
        before: What stands there, as `Mutant.before` has it, blanks and line ends as one blank.
        after: What stands there instead, likewise.
        why: Why the results are the same.
    """

    function: str
    operator: str
    before: str
    after: str
    why: str

    def is_of(self, mutant: Mutant) -> bool:
        """Return whether this is the change that a mutant makes."""
        own = (self.function, self.operator, self.before, self.after)
        return own == (mutant.function, mutant.operator, one_line(mutant.before), one_line(mutant.after))


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


def reason(mutant: Mutant, equivalents: Iterable[Equivalent]) -> str | None:
    """Return why a mutant computes the same; None where nobody says that it does."""
    return next((equivalent.why for equivalent in equivalents if equivalent.is_of(mutant)), None)


def _decode(text: bytes, name: str) -> list[Equivalent]:
    try:
        return msgspec.json.decode(text, type=list[Equivalent])
    except msgspec.MsgspecError as error:
        raise UsageError(f"{name}: {error}") from None
