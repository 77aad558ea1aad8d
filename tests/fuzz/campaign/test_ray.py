"""A hunt on a Ray cluster of two nodes on this machine, of which one goes down in the middle."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.campaign.census import TRIED
from fuzz.campaign.reading import read_records

ROOT = Path(__file__).resolve().parents[3]
EAGER = ROOT / "tests" / "candidates" / "eager_function.py"
# From some version on Ray lets nobody in without a token.
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: `tox run -e cluster` installs it and runs this"
    ),
]


def ray(*words: str) -> str:
    """Run Ray's own command."""
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, env=ENVIRONMENT).stdout


def raylets() -> set[int]:
    """Return the processes that are nodes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if command.endswith(b"/raylet"):
            found.add(int(path.parent.name))
    return found


@pytest.fixture
def cluster() -> Iterator[tuple[str, int]]:
    """Start two nodes with a core each; give the cluster's address, and the second one's process."""
    before = raylets()
    if before:
        pytest.skip(
            f"a Ray node runs here already, process {min(before)}: stop it with `ray stop`, or use another machine"
        )
    session = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # a socket's path must be short
    started = ray("start", "--head", "--port=0", "--num-cpus=1", "--include-dashboard=false", f"--temp-dir={session}")
    address = re.search(r"--address='([^']+)'", started)
    assert address is not None, started
    first = raylets()
    ray("start", f"--address={address[1]}", "--num-cpus=1")
    (second,) = raylets() - first
    yield address[1], second
    ray("stop", "--force")
    shutil.rmtree(session, ignore_errors=True)


def test_a_node_that_is_lost_costs_nothing(cluster: tuple[str, int], tmp_path: Path) -> None:
    address, second = cluster
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fuzz", "run", "--engine", "ray", "--target", str(EAGER), "--time", "40s"]
    with subprocess.Popen(
        [*command, "--seed", "3", "--out", str(out)],
        cwd=ROOT,
        env={**ENVIRONMENT, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as hunt:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and tried(out) < 300:
            time.sleep(0.2)
        os.kill(second, signal.SIGKILL)
        at_kill = tried(out)
        _, errors = hunt.communicate(timeout=180)
    assert hunt.returncode == 0, errors
    assert "was lost, what it was at is done again" in errors, f"nobody noticed that a node was gone: {errors}"
    summary = json.loads((out / "summary.json").read_text())
    trials = [record for record in read_records(out / "records.jsonl") if record.get("purpose") in TRIED]
    assert summary["cases"] + summary["declined"] == len(trials) > at_kill, "the hunt ended with the node"
    drawn = Counter(json.dumps(record["case"]) for record in trials if record["purpose"] == "hunt")
    assert max(drawn.values()) == 1, f"what the lost node had done was done again: {drawn.most_common(2)}"
    assert summary["exit"] == 0


def tried(out: Path) -> int:
    """Return how many records there are."""
    path = out / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0
