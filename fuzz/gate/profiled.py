"""One call of a target for the headline shape, marked for Nsight Compute.

Run as a program, under ncu and in a process of its own: `python -P -m fuzz.gate.profiled TARGET`.
"""

from __future__ import annotations

import sys

import torch

from fuzz.gate.workload import WORKLOADS, operands
from fuzz.target import Call, TargetError, load_target

WORKLOAD = "headline float32"


def main(name: str) -> int:
    """Call the target; 2, and a line that says why, where it cannot be loaded, 3 without a GPU."""
    if not torch.cuda.is_available():
        sys.stderr.write("there is no CUDA device here: Nsight Compute measures on one\n")
        return 3
    case = WORKLOADS[WORKLOAD]
    try:
        target = load_target(name)
    except TargetError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    with target.surroundings:
        _profile(target.bind(case), operands(case, "cuda"))
    return 0


def _profile(call: Call, given: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    call(*given)  # what is compiled, tuned or kept by the first call is not what is looked at
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStart()  # type: ignore[no-untyped-call]  # torch's own
    call(*given)
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStop()  # type: ignore[no-untyped-call]  # likewise


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
