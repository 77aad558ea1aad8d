"""The simulation of a loop: what must hold of any machine, on loops that are written down here."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest

from fuzz.gate.devices import CARDS
from fuzz.gate.model import clocks, predict
from fuzz.gate.pipeline import SHARED_LATENCY, turn_clocks
from fuzz.gate.sass import Control, Instruction, Listing, parse

CARD = CARDS["RTX 4090"]
PRODUCT = "HMMA.16816.F32"
COPY = "LDGSTS.E.BYPASS.128"


def one(opcode: str, stall: int = 1, **control: object) -> Instruction:
    return Instruction(opcode, False, None, Control(stall, **control))  # type: ignore[arg-type]


JUMP = one("BRA", 5)
MEETING = one("BAR.SYNC")


def pipelined(products: int, stages: int = 2, loads: int = 4) -> list[Instruction]:
    """A tile's turn as Triton has it: wait for the oldest copy, load, multiply, copy for a later turn."""
    return [
        one("DEPBAR.LE", 4, limit=(0, stages - 2)),
        MEETING,
        *[one("LDSM.16.M88.4", 4, write=1)] * loads,
        *[one(PRODUCT, 4, waits=0b10)] * products,
        MEETING,
        *[one(COPY, 2, read=2)] * 4,
        one("LDGDEPBAR", 1, write=0),
        JUMP,
    ]


LOOPS = {
    "products": [one(PRODUCT, 2)] * 16,
    "tile, two stages": pipelined(64),
    "tile, three stages": pipelined(64, stages=3),
    "tile with few products": pipelined(8),
    "loads": [one("LDS.128", 2, write=0), one("FFMA", 4, waits=1)] * 8,
    "sums": [one("IADD3", 4), one("FFMA", 4), one("IMAD", 5)] * 8,
    "functions": [one("MUFU.EX2", 1, write=0), one("FMUL", 4, waits=1)] * 4,
    "doubles": [one("DFMA", 2, write=0), one("DADD", 2, waits=1, write=1), one("DADD", 2, waits=2, write=0)],
    "global loads": [one("LDG.E.128", 2, write=0), one("STS.128", 2, waits=1, read=1), MEETING, one("NOP", 1, waits=2)],
}  # fmt: skip


def bound(loop: list[Instruction], warps: int) -> float:
    return max(clocks(CARD, loop).values()) * warps


def rate(loop: list[Instruction], warps: int, blocks: int) -> float:
    """Turns of a block in a clock, of all blocks together."""
    return blocks / turn_clocks(CARD, loop, warps, blocks)


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("warps", [1, 4, 8])
def test_no_loop_is_faster_than_its_busiest_pipe(name: str, warps: int) -> None:
    for blocks in (1, 3):
        simulated = turn_clocks(CARD, LOOPS[name], warps, blocks)
        assert simulated >= 0.99 * bound(LOOPS[name], warps * blocks), f"{blocks} blocks: {simulated} clocks a turn"


@pytest.mark.parametrize("name", LOOPS)
def test_more_blocks_do_no_harm(name: str) -> None:
    rates = [rate(LOOPS[name], 4, blocks) for blocks in (1, 2, 3, 4)]
    for fewer, more in itertools.pairwise(rates):
        assert more >= 0.97 * fewer, f"turns in a clock, by blocks: {rates}"


@pytest.mark.parametrize("name", LOOPS)
def test_many_warps_come_near_the_bound(name: str) -> None:
    """Whatever one warp waits for, forty-eight hide it from each other, but for an order that is greedy."""
    assert turn_clocks(CARD, LOOPS[name], 4, 12) <= 1.15 * bound(LOOPS[name], 48)


def test_dependent_load_waits_its_latency() -> None:
    near = turn_clocks(CARD, [one("LDS", 1, write=0, waits=1)], 1, 1)
    assert SHARED_LATENCY <= near <= SHARED_LATENCY + 2
    far = turn_clocks(CARD, [one("LDG.E", 1, write=0, waits=1)], 1, 1)
    assert CARD.l2_latency <= far <= CARD.l2_latency + 3


def test_pauses_add_up_for_one_warp_and_vanish_among_many() -> None:
    loop = [one("FADD", 4)] * 10
    assert turn_clocks(CARD, loop, 1, 1) == 40
    assert turn_clocks(CARD, loop, 16, 1) == 40
    assert turn_clocks(CARD, loop, 32, 1) == 80, "a scheduler issues one instruction in a clock"


@pytest.mark.parametrize("opcode", [PRODUCT, "IADD3", "MUFU.EX2", "LDS.128", COPY])
def test_twice_the_work_of_the_pipe_that_binds_takes_twice_as_long(opcode: str) -> None:
    once, twice = (turn_clocks(CARD, [one(opcode)] * count, 8, 2) for count in (64, 128))
    assert twice == pytest.approx(2 * once, rel=0.02)


def test_block_waits_for_its_slowest_warp() -> None:
    """Five warps on four schedulers: two share one. With a barrier all are as slow as these, without only they are."""
    work = [one(PRODUCT)] * 8
    shared = turn_clocks(CARD, [*work, MEETING], 5, 1)
    assert shared == pytest.approx(2 * turn_clocks(CARD, [*work, MEETING], 4, 1), rel=0.1)


def test_barriers_cost_one_block_more_than_two() -> None:
    """At a barrier a block waits for its loads; another has something to multiply meanwhile."""
    loop = pipelined(12, stages=3)
    alone, together = (turn_clocks(CARD, loop, 4, blocks) / blocks for blocks in (1, 2))
    assert together < 0.9 * alone


def test_stages_hide_what_copies_take() -> None:
    two, three = (turn_clocks(CARD, pipelined(8, stages), 4, 1) for stages in (2, 3))
    assert two >= CARD.l2_latency, "the only copy is waited for in each turn"
    assert three < 0.7 * two


def test_longer_latency_is_never_faster() -> None:
    slow = replace(CARD, l2_latency=2 * CARD.l2_latency)
    for loop in LOOPS.values():
        assert turn_clocks(slow, loop, 4, 1) >= 0.99 * turn_clocks(CARD, loop, 4, 1)


def test_prediction_names_what_binds() -> None:
    def prediction(loop: list[Instruction], blocks: int):  # type: ignore[no-untyped-def]
        listing = Listing((*loop[:-1], replace(JUMP, target=".L_x_0")), {".L_x_0": 0})
        return predict(CARD, listing, 10**9, 4, blocks)

    waiting, busy = prediction(pipelined(4), 1), prediction(pipelined(64), 4)
    assert waiting.pipe == "latency"
    assert waiting.milliseconds > 1.1 * waiting.bound
    assert busy.pipe == "tensor"
    assert busy.bound <= busy.milliseconds <= 1.1 * busy.bound
    assert predict(CARD, Listing((one("FADD"),), {}), 10**9, 4, 1) is None


def test_control_is_read() -> None:
    """Two instructions of a main loop for sm_89, as nvdisasm prints them, and one that is never done."""
    text = """
        /*0e80*/                   HMMA.16816.F32 R84, R172.reuse, R32, R84 ;   /* 0x00000020ac54723c */
                                                                                /* 0x042fe60000001854 */
        /*0e90*/                   DEPBAR.LE SB0, 0x2 ;                         /* 0x000080800000791a */
                                                                                /* 0x000fc80000000000 */
        /*1250*/              @!PT LDS RZ, [RZ] ;                               /* 0x00000000fffff984 */
                                                                                /* 0x000fe20000000800 */
    """
    product, wait, never = parse(text).instructions
    assert product.control == Control(stall=3, waits=0b10)
    assert wait.control == Control(stall=4, limit=(0, 2))
    assert (never.opcode, never.bytes) == ("NOP", 0)


def test_simulation_is_fast() -> None:
    began = time.perf_counter()
    turn_clocks(CARD, pipelined(300), 8, 2)
    assert time.perf_counter() - began < 2, "a usual loop takes a tenth of a second on an idle machine"
