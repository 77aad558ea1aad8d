"""`gate static`: builds a target for a card that need not be there, and says what is wrong with what came out."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from fuzz.campaign.isolation import InfrastructureError
from fuzz.gate.baseline import Baseline, faults, losses
from fuzz.gate.build import Build, Call, unique
from fuzz.gate.child import answer_of
from fuzz.gate.devices import Card
from fuzz.gate.walk import Rung

# dtypes and precisions of the calls that are built, those of a process together; the first take longest.
_ASKED: Final = (
    ("float32:ieee",),
    ("float32:tf32",),
    ("float16:default", "bfloat16:default", "float64:default"),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of one target.

    Attributes:
        target: Its name.
        calls: All of them.
        complaints: What is wrong, a line each.
        compared: How many builds were compared with the baseline.
        note: Why others were not, if they should have been.
    """

    target: str
    calls: list[Call]
    complaints: list[str]
    compared: int
    note: str

    @property
    def builds(self) -> list[Build]:
        """What the calls launch, each once."""
        return unique(self.calls)


def build(targets: tuple[str, ...], card: Card, workers: int) -> dict[str, list[Call]]:
    """Build all that targets launch for the headline shape, in processes of their own; returns calls by target.

    Raises:
        UsageError: A target cannot be loaded.
        InfrastructureError: A process died, or a target launches nothing.
    """
    with ThreadPoolExecutor(workers) as pool:
        parts = [(target, pool.submit(_build, target, card, asked)) for target in targets for asked in _ASKED]
        found = [(target, part.result()) for target, part in parts]
    built = {target: [call for name, part in found if name == target for call in part] for target in targets}
    for target, calls in built.items():
        if not any(call.builds for call in calls):
            raise InfrastructureError(f"target {target} launched nothing that Triton compiles for the headline shape")
    return built


def judge(target: str, calls: list[Call], card: Card, baseline: Baseline | None) -> Finding:
    """Say what is wrong with a target's builds, by themselves and against the baseline.

    Args:
        target: Its name.
        calls: All of its calls.
        card: Which card they are for.
        baseline: What they are compared with, or None.
    """
    builds = unique(calls)
    complaints = [line for build in builds for line in faults(build, card)]
    if baseline is None:
        return Finding(target=target, calls=calls, complaints=complaints, compared=0, note="")
    here = version("triton")
    if (baseline.card, baseline.triton) != (card.name, here):
        note = f"the baseline is of an {baseline.card} and triton {baseline.triton}, this of {card.name} and {here}"
        return Finding(target=target, calls=calls, complaints=complaints, compared=0, note=note)
    before = baseline.builds(target, {build.name for build in builds})
    common = [build for build in builds if build.name in before]
    complaints += [line for build in common for line in losses(build, before[build.name])]
    if target in baseline.targets:
        complaints += _differences({build.name for build in builds}, set(before))
    return Finding(target=target, calls=calls, complaints=complaints, compared=len(common), note="")


def _differences(now: set[str], before: set[str]) -> Iterable[str]:
    for name in sorted(before - now):
        yield f"{name} is built no longer: --update if that is on purpose"
    for name in sorted(now - before):
        yield f"{name} is not in the baseline: --update takes it in"


def walk(target: str, card: Card, workers: int) -> dict[str, list[Rung]]:
    """Climb the ladder of tiles of what a target launches for the headline shape, for each kind of product.

    Raises:
        UsageError: The target cannot be loaded.
        InfrastructureError: A process died, or there is no launch whose tile has sizes by name.
    """
    kinds = [word for asked in _ASKED for word in asked if word.partition(":")[0] in ("float32", "float16")]
    with ThreadPoolExecutor(workers) as pool:
        parts = {kind: pool.submit(_climb, target, card, kind) for kind in kinds}
        found = {kind: part.result() for kind, part in parts.items()}
    if not any(found.values()):
        raise InfrastructureError(f"target {target} launches nothing that multiplies and has a constant like BLOCK_M")
    return {kind: rungs for kind, rungs in found.items() if rungs}


def _build(target: str, card: Card, asked: tuple[str, ...]) -> list[Call]:
    return answer_of("fuzz.gate.build", list[Call], f"building {target}", target, card.name, *asked)


def _climb(target: str, card: Card, kind: str) -> list[Rung]:
    return answer_of("fuzz.gate.walk", list[Rung], f"building {target}", target, card.name, kind)
