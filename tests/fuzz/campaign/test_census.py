"""The census: the same whether counted as trials are made or from what was written down of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import verdicts

from fuzz.campaign import census as module
from fuzz.campaign.census import TRIED, Census, census_of, features, known_features
from fuzz.campaign.store import Store
from fuzz.campaign.traits import traits
from fuzz.case import Case
from fuzz.checksum import sealed
from fuzz.strategies import cases
from fuzz.verdict import Verdict

PASS = Verdict(status="pass", lane="interval", error_ratio=0.5)
LINES = st.lists(st.sampled_from(("12 load mixed", "12 load all_true", "30 store mixed")), unique=True).map(tuple)
TRIALS = st.tuples(
    cases(EVERYTHING, effort=0.1), verdicts(), st.sampled_from((*TRIED, "shrink")), LINES, st.integers(0, 2)
)
Trial = tuple[Case, Verdict, str, tuple[str, ...], int]


def begin(store: Store, census: Census, *, resume: bool) -> Census:
    """Record that a hunt begins, as the desk does, and return what it counts from."""
    census = census if resume else Census()
    census.hunts, census.target, census.device = census.hunts + 1, "one.py", "cpu"
    store.record({"event": "hunt", "at": census.seconds, "target": "one.py", "device": "cpu", "resume": resume})
    return census


def make(store: Store, census: Census, trial: Trial, at: float) -> None:
    """Count a trial, and record it."""
    case, verdict, purpose, lines, lost = trial
    store.record_trial(case, verdict, purpose=purpose, at=at, lines=lines, lost=lost)
    census.seconds = at
    census.restarts += lost
    if purpose in TRIED:
        census.add(case, verdict, traits(case, verdict, lines))


def write_state(store: Store, census: Census) -> None:
    census.records_bytes = store.records_bytes
    store.write_state(msgspec.to_builtins(census))


def with_checksum(text: bytes) -> bytes:
    """Seal an object that is wrong in itself, so that it is not refused for its checksum alone."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text
    return msgspec.json.encode(sealed(value)) if isinstance(value, dict) else text


def counted(census: Census) -> dict[str, Any]:
    """What a census holds, without what is no count."""
    plain: dict[str, Any] = msgspec.to_builtins(census)
    del plain["records_bytes"]
    return plain


@settings(max_examples=40)
@given(data=st.data(), made=st.lists(TRIALS, max_size=6))
def test_records_come_to_what_was_counted_wherever_the_state_was_written(
    data: st.DataObject, made: list[Trial], tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = data.draw(st.sets(st.integers(0, len(made))), label="state written before trials")
    again = data.draw(
        st.dictionaries(st.integers(0, len(made)), st.booleans(), max_size=2), label="hunts begun, resumed"
    )
    folder = tmp_path_factory.mktemp("hunt")
    store = Store(folder)
    census = begin(store, Census(), resume=False)
    for number, trial in enumerate([*made, None]):
        if number in again:
            census = begin(store, census, resume=again[number])
        if number in written:
            write_state(store, census)
        if trial is not None:
            make(store, census, trial, at=1.0 + number)
    store.close()
    assert counted(census_of(folder)) == counted(census)
    (folder / "state.json").unlink(missing_ok=True)
    assert counted(census_of(folder)) == counted(census), "the records alone come to something else"


def two_trials(folder: Path, *, state_after: int = 2) -> Census:
    store = Store(folder)
    census = begin(store, Census(), resume=False)
    for number, case in enumerate((Case(), Case(n=2))):
        make(store, census, (case, PASS, "hunt", (), 0), at=1.0 + number)
        if number + 1 == state_after:
            write_state(store, census)
    store.close()
    return census


@pytest.fixture(scope="module")
def hunted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Census]:
    folder = tmp_path_factory.mktemp("hunted")
    return folder, two_trials(folder)


@given(data=st.data())
def test_a_state_that_is_cut_off_is_not_believed(data: st.DataObject, hunted: tuple[Path, Census]) -> None:
    folder, census = hunted
    state = folder / "state.json"
    whole = state.read_bytes()
    try:
        state.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        assert counted(census_of(folder)) == counted(census)
    finally:
        state.write_bytes(whole)


@pytest.mark.parametrize(
    "state",
    [
        b'{"target": "\xff"}',
        b"[]",
        b'{"cases": "many"}',
        b'{"cases": 7, "records_bytes": -1}',
        b'{"cases": 7, "records_bytes": 3}',
        b'{"cases": 7, "records_bytes": 1000000}',
    ],
    ids=["not UTF-8", "a list", "wrong type", "negative", "within a record", "longer records"],
)
def test_a_state_that_is_damaged_or_of_other_records_is_not_believed(state: bytes, tmp_path: Path) -> None:
    census = two_trials(tmp_path)
    (tmp_path / "state.json").write_bytes(with_checksum(state))
    assert counted(census_of(tmp_path)) == counted(census)


def test_a_state_spares_reading_the_records(tmp_path: Path) -> None:
    """If it did not, the tests above would say nothing of it."""
    census = two_trials(tmp_path, state_after=1)
    lines = (tmp_path / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_bytes(b"".join(b"#" * (len(line) - 1) + b"\n" for line in lines[:2]) + lines[2])
    assert counted(census_of(tmp_path)) == counted(census)


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "trial", "purpose": "hunt", "case": {}, "verdict": {"status": "\xff"}}',
        b'{"event": "trial", "purpose": "hunt", "case": {"c_in": 0}, "verdict": {"status": "pass"}}',
        b'{"event": "trial", "purpose": "hunt", "case": {}, "verdict": "pass"}',
        b'{"event": "round", "number": "seven"}',
        b'{"event": "of a later version", "at": null}',
        b'{"event": "tri',
        b"7",
    ],
)
def test_a_record_that_cannot_be_read_is_left_out(line: bytes, tmp_path: Path) -> None:
    census = two_trials(tmp_path)
    with (tmp_path / "records.jsonl").open("ab") as records:
        records.write(with_checksum(line) + b"\n")
    found = census_of(tmp_path)
    assert (found.cases, found.seconds) == (census.cases, census.seconds)


def test_a_ratio_that_is_no_number_is_not_counted(tmp_path: Path) -> None:
    two_trials(tmp_path)
    odd = (
        b'{"event":"trial","purpose":"hunt","case":{},"verdict":{"status":"pass","lane":"interval","error_ratio":null}}'
    )
    with (tmp_path / "records.jsonl").open("ab") as records:
        records.write(with_checksum(odd) + b"\n")
    found = census_of(tmp_path)
    assert (found.cases, found.worst_error_ratio) == (3, {"float32": 0.5})


@settings(max_examples=40)
@given(made=st.lists(TRIALS, max_size=12), most=st.sampled_from((2, 4, 6)))
def test_counts_agree_with_each_other(made: list[Trial], most: int) -> None:
    census, new = Census(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_POINTS", most)
        patch.setattr(module, "_MOST_REASONS", most)
        for case, verdict, _, lines, _ in made:
            new += census.add(case, verdict, traits(case, verdict, lines))
    declined = [verdict.message for _, verdict, *_ in made if verdict.status == "declined"]
    assert (census.tried, sum(census.declined.values())) == (len(made), len(declined))
    assert len(census.declined) <= most + 1, "each case may have a reason of its own: they have no end"
    assert new == len(census.traits)
    assert len(census.curve) <= most
    assert all(early < late for early, late in zip(census.curve, census.curve[1:], strict=False)), census.curve
    assert all(one[1] < two[1] for one, two in zip(census.curve, census.curve[1:], strict=False)), census.curve
    if census.curve:
        assert census.curve[-1][1] == len(census.traits), "the curve ends before all traits were met"
    assert sum(count.tried for count in census.sizes.values()) == census.cases
    assert sum(count.failed for count in census.sizes.values()) == len(census.pending)
    assert set(census.reached) == set(census.features)
    assert all(1 <= first <= census.cases for first in census.reached.values())
    assert msgspec.json.decode(msgspec.json.encode(census), type=Census) == census


@given(case=cases(EVERYTHING, effort=0.1), lane=st.sampled_from(("exact", "interval", "errors")))
def test_every_feature_of_a_trial_that_passes_is_a_known_one(case: Case, lane: Any) -> None:
    unknown = set(features(case, Verdict(status="pass", lane=lane))) - known_features()
    assert not unknown, f"a report would not say whether {unknown} was ever met"
