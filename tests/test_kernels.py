"""The kernel under test (`--target`) against the oracle: the properties that this repository exists for.

A failing example prints the case; keep it with `python -m fuzz run` or add it to tests/corpus.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.campaign.drawing import INDEPENDENT
from fuzz.campaign.reading import read_case
from fuzz.case import Case, Sprinkle
from fuzz.layout import CONTIGUOUS, Layout
from fuzz.strategies import cases, layouts
from fuzz.target import Target
from fuzz.trial import run_trial

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
# The target lives as long as the session, so examples share it by design.
shared = settings(
    backend=INDEPENDENT, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check(target: Target, case: Case, device: torch.device) -> None:
    reason = target.abilities.why_not(case)
    if reason:
        pytest.skip(f"{target.name}: {reason}")
    verdict = run_trial(target, case, device)
    assert not verdict.failed, (
        f"{target.name} · {verdict.kind} · {verdict.message}\n{verdict.where}\n{case!r}\n"
        "write this case to a file and run: python -m fuzz repro FILE"
    )


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(target: Target, device: torch.device, path: Path) -> None:
    case = read_case(path).case
    if not target.abilities.promises(case):
        pytest.skip(f"{target.name} makes no promise about dtype {case.dtype}, precision {case.precision} and {case!r}")
    check(target, case, device)


@shared
@given(data=st.data())
def test_numerics(target: Target, device: torch.device, data: st.DataObject) -> None:
    check(target, data.draw(cases(target.abilities)), device)


@shared
@given(data=st.data())
def test_masking(target: Target, device: torch.device, data: st.DataObject) -> None:
    """Sizes one past and one short of a tile, with values for which a padded lane would win the minimum."""
    tile = st.sampled_from((15, 16, 17, 31, 33, 64, 65))
    case = Case(
        n=data.draw(st.sampled_from((1, 2))),
        c_in=data.draw(tile),
        h=1,
        w=data.draw(tile),
        c_out=data.draw(tile),
        bias=True,
        scale=data.draw(st.sampled_from((1.0, -1.0, 0.0))),
        values=data.draw(st.sampled_from(("positive", "negative", "winner", "impulse"))),
        specials=data.draw(st.sampled_from(((), (Sprinkle("x", "inf"),)))),
        seed=data.draw(st.integers(0, 2**16)),
    )
    check(target, case, device)


@shared
@given(data=st.data())
def test_layouts(target: Target, device: torch.device, data: st.DataObject) -> None:
    """The same call whatever the memory layout; small, with values that tell elements apart."""
    case = Case(n=2, c_in=3, h=4, w=5, c_out=4, kh=2, kw=3, bias=True, values="lattice", x_layout=data.draw(layouts(4)))
    if target.abilities.kind == "function":
        drawn = {"weight_layout": data.draw(layouts(4)), "bias_layout": data.draw(layouts(1))}
        case = msgspec.structs.replace(case, **drawn)
    check(target, case, device)


def test_an_empty_batch_gives_an_empty_result(target: Target, device: torch.device) -> None:
    check(target, Case(n=0, c_in=3, h=4, w=5, c_out=4, kh=2, kw=3), device)


def test_a_kernel_larger_than_its_input_is_rejected(target: Target, device: torch.device) -> None:
    if not target.abilities.every_dtype:
        pytest.skip(f"{target.name} does not promise PyTorch's errors")
    check(target, Case(h=2, w=2, kh=3, kw=3), device)


@pytest.mark.parametrize("layout", [CONTIGUOUS, Layout(expand=(0, 1, 2, 3)), Layout(unit_stride=2**31)], ids=repr)
def test_strides_that_mean_nothing_are_not_used(target: Target, device: torch.device, layout: Layout) -> None:
    """Dimensions of size 1 may have any stride at all, and stride 0 is a stride."""
    check(target, Case(c_in=4, h=3, w=3, c_out=5, kh=3, kw=3, x_layout=layout), device)
