"""The journal: the last case or none at all, however it was cut off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from everything import EVERYTHING
from hypothesis import given
from hypothesis import strategies as st

from fuzz.campaign.journal import Journal, journaled_cases
from fuzz.case import Case
from fuzz.strategies import cases

BEGUN = st.lists(cases(EVERYTHING), min_size=1, max_size=5)


def begin_all(path: Path, begun: list[Case]) -> None:
    journal = Journal(str(path))
    for case in begun:
        journal.begin(case)
    journal.close()


@given(begun=BEGUN, data=st.data())
def test_what_is_left_is_the_last_case_or_nothing(
    begun: list[Case], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trying") / "0.json"
    begin_all(path, begun)
    assert journaled_cases(path.parent) == [begun[-1]]
    text = path.read_bytes()
    path.write_bytes(text[: data.draw(st.integers(0, len(text)))])
    assert journaled_cases(path.parent) in ([], [begun[-1]]), "a case that nobody was at"


@given(begun=BEGUN, last=cases(EVERYTHING))
def test_a_kill_between_two_steps_leaves_no_other_case(
    begun: list[Case], last: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trying") / "0.json"
    begin_all(path, begun)
    journal = Journal(str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "ftruncate", lambda *_: None)
        journal.begin(last)
    journal.close()
    assert journaled_cases(path.parent) in ([], [last]), "a case that nobody was at"


def test_each_worker_has_its_own_and_what_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    for rank in range(3):
        begin_all(tmp_path / f"{rank}.json", [Case(seed=rank)])
    (tmp_path / "1.json").write_bytes(b'{"n": "\xff"}')
    (tmp_path / "4.json").mkdir()
    assert journaled_cases(tmp_path) == [Case(seed=0), Case(seed=2)]
    assert journaled_cases(tmp_path / "nowhere") == []


def test_nothing_is_written_before_the_first_case(tmp_path: Path) -> None:
    begin_all(tmp_path / "0.json", [])
    assert not list(tmp_path.iterdir())
