"""Distilling: few cases, which reach all that was reached, as files that replay."""

from __future__ import annotations

from pathlib import Path

import pytest
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.campaign.census import features
from fuzz.campaign.distill import Candidate, Candidates, distill
from fuzz.campaign.reading import read_case, read_records, trial_of
from fuzz.campaign.store import Store
from fuzz.case import Case
from fuzz.cli import main
from fuzz.strategies import cases
from fuzz.verdict import Verdict

PASS = Verdict(status="pass")
REACHED = st.frozensets(st.sampled_from("abcdefgh"), min_size=1)


@given(reached=st.lists(REACHED, min_size=1, max_size=30))
def test_nothing_is_lost_and_nothing_is_needless(reached: list[frozenset[str]]) -> None:
    found = Candidates()
    for number, some in enumerate(reached):
        found.add(Candidate(Case(seed=number, n=1 + number % 5), some))
    chosen = [one.reached for one in found.fewest()]
    assert frozenset().union(*chosen) == frozenset().union(*reached) == found.features
    for one in range(len(chosen)):
        others = frozenset().union(*(some for place, some in enumerate(chosen) if place != one))
        assert others < found.features, "a case could go, and nothing would be lost"


def test_one_rich_case_is_kept_instead_of_many() -> None:
    found = Candidates()
    for number, letter in enumerate("abc"):
        found.add(Candidate(Case(seed=number), frozenset(letter)))
    found.add(Candidate(Case(seed=9, h=50), frozenset("abc")))
    assert [one.case.seed for one in found.fewest()] == [9]


@given(drawn=st.lists(cases(EVERYTHING), min_size=1, max_size=12))
@settings(max_examples=25)
def test_files_replay_what_passed(drawn: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hunt")
    store = Store(folder)
    store.record({"event": "hunt", "target": "one.py", "seed": 1, "device": "cpu"})
    for case in drawn:
        store.record_trial(case, PASS, purpose="hunt", at=0.0)
    store.record_trial(Case(seed=77), Verdict(status="fail", kind="wrong-value"), purpose="hunt", at=0.0)
    store.close()
    count, reached = distill(folder, folder / "corpus")
    kept = [read_case(path) for path in sorted((folder / "corpus").glob("*.json"))]
    assert count == len(kept) <= len(drawn)
    assert all(file.case in drawn and file.target == "one.py" for file in kept)
    wanted = {feature for case in drawn for feature in features(case, PASS)}
    assert {feature for file in kept for feature in features(file.case, PASS)} == wanted
    assert reached == len(wanted)


def test_a_record_survives_numbers_that_json_lacks(tmp_path: Path) -> None:
    case, verdict = Case(scale=float("inf")), Verdict(status="fail", kind="wrong-value", error_ratio=float("inf"))
    store = Store(tmp_path)
    store.record_trial(case, verdict, purpose="hunt", at=0.0)
    store.close()
    (record,) = read_records(tmp_path / "records.jsonl")
    assert trial_of(record) == (case, verdict)


def test_a_hunt_without_anything_to_keep_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", str(tmp_path), "--into", str(tmp_path / "corpus")]) == 2
    assert "there is no hunt in it" in capsys.readouterr().err
    Store(tmp_path).close()
    assert main(["distill", str(tmp_path), "--into", str(tmp_path / "corpus")]) == 2
    assert "no case passed in this hunt" in capsys.readouterr().err
