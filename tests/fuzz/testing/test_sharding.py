"""Shards: the items of a test differ in their draws, add up to the test, and can be seen again."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from inner_pytest import run_pytest

from fuzz.testing.sharding import Plan, Shard

PLUGIN = ("-p", "fuzz.testing.sharding")
TESTS = """
import os, unittest
import pytest
from hypothesis import example, given, seed, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

NUMBERS = st.integers(0, 2**62)

def record(value):
    with open(os.environ["DRAWN"], "a") as file:
        print(os.environ["PYTEST_CURRENT_TEST"].rsplit(" ", 1)[0], value, file=file)

@settings(max_examples=20)
@given(x=NUMBERS)
@example(x=-1)
def test_plain(x):
    record(x)

@pytest.mark.parametrize("word", ["u", "v"])
@settings(max_examples=20)
@given(x=NUMBERS)
def test_parametrized(word, x):
    record(x)

class TestMethods:
    @settings(max_examples=20)
    @given(x=NUMBERS)
    def test_method(self, x):
        record(x)

class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.seen = []

    @rule(x=NUMBERS)
    def take(self, x):
        self.seen.append(x)

    def teardown(self):
        record("-".join(map(str, self.seen)))

CHOSEN = settings(max_examples=20, stateful_step_count=2)
TestMachine = Machine.TestCase
TestMachine.settings = CHOSEN

def test_machine_with_a_fixture(shard, tmp_path):
    run_state_machine_as_test(shard.seeded(type("Bound", (Machine,), {})), settings=shard.settings(CHOSEN))

@settings(max_examples=20, derandomize=True)
@given(x=NUMBERS)
def test_derandomized(x):
    record(x)

@settings(max_examples=2)
@given(x=NUMBERS)
def test_few(x):
    record(x)

@seed(5)
@settings(max_examples=20)
@given(x=NUMBERS)
def test_seeded(x):
    record(x)

class TestUnit(unittest.TestCase):
    @settings(max_examples=20)
    @given(x=NUMBERS)
    def test_method(self, x):
        record(x)

def test_ordinary():
    record(0)
"""
FAILING = """
import pytest
from hypothesis import given, settings, strategies as st

@pytest.mark.parametrize("word", ["u"])
@settings(max_examples=60)
@given(x=st.integers(0, 2**62))
def test_fails(word, x):
    print("drawn", x)
    assert x < 2**40
"""
PROFILES = """
from hypothesis import settings
settings.register_profile("nightly", max_examples=9)
"""
SPLIT = {
    "test_plain[{}]": 20,
    "test_parametrized[u-{}]": 20,
    "test_parametrized[v-{}]": 20,
    "TestMethods::test_method[{}]": 20,
    "TestMachine[{}]::runTest": 20,
    "test_machine_with_a_fixture[{}]": 20,
    "test_derandomized[{}]": 20,
}
WHOLE = {"test_seeded": 20, "TestUnit::test_method": 20, "test_ordinary": 1}


def draws(folder: Path, *options: str, plugin: bool = True) -> tuple[dict[str, list[str]], str]:
    """Run the tests; return what each item drew, in order, and what pytest printed."""
    folder.mkdir(exist_ok=True)
    (folder / "test_drawn.py").write_text(TESTS)
    record = folder / "drawn.txt"
    record.unlink(missing_ok=True)
    result = run_pytest(folder, *(PLUGIN if plugin else ()), *options, DRAWN=str(record))
    assert result.returncode == 0, result.stdout + result.stderr
    drawn: dict[str, list[str]] = {}
    for line in record.read_text().splitlines():
        item, _, value = line.removeprefix("test_drawn.py::").partition(" ")
        drawn.setdefault(item, []).append(value)
    return drawn, result.stdout


@pytest.fixture(scope="module")
def thirds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What was drawn in three shards."""
    return draws(tmp_path_factory.mktemp("thirds"), "--shards=3", "--hypothesis-seed=7")[0]


def shards_of(drawn: dict[str, list[str]], name: str, count: int = 3) -> list[list[str]]:
    return [drawn[name.format(f"shard-{number}-of-{count}")] for number in range(1, count + 1)]


def test_every_test_that_can_be_split_is(thirds: dict[str, list[str]]) -> None:
    split = {name.format(f"shard-{number}-of-3") for name in SPLIT for number in (1, 2, 3)}
    few = {f"test_few[shard-{number}-of-2]" for number in (1, 2)}
    assert set(thirds) == split | few | set(WHOLE)


@pytest.mark.parametrize("name", SPLIT)
def test_shards_draw_different_examples_which_add_up_to_the_test(thirds: dict[str, list[str]], name: str) -> None:
    parts = [{value for value in part if value != "-1"} for part in shards_of(thirds, name)]
    simplest = set.intersection(*parts)
    assert len(simplest) == 1, f"the shards of {name} share more than the simplest example: {simplest}"
    assert len(set.union(*parts)) == SPLIT[name]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1, "one shard takes longer than the others"


def test_explicit_examples_are_tried_in_one_shard(thirds: dict[str, list[str]]) -> None:
    assert ["-1" in part for part in shards_of(thirds, "test_plain[{}]")] == [True, False, False]


@pytest.mark.parametrize("name", WHOLE)
def test_what_cannot_be_split_stays_whole(thirds: dict[str, list[str]], name: str) -> None:
    assert len(thirds[name]) == WHOLE[name]


def test_workers_collect_and_draw_the_same_as_one_process(thirds: dict[str, list[str]], tmp_path: Path) -> None:
    assert draws(tmp_path, "--shards=3", "--hypothesis-seed=7", "-n2")[0] == thirds


def test_only_derandomized_and_seeded_tests_ignore_the_seed(thirds: dict[str, list[str]], tmp_path: Path) -> None:
    other, _ = draws(tmp_path, "--shards=3", "--hypothesis-seed=8")
    same = {re.sub(r"\[.*", "", item) for item in thirds if thirds[item] == other[item] and len(thirds[item]) > 2}
    assert same == {"test_derandomized", "test_seeded"}


def test_a_night_can_be_repeated_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(PROFILES)
    night, printed = draws(tmp_path, "--hypothesis-profile=nightly", "-n2")
    told = re.search(r"^shards: 2 .*: (--hypothesis-profile=nightly --hypothesis-seed=\d+ --shards=2)$", printed, re.M)
    assert told, f"the header does not say how to see the same draws again: {printed}"
    assert draws(tmp_path, *shlex.split(told[1]))[0] == night


@pytest.mark.parametrize("options", [[], ["--shards=1"], ["--hypothesis-profile=nightly"]])
def test_without_shards_nothing_changes(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "conftest.py").write_text(PROFILES)
    kept = [option for option in options if not option.startswith("--shards")]
    common = ["--hypothesis-seed=7", "--deselect=test_drawn.py::test_machine_with_a_fixture"]  # it needs the plugin
    without, _ = draws(tmp_path, *kept, *common, plugin=False)
    drawn, printed = draws(tmp_path, *options, *common)
    assert drawn == without
    assert "shards:" not in printed


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
def test_a_count_that_is_none_is_one_line(tmp_path: Path, count: str) -> None:
    result = run_pytest(tmp_path, *PLUGIN, f"--shards={count}")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--shards: '{count}' must be an integer of at least 1" in result.stderr


def test_a_failure_says_how_to_see_it_again(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILING)
    first = run_pytest(tmp_path, *PLUGIN, "--shards=2", "-k", "shard-2-of-2")
    told = re.search(r"^2 of 2; the same draws again: pytest (.*)$", first.stdout, re.M)
    assert told, first.stdout
    again = run_pytest(tmp_path, *PLUGIN, *shlex.split(told[1]))
    assert re.findall(r"^drawn .*", first.stdout, re.M) == re.findall(r"^drawn .*", again.stdout, re.M)
    assert "1 failed" in again.stdout


def test_a_failure_of_a_shard_is_replayed_by_the_whole_test(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILING)
    assert "1 failed" in run_pytest(tmp_path, *PLUGIN, "--shards=2", "-k", "shard-2-of-2").stdout
    whole = run_pytest(tmp_path, *PLUGIN)
    drawn = re.findall(r"^drawn (\d+)", whole.stdout, re.M)
    assert int(drawn[0]) == 2**40, f"what the shard has found is not tried first: {whole.stdout}"


@given(whole=st.integers(1, 5000), count=st.integers(1, 64))
def test_every_draw_but_the_simplest_is_made_once(whole: int, count: int) -> None:
    count = min(whole, count)
    shares = [Shard(number, count, 0).examples(whole) for number in range(1, count + 1)]
    assert min(shares) >= 1
    assert sum(share - 1 for share in shares) == whole - 1


@given(base=st.integers().map(str), count=st.integers(2, 64))
def test_seeds_differ(base: str, count: int) -> None:
    shards = Plan(count, base).shards(None, settings(max_examples=100, derandomize=False))
    assert len({shard.seed for shard in shards}) == count


def test_a_test_that_draws_nothing_is_not_split() -> None:
    assert len(Plan(8, "1").shards(None, settings(phases=[Phase.explicit]))) == 1
