"""The commands that judge a kernel's speed: `gate static`, `gate runtime` and `profile`."""

from __future__ import annotations

from pathlib import Path

import click

from fuzz.gate.workload import WORKLOADS
from fuzz.options import TARGET_HELP, resolved, worker_count


@click.group()
def gate() -> None:
    """Judge a kernel's speed: by what the compiler made of it, or on a GPU."""


@gate.command()
@click.option("--target", multiple=True, help=TARGET_HELP + "; repeat for several.  [default: fused and two-pass]")
@click.option("--card", default="RTX 4090", show_default=True, help="The card to build for.")
@click.option("--workers", default="auto", show_default=True, help="Processes that compile: a number, or auto.")
@click.option("--baseline", type=click.Path(path_type=Path), help="What to compare with.  [default: the kept one]")
@click.option("--update", is_flag=True, help="Write the baseline anew, as everything is now.")
@click.option("--walk", is_flag=True, help="Climb the ladder of tiles instead, and print what each is made of.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write all builds.")
def static(
    *,
    target: tuple[str, ...],
    card: str,
    workers: str,
    baseline: Path | None,
    update: bool,
    walk: bool,
    json_file: Path | None,
) -> int:
    """Build a kernel for a card that need not be there: spills, occupancy, widths of loads, the least time."""
    from fuzz.gate.command import gate_static, gate_walk

    targets, processes = tuple(map(resolved, target)), worker_count(workers)
    if walk:
        print(gate_walk(targets, card, processes, json_file=json_file), end="")
        return 0
    text, status = gate_static(targets, card, processes, baseline, update=update, json_file=json_file)
    print(text, end="")
    return status


@gate.command()
@click.option("--target", default="fused", show_default=True, help=TARGET_HELP)
@click.option("--rounds", type=click.IntRange(min=20), default=100, show_default=True, help="Times of each contender.")
@click.option("--only", multiple=True, type=click.Choice(WORKLOADS), help="A workload; repeat for several.")
@click.option("--thresholds", type=click.Path(path_type=Path), help="What to reach, as TOML.  [default: the kept one]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write what was measured.")
def runtime(*, target: str, rounds: int, only: tuple[str, ...], thresholds: Path | None, json_file: Path | None) -> int:
    """Time a kernel on this GPU beside eager, torch.compile and the unfused kernels, in turn."""
    from fuzz.gate.command import gate_runtime

    text, status = gate_runtime(resolved(target), rounds, only, thresholds, json_file=json_file)
    print(text, end="")
    return status


@click.command()
@click.option("--target", multiple=True, help=TARGET_HELP + "; repeat for several.  [default: fused and two-pass]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write all figures.")
def profile(*, target: tuple[str, ...], json_file: Path | None) -> int:
    """Run a kernel under Nsight Compute, on a GPU, for the headline shape in float32."""
    from fuzz.gate.command import profile_targets

    print(profile_targets(tuple(map(resolved, target)), json_file=json_file), end="")
    return 0
