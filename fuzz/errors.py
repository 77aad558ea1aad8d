"""An exception → what it means: a fault of the target's, a refusal, or want of memory."""

from __future__ import annotations

import traceback
from typing import Final

import torch

from fuzz.case import Case
from fuzz.interpreter import is_interpreting
from fuzz.target import Target
from fuzz.verdict import Verdict, declined, failure

_LONGEST_WORDS: Final = 400
# What Triton's interpreter says of what it has no way to run; the compiler has one.
_NOT_INTERPRETED: Final = ("not supported in interpreter mode", "'InterpreterBuilder' object has no attribute")


def judge_error(error: BaseException, target: Target, case: Case, device: torch.device, *, rejected: bool) -> Verdict:
    """Return the verdict on what a call of a target raised.

    Args:
        error: What it raised.
        target: The target.
        case: The case.
        device: Where the tensors live.
        rejected: Whether PyTorch raises, too.
    """
    reason = _why_declined(error, target, case, device)
    if reason:
        return declined(reason)
    if rejected:
        return Verdict(status="pass", lane="errors")
    return failure("raised", "errors", f"raised {_describe(error)} where PyTorch gives a result")


def judge_loss(error: BaseException, case: Case) -> Verdict:
    """Return the verdict where a device is lost to this process, by which of a trial's calls nobody can tell."""
    several = "one of several calls " if case.earlier or case.relation else ""
    return failure("raised", "errors", f"{several}raised {_describe(error)} where PyTorch gives a result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was asked for that there is not; PyTorch's allocator on the CPU has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in _words(error)


def _why_declined(error: BaseException, target: Target, case: Case, device: torch.device) -> str:
    """Say why an exception is no fault of the target; empty where it is one."""
    words = _words(error)
    if isinstance(error, NotImplementedError):
        return f"the target declines: {words}"
    if is_out_of_memory(error):
        return "out of memory"
    if is_interpreting() and any(text in words for text in _NOT_INTERPRETED):
        return f"Triton's interpreter cannot run it: {words}"
    if device.type == "cpu" and _asks_for_cuda(error):
        return f"the target runs on a GPU only: {words}"
    if target.abilities.kind == "module" and case.kh != case.kw:
        return f"the module takes no pair for kernel_size: {_describe(error)}"
    return ""


def _asks_for_cuda(error: BaseException) -> bool:
    """Whether the target refused CPU tensors or asked for a driver: its line, or its message, says so."""
    frames = traceback.extract_tb(error.__traceback__)
    words = f"{_words(error)} {frames[-1].line if frames else ''}".lower()
    return any(word in words for word in ("cuda", "nvidia driver", "active drivers"))


def _describe(error: BaseException) -> str:
    words = _words(error)
    if isinstance(error, torch.AcceleratorError):
        words = words.partition("\n")[0]  # what follows is how to use a debugger
    return " ".join(f"{type(error).__name__}: {words}".split())[:_LONGEST_WORDS]


def _words(error: BaseException) -> str:
    """Return an exception's message, cut and fit to be written down; a target's own exceptions may have none."""
    try:
        text = str(error)
    # An exception of a target's own may raise whatever it likes when it is asked; the verdict on it stands either way.
    except Exception as raised:
        text = f"(its message raises {type(raised).__name__})"
    return text[:_LONGEST_WORDS].encode(errors="replace").decode()
