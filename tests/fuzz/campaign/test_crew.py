"""A hunter in a process of its own is the same hunter."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import drills
import msgspec
import pytest
from planted import TILED

from fuzz.campaign.crew import Crewman, HunterProcess, LostHunterError
from fuzz.campaign.hunter import Assignment, Hunter, Round, Trial, case_key
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.journal import journaled_cases
from fuzz.case import Case

EAGER = TILED.with_name("eager_function.py")
# So few, so late that no case is too slow: how slow calls are is learnt, and the choice of cases depends on it.
ORDER = Round(number=8, kind="draw", examples=10, effort=1 / 4, elapsed=600.0, left=None)


def assignment(target: Path, **more: str) -> Assignment:
    return Assignment(target=str(target), device="cpu", seed=5, **more)


def hunted(crewman: Crewman, order: Round) -> list[Case]:
    trials: list[Trial] = []
    crewman.hunt(order, trials.append)
    assert all(trial.purpose == "hunt" and not trial.verdict.failed for trial in trials), "a sound kernel is accused"
    return [trial.case for trial in trials]


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 20.0
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not left, f"processes {left} outlive their hunter: close() must end them"


@pytest.fixture(scope="module")
def trying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trying")


@pytest.fixture(scope="module")
def remote(trying: Path) -> Iterator[HunterProcess]:
    process = HunterProcess(assignment(EAGER, journal=str(trying / "0.json")))
    below = [process._process.pid, *drills.descendants(process._process.pid)]
    assert len(below) == 2, "a hunter has one process, which holds the target"
    yield process
    process.close()
    assert_gone(below)


def test_both_draw_the_same_cases(remote: HunterProcess, trying: Path) -> None:
    local = Hunter(assignment(EAGER))
    try:
        assert (remote.device, remote.versions, remote.abilities) == (local.device, local.versions, local.abilities)
        expected = hunted(local, ORDER)
        found = hunted(remote, ORDER)
    finally:
        local.close()
    assert found == expected
    assert len(found) > 1, "the round is too short to compare"
    assert journaled_cases(trying) == found[-1:], "a machine that goes down takes its case with it"


def test_cases_that_a_lost_worker_tried_are_left_out() -> None:
    drawn = []
    for tried in (0, 2):
        fresh = Hunter(assignment(EAGER))
        try:
            keys = frozenset(map(case_key, drawn[:tried]))
            found = hunted(fresh, msgspec.structs.replace(ORDER, tried=keys))
        finally:
            fresh.close()
        assert found == drawn[tried:] or not tried
        drawn = found
    assert drawn, "the round is too short to compare"


def test_one_given_case_is_tried_and_judged(remote: HunterProcess) -> None:
    trials: list[Trial] = []
    case = Case(c_in=2, c_out=3, bias=True, seed=9)
    assert remote.attempt(case, "corpus", 60.0, (), trials.append)
    assert [(trial.case, trial.purpose, trial.verdict.status) for trial in trials] == [(case, "corpus", "pass")]
    assert not remote.attempt(Case(dtype="float16"), "corpus", 60.0, (), trials.append), "not promised, and not tried"
    assert len(trials) == 1
    judged = remote.judge(case, "shrink")
    assert (judged.case, judged.purpose, judged.verdict.status) == (case, "shrink", "pass")


def test_a_target_that_cannot_be_loaded_is_refused_in_the_same_words(tmp_path: Path) -> None:
    words = []
    for make in (HunterProcess, Hunter):
        with pytest.raises(UsageError) as raised:
            make(assignment(tmp_path / "none.py"))
        words.append(str(raised.value))
    assert words[0] == words[1]
    assert "there is no such file" in words[0]


def test_a_hunter_that_is_killed_in_the_middle_is_lost() -> None:
    process = HunterProcess(assignment(EAGER))
    below = [process._process.pid, *drills.descendants(process._process.pid)]

    def kill(trial: Trial) -> None:
        os.kill(process._process.pid, signal.SIGKILL)

    try:
        with pytest.raises(LostHunterError, match=f"process {below[0]} is gone"):
            process.hunt(msgspec.structs.replace(ORDER, examples=1000), kill)
        with pytest.raises(LostHunterError, match="is gone"):
            process.judge(Case(), "shrink")
    finally:
        process.close()
    assert_gone(below)
