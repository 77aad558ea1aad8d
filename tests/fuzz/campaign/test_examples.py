"""Kept cases come back, and go from one hunt to another."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from planted import plant

from fuzz.campaign.examples import Examples
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.reading import read_records
from fuzz.case import Case, encode_case
from fuzz.cli import main
from fuzz.strategies import cases

DRAWN = st.lists(cases(EVERYTHING), max_size=5)


def examples(folder: Path, shared: Path | None = None) -> Examples:
    return Examples(folder, str(shared) if shared else None, pytest.fail)


@settings(max_examples=25)
@given(failing=DRAWN, reaching=DRAWN)
def test_what_is_kept_is_given_back(
    failing: list[Case], reaching: list[Case], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("hunt")
    kept = examples(folder)
    for case in failing:
        kept.keep("failing", case)
    for case in reaching:
        kept.keep("reaching", case)
    again = examples(folder)
    assert set(again.own("failing")) == set(failing)
    assert set(again.own("reaching")) == set(reaching)
    assert len(again.own("failing")) == len(set(failing)), "a case is given twice"
    assert again.others("failing") == again.others("reaching") == [], "nobody shares this folder"


@settings(max_examples=25)
@given(mine=DRAWN, yours=DRAWN)
def test_a_shared_folder_gives_what_others_kept(
    mine: list[Case], yours: list[Case], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("hunts")
    one, other = (examples(folder / name, folder / "shared") for name in ("mine", "yours"))
    for case in mine:
        one.keep("failing", case)
    for case in yours:
        other.keep("failing", case)
    one.close()
    other.close()
    assert set(one.others("failing")) == set(yours) - set(mine)
    assert set(other.others("failing")) == set(mine) - set(yours)
    assert set(one.own("failing")) == set(mine)


def test_closing_waits_for_what_is_written_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends does not wait for a thread that writes."""
    save = DirectoryBasedExampleDatabase.save

    def slow(self: DirectoryBasedExampleDatabase, key: bytes, value: bytes) -> None:
        if self.path == tmp_path / "shared":
            time.sleep(0.3)
        save(self, key, value)

    monkeypatch.setattr(DirectoryBasedExampleDatabase, "save", slow)
    kept = examples(tmp_path / "hunt", tmp_path / "shared")
    kept.keep("failing", Case(seed=7))
    kept.close()
    written = DirectoryBasedExampleDatabase(tmp_path / "shared")
    assert list(written.fetch(b"fused-fuzz failing")) == [encode_case(Case(seed=7))]


DAMAGED = [b"", b"{", b'{"n": "\xff"}', b'{"c_in": 0}', b'{"of a later version": 1}', b"[" * 9000]


@pytest.mark.parametrize("damaged", DAMAGED, ids=lambda value: str(value[:30]))
def test_a_value_that_is_no_case_is_skipped(damaged: bytes, tmp_path: Path) -> None:
    for place in ("hunt/examples", "shared"):
        database = DirectoryBasedExampleDatabase(tmp_path / place)
        for value in (damaged, encode_case(Case(seed=1 + len(place)))):
            database.save(b"fused-fuzz failing", value)
    kept = examples(tmp_path / "hunt", tmp_path / "shared")
    assert kept.own("failing") == [Case(seed=14)]
    assert kept.others("failing") == [Case(seed=7)]


def test_a_place_where_no_database_can_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^--database .*file.* is no folder"):
        examples(tmp_path / "hunt", tmp_path / "file")


def test_a_hunt_begins_with_what_another_one_found_failing(tmp_path: Path) -> None:
    flawed = plant("bias_after_scale", tmp_path)

    def hunted(name: str) -> list[dict[str, object]]:
        options = ["--workers", "1", "--seed", name, "--max-cases", "60", "-x", "--database", str(tmp_path / "shared")]
        assert main(["run", "--target", str(flawed), "--out", str(tmp_path / name), *options]) == 1
        return list(read_records(tmp_path / name / "records.jsonl"))

    found = [record for record in hunted("1") if record["event"] == "failure"]
    assert found, "the first hunt found nothing: the drill is void"
    trials = [record for record in hunted("2") if record["event"] == "trial"]
    assert trials[0]["purpose"] == "shared", "what another hunt found failing comes first"
    assert trials[0]["verdict"]["status"] == "fail"  # type: ignore[index]
    assert not [record for record in hunted("1") if record.get("purpose") == "shared"], "a hunt gives itself a case"
