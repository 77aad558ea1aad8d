"""`Subject`: the kernel file that mutants are made of, and the target that hunts load it by."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from fuzz.abilities import BUILT_IN
from fuzz.campaign.isolation import UsageError, target_path


@dataclass(frozen=True)
class Subject:
    """A kernel file and its target.

    Attributes:
        target: What the user called it.
        path: The file, resolved.
        text: What is in it.
    """

    target: str
    path: Path
    text: str


def subject_of(target: str) -> Subject:
    """Return what a target is made of.

    Args:
        target: `fused`, `two-pass`, `path/to/file.py`, `path/to/file.py:NAME` or `package.module:NAME`.

    Raises:
        UsageError: Its file cannot be found or read.
    """
    place = (
        BUILT_IN[target][0] if target in BUILT_IN else target if target.endswith(".py") else target.rpartition(":")[0]
    )
    path = Path(place) if place.endswith(".py") else _module_file(place, target)
    try:
        return Subject(target, path.resolve(), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise UsageError(f"target {target}: {path} cannot be read: {getattr(error, 'strerror', error)}") from None


def _module_file(module: str, target: str) -> Path:
    """Return a module's file; no package of another person is imported in this process."""
    package, *rest = module.split(".")
    found = PathFinder.find_spec(package, [*target_path(), *sys.path]) if package.isidentifier() else None
    if found is None or found.origin is None:
        raise UsageError(f"target {target}: there is no package {package!r} whose source could be changed")
    folder = Path(found.origin).parent
    return folder.joinpath(*rest).with_suffix(".py") if rest else Path(found.origin)
