"""`python -m fuzz gate …`: from what a user asks for to what is printed, and the exit status."""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

from fuzz.abilities import BUILT_IN
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.store import json_text, write
from fuzz.circumstances import circumstances
from fuzz.gate.baseline import BASELINE, Baseline, read_baseline
from fuzz.gate.build import Call, unique
from fuzz.gate.devices import CARDS, Card
from fuzz.gate.profile import known_profiles, profile
from fuzz.gate.runtime import judge as judge_times
from fuzz.gate.runtime import measure
from fuzz.gate.static import build, judge, walk
from fuzz.gate.thresholds import THRESHOLDS, read_thresholds
from fuzz.gate.workload import WORKLOADS
from fuzz.report.gate import ladder_text, profile_text, runtime_text, static_text


def gate_static(
    targets: tuple[str, ...],
    card_name: str,
    workers: int,
    baseline_file: Path | None,
    *,
    update: bool,
    json_file: Path | None,
) -> tuple[str, int]:
    """Build targets for a card, judge what came out, and return what to print and the exit status.

    Args:
        targets: Their names; those of this repository if there are none.
        card_name: A name of `CARDS`.
        workers: Processes that compile.
        baseline_file: What to compare with; None for the one that is kept here.
        update: Write the baseline anew instead of comparing with it.
        json_file: Where to write all builds, or None.

    Raises:
        UsageError: There is no such card, a target cannot be loaded, or the baseline cannot be read.
        InfrastructureError: A process died, or a target launches nothing.
    """
    card = _card(card_name)
    kept = baseline_file or BASELINE
    before = None if update else read_baseline(kept)
    built = build(targets or tuple(BUILT_IN), card, workers)
    findings = [judge(target, calls, card, before) for target, calls in built.items()]
    if update:
        write(kept, json_text(_updated(kept, card, built)))
    status = 1 if any(finding.complaints for finding in findings) else 0
    if json_file:
        record = {"card": card.name, "triton": version("triton"), "exit": status, "findings": findings}
        write(json_file, json_text(record))
    return "".join(static_text(finding, card) for finding in findings), status


def gate_walk(targets: tuple[str, ...], card_name: str, workers: int, *, json_file: Path | None) -> str:
    """Climb the ladder of tiles of each target, and return what to print.

    Args:
        targets: Their names; those of this repository if there are none.
        card_name: A name of `CARDS`.
        workers: Processes that compile.
        json_file: Where to write all rungs, or None.

    Raises:
        UsageError: There is no such card, or a target cannot be loaded.
        InfrastructureError: A process died, or there is nothing to climb.
    """
    card = _card(card_name)
    ladders = {target: walk(target, card, workers) for target in targets or tuple(BUILT_IN)}
    if json_file:
        write(json_file, json_text(ladders))
    return "".join(
        ladder_text(f"{target} {kind}", rungs, card)
        for target, ladder in ladders.items()
        for kind, rungs in ladder.items()
    )


def gate_runtime(
    target: str, rounds: int, workloads: tuple[str, ...], thresholds_file: Path | None, *, json_file: Path | None
) -> tuple[str, int]:
    """Time a target on this machine's GPU, judge it, and return what to print and the exit status.

    Args:
        target: Its name.
        rounds: How often everything is timed.
        workloads: Names of `WORKLOADS`; all if there are none.
        thresholds_file: What to hold it against; None for those that are kept here.
        json_file: Where to write what was measured, or None.

    Raises:
        UsageError: The target cannot be loaded, or the thresholds cannot be read.
        InfrastructureError: There is no GPU, the process died, or no workload is for the target.
    """
    path = thresholds_file or THRESHOLDS
    read_thresholds("", path)  # before minutes are spent
    measured = measure(target, rounds, workloads or tuple(WORKLOADS))
    judgement = judge_times(measured, *read_thresholds(measured.card, path))
    if json_file:
        record = {"exit": judgement.status, **{each.name: getattr(judgement, each.name) for each in fields(judgement)}}
        write(json_file, json_text(record))
    return runtime_text(judgement), judgement.status


def profile_targets(targets: tuple[str, ...], *, json_file: Path | None) -> str:
    """Run targets under Nsight Compute and return what to print.

    Args:
        targets: Their names; those of this repository if there are none.
        json_file: Where to write all figures, or None.

    Raises:
        UsageError: There is no Nsight Compute, or a target cannot be loaded.
        InfrastructureError: There is no GPU, or its counters may not be read.
    """
    kernels = [found for target in targets or tuple(BUILT_IN) for found in profile(target)]
    before = known_profiles()
    if json_file:
        record = {"circumstances": circumstances("cuda"), "kernels": kernels, "before": before}
        write(json_file, json_text(record))
    return profile_text(kernels, before)


def _card(name: str) -> Card:
    if name not in CARDS:
        raise UsageError(f"--card {name}: there is a description of {', '.join(CARDS)}")
    return CARDS[name]


def _updated(kept: Path, card: Card, built: dict[str, list[Call]]) -> Baseline:
    """The baseline with these builds; those of other targets stay, if they are of the same card and version."""
    here = version("triton")
    builds = {target: unique(calls) for target, calls in built.items()}
    old = read_baseline(kept) if kept.exists() else None
    same = old is not None and (old.card, old.triton) == (card.name, here)
    return Baseline(card=card.name, triton=here, targets={**(old.targets if old and same else {}), **builds})
