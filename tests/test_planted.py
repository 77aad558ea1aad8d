"""Tests of the tester: planted flaws are found and shrunk as a person would, sound kernels are not accused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from planted import PLANTED, SOUND, TILED, plant, plant_sound

from fuzz.campaign import pace
from fuzz.campaign.hunt import Hunt
from fuzz.campaign.isolation import IsolatedTarget
from fuzz.campaign.plan import Plan
from fuzz.campaign.reading import read_case
from fuzz.case import Case, Sprinkle
from fuzz.layout import CHANNELS_LAST, Layout
from fuzz.target import load_target
from fuzz.trial import run_trial

# The flaws that are hunted here, one of most rooms: all of them are hunted by benchmarks/flaws.py, which takes an hour.
# These are the shrunk cases that count as minimal: every field that is set is one that the flaw needs. Where two are
# equally simple, either will do.
MINIMAL: dict[str, list[Case]] = {
    "nan_dropped": [Case(specials=(Sprinkle("x", "nan"),)), Case(scale=float("nan"))],
    "finite_sentinel": [
        Case(specials=(Sprinkle("x", "inf"),)),
        Case(scale=float("inf")),
        Case(values="huge"),
        Case(scale=2.0**100),
    ],
    "padded_channels_zero": [Case()],
    "last_products_unmasked": [Case()],
    "stride_assumed": [
        Case(**sizes, **values, x_layout=layout)
        for sizes in (
            {"n": 2},
            {"c_in": 2},
            {"h": 2},
            {"w": 2},
            {"c_in": 2, "h": 2},
            {"c_in": 2, "w": 2},
            {"h": 2, "w": 2},
        )
        for values in ({}, {"values": "lattice"})
        for layout in (
            *(Layout(step=tuple(2 if dim == stepped else 1 for dim in range(4))) for stepped in range(4)),
            *(Layout(order=order) for order in ((0, 2, 3, 1), (0, 1, 3, 2), (1, 0, 2, 3), (3, 2, 1, 0))),
            *(Layout(expand=(dim,)) for dim in range(4)),
            Layout(margin=1),
        )
    ],
    "bias_after_scale": [Case(bias=True, scale=2.0)],
    "minimum_before_scale": [Case(c_out=2, scale=-1.0, values="lattice")],
    "identity_before_scale": [Case(scale=-1.0), Case(scale=0.0)],
    "last_channels_skipped": [Case(c_out=33, values="impulse")],
    "columns_beyond_128_wrap": [Case(w=129, values="lattice")],
    "store_unmasked": [Case()],
    "half_precision_products": [Case(values="uniform")],
    "input_overwritten": [Case(values="lattice"), Case(earlier=("contents",))],
    "crashes": [Case(c_in=3)],
    "loops": [Case(scale=-1.0)],
}


def plan(target: Path, out: Path, **options: object) -> Plan:
    chosen = {"seed": 1, "seconds": 120.0, "exit_first": True, "device": "cpu"} | options
    return Plan(target=str(target), out=out, **chosen)  # type: ignore[arg-type]


def without_seed(case: Case) -> Case:
    return msgspec.structs.replace(case, seed=0)


@pytest.mark.parametrize("name", MINIMAL)
def test_a_planted_flaw_is_found_and_shrunk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "loops":
        # A loop costs its time-out at every step; the real limits are for kernels that are merely slow.
        monkeypatch.setattr(pace, "_LEAST_LIMIT", 2.5)
    flawed = plant(name, tmp_path)
    status = Hunt(plan(flawed, tmp_path / "out")).run()
    assert status == 1, f"{name} was not found: is there a strategy that reaches it, and a check that sees it?"
    (folder,) = (tmp_path / "out" / "failures").iterdir()
    case = read_case(folder).case
    assert without_seed(case) in MINIMAL[name], (
        f"{name} shrank to {case!r}: teach fuzz/shrinking.py a simpler neighbour"
    )
    with IsolatedTarget("fused", "cpu") as fused:
        verdict = fused.run(case, 60.0)
    assert not verdict.failed, f"the case accuses the sound kernel, too: {verdict.message}"


def test_a_sound_candidate_is_not_accused(tmp_path: Path) -> None:
    hunt = Hunt(plan(TILED, tmp_path, max_cases=150))
    status = hunt.run()
    assert status == 0, f"a sound kernel was accused: {[failure.message for failure in hunt.failures.values()]}"
    assert hunt.census.cases >= 150


@pytest.mark.parametrize("name", PLANTED)
def test_a_flaw_is_one_change_that_compiles(name: str) -> None:
    flaw = PLANTED[name]
    assert flaw.room
    assert flaw.wrong
    compile(flaw.source(), name, "exec")


# Small calls for what kernels differ in: tiles, tails, layouts, NaN, infinities, scales that are none, an empty batch.
SMALL = [
    Case(),
    Case(n=0, c_in=3, h=4, w=5, c_out=4, kh=2, kw=2),
    Case(n=2, c_in=3, h=5, w=6, c_out=5, kh=2, kw=2, bias=True, scale=-2.0, values="lattice"),
    Case(n=2, c_in=3, h=3, w=4, c_out=4, kh=2, kw=2, values="lattice", x_layout=CHANNELS_LAST),
    Case(n=2, c_in=2, h=3, w=4, c_out=4, values="lattice", x_layout=Layout(margin=1, expand=(0,))),
    Case(c_in=33, w=3, c_out=33, bias=True, values="winner"),
    Case(w=130, c_out=2, values="impulse"),
    Case(w=3, c_out=40, values="lattice", specials=(Sprinkle("weight", "nan"),)),
    Case(c_in=2, w=3, c_out=40, values="lattice", scale=-1.0, specials=(Sprinkle("x", "inf", 2),)),
    Case(w=3, c_out=7, values="positive", scale=0.0),
    Case(w=3, c_out=7, values="lattice", scale=float("inf")),
    # 0 in float32, which a kernel need not round it to.
    Case(w=3, c_out=7, values="lattice", scale=2.0**-150),
    Case(c_in=5, h=3, w=3, c_out=17, kh=3, kw=3, bias=True, values="gaussian", scale=-0.375),
    Case(w=4, c_in=2, c_out=3, bias=True, values="subnormal", scale=2.0, earlier=("contents", "larger")),
    # What underflows does so after scaling where the scale is multiplied into the weight first.
    Case(c_in=64, w=32, scale=0.01, values="subnormal", seed=10),
]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_kernel_passes_small_calls(name: str, tmp_path: Path, device: torch.device) -> None:
    target = load_target(str(plant_sound(name, tmp_path)))
    for dtype in SOUND[name].dtypes or ("float32",):
        for case in SMALL:
            case = msgspec.structs.replace(case, dtype=dtype)
            verdict = run_trial(target, case, device)
            assert verdict.status == "pass", f"{verdict.kind} · {verdict.message}\n{case!r}"
