"""A pytest plugin that collects each Hypothesis test as several items, so that pytest-xdist can spread one test.

A shard is a share of a test's examples with a seed of its own, which follows from the seed of the whole run. All that
this knows of Hypothesis's private names is here.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import shlex
import unittest
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, is_hypothesis_test
from hypothesis.stateful import RuleBasedStateMachine

Machine = TypeVar("Machine", bound=type[RuleBasedStateMachine])

_NIGHTLY: Final = "nightly"
# A test with `derandomize` draws the same in each run, so its shards do, too.
_SEED_OF_DERANDOMIZED: Final = "derandomized"
_SEED: Final = "_hypothesis_internal_use_seed"
_SETTINGS: Final = "_hypothesis_internal_use_settings"
_BLOB: Final = "_hypothesis_internal_use_reproduce_failure"
_KEY: Final = "_hypothesis_internal_add_digest"
_MACHINE: Final = "_hypothesis_state_machine_class"


@dataclass(frozen=True)
class Shard:
    """One of the parts that the examples of a test are shared out into.

    Attributes:
        number: Which one, from 1.
        count: Of how many.
        seed: Of its draws; None leaves that to the test.
    """

    number: int = 1
    count: int = 1
    seed: int | None = None

    @property
    def id(self) -> str:
        """Its part of a test's id."""
        return f"shard-{self.number}-of-{self.count}"

    def examples(self, whole: int) -> int:
        """Return how many of a test's examples are tried here."""
        share = whole // self.count + (self.number <= whole % self.count)
        # Hypothesis begins with the simplest example whatever the seed; only the first shard may count it.
        return share if self.number == 1 else share + 1

    def settings(self, whole: hypothesis.settings) -> hypothesis.settings:
        """Return the settings of this shard, given those of the test.

        What does not depend on the seed, explicit examples and those from the database, is left to the first shard.
        """
        if self.count == 1:
            return whole
        first_only = () if self.number == 1 else (Phase.explicit, Phase.reuse)
        return hypothesis.settings(
            whole,
            max_examples=self.examples(whole.max_examples),
            phases=[phase for phase in whole.phases if phase not in first_only],
            # pytest makes an instance of a test's class for each item.
            suppress_health_check={*whole.suppress_health_check, HealthCheck.differing_executors},
        )

    def seeded(self, machine: Machine) -> Machine:
        """Give a state machine the seed of this shard, and return it."""
        return machine if self.seed is None else hypothesis.seed(self.seed)(machine)


@dataclass(frozen=True)
class Plan:
    """How the tests of a run are sharded; the same in all its processes.

    Attributes:
        count: How many shards a test has at most; 1 leaves all tests as they are.
        seed: What the seeds of the shards follow from.
    """

    count: int
    seed: str

    def shards(self, test: object, whole: hypothesis.settings, most: int | None = None) -> list[Shard]:
        """Share out a test.

        Args:
            test: What `@seed` would mark.
            whole: The test's own settings.
            most: How many shards it can have, if not `count`.
        """
        is_fixed = getattr(test, _SEED, None) is not None or getattr(test, _BLOB, None) is not None
        if self.count == 1 or is_fixed:
            return [Shard()]
        can_split = Phase.generate in whole.phases
        count = min(most or self.count, whole.max_examples) if can_split else 1
        base = _SEED_OF_DERANDOMIZED if whole.derandomize else self.seed
        return [Shard(number, count, _derive(base, number, count)) for number in range(1, count + 1)]


PLAN: Final = pytest.StashKey[Plan]()
_SHARD: Final = pytest.StashKey[Shard]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("fuzz").addoption(
        "--shards",
        type=_at_least_one,
        metavar="N",
        help=f"collect each Hypothesis test as N items with N seeds, which share its examples; default: the number of "
        f"pytest-xdist's workers under the profile {_NIGHTLY}, else 1",
    )


def pytest_configure(config: pytest.Config) -> None:
    told = getattr(config, "workerinput", {}).get("sharding")
    if told is None:
        seed = config.getoption("--hypothesis-seed", default=None)
        count = config.getoption("--shards") or _default_count(config)
        told = {"count": count, "seed": secrets.randbits(32) if seed is None else seed}
    config.stash[PLAN] = Plan(count=told["count"], seed=str(told["seed"]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what its controller decided: all must collect the same items."""
    plan = node.config.stash[PLAN]
    node.workerinput["sharding"] = {"count": plan.count, "seed": plan.seed}


def pytest_report_header(config: pytest.Config) -> str | None:
    plan = config.stash[PLAN]
    if plan.count == 1:
        return None
    return f"shards: {plan.count} of each Hypothesis test; the same draws again: {_options(config)}"


@pytest.hookimpl(trylast=True)  # so that the shard is the last part of an id
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    plan, test = metafunc.config.stash[PLAN], metafunc.function
    if is_hypothesis_test(test):
        shards = plan.shards(test, getattr(test, _SETTINGS))
    elif "shard" in metafunc.fixturenames:
        shards = plan.shards(test, hypothesis.settings())
    else:
        return
    if len(shards) > 1:
        if "shard" not in metafunc.fixturenames:
            metafunc.fixturenames.append("shard")
        metafunc.parametrize("shard", shards, indirect=True, ids=[shard.id for shard in shards], scope="function")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: Any) -> Generator[None, Any, Any]:
    """Collect the `TestCase` of a state machine, which cannot be parametrized, as several classes."""
    made = yield
    machine = _machine_of(obj)
    if machine is None or not isinstance(made, pytest.Class):
        return made
    shards = collector.config.stash[PLAN].shards(machine, obj.settings)
    if len(shards) == 1:
        return made
    classes = [type(made).from_parent(collector, name=f"{name}[{shard.id}]") for shard in shards]
    for one, shard in zip(classes, shards, strict=True):
        one.obj = obj  # the module knows it under its own name only
        one.stash[_SHARD] = shard
    return classes


@pytest.fixture
def shard(request: pytest.FixtureRequest) -> Shard:
    """The share of a test that runs Hypothesis by itself: it takes settings, and the seed of a machine, from here."""
    given: Shard = getattr(request, "param", Shard())
    return given


@pytest.hookimpl(wrapper=True, trylast=True)  # inside Hypothesis's own, which changes what is changed here
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    part = _shard_of(item)
    if not isinstance(item, pytest.Function) or part is None:
        return (yield)
    item.stash[_SHARD] = part
    with pytest.MonkeyPatch.context() as patch:
        machine = _machine_of(item.cls)
        if machine is not None:
            _set_machine(item, machine, part, patch)
        elif is_hypothesis_test(item.obj):
            _set_given(item, part, patch)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    part = item.stash.get(_SHARD, None)
    if part is not None and report.when == "call" and report.failed:
        # pytest finds no method of a class whose name ends with brackets, but the class itself.
        node = item.parent if item.parent is not None and _SHARD in item.parent.stash else item
        again = f"pytest {shlex.quote(node.nodeid)} {_options(item.config)}"
        report.sections.append(("shard", f"{part.number} of {part.count}; the same draws again: {again}"))
    return report


def _set_given(item: pytest.Function, part: Shard, patch: pytest.MonkeyPatch) -> None:
    """Let a function under `@given` run as a shard."""
    test: Any = getattr(item.obj, "__func__", item.obj)
    patch.setattr(test, _SETTINGS, part.settings(getattr(test, _SETTINGS)))
    if part.seed is not None:
        patch.setattr(test, _SEED, part.seed)
    # Hypothesis keeps the failures of a parametrized test under the item's id; those of all shards are the test's.
    inner = test.hypothesis.inner_test
    if part.count > 1 and getattr(inner, _KEY, None) == item.nodeid.encode():
        whole = item.nodeid.replace(f"-{part.id}]", "]").replace(f"[{part.id}]", "")
        patch.setattr(inner, _KEY, whole.encode())


def _set_machine(item: pytest.Function, machine: type, part: Shard, patch: pytest.MonkeyPatch) -> None:
    """Let the `TestCase` of a state machine run as a shard."""
    instance: Any = item.instance
    instance.settings = part.settings(instance.settings)
    if part.seed is not None:
        patch.setattr(machine, _SEED, part.seed, raising=False)


def _shard_of(item: pytest.Item) -> Shard | None:
    """Return the shard that an item is; None where nothing is sharded."""
    if not isinstance(item, pytest.Function) or item.config.stash[PLAN].count == 1:
        return None
    parameters: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    if "shard" in parameters:
        given: Shard = parameters["shard"]
        return given
    if item.parent is not None and _SHARD in item.parent.stash:
        return item.parent.stash[_SHARD]
    if not is_hypothesis_test(item.obj):
        return None
    machine, test = _machine_of(item.cls), getattr(item.obj, "__func__", item.obj)
    own = getattr(test, _SETTINGS) if machine is None else item.instance.settings
    return item.config.stash[PLAN].shards(machine or test, own, most=1)[0]


def _machine_of(obj: object) -> type | None:
    """Return the state machine that a class is the `TestCase` of."""
    if not (isinstance(obj, type) and issubclass(obj, unittest.TestCase)):
        return None
    machine: type | None = getattr(getattr(obj, "runTest", None), _MACHINE, None)
    return machine


def _default_count(config: pytest.Config) -> int:
    if config.getoption("--hypothesis-profile", default=None) != _NIGHTLY or config.getoption("dist", "no") == "no":
        return 1
    # pytest-xdist writes `-n 2` as ["popen", "popen"], and a user may write `--tx 2*popen`.
    specs = [spec.partition("*") for spec in config.getoption("tx", None) or []]
    return sum(int(times) if star else 1 for times, star, _ in specs) or 1


def _options(config: pytest.Config) -> str:
    """Return the options that make the same draws."""
    plan, profile = config.stash[PLAN], config.getoption("--hypothesis-profile", default=None)
    targets = config.getoption("--target", default=None) or []
    words = [*(f"--target={target}" for target in targets), *([f"--hypothesis-profile={profile}"] if profile else [])]
    return shlex.join([*words, f"--hypothesis-seed={plan.seed}", f"--shards={plan.count}"])


def _derive(base: str, number: int, count: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{base} {number} {count}".encode()).digest()[:8])


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer of at least 1")
    return int(text)
