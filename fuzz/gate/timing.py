"""Times a target on a GPU beside what a user would take instead, and looks at what it returns.

Run as a program, in a process of its own, since a target is another person's file:
`python -P -m fuzz.gate.timing FILE TARGET ROUNDS WORKLOAD …` writes the measurement to FILE, as JSON.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from fuzz.case import Case
from fuzz.circumstances import circumstances
from fuzz.gate.build import one_line
from fuzz.gate.clocks import ClockLog
from fuzz.gate.devices import card_name
from fuzz.gate.inspection import Inspection
from fuzz.gate.measurement import Measurement, Timing
from fuzz.gate.stopwatch import Inputs, Stopwatch
from fuzz.gate.workload import WORKLOADS, operands, options, why_skipped
from fuzz.target import BoundModule, Call, Target, TargetError, load_target

_PLACES: Final = 2
_WARM_UP_ROUNDS: Final = 5
_CALLS_TO_COMPILE: Final = 3


def contenders(target: Target, case: Case) -> dict[str, Call]:
    """What is timed, by name: the target, and what a user would take instead."""
    told = options(case)

    def eager(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        return torch.min(torch.conv2d(x, weight, bias, **told) * case.scale, dim=1, keepdim=True).values

    torch.compiler.reset()  # else it takes the next workload for the first with other sizes, and makes those symbols
    others = {name: load_target(name).bind(case) for name in ("fused", "two-pass") if name != target.name}
    return {"target": target.bind(case), "eager": eager, "compile": torch.compile(eager), **others}


@torch.no_grad()
def measure(target: Target, workload: str, rounds: int) -> Timing:
    """Time a workload: all contenders in each round, in an order of chance."""
    case = WORKLOADS[workload]
    torch.backends.cudnn.allow_tf32 = case.precision != "ieee"
    torch.manual_seed(0)
    x, weight, bias = operands(case, "cuda")
    inputs = Inputs([x, *(operands(case, "cuda")[0] for _ in range(_PLACES - 1))])
    bound = contenders(target, case)
    calls = {name: _of_x(call, weight, bias) for name, call in bound.items()}
    inspection = Inspection(target, case, weight, bias)
    wrong = _wrong_before(inspection, calls["target"], inputs)
    if wrong:
        return Timing(workload=workload, milliseconds={}, complaints=wrong)
    if isinstance(bound["target"], BoundModule) and bound["target"].module is not None:
        # Its parameters are set by every call that goes through the suite, which no user of a module pays for.
        calls["target"] = bound["target"].module
    for call in calls.values():
        for _ in range(_CALLS_TO_COMPILE):
            call(x)
    stopwatch = Stopwatch()
    _rounds(calls, inputs, stopwatch, _WARM_UP_ROUNDS, None)
    with ClockLog(f"GPU-{torch.cuda.get_device_properties().uuid}") as log:
        milliseconds = _rounds(calls, inputs, stopwatch, rounds, inspection)
    inspection.look(calls["target"], inputs, "after the last round")
    return Timing(
        workload=workload,
        milliseconds=milliseconds,
        flushes=stopwatch.flushes,
        late=stopwatch.late,
        error_ratio=inspection.error_ratio,
        complaints=inspection.complaints(),
        readings=log.readings,
    )


def _wrong_before(inspection: Inspection, call: Callable[[torch.Tensor], torch.Tensor], inputs: Inputs) -> list[str]:
    """Say what is wrong with a target's results before it is timed."""
    try:
        inspection.look(call, inputs, "before the first round")
    except NotImplementedError:
        raise
    # Whatever a target raises where PyTorch gives a result, it is a wrong one.
    except Exception as error:
        return [f"the target raised {one_line(error)}"]
    return inspection.complaints()


def _rounds(
    calls: dict[str, Callable[[torch.Tensor], torch.Tensor]],
    inputs: Inputs,
    stopwatch: Stopwatch,
    rounds: int,
    inspection: Inspection | None,
) -> dict[str, list[float]]:
    order, chance = list(calls), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        chance.shuffle(order)
        which, x = inputs.next()
        for name in order:
            taken, out = stopwatch.time(lambda name=name, x=x: calls[name](x))  # type: ignore[misc]  # defaults bind the loop's variables
            times[name].append(round(taken, 6))
            if inspection and name == "target":
                inspection.compare(which, out)
    return times


def _of_x(call: Call, weight: torch.Tensor, bias: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: call(x, weight, bias)


def main(file: str, name: str, rounds: str, *workloads: str) -> int:
    """Write the measurement; 2, and a line that says why, where the target cannot be loaded, 3 without a GPU."""
    if not torch.cuda.is_available():
        sys.stderr.write("there is no CUDA device here: the runtime gate measures on one\n")
        return 3
    try:
        target = load_target(name)
        skipped, timings = {}, []
        for workload in workloads:
            reason = why_skipped(target.abilities, WORKLOADS[workload])
            try:
                if not reason:
                    with target.surroundings:
                        timings.append(measure(target, workload, int(rounds)))
            except NotImplementedError as error:
                reason = f"the target declines it: {error}"
            if reason:
                skipped[workload] = reason
    except TargetError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = Measurement(
        target=name,
        card=card_name(torch.cuda.get_device_name()),
        circumstances=circumstances("cuda"),
        timings=timings,
        skipped=skipped,
    )
    # Not to standard output, which the target may use.
    Path(file).write_bytes(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
