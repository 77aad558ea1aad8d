"""One `Case` on one target → `Verdict`. The only place where tensors, target, oracle and guards meet."""

from __future__ import annotations

import time
import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import torch

from fuzz.case import Case
from fuzz.guards import AllocationGuard
from fuzz.interpreter import faithful, is_interpreting
from fuzz.judge import judge
from fuzz.oracle import Admissible, PrecisionClass, admissible
from fuzz.reference import RejectedError
from fuzz.target import Target, TargetError
from fuzz.tensors import TORCH_DTYPE, Operands, Poison, build, poison_value
from fuzz.verdict import Verdict, failure

_POISONS: Final[tuple[Poison, ...]] = ("nan", "finite")
_CPU: Final = torch.device("cpu")


def run_trial(target: Target, case: Case, device: torch.device) -> Verdict:
    """Run the case twice, among NaN and among large finite numbers, and return the worse verdict.

    Args:
        target: The kernel under test.
        case: What to run it on.
        device: Where the tensors live; on the CPU Triton's interpreter must be in force.

    Raises:
        TargetError: The target turns out not to be one, for example a module without a weight.
    """
    reason = target.abilities.why_not(case)
    if reason:
        return Verdict(status="declined", kind="declined", lane="errors", message=reason)
    expected = _expect(target, case, device)
    verdicts = []
    for poison in _POISONS:
        verdict = _run_once(target, case, device, poison, expected)
        if verdict.status != "pass":
            return verdict
        verdicts.append(verdict)
    return max(verdicts, key=lambda verdict: verdict.error_ratio)


def warm_up(device: torch.device) -> None:
    """Do once what the first trial of a process would otherwise pay for; the target is not called."""
    case = Case()
    operands = build(case, poison="nan", device=device)
    admissible(case, *_tensors(build(case, poison="nan", device=_CPU)), precision="ieee", rounds_once=True)
    with _machine(case, device), AllocationGuard("nan", device.type):
        torch.empty_like(operands["x"].tensor)


def precision_class(case: Case, device: torch.device) -> PrecisionClass:
    """Return how products of float32 operands may be rounded: `default` is what PyTorch would do on the device."""
    if case.precision != "default":
        return case.precision
    return "tf32" if device.type == "cuda" and _torch_allows_tf32() else "ieee"


def _torch_allows_tf32() -> bool:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        # Once fp32_precision has been set, PyTorch refuses to read the older switch.
        return bool(torch.backends.cudnn.conv.fp32_precision == "tf32")  # type: ignore[attr-defined]  # torch does not declare it


def _expect(target: Target, case: Case, device: torch.device) -> Admissible | RejectedError:
    operands = build(case, poison="nan", device=_CPU)
    try:
        return admissible(
            case,
            *_tensors(operands),
            precision=precision_class(case, device),
            rounds_once=target.abilities.rounds_once,
        )
    except RejectedError as rejected:
        return rejected


def _tensors(operands: Operands) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    bias = operands.get("bias")
    return operands["x"].tensor, operands["weight"].tensor, bias.tensor if bias else None


def _run_once(
    target: Target, case: Case, device: torch.device, poison: Poison, expected: Admissible | RejectedError
) -> Verdict:
    operands = build(case, poison=poison, device=device)
    guard = AllocationGuard(poison, device.type)
    call = _call(target, case, device, operands, guard)
    # Damaged memory explains a wrong result, so it comes first; an exception is not explained by it.
    damage = _check_memory(operands, guard) if call.error is None else None
    verdict = damage or _judge_call(call, target, case, device, expected, poison_value(poison))
    return msgspec.structs.replace(verdict, seconds=call.seconds)


def _machine(case: Case, device: torch.device) -> AbstractContextManager[None]:
    """Return what makes the CPU compute as a GPU does; a GPU needs nothing."""
    return faithful(round_dot_operands=case.precision != "default") if device.type == "cpu" else nullcontext()


@dataclass(frozen=True)
class _Call:
    output: Any
    error: BaseException | None
    seconds: float


def _call(target: Target, case: Case, device: torch.device, operands: Operands, guard: AllocationGuard) -> _Call:
    output, error = None, None
    started = time.perf_counter()
    with warnings.catch_warnings(), torch.no_grad(), _machine(case, device):
        # A candidate may warn; warnings are no part of the operation.
        warnings.simplefilter("ignore")
        try:
            with guard:
                output = target.call(case, *_tensors(operands))
            if device.type == "cuda":
                torch.cuda.synchronize()
        except TargetError:
            raise
        # Whatever a candidate raises is evidence, never a pass: `_judge_error` decides what it means.
        except (Exception, SystemExit) as raised:
            error = raised
    return _Call(output, error, time.perf_counter() - started)


def _judge_call(
    call: _Call, target: Target, case: Case, device: torch.device, expected: Admissible | RejectedError, poison: float
) -> Verdict:
    if call.error is not None:
        return _judge_error(call.error, target, case, device, expected)
    if isinstance(expected, RejectedError):
        return failure("not-rejected", "errors", f"returned a result where PyTorch raises {expected}")
    return _check_form(call.output, case, device) or judge(case, call.output.detach().cpu(), expected, poison=poison)


def _judge_error(
    error: BaseException, target: Target, case: Case, device: torch.device, expected: Admissible | RejectedError
) -> Verdict:
    reason = _why_declined(error, target, case, device)
    if reason:
        return Verdict(status="declined", kind="declined", lane="errors", message=reason)
    if isinstance(expected, RejectedError):
        return Verdict(status="pass", lane="errors")
    return failure("raised", "errors", f"raised {_describe(error)} where PyTorch gives a result")


def _why_declined(error: BaseException, target: Target, case: Case, device: torch.device) -> str:
    """Say why an exception is no fault of the target; empty where it is one."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, NotImplementedError):
        return f"the target declines: {error}"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if is_interpreting() and "not supported in interpreter mode" in text:
        return f"Triton's interpreter cannot run it: {error}"
    if device.type == "cpu" and _asks_for_cuda(error):
        return f"the target runs on a GPU only: {error}"
    if target.abilities.kind == "module" and case.kh != case.kw:
        return f"the module takes no pair for kernel_size: {_describe(error)}"
    return ""


def _asks_for_cuda(error: BaseException) -> bool:
    """Whether the target refused CPU tensors or asked for a driver: its line, or its message, says so."""
    frames = traceback.extract_tb(error.__traceback__)
    words = f"{error} {frames[-1].line if frames else ''}".lower()
    return any(word in words for word in ("cuda", "nvidia driver", "active drivers"))


def _check_form(output: Any, case: Case, device: torch.device) -> Verdict | None:
    if not isinstance(output, torch.Tensor):
        return failure("wrong-type", "errors", f"returned {type(output).__name__}, must be a torch.Tensor")
    shape = (case.n, 1, *case.out_size)
    if tuple(output.shape) != shape:
        return failure("wrong-shape", "errors", f"returned shape {tuple(output.shape)}, must be {shape}")
    if output.dtype != TORCH_DTYPE[case.dtype]:
        return failure("wrong-dtype", "errors", f"returned dtype {output.dtype}, must be {TORCH_DTYPE[case.dtype]}")
    if output.device.type != device.type:
        return failure("wrong-type", "errors", f"returned a tensor on {output.device}, must be on {device}")
    return None


def _check_memory(operands: Operands, guard: AllocationGuard) -> Verdict | None:
    for name, operand in operands.items():
        damage = operand.damage()
        if damage == "elements":
            return failure("input-modified", "guards", f"the call changed elements of {name}")
        if damage:
            return failure("out-of-bounds-write", "guards", f"the call wrote around {name}, outside its elements")
    if guard.overwritten():
        return failure("out-of-bounds-write", "guards", "the call wrote past an end of memory that it had allocated")
    return None


def _describe(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]
