"""Every kernel compiles for an RTX 4090 (sm_89), or Hopper (sm_90) if only that launches it, and fits on the card.

No card is needed to see that.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fuzz.gate.baseline import SPILL_NOISE

BUILDER = Path(__file__).with_name("static_build.py")
ROOT = Path(__file__).parents[2]
SHARED_MEMORY_PER_BLOCK = 99 * 1024
SHARED_MEMORY_PER_BLOCK_HOPPER = 227 * 1024


def built(*arguments: str) -> list[dict[str, Any]]:
    """One record per build, from a process in which Triton compiles, whatever it does in this one."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, str(BUILDER), *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    by_hand = f"run `python {BUILDER} {' '.join(arguments)}` by hand"
    assert process.returncode == 0, f"{by_hand}: it ended with\n{process.stderr[-2000:]}"
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.fixture(scope="module")
def builds() -> list[dict[str, Any]]:
    return built("89")


def test_everything_compiles(builds: list[dict[str, Any]]) -> None:
    broken = [f"{build['name']}: {build['error']}" for build in builds if "error" in build]
    assert not broken, "these do not compile for sm_89; Triton's message names the line:\n" + "\n".join(broken)
    assert len(builds) == 95, f"{len(builds)} builds, not 95: a dtype, precision or config is missing or new"


def test_everything_fits_in_shared_memory(builds: list[dict[str, Any]]) -> None:
    large = {build["name"]: build["shared"] for build in builds if build.get("shared", 0) > SHARED_MEMORY_PER_BLOCK}
    assert not large, (
        f"bytes of shared memory above {SHARED_MEMORY_PER_BLOCK}: {large}; take fewer stages or a smaller tile"
    )


def test_small_and_medium_tiles_do_not_spill(builds: list[dict[str, Any]]) -> None:
    safe = [build for build in builds if "large" not in build["name"]]
    spilled = {build["name"]: build["stack"] for build in safe if build.get("stack", 0) > SPILL_NOISE}
    assert not spilled, f"bytes of registers spilled: {spilled}; halve BLOCK_K or another tile dimension in tiles_for"


def test_loads_have_warps_of_their_own_on_hopper() -> None:
    builds = built("90", "flat")
    broken = [f"{build['name']}: {build['error']}" for build in builds if "error" in build]
    assert not broken, "takes_flat must not choose what Triton does not compile for sm_90:\n" + "\n".join(broken)
    assert len(builds) == 18, f"{len(builds)} builds, not 18: a dtype or a kind of tiles is missing or new"
    for build in builds:
        assert build["specialized"], f"{build['name']}: Triton's pass left it as it is; see what stops it"
        assert build["stack"] <= SPILL_NOISE, f"{build['name']} spills {build['stack']} bytes: halve BLOCK_N"
        assert build["shared"] <= SHARED_MEMORY_PER_BLOCK_HOPPER, f"{build['name']}: take fewer stages"
