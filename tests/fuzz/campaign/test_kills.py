"""Kills at random moments, of the hunt and of what it has started: nothing that was told is lost, or counted twice."""

from __future__ import annotations

import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import drills
import pytest

from fuzz.campaign.census import TRIED, census_of
from fuzz.campaign.reading import read_records

ROOT = Path(__file__).resolve().parents[3]
KILLS = 20
# Five end a hunt.
MOST_KILLS_WITHOUT_A_TRIAL = 3
# Three bugs that hide each other from nobody: a hunt finds them one after the other, all through the kills.
FLAWED = """
import torch


def conv_scale_min(x, weight, bias, scale):
    out = torch.min((torch.conv2d(x, weight) + bias.view(1, -1, 1, 1)) * scale, dim=1, keepdim=True).values
    if x.shape[0] == 2:
        out = out + 1
    if weight.shape[2] != weight.shape[3]:
        out = out[..., :1].expand_as(out)
    if x.shape[1] == 7:
        raise ValueError("seven")
    return out
"""

SLOW = """
import time

import torch


def conv_scale_min(x, weight, bias, scale):
    time.sleep(1.0 if scale < 0 else 0.0)
    return torch.min((torch.conv2d(x, weight) + bias.view(1, -1, 1, 1)) * scale, dim=1, keepdim=True).values
"""


class Killed:
    """A hunt that is killed and gone on with, and everything that it told."""

    def __init__(self, target: Path, out: Path) -> None:
        self.out = out
        self.told: list[str] = []
        self._arguments = ["--target", str(target), "--workers", "2", "--seed", "7", "--out", str(out)]

    def start(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fuzz", "run", *self._arguments, *more]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self.told.append(line)

    @property
    def failures(self) -> list[str]:
        """The ids of the failures that were told of, as often as they were."""
        return [found[1] for line in self.told if (found := re.search(r"  failure (\w+): ", line))]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Killed, dict[str, Any]]:
    """A hunt after all kills, and its summary."""
    folder = tmp_path_factory.mktemp("kills")
    target = folder / "flawed.py"
    target.write_text(FLAWED)
    hunt, chance = Killed(target, folder / "out"), random.Random(3)
    for kill in range(KILLS):
        process = hunt.start("--time", "10m", *(["--resume"] if kill else []))
        records = hunt.out / "records.jsonl"
        size = records.stat().st_size if records.exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not records.exists() or records.stat().st_size == size):
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 1.0))
        below = drills.descendants(process.pid)
        if kill % 2 and below:
            os.kill(chance.choice(below), signal.SIGKILL)
            time.sleep(chance.uniform(0.0, 1.0))
            assert process.poll() is None, f"the hunt ended with one of its processes: {hunt.told[-3:]}"
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < deadline:
            time.sleep(0.05)
        alive = [pid for pid in below if Path(f"/proc/{pid}").exists()]
        assert not alive, f"processes {alive} outlive the hunt that started them"
    # Not by time: what fails when that is up is left for the next hunt.
    last = hunt.start("--max-cases", "200", "--resume")
    assert last.wait(timeout=120) == 1, hunt.told[-3:]
    return hunt, json.loads((hunt.out / "summary.json").read_text())


def test_every_failure_that_was_told_of_is_there_once(killed: tuple[Killed, dict[str, Any]]) -> None:
    hunt, summary = killed
    ids = [name for failure in summary["failures"] for name in (failure["id"], *failure["earlier_ids"])]
    assert hunt.failures, "the hunt found nothing: the drill is void"
    assert set(hunt.failures) <= set(ids), "a failure that was told of is missing"
    assert len(ids) == len(set(ids)), "a failure is there twice"
    told = collections.Counter(hunt.failures)
    assert max(told.values()) == 1, f"a failure was told of as new twice: {told}"
    for failure in summary["failures"]:
        assert (hunt.out / failure["case_file"]).is_file()
        assert (hunt.out / "failures" / failure["id"] / "repro.py").is_file()


def test_no_trial_is_there_twice_and_all_are_counted(killed: tuple[Killed, dict[str, Any]]) -> None:
    hunt, summary = killed
    records = list(read_records(hunt.out / "records.jsonl"))
    drawn = [json.dumps(record["case"]) for record in records if record.get("purpose") == "hunt"]
    twice = [case for case, count in collections.Counter(drawn).items() if count > 1]
    assert not twice, f"drawn cases were tried again after a kill: {twice[:3]}"
    tried = [record for record in records if record.get("event") == "trial" and record["purpose"] in TRIED]
    assert summary["cases"] + summary["declined"] == len(tried)
    assert sum(record.get("event") == "hunt" for record in records) == KILLS + 1


def test_the_records_alone_say_the_same(killed: tuple[Killed, dict[str, Any]]) -> None:
    hunt = killed[0]
    with_state = census_of(hunt.out)
    (hunt.out / "state.json").rename(hunt.out / "state.aside")
    without = census_of(hunt.out)
    (hunt.out / "state.aside").rename(hunt.out / "state.json")
    assert (without.cases, without.features, without.hits, without.rounds) == (
        with_state.cases,
        with_state.features,
        with_state.hits,
        with_state.rounds,
    )
    assert without.pending == with_state.pending == [], "a case that failed was not looked into"


def test_a_worker_that_is_killed_accuses_nobody(tmp_path: Path) -> None:
    target = ROOT / "tests" / "candidates" / "eager_function.py"
    hunt = Killed(target, tmp_path / "out")
    process = hunt.start("--time", "20s")
    while process.poll() is None and not hunt.told:
        time.sleep(0.05)
    chance, kills, tried, idle = random.Random(5), 0, 0, 0
    while process.poll() is None:
        time.sleep(chance.uniform(1.0, 3.0))
        now = len(drills.trials(hunt.out))
        # Whoever kills faster than a busy machine starts workers is told, with reason, that none can be made here.
        idle = 0 if now > tried else idle + 1
        below = drills.descendants(process.pid)
        if below and idle < MOST_KILLS_WITHOUT_A_TRIAL and process.poll() is None:
            os.kill(chance.choice(below), signal.SIGKILL)
            kills += 1
        tried = now
    assert process.returncode == 0, f"a sound kernel was accused: {hunt.told[-3:]}"
    assert kills > 3


def test_what_a_machine_went_down_with_is_tried_first(tmp_path: Path) -> None:
    target = tmp_path / "slow.py"
    target.write_text(SLOW)
    hunt = Killed(target, tmp_path / "out")
    process = hunt.start("--time", "10m")
    deadline, stuck = time.monotonic() + 60, ""
    while time.monotonic() < deadline and not stuck:
        time.sleep(0.2)
        journals = [path.read_text() for path in hunt.out.glob("trying/*.json")]
        stuck = next((text for text in journals if '"scale":-' in text), "")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert stuck, "no case was written down before it was tried"
    hunt.start("--time", "10s", "--resume").wait(timeout=120)
    interrupted = [r["case"] for r in read_records(hunt.out / "records.jsonl") if r.get("purpose") == "interrupted"]
    assert json.loads(stuck) in interrupted
