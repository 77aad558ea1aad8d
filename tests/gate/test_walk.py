"""The ladder of tiles: the rule, on kernels that are made up, and on one that is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.campaign.isolation import InfrastructureError
from fuzz.gate.build import Build
from fuzz.gate.command import gate_walk
from fuzz.gate.devices import CARDS
from fuzz.gate.walk import Rung, Tile, climb, fastest

CARD = CARDS["RTX 4090"]
CANDIDATES = Path(__file__).parents[1] / "candidates"
TILES = st.fixed_dictionaries({name: st.sampled_from([16, 32, 64, 128]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K")})


def kernel(most: int, room: int):  # type: ignore[no-untyped-def]
    """A kernel that spills where a thread has more than `most` results, and has two stages in shared memory."""

    def build(tile: Tile, warps: int) -> Build:
        results = tile["BLOCK_M"] * tile["BLOCK_N"] // (32 * warps)
        shared = 2 * tile["BLOCK_K"] * (tile["BLOCK_M"] + tile["BLOCK_N"]) * 2
        return Build(
            name="made up",
            registers=min(255, 40 + results),
            spilled=max(0, results - most) * 4,
            shared=min(shared, room),
            clocks={"tensor": 1.0},
            milliseconds=1 + 1000 / math.prod(tile.values()),
        )

    return build


@given(own=TILES, most=st.sampled_from([16, 64, 128, 200]), room=st.sampled_from([16384, 65536, 10**6]))
def test_each_tile_is_tried_once_and_nothing_beyond_what_spills(own: Tile, most: int, room: int) -> None:
    rungs = list(climb(own, kernel(most, room), CARD))
    tried = [(tuple(rung.tile.values()), rung.warps) for rung in rungs]
    assert len(tried) == len(set(tried))
    climbing = {where for where, rung in zip(tried, rungs, strict=True) if rung.climbs}
    for rung in rungs:
        assert rung.climbs == (rung.build.spilled <= 16 and rung.build.shared <= CARD.shared_memory_per_block)
        halves = [
            (tuple(size // 2 if name == halved else size for name, size in rung.tile.items()), rung.warps)
            for halved in rung.tile
        ]
        is_first = all(size == 32 or size == own[name] < 32 for name, size in rung.tile.items())
        assert is_first or climbing & set(halves), f"{rung.tile} was tried, though no half of it was sound"
    best = fastest(rungs)
    assert best is None or (
        best.climbs and best.build.milliseconds == min(r.build.milliseconds for r in rungs if r.climbs)
    )


def test_what_is_no_matter_of_choice_stays() -> None:
    assert {rung.tile["TILE_H"] for rung in climb({"TILE_H": 1, "BLOCK_M": 64}, flat, CARD)} == {1}


def flat(tile: Tile, warps: int) -> Build:
    del tile, warps
    return Build(name="made up", registers=32, clocks={"tensor": 1.0}, milliseconds=1.0)


@pytest.mark.parametrize(
    ("build", "remark"),
    [
        (Build(name="k", error="AssertionError: no"), "not built: AssertionError: no"),
        (Build(name="k", registers=255, spilled=400, clocks={"tensor": 1.0}), "spills 400 bytes: halve a BLOCK"),
        (Build(name="k", shared=200_000, clocks={"tensor": 1.0}), "200000 bytes of shared memory do not fit"),
        (Build(name="k", registers=200, clocks={"tensor": 1.0}), "more than 128 registers, and none spilled"),
        (Build(name="k", registers=200), "no loop multiplies in such a tile"),
        (Build(name="k", registers=90, clocks={"tensor": 1.0}), ""),
    ],
)
def test_the_rule_says_why(build: Build, remark: str) -> None:
    first: Rung = next(iter(climb({"BLOCK_M": 64}, lambda *_: build, CARD)))
    assert first.remark == remark


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_kernel_without_tiles_is_told() -> None:
    with pytest.raises(InfrastructureError, match="launches nothing that multiplies and has a constant like BLOCK_M"):
        gate_walk((str(CANDIDATES / "eager.py"),), "RTX 4090", 1, json_file=None)
