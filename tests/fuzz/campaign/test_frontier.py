"""The frontier: few models, each of them a case that reached something, the newest among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.campaign import frontier as module
from fuzz.campaign.frontier import Frontier
from fuzz.case import Case

TRAITS = st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=4, unique=True)
# Few seeds: the same case comes more than once.
ADDED = st.lists(st.tuples(st.integers(0, 60).map(lambda seed: Case(seed=seed)), TRAITS), max_size=150)
COUNTS = st.dictionaries(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.integers(0, 9))
MOST = 32


@given(added=ADDED, counts=COUNTS)
def test_models_are_a_few_of_what_was_added(added: list[tuple[Case, list[str]]], counts: dict[str, int]) -> None:
    frontier = Frontier()
    for case, new in added:
        frontier.add(case, new)
    models = frontier.models(counts)
    assert len(models) <= MOST
    assert len(models) == len(set(models)), "a model is there twice"
    assert set(models) <= {case for case, _ in added}
    assert bool(models) == bool(added)
    newest = [case for case, _ in added[-MOST // 2 :]]
    assert set(newest) <= set(models), "the newest are not among the models"
    assert models == frontier.models(counts), "asking changes what is answered"


def test_what_holds_the_rarest_trait_stays_a_model() -> None:
    frontier = Frontier()
    frontier.add(Case(seed=1), ["rare"])
    for seed in range(2, 200):
        frontier.add(Case(seed=seed), [f"common {seed}"])
    counts = {"rare": 1, **{f"common {seed}": 5 for seed in range(2, 200)}}
    assert Case(seed=1) in frontier.models(counts)
    assert Case(seed=1) not in frontier.models({**counts, "rare": 9}), "what is common now need not be varied"


def test_it_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_HOLDERS", 10)
    frontier = Frontier()
    for seed in range(200):
        frontier.add(Case(seed=seed), [str(seed)])
    assert len(frontier._holders) == 10
    assert Case(seed=199) in frontier.models({}), "a full frontier keeps the newest all the same"
    assert Case(seed=0) in frontier.models({})
