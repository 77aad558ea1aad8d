"""Calls on one target in one process, with everything around them watched: what a trial and a sequence are made of."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from fuzz.case import Case
from fuzz.coverage import LineCoverage
from fuzz.guards import AllocationGuard
from fuzz.interpreter import recorded
from fuzz.interpreter_access import AccessRecorder
from fuzz.judge import wrong_elements
from fuzz.machine import without_compilation
from fuzz.memory import Flags, Memory, Region
from fuzz.on_device import Arrival
from fuzz.store_log import Stores
from fuzz.target import BoundModule, Call, Target, TargetError
from fuzz.tensors import RED_ZONE, Numbers, Operands, Part, Poison, differ, flat, lay_out, poison_value
from fuzz.verdict import Kind, Lane, Verdict, failure


@dataclass(frozen=True)
class Outcome:
    """What one call did.

    Attributes:
        output: What the target returned.
        answer: A copy of it on the CPU, as it was after the call; None unless it is a dense tensor.
        error: What it raised, or None.
        seconds: Time that it took.
        damage: The verdict where the call damaged memory, or None.
        lost: The output as it would be had another of several programs that stored an element been the last; None if
            no element was stored twice with different values.
        race: Which programs those are, and where.
    """

    output: Any
    answer: torch.Tensor | None
    error: BaseException | None
    seconds: float
    damage: Verdict | None
    lost: torch.Tensor | None = None
    race: str = ""


@dataclass
class Session:
    """Calls on one target that share its state.

    Args:
        target: The kernel under test.
        device: Where tensors live.
        poison: What surrounds them, and what memory holds that the target allocates.
        bare: Whether to do without red zones and poison, for a tool that watches memory itself: it sees an access past
            the end of an allocation, which a red zone would hide.
        blind: Lanes that do not judge.
    """

    target: Target
    device: torch.device
    poison: Poison
    bare: bool = False
    blind: frozenset[Lane] = frozenset()
    _results: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    _guards: list[AllocationGuard] = field(default_factory=list)
    _memory: Memory = field(default_factory=Memory)
    _recorder: AccessRecorder | None = None

    def __post_init__(self) -> None:
        """On the interpreter, watch every access."""
        if self.device.type == "cpu" and "access" not in self.blind:
            self._recorder = AccessRecorder(self._memory, undefined=poison_value(self.poison))

    @property
    def coverage(self) -> tuple[LineCoverage, ...]:
        """How the masks of the kernels' loads and stores were exercised; empty on a GPU, where nobody can see it."""
        return self._recorder.coverage if self._recorder else ()

    def place(self, case: Case, numbers: Numbers) -> Operands:
        """Return operands that hold the numbers in the case's layouts."""
        red_zone = 0 if self.bare else RED_ZONE
        operands = lay_out(case, numbers, poison=self.poison, device=self.device, red_zone=red_zone)
        if self._recorder:
            for name, operand in operands.items():
                for part in operand.parts:
                    self._memory.add(_region(name, part))
        return operands

    def call(self, bound: Call, operands: Operands, stream: torch.cuda.Stream | None = None) -> Outcome:
        """Call the target once and look at what became of memory; arguments and exceptions are those of `begin`."""
        return self.begin(bound, operands, stream).wait()

    def begin(self, bound: Call, operands: Operands, stream: torch.cuda.Stream | None = None) -> Begun:
        """Call the target once, without waiting for the device.

        Args:
            bound: What `Target.bind` gave.
            operands: What `place` gave.
            stream: The CUDA stream on which to call it; the current one if None.

        Raises:
            TargetError: The target turns out not to be one.
        """
        guard = AllocationGuard(self.poison, self.device.type, self._memory if self._recorder else None)
        self._guards.append(guard)
        watch = recorded(self._recorder) if self._recorder else nullcontext()
        output, error, arrival = None, None, None
        started = time.perf_counter()
        on_stream = torch.cuda.stream(stream) if stream else nullcontext()
        with warnings.catch_warnings(), torch.no_grad(), on_stream:
            # A candidate may warn; warnings are no part of the operation.
            warnings.simplefilter("ignore")
            try:
                with nullcontext() if self.bare else guard, watch, without_compilation(), self.target.surroundings:
                    output = bound(*tensors_of(operands))
            except TargetError:
                raise
            # Whatever a candidate raises is evidence, never a pass: the judge decides what it means.
            except (Exception, SystemExit) as raised:
                error = raised
            seconds = time.perf_counter() - started
            try:
                # On the stream of the call, so that what is read there comes after it.
                arrival = self._look(bound, operands, output) if error is None else None
            except torch.AcceleratorError as lost:
                error = lost
        return Begun(self, bound, operands, output, error, arrival, started, seconds)

    def _look(self, bound: Call, operands: Operands, output: Any) -> Arrival:
        """Ask what a call has changed, and for its result, without waiting for an answer."""
        flags = [changed for operand in operands.values() for changed in operand.changed()]
        flags += [zone for guard in self._guards for zone in guard.zones_written()]
        flags += [differ(flat(result), copy) for result, copy in self._results]
        flags += [differ(flat(now), flat(given)) for now, given in _held(bound).values()]
        dense = _dense(output)
        if dense is None:
            return Arrival(flags, None)
        self._results.append((dense, flat(dense).clone()))
        return Arrival(flags, self._results[-1][1])

    def outcome_of(self, begun: Begun) -> Outcome:
        """Wait for a call and say what it did."""
        output, error, told, answer, seconds = begun.output, begun.error, False, None, begun.seconds
        try:
            if begun.arrival is not None:
                told, answer = begun.arrival.wait()
        except torch.AcceleratorError as lost:
            error = lost
        if self.device.type == "cuda":
            seconds = time.perf_counter() - begun.started
        if error is not None:
            # After an error on the device nothing can be read that the call has returned.
            output, answer = None, None
        dense = _dense(output)
        stores = self._recorder.stores(dense) if self._recorder and dense is not None else None
        # Damaged memory explains a wrong result, so it comes first; an exception is not explained by it.
        damage = self._wrong_access(output, stores) or (
            self._describe_damage(_held(begun.bound), begun.operands) if told and error is None else None
        )
        damage = damage if damage and damage.lane not in self.blind else None
        if answer is not None and dense is not None:
            answer = answer.view(dense.shape)
        return Outcome(output, answer, error, seconds, damage, *_race(output, stores))

    def _wrong_access(self, output: Any, known: Stores | None) -> Verdict | None:
        if self._recorder is None:
            return None
        seen = self._recorder.violation
        if seen is not None:
            kind: Kind = "out-of-bounds-read" if seen.kind == "read" else "out-of-bounds-write"
            return failure(kind, "access", str(seen))
        if self._recorder.race:
            return failure("race", "access", self._recorder.race)
        if known is None:
            return None
        if not known.stored.all() and any(guard.is_uninitialised(output) for guard in self._guards):
            left = ~known.stored
            message = f"{_first(left)} was stored by no program · {left.sum()} of {left.size}"
            # Nobody has looked at the form of the output yet.
            is_plane = left.ndim == 4 and left.shape[1] == 1
            return failure("unwritten", "access", message, wrong=wrong_elements(left) if is_plane else None)
        return None

    def _describe_damage(self, held: Mapping[str, tuple[torch.Tensor, torch.Tensor]], operands: Operands) -> Verdict:
        for name, (now, given) in held.items():
            if differ(flat(now), flat(given)):
                return failure("input-modified", "guards", f"the call changed the module's {name}")
        for name, operand in operands.items():
            damage = operand.damage()
            if damage == "elements":
                return failure("input-modified", "guards", f"the call changed elements of {name}")
            if damage:
                return failure("out-of-bounds-write", "guards", f"the call wrote around {name}, outside its elements")
        if any(guard.overwritten() for guard in self._guards):
            return failure("out-of-bounds-write", "guards", "the call wrote past an end of memory that it allocated")
        if any(bool(differ(flat(result), copy)) for result, copy in self._results):
            return failure("result-modified", "state", "the call changed the result of an earlier call")
        # Seen right after the call, and described after later ones.
        return failure("input-modified", "guards", "the call changed what is not its own; a later one put it back")


@dataclass
class Begun:
    """A call that was made; a GPU may still be at work on it.

    Attributes:
        session: Where it was made.
        bound: What was called.
        operands: On what.
        output: What it returned.
        error: What it raised, or None.
        arrival: What is to be known of it, or None where it raised.
        started: When it was made.
        seconds: How long it took to make it.
    """

    session: Session
    bound: Call
    operands: Operands
    output: Any
    error: BaseException | None
    arrival: Arrival | None
    started: float
    seconds: float

    def wait(self) -> Outcome:
        """Wait for the device, the first time, and say what the call did."""
        return self._outcome

    @cached_property
    def _outcome(self) -> Outcome:
        return self.session.outcome_of(self)


def _dense(output: Any) -> torch.Tensor | None:
    """Return the output if it is a tensor that has elements somewhere."""
    is_dense = isinstance(output, torch.Tensor) and output.layout == torch.strided and not output.is_meta
    return output if is_dense else None


def _held(bound: Call) -> Mapping[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return a module's parameters, and what was put into them."""
    return bound.parameters if isinstance(bound, BoundModule) else {}


def _race(output: Any, known: Stores | None) -> tuple[torch.Tensor | None, str]:
    """Return the output with the values that were lost to a second store, and the programs that stored them."""
    if known is None or known.example is None or not known.differing.any():
        return None, ""
    bits = torch.from_numpy(known.lost.view(f"i{known.lost.itemsize}"))
    lost = torch.where(torch.from_numpy(known.differing), bits.view(output.dtype), output)
    return lost, f"{_first(known.differing)} was {known.example}"


def _first(flags: Flags) -> str:
    return f"out[{','.join(str(int(places[0])) for places in flags.nonzero())}]"


def _region(name: str, part: Part) -> Region:
    """Return what kernels may touch of an operand: its elements, not the gaps between them or the margins around."""
    storage, elements = part.storage, part.element.numpy()
    return Region(
        name=name,
        start=storage.data_ptr(),
        size=storage.nbytes,
        itemsize=storage.element_size(),
        elements=elements,
        owner=storage,
    )


def tensors_of(operands: Operands) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return x, weight and bias."""
    bias = operands.get("bias")
    return operands["x"].tensor, operands["weight"].tensor, bias.tensor if bias else None
