"""Every kernel compiles for an RTX 4090 (sm_89) and fits on it, seen without the card."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BUILDER = Path(__file__).with_name("static_build.py")
ROOT = Path(__file__).parents[2]
SHARED_MEMORY_PER_BLOCK = 99 * 1024
# Below this ptxas trades a few bytes for one more resident block; a real spill is larger.
STACK_NOISE = 16


@pytest.fixture(scope="module")
def builds() -> list[dict[str, Any]]:
    """One record per build, from a process in which Triton compiles, whatever it does in this one."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, str(BUILDER), "89"], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, f"run `python {BUILDER} 89` by hand: it ended with\n{process.stderr[-2000:]}"
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_everything_compiles(builds: list[dict[str, Any]]) -> None:
    broken = [f"{build['name']}: {build['error']}" for build in builds if "error" in build]
    assert not broken, "these do not compile for sm_89; Triton's message names the line:\n" + "\n".join(broken)
    assert len(builds) == 92, f"{len(builds)} builds, not 92: a dtype, precision or config is missing or new"


def test_everything_fits_in_shared_memory(builds: list[dict[str, Any]]) -> None:
    large = {build["name"]: build["shared"] for build in builds if build.get("shared", 0) > SHARED_MEMORY_PER_BLOCK}
    assert not large, (
        f"bytes of shared memory above {SHARED_MEMORY_PER_BLOCK}: {large}; take fewer stages or a smaller tile"
    )


def test_small_and_medium_tiles_do_not_spill(builds: list[dict[str, Any]]) -> None:
    safe = [build for build in builds if "large" not in build["name"]]
    spilled = {build["name"]: build["stack"] for build in safe if build.get("stack", 0) > STACK_NOISE}
    assert not spilled, f"bytes of registers spilled: {spilled}; halve BLOCK_K or another tile dimension in tiles_for"
