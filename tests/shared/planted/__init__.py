"""What the suite is measured on: flaws planted in sound candidates, one small change each, and sound kernels."""

from __future__ import annotations

from pathlib import Path

from planted import failures, layouts, masks, numbers, precision, shapes, state
from planted.flaw import Flaw
from planted.sound import SOUND, TILED, Sound

__all__ = ["PLANTED", "SOUND", "TILED", "Flaw", "Sound", "plant", "plant_sound"]

PLANTED: dict[str, Flaw] = {}
for part in (masks, layouts, numbers, precision, shapes, state, failures):
    assert not PLANTED.keys() & part.FLAWS.keys(), "two flaws have one name"
    PLANTED.update(part.FLAWS)


def plant(name: str, folder: Path) -> Path:
    """Write the candidate with this flaw and return its path."""
    return _written(name, PLANTED[name].source(), folder)


def plant_sound(name: str, folder: Path) -> Path:
    """Write this sound kernel and return its path."""
    return _written(name, SOUND[name].source(), folder)


def _written(name: str, source: str, folder: Path) -> Path:
    path = folder / f"{name}.py"
    path.write_text(source)
    return path
