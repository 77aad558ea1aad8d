"""The static gate: silent about the kernels as they are, and one true line about each way in which they get slower."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import triton

import fused
from fuzz.campaign.isolation import UsageError
from fuzz.gate.baseline import BASELINE, read_baseline
from fuzz.gate.command import gate_static
from fuzz.gate.devices import CARDS

SOURCE = Path(fused.__file__).with_name("conv_scale_min.py")
CANDIDATES = Path(__file__).parents[1] / "candidates"
WORKERS = min(2, len(os.sched_getaffinity(0)))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def gate(*targets: str, baseline: Path | None = None, update: bool = False) -> tuple[str, int]:
    return gate_static(targets, "RTX 4090", WORKERS, baseline, update=update, json_file=None)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kept baseline, or, with another Triton than that is of, one of the kernel as it is."""
    if read_baseline().triton == triton.__version__:
        return BASELINE
    folder = tmp_path_factory.mktemp("baseline")
    same = folder / "same.py"
    same.write_text(SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    gate(f"{same}:conv_scale_min", baseline=folder / "baseline.json", update=True)
    return folder / "baseline.json"


@pytest.mark.skipif(
    read_baseline().triton != triton.__version__,
    reason=f"the baseline is of another triton than {triton.__version__}: the pair of constraints.txt runs it",
)
def test_the_kernels_are_as_they_were() -> None:
    text, status = gate()
    assert status == 0, (
        f"the gate has complaints; if they are on purpose, `python -m fuzz gate static --update`:\n{text}"
    )
    builds = len(read_baseline().targets["fused"])
    assert f"fused: no complaints; {builds} of {builds} builds compared" in text, f"a configuration is gone:\n{text}"


CHANGES = {
    "a block twice as large": (
        '"strip": {**large, "BLOCK_M": 128,',
        '"strip": {**large, "BLOCK_M": 256,',
        "strip float32 tf32: strip_kernel spills",
    ),
    "addresses that Triton knows nothing of": (
        "    lane = 16 // (x.element_size() if ring or direct else 2)\n",
        "    lane = 1\n",
        "strip float32 tf32: strip_kernel loads",
    ),
    "more stages than fit": (
        '"STAGES": max(2, min(layout["num_stages"], room // (2 * block_k * (layout["BLOCK_M"] + block_n)))),',
        '"STAGES": 5,',
        "strip float32 tf32: strip_kernel needs",
    ),
    "ieee instead of tf32": (
        "input_precision=PRECISION",
        'input_precision="ieee"',
        "medium float32 tf32: conv_scale_min_kernel multiplies without tensor cores",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_makes_it_slower_is_told(name: str, baseline: Path, tmp_path: Path) -> None:
    before, after, line = CHANGES[name]
    text = SOURCE.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{SOURCE.name} has changed: {before!r} is not in it once"
    changed = tmp_path / "changed.py"
    changed.write_text(text.replace(before, after), encoding="utf-8")
    found, status = gate(f"{changed}:conv_scale_min", baseline=baseline)
    worse = [one for one in found.splitlines() if one.startswith("worse:")]
    assert status == 1, f"{name}: the gate lets it pass:\n{found}"
    assert any(line in one for one in worse), f"{name}: no line about {line!r} among\n" + "\n".join(worse)


@pytest.mark.parametrize("name", ["autotuned", "descriptors", "two_kernels"])
def test_any_kernel_is_built(name: str) -> None:
    found, status = gate(str(CANDIDATES / f"{name}.py"))
    assert status == 0, f"a sound kernel is accused:\n{found}"
    named = any(pipe in found for pipe in ("tensor", "integer", "latency"))
    assert named, f"no loop that multiplies was found:\n{found}"


def test_one_name_in_common_makes_no_copy() -> None:
    kept = read_baseline()
    own = {build.name for build in kept.targets["two-pass"]}
    one = next(iter(own))
    assert kept.builds("two-pass", set()).keys() == own
    assert kept.builds("copy.py", own).keys() == own
    assert not kept.builds("another.py", {one}), "somebody's kernel of the same name is compared with ours"
    assert not kept.builds("another.py", {one, "chosen float32 tf32: my_kernel", "chosen float16: my_kernel"})


def test_a_card_without_a_description_is_named() -> None:
    with pytest.raises(UsageError, match="--card GTX 1: there is a description of RTX 4090"):
        gate_static((), "GTX 1", 1, None, update=False, json_file=None)


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_rates_are_whole_products_in_a_clock(card) -> None:  # type: ignore[no-untyped-def]
    """A rate and the clock that it is at come from different tables: they must be of the same card."""
    for kind in ("float16", "tf32"):
        products = card.products_per_clock(kind)
        nearest = 2 ** round(torch.tensor(products).log2().item())
        assert abs(products / nearest - 1) < 0.02, f"{card.name}: {products:.1f} {kind} products in a clock"
