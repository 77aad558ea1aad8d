"""The machine as trials need it: it computes plainly, and the CPU as a GPU does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from fuzz.case import Case
from fuzz.interpreter import faithful


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


def without_compilation() -> AbstractContextManager[object]:
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
