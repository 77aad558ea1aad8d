"""The runtime gate's judgement, on times that are made up: what it passes, what it fails, what it says nothing of."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.campaign.isolation import InfrastructureError, UsageError
from fuzz.gate.clocks import REASONS, parse_reading
from fuzz.gate.command import gate_runtime
from fuzz.gate.devices import CARDS
from fuzz.gate.interval import median, ratio
from fuzz.gate.measurement import Measurement, Reading, Timing
from fuzz.gate.runtime import Judgement, judge
from fuzz.gate.thresholds import ANY, read_thresholds
from fuzz.gate.workload import WORKLOADS
from fuzz.report.gate import runtime_text

WORKLOAD = "headline float32"
THRESHOLDS = {WORKLOAD: {"eager": 2.0}}
SEEDS = st.integers(0, 2**32 - 1)


def times(typical: float, seed: int, *, noise: float = 0.01, rounds: int = 100) -> list[float]:
    """What a card gives: a floor, a little noise above it, now and then a round that something else disturbed."""
    chance = np.random.default_rng(seed)
    usual = typical * (1 + noise * chance.exponential(size=rounds))
    return np.where(chance.random(rounds) < 0.02, usual * 3, usual).tolist()


def readings(clocks: list[float], reasons: int = 0) -> list[Reading]:
    return [Reading(clock, 2619.0, reasons, 50.0, 400.0) for clock in clocks]


def judged(timing: Timing, card: str = "RTX 4090") -> Judgement:
    measured = Measurement(target="one.py", card=card, circumstances={"versions": {"torch": "2"}}, timings=[timing])
    return judge(measured, ANY, THRESHOLDS)


def timed(factor: float, seed: int, **attributes) -> Timing:  # type: ignore[no-untyped-def]
    both = {"target": times(1.0, seed), "eager": times(factor, seed + 1)}
    return Timing(workload=WORKLOAD, milliseconds=both, **{"readings": readings([1980.0] * 30), **attributes})


@given(seed=SEEDS)
def test_a_ratio_that_is_well_above_its_threshold_passes(seed: int) -> None:
    assert judged(timed(2.1, seed)).status == 0


@given(seed=SEEDS)
def test_a_kernel_that_became_a_tenth_slower_fails(seed: int) -> None:
    judgement = judged(timed(2.1 / 1.1, seed))
    assert judgement.status == 1
    assert "missed: headline float32 against eager: 1." in runtime_text(judgement)


@given(seed=SEEDS, slower=st.floats(0.5, 3.0))
def test_what_slows_down_a_whole_round_cancels(seed: int, slower: float) -> None:
    """Half of the rounds run at another clock: medians of each alone say nothing, the ratio stays."""
    target, other = times(1.0, seed, noise=0.002), times(2.1, seed + 1, noise=0.002)
    factors = np.where(np.arange(100) % 2, slower, 1.0)
    found = ratio(list(factors * other), list(factors * target))
    assert found.low <= found.value <= found.high
    assert abs(found.value / 2.1 - 1) < 0.02


@given(seed=SEEDS)
def test_intervals_hold_what_they_are_of(seed: int) -> None:
    assert median(times(1.0, seed)).low <= 1 + 0.01 * np.log(2) * 2
    found = median(times(1.0, seed, rounds=400))
    assert found.low <= 1 + 0.01 * np.log(2) * 1.2
    assert found.high >= 1 + 0.01 * np.log(2) * 0.8


def test_intervals_are_as_sure_as_they_say() -> None:
    """Of 300 intervals of a ratio of 2, no more than a few miss it: 3 are expected to, 12 come once in 40,000 times."""
    missed = sum(
        not (found.low <= 2.0 <= found.high)
        for found in (ratio(times(2.0, 2 * seed), times(1.0, 2 * seed + 1)) for seed in range(300))
    )
    assert missed <= 12, f"{missed} of 300 intervals at 99 % miss what they are of: the bootstrap is wrong"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"readings": readings([1980.0] * 15 + [1700.0] * 15)}, "the clock moved by 14"),
        ({"readings": readings([1980.0] * 30, 0x40)}, "held back: hardware thermal slowdown in 30 of 30"),
        ({"readings": readings([1980.0] * 30, 0x48)}, "held back"),
    ],
)
def test_no_verdict_where_the_card_did_not_hold_still(attributes, reason: str) -> None:  # type: ignore[no-untyped-def]
    for factor in (1.5, 2.5):
        judgement = judged(timed(factor, 0, **attributes))
        assert judgement.status == 3, "a verdict, though the card changed meanwhile"
        assert reason in judgement.refusals[WORKLOAD]
        assert f"no verdict: {judgement.refusals[WORKLOAD]}" in runtime_text(judgement)


def test_a_steady_power_cap_is_no_reason_to_refuse() -> None:
    judgement = judged(timed(2.1, 0, readings=readings([1410.0] * 30, 0x4)))
    assert judgement.status == 0
    assert "power held it down in 100%" in runtime_text(judgement)


def test_no_verdict_where_times_vary_too_much() -> None:
    wild = Timing(
        workload=WORKLOAD, milliseconds={"target": times(1.0, 1, noise=0.4), "eager": times(2.2, 2, noise=0.4)}
    )
    judgement = judged(wild)
    assert judgement.status == 3
    assert "times vary: eager" in judgement.refusals[WORKLOAD]


def test_a_wrong_result_is_a_failure_however_fast() -> None:
    judgement = judged(timed(9.0, 0, complaints=["after the last round: out[0,0,0,0] = 1, must be 2"]))
    assert judgement.status == 1
    assert "wrong results for headline float32" in runtime_text(judgement)


def test_a_target_that_was_wrong_before_is_not_timed() -> None:
    judgement = judged(Timing(workload=WORKLOAD, milliseconds={}, complaints=["the target raised ValueError: no"]))
    assert judgement.status == 1
    text = runtime_text(judgement)
    assert "headline float32: not timed, since its results are wrong" in text
    assert "wrong: the target raised ValueError: no" in text


def test_the_roofline_is_of_known_cards_only() -> None:
    known, unknown = judged(timed(2.1, 0)), judged(timed(2.1, 0), card="Card of Tomorrow")
    assert {claim.against for claim in known.claims} == {"eager", "roofline"}
    assert {claim.against for claim in unknown.claims} == {"eager"}


def test_thresholds_name_workloads_and_cards_that_there_are() -> None:
    assert read_thresholds("Card of Tomorrow")[0] == ANY
    for card in CARDS:
        section, asked = read_thresholds(card)
        assert section in (card, ANY)
        assert asked.keys() <= WORKLOADS.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[H200]\n", "there must be a section"),
        ("[any]\n'headline float31' = { eager = 1.0 }\n", "names 'headline float31'; the workloads are headline"),
        ("[any]\n'headline float32' = { eager = 'fast' }\n", "Expected `float`"),
        ("[any\n", "thresholds.toml"),
    ],
)
def test_thresholds_that_make_no_sense_are_told(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "thresholds.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        gate_runtime("fused", 20, (), file, json_file=None)


def test_a_missing_file_of_thresholds_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        gate_runtime("fused", 20, (), tmp_path / "none.toml", json_file=None)


def test_readings_of_the_driver() -> None:
    read = parse_reading("1980, 2619, 0x0000000000000044, 49, 579.34\n")
    assert read == Reading(1980.0, 2619.0, 0x44, 49.0, 579.34)
    assert [name for bit, name in REASONS.items() if read.reasons & bit] == ["power cap", "hardware thermal slowdown"]
    for torn in ("", "1980, 26", "[N/A], 2619, 0x0, 49, 579.34", "1980, 2619, [Not Supported], 49, 500"):
        assert parse_reading(torn) is None


def test_a_measurement_survives_its_file() -> None:
    measured = judged(timed(2.1, 0)).measurement
    assert msgspec.json.decode(msgspec.json.encode(measured), type=Measurement) == measured


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InfrastructureError, match="there is no CUDA device"):
        gate_runtime("fused", 20, (), None, json_file=None)
