"""Calls on one target in one process, with everything around them watched: what a trial and a sequence are made of."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from fuzz.case import Case
from fuzz.coverage import LineCoverage
from fuzz.guards import AllocationGuard
from fuzz.interpreter import faithful, recorded
from fuzz.interpreter_access import AccessRecorder
from fuzz.judge import wrong_elements
from fuzz.memory import Flags, Memory, Region
from fuzz.store_log import Stores
from fuzz.target import BoundModule, Call, Target, TargetError
from fuzz.tensors import RED_ZONE, Numbers, Operands, Part, Poison, any_of, differ, flat, lay_out, poison_value
from fuzz.verdict import Kind, Lane, Verdict, failure


@dataclass(frozen=True)
class Outcome:
    """What one call did.

    Attributes:
        output: What the target returned.
        error: What it raised, or None.
        seconds: Time that it took.
        damage: The verdict where the call damaged memory, or None.
        lost: The output as it would be had another of several programs that stored an element been the last; None if
            no element was stored twice with different values.
        race: Which programs those are, and where.
    """

    output: Any
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
        """Call the target once and look at what became of memory.

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
        output, error = None, None
        started = time.perf_counter()
        on_stream = torch.cuda.stream(stream) if stream else nullcontext()
        with warnings.catch_warnings(), torch.no_grad(), on_stream:
            # A candidate may warn; warnings are no part of the operation.
            warnings.simplefilter("ignore")
            try:
                with nullcontext() if self.bare else guard, watch, _without_compilation(), self.target.surroundings:
                    output = bound(*tensors_of(operands))
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
            except TargetError:
                raise
            # Whatever a candidate raises is evidence, never a pass: the judge decides what it means.
            except (Exception, SystemExit) as raised:
                # After an error on the device nothing can be read that it has returned.
                output, error = None, raised
        seconds = time.perf_counter() - started
        dense = output if isinstance(output, torch.Tensor) and output.layout == torch.strided else None
        stores = self._recorder.stores(dense) if self._recorder and dense is not None else None
        # Damaged memory explains a wrong result, so it comes first; an exception is not explained by it.
        damage = self._wrong_access(output, stores) or (self._damage(bound, operands) if error is None else None)
        damage = damage if damage and damage.lane not in self.blind else None
        if dense is not None:
            self._results.append((dense, flat(dense).clone()))
        return Outcome(output, error, seconds, damage, *_race(output, stores))

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

    def _damage(self, bound: Call, operands: Operands) -> Verdict | None:
        # Everything in one question, since a GPU takes its time to answer.
        flags = [changed for operand in operands.values() for changed in operand.changed()]
        flags += [zone for guard in self._guards for zone in guard.zones_written()]
        flags += [differ(flat(result), copy) for result, copy in self._results]
        held = bound.parameters if isinstance(bound, BoundModule) else {}
        flags += [differ(flat(now), flat(given)) for now, given in held.values()]
        return self._describe_damage(held, operands) if any_of(flags) else None

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
        return failure("result-modified", "state", "the call changed the result of an earlier call")


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


@contextmanager
def machine(case: Case, device: torch.device) -> Iterator[None]:
    """Make the machine compute plainly until the block ends, and the CPU as a GPU does.

    PyTorch's own convolutions are what a candidate may call. Those of NNPACK, oneDNN and cuDNN are left out: some go
    through transforms (Winograd, FFT) that do not even give integers exactly, others multiply a NaN by padded lanes.
    cuBLAS is not allowed to add parts of a sum in half precision.
    """
    with _plain_convolutions():
        if device.type == "cpu":
            with faithful(round_dot_operands=case.precision != "default"):
                yield
        else:
            yield


def _without_compilation() -> AbstractContextManager[object]:
    """Make functions under `torch.compile` run as they are written: compiled, they would contain the guards.

    A process whose target never imported the compiler is spared that, since it takes seconds.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def _plain_convolutions() -> Iterator[None]:
    # Only these switches: PyTorch's own context managers set others as well, and one warns of them each time.
    switches = (
        (torch._C._get_nnpack_enabled, torch._C._set_nnpack_enabled),
        (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
        (torch._C._get_cudnn_enabled, torch._C._set_cudnn_enabled),
    )
    matmul = torch.backends.cuda.matmul
    reductions = "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"
    before = [get() for get, _ in switches], [getattr(matmul, name) for name in reductions]
    try:
        for _, put in switches:
            put(False)
        for name in reductions:
            setattr(matmul, name, False)
        yield
    finally:
        for (_, put), value in zip(switches, before[0], strict=True):
            put(value)
        for name, value in zip(reductions, before[1], strict=True):
            setattr(matmul, name, value)
