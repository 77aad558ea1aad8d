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
# So few that nothing is learnt of how slow calls are, on which the choice of cases depends from then on.
ORDER = Round(number=0, kind="draw", examples=8, effort=1 / 64, elapsed=600.0, left=None)


def assignment(target: Path, **more: str) -> Assignment:
    return Assignment(target=str(target), device="cpu", seed=5, **more)


def hunted(crewman: Crewman, order: Round) -> list[Case]:
    trials: list[Trial] = []
    crewman.hunt(order, trials.append)
    assert all(trial.purpose == "hunt" and not trial.verdict.failed for trial in trials), "a sound kernel is accused"
    return [trial.case for trial in trials]


def hunted_afresh(order: Round) -> list[Case]:
    fresh = Hunter(assignment(EAGER))
    try:
        return hunted(fresh, order)
    finally:
        fresh.close()


@pytest.fixture(scope="module")
def order() -> Round:
    """A round that is long enough to compare: slow cases are left out by chance, and may be all but one."""
    orders = (msgspec.structs.replace(ORDER, number=number) for number in range(20))
    return next(order for order in orders if len(hunted_afresh(order)) > 3)


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


def test_both_draw_the_same_cases(remote: HunterProcess, trying: Path, order: Round) -> None:
    local = Hunter(assignment(EAGER))
    try:
        assert (remote.device, remote.versions, remote.abilities) == (local.device, local.versions, local.abilities)
        expected = hunted(local, order)
        found = hunted(remote, order)
    finally:
        local.close()
    assert found == expected
    assert journaled_cases(trying) == found[-1:], "a machine that goes down takes its case with it"


def test_cases_that_a_lost_worker_tried_are_left_out(order: Round) -> None:
    drawn = hunted_afresh(order)
    keys = frozenset(map(case_key, drawn[:2]))
    assert hunted_afresh(msgspec.structs.replace(order, tried=keys)) == drawn[2:]


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
