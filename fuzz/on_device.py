"""What crosses between the CPU and a GPU: operands go there, and results come back, without anybody waiting.

Processes that share a GPU take turns on it, of a quarter of a millisecond at least; whoever waits for an answer gives
its turn away. So all that is to be known of a call is put in the queue behind it, and waited for once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch

# A yes or no: on a GPU a 0-d bool tensor, because to ask for its value is to wait for the device.
Flag = torch.Tensor | bool

# Page-locked memory is what can be copied from and to without waiting. It is never given back, and slow to get.
_MOST_PINNED: Final = 2**20


def send(destination: torch.Tensor, numbers: torch.Tensor) -> None:
    """Put numbers into a tensor of the same shape, wherever it is; on a GPU they arrive in the order of the queue."""
    if destination.is_cuda and not numbers.is_cuda and numbers.nbytes <= _MOST_PINNED:
        destination.copy_(numbers.contiguous().pin_memory(), non_blocking=True)
    else:
        destination.copy_(numbers)


class Arrival:
    """Flags and a tensor on their way to the CPU, behind all that is in the queue of the current stream.

    Args:
        flags: Yes or no, each.
        tensor: On any device, or None.

    Raises:
        torch.AcceleratorError: The device is lost to this process, by what was in its queue.
    """

    def __init__(self, flags: Iterable[Flag], tensor: torch.Tensor | None) -> None:
        flags = list(flags)
        waiting = [flag for flag in flags if isinstance(flag, torch.Tensor)]
        self._known = True in [flag for flag in flags if isinstance(flag, bool)]
        asked = torch.stack(waiting) if waiting else None
        self._flags, self._tensor = _on_its_way(asked), _on_its_way(tensor)
        self._queued: torch.cuda.Event | None = None
        if any(each is not None and each.is_cuda for each in (asked, tensor)):
            # One that sleeps: as many processes as there are cores wait at the same time.
            self._queued = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._queued.record()

    def wait(self) -> tuple[bool, torch.Tensor | None]:
        """Return whether one of the flags is true, and the tensor on the CPU.

        Raises:
            torch.AcceleratorError: The device is lost to this process, by what was in its queue.
        """
        if self._queued is not None:
            self._queued.synchronize()
            # Whatever runs on other streams is over by then, too, or did what it should not.
            torch.cuda.synchronize()
        told = self._known or (self._flags is not None and bool(self._flags.any()))
        return told, None if self._tensor is None else self._tensor.cpu()


def _on_its_way(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return where a tensor will be once its device has come to it; the tensor itself where that is not worth it."""
    if tensor is None or not tensor.is_cuda or tensor.nbytes > _MOST_PINNED:
        return tensor
    if tensor.get_device() != torch.cuda.current_device():
        return tensor
    there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return there.copy_(tensor, non_blocking=True)


def is_lost(device: torch.device) -> bool:
    """Return whether nothing can be computed on a device any more: after some errors a process has to end."""
    if device.type != "cuda":
        return False
    try:
        torch.zeros(1, device=device).add_(1).item()
    except RuntimeError:
        return True
    return False
