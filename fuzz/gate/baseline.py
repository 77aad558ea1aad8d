"""What builds were when somebody last said that they are as they should be, and what has become worse since."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from fuzz.campaign.isolation import UsageError
from fuzz.gate.build import Build
from fuzz.gate.devices import Card
from fuzz.gate.sass import Instruction

BASELINE: Final = Path(__file__).with_name("baseline.json")
# Below this ptxas trades a few bytes for one more resident block; a real spill is larger.
SPILL_NOISE: Final = 16
_SLOWER: Final = 1.05


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Builds by target, all with one version of Triton, whose ptxas decides on registers.

    Attributes:
        card: The name of the card that they are for.
        triton: The version.
        targets: Builds, by the target's name.
    """

    card: str
    triton: str
    targets: dict[str, list[Build]]

    def builds(self, target: str, names: set[str]) -> dict[str, Build]:
        """Builds to compare a target's with, by name: its own, or those of the target that it is a copy of.

        A file is a copy if it has two builds, and more than half of its `names`, by the names of that target's: one
        name alone may be another person's choice.
        """
        if target in self.targets:
            return {build.name: build for build in self.targets[target]}
        for builds in self.targets.values():
            kept = {build.name: build for build in builds}
            if len(names & set(kept)) >= max(2, len(names) // 2 + 1):
                return kept
        return {}


def read_baseline(path: Path = BASELINE) -> Baseline:
    """Return what `gate static --update` wrote.

    Raises:
        UsageError: The file cannot be read, or is no baseline.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; gate static --update writes it") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from None


def faults(build: Build, card: Card) -> list[str]:
    """What is wrong with a build by itself, each with what to do."""
    if build.error:
        return [f"{build.name} is not built: {build.error}"]
    found = []
    if build.spilled > SPILL_NOISE:
        found.append(f"{build.name} spills {build.spilled} bytes of registers for each thread: halve one of its BLOCKs")
    if build.shared > card.shared_memory_per_block:
        found.append(
            f"{build.name} needs {build.shared} bytes of shared memory, and a block on an {card.name} has "
            f"{card.shared_memory_per_block}: take fewer stages or a smaller tile"
        )
    return found


def losses(build: Build, before: Build) -> list[str]:
    """What a build has lost against what it was before, each with by how much."""
    if build.error or before.error:
        return []
    found = []
    if _matrix(before) and not _matrix(build):
        found.append(f"{build.name} multiplies without tensor cores, before with {', '.join(before.matrix)}")
    if _width(build) < _width(before):
        found.append(
            f"{build.name} loads {_width(build):.1f} bytes of global memory at a time, before {_width(before):.1f}: "
            "Triton no longer sees that addresses are aligned and lie together"
        )
    if build.blocks < before.blocks:
        found.append(
            f"{build.name}: {build.blocks} blocks on a multiprocessor instead of {before.blocks}, "
            f"for want of {build.limit}"
        )
    if before.milliseconds and (build.milliseconds or float("inf")) > _SLOWER * before.milliseconds:
        slower = f"{build.milliseconds / before.milliseconds:.2f} times as long" if build.milliseconds else "unknown"
        found.append(
            f"{build.name} is predicted to take {build.milliseconds} ms instead of {before.milliseconds} ({slower}): "
            f"{build.pipe or 'nothing'} binds, {'as' if build.pipe == before.pipe else f'not {before.pipe} as'} before"
        )
    return found


def _matrix(build: Build) -> int:
    return sum(build.matrix.values())


def _width(build: Build) -> float:
    """Bytes that a thread loads from global memory at a time in the main loop, on average; infinite for none."""
    moved = sum(Instruction(opcode, False, None).bytes * count for opcode, count in build.loads.items())
    return moved / sum(build.loads.values()) if build.loads else float("inf")
