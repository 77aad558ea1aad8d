"""Simulates the steady state of a loop on one multiprocessor: what waits for what, and which warp comes next.

Each of four schedulers issues an instruction of one of its warps in a clock, each warp's in order: of those that can go
on, of the warp that it issued of last. What the compiler encoded (`sass.Control`) says how long a warp then pauses, and
which barriers it waits for. There is no other tracking of registers: results of a fixed latency, also those of HMMA,
are waited for by pauses, which a busy pipe only makes longer. Arithmetic is issued when its pipe is free; accesses to
memory are issued at once, and queue for what all warps share.

Not in it: conflicts of banks, misses of L2, tags of L1, limits of queues, caches of instructions, a barrier's own
latency, and what HGMMA and copies by the tensor memory accelerator wait for, so that a loop of those gets little more
than its bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from fuzz.gate.devices import Card
from fuzz.gate.pipes import GLOBAL, OF_A_SCHEDULER, SCHEDULERS, occupied
from fuzz.gate.sass import Control, Instruction

# Turns of each warp: until blocks have found their places between each other, and those that are timed.
_WARM: Final = 3
_TIMED: Final = 6
# Clocks from a load of shared memory to its value: 29 to 30 on Ampere, Ada and Hopper (Luo et al. 2024, arXiv
# 2402.13499, latencies of memory). MUFU, SHFL and whatever else has a barrier are taken for as long.
SHARED_LATENCY: Final = 29
# Clocks until a load has read its address, 9 to 13 on Ampere: Huerta et al. 2025, "Analyzing Modern NVIDIA GPU cores",
# arXiv 2503.20481, latencies of memory instructions.
_READ: Final = 10
_ISSUE: Final = OF_A_SCHEDULER.index("issue")
_BARRIERS: Final = 6


@dataclass(frozen=True, slots=True)
class _Step:
    """An instruction as the simulation needs it.

    Attributes:
        name: Of the instruction.
        control: What is encoded.
        waits: The barriers of `control.waits`.
        own: The pipe of its scheduler, by number, and for how many clocks.
        far: The pipe between the multiprocessor's memory and what is beyond, if it is used, and for how many clocks.
        shared: Clocks of shared memory.
        latency: Clocks from the end of all that to the result.
    """

    name: str
    control: Control
    waits: tuple[int, ...]
    own: tuple[int, float]
    far: tuple[str, float] | None
    shared: float
    latency: int

    @property
    def is_plain(self) -> bool:
        """Whether nobody can wait for it."""
        barriers = self.control.write is not None or self.control.read is not None
        return not (barriers or self.far or self.shared or self.name == "BAR")


@dataclass(slots=True)
class _Warp:
    """Where a warp is, when it can go on, and when what it began is done: by barrier, and for all its copies."""

    block: int
    scheduler: int
    place: int
    ready: float = 0.0
    copied: float = 0.0
    pending: list[list[float]] = field(default_factory=lambda: [[] for _ in range(_BARRIERS)])


def turn_clocks(card: Card, loop: list[Instruction], warps: int, blocks: int) -> float:
    """Clocks in which a multiprocessor does one turn of the loop for every warp that it holds.

    Args:
        card: Which.
        loop: One turn, in order.
        warps: Of a block.
        blocks: On the multiprocessor, at least one.
    """
    machine = _Multiprocessor([_step(card, instruction) for instruction in loop], warps, blocks)
    of_a_turn = len(loop) * warps * blocks
    warm = machine.issue(_WARM * of_a_turn)
    return (machine.issue(_TIMED * of_a_turn) - warm) / _TIMED


def _step(card: Card, instruction: Instruction) -> _Step:
    busy = occupied(card, instruction)
    own = next((pipe for pipe in busy if pipe in OF_A_SCHEDULER and pipe != "issue"), "issue")
    control = instruction.control
    return _Step(
        name=instruction.name,
        control=control,
        waits=tuple(barrier for barrier in range(_BARRIERS) if control.waits >> barrier & 1),
        # A scheduler has a fourth of what the multiprocessor has.
        own=(OF_A_SCHEDULER.index(own), busy[own] * SCHEDULERS),
        far=next(((pipe, busy[pipe]) for pipe in ("L1", "L2", "shuffle") if pipe in busy), None),
        shared=busy.get("shared memory", 0.0),
        latency=card.l2_latency if instruction.name in GLOBAL else SHARED_LATENCY,
    )


class _Multiprocessor:
    """Its warps, and until when its pipes are taken.

    Blocks begin at different places of the loop, as far apart as can be: they are not in step, since each began when
    another had ended.
    """

    def __init__(self, steps: list[_Step], warps: int, blocks: int) -> None:
        self._steps = [(step, step.is_plain, max(1, step.control.stall)) for step in steps]
        self._size = warps
        everyone = [
            _Warp(block, (block * warps + warp) % SCHEDULERS, block * len(steps) // blocks)
            for block in range(blocks)
            for warp in range(warps)
        ]
        self._own = [[0.0] * len(OF_A_SCHEDULER) for _ in range(SCHEDULERS)]
        self._far = {"L1": 0.0, "L2": 0.0, "shuffle": 0.0}
        self._shared = 0.0
        # When copies come to shared memory, and how long they then take of it.
        self._landing: list[tuple[float, float]] = []
        self._arrived: list[list[_Warp]] = [[] for _ in range(blocks)]
        self._issued = self._queued = 0
        # Warps by when they can go on; of several, the one that was issued of last.
        self._queue = [(0.0, number, warp) for number, warp in enumerate(everyone)]

    def issue(self, count: int) -> float:
        """Issue so many instructions, and return when the last was."""
        queue, steps = self._queue, self._steps
        end, at = self._issued + count, 0.0
        while self._issued < end:
            at, order, warp = heappop(queue)
            step, is_plain, stall = steps[warp.place]
            pipe, clocks = step.own
            own = self._own[warp.scheduler]
            free = max(own[_ISSUE], own[pipe])
            if free > at:
                heappush(queue, (free, order, warp))
                continue
            own[_ISSUE] = at + 1
            own[pipe] = at + clocks
            self._issued += 1
            warp.place = (warp.place + 1) % len(steps)
            warp.ready = at + stall
            if step.name == "BAR":
                self._meet(warp)
                continue
            if not is_plain:
                self._begin(at, step, warp)
            self._go_on(warp)
        return at

    def _go_on(self, warp: _Warp) -> None:
        """Queue a warp for when its next instruction waits for nothing but a pipe."""
        step = self._steps[warp.place][0]
        for barrier in step.waits:
            if warp.pending[barrier]:
                warp.ready = max(warp.ready, *warp.pending[barrier])
                warp.pending[barrier].clear()
        if step.control.limit is not None:
            barrier, allowed = step.control.limit
            pending = sorted(warp.pending[barrier])
            over = len(pending) - allowed
            if over > 0:
                warp.ready = max(warp.ready, pending[over - 1])
                warp.pending[barrier] = pending[over:]
        self._queued += 1
        heappush(self._queue, (warp.ready, -self._queued, warp))

    def _meet(self, warp: _Warp) -> None:
        """Keep a warp until all of its block are there: the last one is the latest."""
        arrived = self._arrived[warp.block]
        arrived.append(warp)
        if len(arrived) == self._size:
            for one in arrived:
                one.ready = warp.ready
                self._go_on(one)
            arrived.clear()

    def _begin(self, at: float, step: _Step, warp: _Warp) -> None:
        """Let a warp's instruction take what it needs of shared pipes, and note when what it does is done."""
        served = at + step.own[1]
        if step.far is not None:
            pipe, clocks = step.far
            served = self._far[pipe] = max(at, self._far[pipe]) + clocks
        if step.name == "LDGSTS":
            heappush(self._landing, (served + step.latency, step.shared))
            done = warp.copied = max(warp.copied, served + step.latency + step.shared)
        else:
            if step.shared:
                served = self._access(at, step.shared)
            done = served + step.latency
        if step.control.write is not None:
            warp.pending[step.control.write].append(warp.copied if step.name == "LDGDEPBAR" else done)
        if step.control.read is not None:
            warp.pending[step.control.read].append(at + _READ if step.far else served)

    def _access(self, at: float, clocks: float) -> float:
        """Queue for shared memory, behind copies that came before, and return when that is over."""
        while self._landing and self._landing[0][0] <= max(at, self._shared):
            landed, taken = heappop(self._landing)
            self._shared = max(landed, self._shared) + taken
        self._shared = max(at, self._shared) + clocks
        return self._shared
