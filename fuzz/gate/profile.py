"""Nsight Compute's figures of what a target launches, beside those that the unfused kernels had on an RTX 4090."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from fuzz.campaign.isolation import InfrastructureError, UsageError
from fuzz.gate.child import environment, last_words, python

METRICS: Final = (
    "gpu__time_duration.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "lts__t_sector_hit_rate.pct",
    "launch__grid_size",
    "launch__block_size",
    "launch__registers_per_thread",
    "launch__occupancy_limit_registers",
    "launch__occupancy_limit_shared_mem",
)
_BEFORE: Final = Path(__file__).with_name("two_pass_rtx_4090.json")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One launch of a kernel.

    Attributes:
        target: Whose it is.
        kernel: The kernel's name.
        metrics: By Nsight Compute's names; times in nanoseconds.
    """

    target: str
    kernel: str
    metrics: dict[str, float]


class Profiles(msgspec.Struct, frozen=True, kw_only=True):
    """Launches, and where their figures are from."""

    source: str
    kernels: list[Profile]


def known_profiles() -> Profiles:
    """What the unfused kernels had on the card that this is for."""
    return msgspec.json.decode(_BEFORE.read_bytes(), type=Profiles)


def profile(target: str) -> list[Profile]:
    """Run a target under Nsight Compute.

    Raises:
        UsageError: There is no Nsight Compute, or the target cannot be loaded.
        InfrastructureError: There is no GPU, or its counters may not be read.
    """
    ncu = shutil.which("ncu")
    if ncu is None:
        raise UsageError(
            "profile: ncu must be on the PATH; it comes with the CUDA toolkit, or as NVIDIA's package nsight-compute"
        )
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "profile.csv"
        command = (
            ncu, "--csv", "--page=raw", "--print-units=base", f"--metrics={','.join(METRICS)}", f"--log-file={log}",
            "--profile-from-start=off", *python("fuzz.gate.profiled", target),
        )  # fmt: skip
        process = subprocess.run(command, env=environment(), capture_output=True, text=True)
        text = log.read_text(encoding="utf-8") if log.exists() else ""
    found = list(parse_profiles(target, text.splitlines()))
    if process.returncode == 0 and found:
        return found
    last = last_words(process)
    if process.returncode == 2:
        raise UsageError(last)
    if "ERR_NVGPUCTRPERM" in text + process.stdout:
        raise InfrastructureError(
            "profile: only an administrator may read this GPU's counters; "
            "NVIDIA's page on ERR_NVGPUCTRPERM says how others may"
        )
    raise InfrastructureError(f"profile: ncu ended with status {process.returncode} and no figures: {last}")


def parse_profiles(target: str, lines: Iterable[str]) -> Iterable[Profile]:
    """Read what `ncu --csv --page raw` prints: names, units, a line for each launch, and remarks in between."""
    rows = csv.reader(line for line in lines if line.startswith('"'))
    names = next(rows, [])
    next(rows, [])
    for row in rows:
        cells = dict(zip(names, row, strict=False))
        metrics = {name: float(cells[name].replace(",", "")) for name in METRICS if cells.get(name)}
        yield Profile(target=target, kernel=cells["Kernel Name"], metrics=metrics)
