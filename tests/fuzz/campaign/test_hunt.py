"""The hunt: workers may be lost at any moment, and every trial counts once all the same."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.campaign import hunt as module
from fuzz.campaign.buckets import Bucket
from fuzz.campaign.census import census_of
from fuzz.campaign.crew import Crewman, LostHunterError, NoRoomError
from fuzz.campaign.hunt import Hunt
from fuzz.campaign.hunter import Round, Trial, case_key
from fuzz.campaign.isolation import InfrastructureError, UsageError
from fuzz.campaign.ledger import Waiver
from fuzz.campaign.plan import Plan
from fuzz.campaign.reading import read_records
from fuzz.case import Case, encode_case
from fuzz.verdict import Verdict, failure

PASS = Verdict(status="pass")
WRONG = failure("wrong-value", "exact", "wrong")
CASES_OF_ROUND = 5


class World:
    """Where fake workers live: what fails there, and at which of all steps a worker is lost.

    A step is anything before or after which a worker may die: one before and one after each trial.
    """

    def __init__(self, losses: Iterable[int] = (), workers: int = 1, hires: Iterable[Exception | None] = ()) -> None:
        self.workers = workers
        self.hired = 0
        self.closed = 0
        self._hires = iter(hires)
        self._losses = set(losses)
        self._steps = itertools.count()
        self._lock = threading.Lock()

    def step(self) -> None:
        with self._lock:
            if next(self._steps) in self._losses:
                raise LostHunterError("the machine is gone")

    def judge(self, case: Case) -> Verdict:
        return WRONG if case.bias else PASS

    def hire(self, rank: int) -> Crewman:
        with self._lock:
            error = next(self._hires, None)
            self.hired += error is None
        if error is not None:
            raise error
        return FakeCrewman(self)

    def close(self) -> None:
        assert self.hired == self.closed, "a worker outlives the hunt"


class FakeCrewman:
    """Draws the same few cases for a round wherever it is; every fifth of them fails."""

    device = "cpu"
    versions: dict[str, str] = {}  # noqa: RUF012  # as the protocol has it
    abilities = EVERYTHING
    coverage = ()

    def __init__(self, world: World) -> None:
        self._world = world

    def hunt(self, order: Round, deliver: Callable[[Trial], None]) -> None:
        for number in range(CASES_OF_ROUND):
            case = Case(seed=100 * order.number + number, bias=(order.number + number) % 5 == 4)
            if case_key(case) not in order.tried and self._try(case, "hunt", deliver).failed:
                return

    def attempt(
        self, case: Case, purpose: str, span: float, known: tuple[Bucket, ...], deliver: Callable[[Trial], None]
    ) -> bool:
        self._try(case, purpose, deliver)
        return True

    def judge(self, case: Case, purpose: str) -> Trial:
        self._world.step()
        return Trial(case, self._world.judge(case), purpose)

    def close(self) -> None:
        self._world.closed += 1

    def _try(self, case: Case, purpose: str, deliver: Callable[[Trial], None]) -> Verdict:
        self._world.step()
        verdict = self._world.judge(case)
        deliver(Trial(case, verdict, purpose))
        self._world.step()
        return verdict


class Hunted:
    """A hunt on fake workers, and what it left."""

    def __init__(self, world: World, out: Path, *, max_cases: int = 40, kind: type[Hunt] = Hunt, **wish: Any) -> None:
        self.news: list[str] = []
        plan = Plan(target="fake", out=out, seed=1, max_cases=max_cases, **wish)
        self.hunt = kind(plan, lambda status, news: self.news.append(news), engine=world)
        self.status = self.hunt.run()
        self.records = list(read_records(out / "records.jsonl"))

    def count(self, event: str) -> int:
        return sum(record["event"] == event for record in self.records)

    @property
    def tried(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] == "trial" and record["purpose"] != "shrink"]

    @property
    def failed(self) -> list[str]:
        return [str(record["case"]) for record in self.tried if record["verdict"]["status"] == "fail"]


@settings(max_examples=30)
@given(losses=st.sets(st.integers(0, 120), max_size=4), workers=st.integers(1, 3), max_cases=st.integers(1, 40))
def test_whatever_is_lost_every_trial_counts_once(
    losses: set[int], workers: int, max_cases: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = World(losses, workers)
    done = Hunted(world, tmp_path_factory.mktemp("hunt"), max_cases=max_cases)
    census = done.hunt.census
    assert len(done.tried) == census.cases == max_cases, "not as many cases as were asked for"
    twice = [case for case, count in Counter(str(record["case"]) for record in done.tried).items() if count > 1]
    assert not twice, f"tried again after a worker was lost: {twice}"
    # What nobody could look into, since the last worker was lost when the hunt was over, is left for the next one.
    looked_into = len(done.failed) - len(census.pending)
    assert done.count("failure") + done.count("hit") == done.count("settled") == looked_into
    assert sum(one.hits for one in done.hunt.failures.values()) == looked_into
    assert done.status == (1 if done.failed else 0)
    assert [one.bucket for one in done.hunt.failures.values()] in ([], ["wrong result that depends on bias"])


@given(step=st.integers(0, 40))
@settings(max_examples=15)
def test_a_round_is_gone_on_with_where_the_worker_was_lost(step: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    lost, whole = (Hunted(World(losses), tmp_path_factory.mktemp("hunt"), max_cases=30) for losses in ((step,), ()))
    assert [record["case"] for record in lost.tried] == [record["case"] for record in whole.tried]
    assert sum("was lost" in news for news in lost.news) == 1


def test_a_worker_that_finds_no_room_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.01)
    full = NoRoomError("all cores are taken")
    # The only worker is lost after its first trial, and there is no room for another one for a while: far more often
    # than workers may be lost one after the other.
    done = Hunted(World((2,), hires=[None, *[full] * 9]), tmp_path, max_cases=10)
    assert len(done.tried) == 10
    assert sum("waits" in news for news in done.news) == 1, "said again and again"


def test_workers_that_are_lost_after_each_trial_still_come_to_an_end(tmp_path: Path) -> None:
    done = Hunted(World(range(1, 400, 2)), tmp_path, max_cases=4)
    assert len(done.tried) == 4


def test_five_losses_without_a_trial_end_the_hunt(tmp_path: Path) -> None:
    world = World(range(1000))
    with pytest.raises(InfrastructureError, match="5 workers were lost one after the other without a trial: the mach"):
        Hunted(world, tmp_path)
    assert world.hired == world.closed == 5


@pytest.mark.parametrize("error", [UsageError("no such file"), InfrastructureError("no memory")])
def test_a_worker_that_cannot_be_started_anew_counts_as_lost(error: Exception, tmp_path: Path) -> None:
    done = Hunted(World((2,), hires=[None, error, error]), tmp_path, max_cases=10)
    assert len(done.tried) == 10
    assert sum(str(error) in news for news in done.news) == 2


@pytest.mark.parametrize("error", [UsageError("no such file"), InfrastructureError("no memory"), NoRoomError("full")])
def test_a_hunt_without_a_first_worker_does_not_begin(error: Exception, tmp_path: Path) -> None:
    expected = UsageError if isinstance(error, UsageError) else InfrastructureError
    with pytest.raises(expected, match=str(error)):
        Hunted(World(hires=[error]), tmp_path / "out")
    assert not (tmp_path / "out").exists(), "a mistake must not leave anything behind"


def test_what_was_not_looked_into_is_tried_first_by_the_next_hunt(tmp_path: Path) -> None:
    """The first failing case is the last that was asked for, and from then on every worker is lost at once."""
    with pytest.raises(InfrastructureError, match="5 workers were lost"):
        Hunted(World(range(11, 100)), tmp_path, max_cases=5)
    (pending,) = census_of(tmp_path).pending
    second = Hunted(World(), tmp_path, max_cases=1, resume=True)
    assert second.hunt.census.pending == []
    (again,) = [record for record in second.tried if record["purpose"] == "interrupted"]
    assert again["case"] == {"seed": 4, "bias": True}
    assert encode_case(Case(seed=4, bias=True)).decode() == pending
    assert next(iter(second.hunt.failures.values())).bucket == "wrong result that depends on bias"


class LateHunt(Hunt):
    """The thread of its first worker begins when another one has found something."""

    def _serve(self, rank: int) -> None:
        while rank == 0 and not self.failures:
            time.sleep(0.001)
        super()._serve(rank)


def test_what_a_hunt_finds_is_no_known_failure_of_its_own(tmp_path: Path) -> None:
    done = Hunted(World(workers=2), tmp_path, kind=LateHunt, max_cases=400)
    assert {record["purpose"] for record in done.tried} == {"hunt"}
    assert done.count("failure") + done.count("hit") == done.count("settled") == len(done.failed)


def test_what_the_ledger_waives_does_not_count(tmp_path: Path) -> None:
    failing, passing = Waiver(Case(bias=True), "bias", "https://x.org/1"), Waiver(Case(n=2), "batch", "https://x.org/2")
    done = Hunted(World(), tmp_path / "waived", max_cases=30, ledger=(failing,))
    assert (done.status, done.hunt.desk.mended) == (0, [])
    (kept,) = done.hunt.failures.values()
    assert kept.waived == "https://x.org/1"
    assert kept.hits == len(done.failed) > 2
    done = Hunted(World(), tmp_path / "mended", max_cases=30, ledger=(failing, passing))
    assert (done.status, done.hunt.desk.mended) == (1, ["batch"])


def test_a_hunt_stops_at_the_first_failure_if_it_is_to(tmp_path: Path) -> None:
    done = Hunted(World(), tmp_path, exit_first=True)
    assert (done.status, len(done.failed), len(done.hunt.failures)) == (1, 1, 1)
    assert len(done.tried) < 40
