"""The bugs of a hunt: each once, in its simplest form, with all that was ever counted for it."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.bugs import Bugs
from fuzz.campaign.failure import Failure
from fuzz.campaign.investigation import Finding
from fuzz.campaign.sighting import Sighting
from fuzz.campaign.store import Store
from fuzz.case import Case
from fuzz.verdict import failure

WRONG = failure("wrong-value", "exact", "out[0] = 3, must be 4")
ISSUE = "https://example.org/1"
FACETS = ("dtype", "bias", "scale", "padding")
SUBSETS = [some for count in range(len(FACETS) + 1) for some in itertools.combinations(FACETS, count)]
BUCKETS = st.builds(Bucket, st.sampled_from(("wrong result", "crash")), st.sampled_from(SUBSETS))
FOUND = st.lists(st.tuples(BUCKETS, st.sampled_from(("", "", ISSUE))), max_size=14)


class Told:
    """What a desk does with findings, as far as the bugs go."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.bugs = Bugs()
        self.hits: Counter[str] = Counter()
        self.findings = 0

    def find(self, bucket: Bucket, waived: str = "") -> None:
        self.findings += 1
        known = self.bugs.covering(bucket)
        if known is None:
            case = Case(seed=self.findings)
            finding = Finding(bucket, case, WRONG, Sighting(case, WRONG))
            self.bugs.add(finding, (self.findings, 0.5), self.store, "one.py", waived=waived)
        else:
            self.hits[self.bugs.waive(known, waived) if waived else self.bugs.hit(known)] += 1

    def restored(self) -> Bugs:
        """What a hunt that goes on in the folder begins with."""
        self.store.close()
        self.store, bugs = Store(self.store.folder), Bugs()
        bugs.restore(self.store, dict(self.hits))
        return bugs


def assert_each_is_there_once(told: Told, bugs: Bugs) -> None:
    for one, other in itertools.permutations(bugs.buckets, 2):
        assert not one.covers(other), f"{one} and {other} are one bug, kept twice"
    assert sum(one.hits for one in bugs.failures.values()) == told.findings, "a finding is counted twice, or not at all"
    names = [name for one in bugs.failures.values() for name in (one.id, *one.earlier_ids)]
    assert len(names) == len(set(names)), "an id stands for two bugs"
    folder = told.store.folder / "failures"
    assert {path.name for path in folder.iterdir()} == set(bugs.failures), "folders and bugs do not agree"
    for one in bugs.failures.values():
        moved = {path.name.removeprefix("was-") for path in (folder / one.id).glob("**/was-*")}
        assert moved == set(one.earlier_ids), f"what was merged into {one.id} is not in its folder"
        assert (told.store.folder / one.case_file).is_file()


def counting(bugs: Bugs) -> dict[str, Failure]:
    """The bugs by id, all of them as if nothing was waived."""
    return {name: msgspec.structs.replace(one, waived="") for name, one in bugs.failures.items()}


@settings(max_examples=60)
@given(found=FOUND)
def test_each_bug_is_kept_once_and_restored_as_it_was(
    found: list[tuple[Bucket, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    told = Told(tmp_path_factory.mktemp("hunt"))
    for bucket, waived in found:
        told.find(bucket, waived)
        assert_each_is_there_once(told, told.bugs)
        again = told.restored()
        assert_each_is_there_once(told, again)
        assert again.failures == counting(told.bugs), "a hunt that goes on begins with something else"
        assert set(again.buckets) == set(told.bugs.buckets)
    for bucket, _ in found:
        assert told.bugs.covering(bucket) is not None, f"{bucket} was found and is not known"
    told.store.close()


@settings(max_examples=40)
@given(found=FOUND, moves=st.integers(0, 3))
def test_a_kill_between_keeping_and_merging_leaves_nothing_twice(
    found: list[tuple[Bucket, str]], moves: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    told = Told(tmp_path_factory.mktemp("hunt"))
    for bucket, _ in found:
        told.find(bucket)
    with pytest.MonkeyPatch.context() as patch:
        move, left = told.store.merge_failure, [None] * moves

        def move_unless_killed(name: str, into: str) -> None:
            if not left:
                raise InterruptedError
            left.pop()
            move(name, into)

        patch.setattr(told.store, "merge_failure", move_unless_killed)
        for manifestation in ("wrong result", "crash"):
            try:
                told.find(Bucket(manifestation, ()))
            except InterruptedError:
                break
    assert_each_is_there_once(told, told.restored())
    told.store.close()


def test_a_simpler_form_takes_over_what_is_known_of_the_others(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.find(Bucket("wrong result", ("bias", "scale")))
    told.find(Bucket("wrong result", ("bias", "scale", "padding")))
    told.find(Bucket("wrong result", ("bias", "dtype")), ISSUE)
    first, second = told.bugs.failures
    told.find(Bucket("wrong result", ("bias",)))
    (kept,) = told.bugs.failures.values()
    assert kept.earlier_ids == (first, second)
    assert (kept.hits, kept.cases_to_find, kept.waived) == (4, 1, ISSUE)
    assert (tmp_path / "failures" / kept.id / f"was-{first}" / "case.json").is_file()
    told.store.close()


def test_a_worker_may_come_upon_a_bug_that_was_merged_meanwhile(tmp_path: Path) -> None:
    """It looked into its case while another worker found a simpler form of the bug that it is."""
    told = Told(tmp_path)
    known = Bucket("wrong result", ("bias", "scale"))
    told.find(known)
    told.find(Bucket("wrong result", ("bias",)))
    (name,) = told.bugs.failures
    assert told.bugs.hit(known) == told.bugs.waive(known, ISSUE) == name
    assert told.bugs.failures[name].hits == 4
    told.store.close()


def test_a_waiver_counts_as_long_as_the_ledger_has_it(tmp_path: Path) -> None:
    told = Told(tmp_path)
    bucket = Bucket("crash", ("padding",))
    told.find(bucket, ISSUE)
    assert [one.waived for one in told.bugs.failures.values()] == [ISSUE]
    again = told.restored()
    assert [one.waived for one in again.failures.values()] == [""], "a hunt without a ledger waives a bug"
    again.waive(bucket, ISSUE)
    assert [one.waived for one in again.failures.values()] == [ISSUE]
    assert again.has("crash")
    assert not again.has("timeout")
    told.store.close()
