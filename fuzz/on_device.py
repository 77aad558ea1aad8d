"""What crosses between the CPU and a GPU: operands go there, and results come back, without anybody waiting.

Processes that share a GPU take turns on it, of a quarter of a millisecond each; whoever waits for an answer gives its
turn away, and so does a kernel that waits for a copy, which is another engine's work. So nothing is copied but by
kernels, in memory that both sides see, and all that is to be known of a call is waited for once
(docs/measurements/gpu-turns-h100.json).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Iterable
from typing import Any, Final

import torch

# A yes or no: on a GPU a 0-d bool tensor, because to ask for its value is to wait for the device.
Flag = torch.Tensor | bool

# Integers that hold a number's bits, by its size in bytes: compared as such, NaN is equal to itself.
BITS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}

_STAGE_BYTES: Final = 2**24
_ALIGNMENT: Final = 256
_SLEEP_WHILE_WAITING: Final = 4  # CU_CTX_SCHED_BLOCKING_SYNC


def send(destination: torch.Tensor, numbers: torch.Tensor) -> None:
    """Put numbers into a tensor of the same shape, wherever it is; on a GPU they arrive in the order of the queue."""
    place = None if numbers.is_cuda else _stage.place(destination)
    if place is None:
        destination.copy_(numbers)
        return
    here, there = place
    here.copy_(numbers)
    _copy(there, destination)


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
        self._under_way = any(each is not None and each.is_cuda for each in (asked, tensor))
        self._flags, self._tensor = _on_its_way(asked), _on_its_way(tensor)
        if self._under_way:
            _stage.expect(self)

    def wait(self) -> tuple[bool, torch.Tensor | None]:
        """Return whether one of the flags is true, and the tensor on the CPU.

        Raises:
            torch.AcceleratorError: The device is lost to this process, by what was in its queue.
        """
        if self._under_way:
            # Not for one stream alone: what runs on others is over by then, too, or did what it should not.
            torch.cuda.synchronize()
            _stage.clear()
        told = self._known or (self._flags is not None and bool(self._flags.any()))
        return told, None if self._tensor is None else self._tensor.cpu()

    def land(self) -> None:
        """Take what has arrived out of the memory that others need: the device has nothing left to do."""
        self._flags, self._tensor = _landed(self._flags), _landed(self._tensor)
        self._under_way = False


class _Stage:
    """Page-locked memory, which the CPU and a GPU see both: what one of them puts there the other can take.

    It is got once, because it is slow to get, and never given back: to give it back after the device was lost would
    end the process.
    """

    def __init__(self) -> None:
        self._here: torch.Tensor | None = None
        self._there: torch.Tensor | None = None
        self._used = 0
        self._expected: list[Arrival] = []

    def place(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return a dense tensor of this shape and dtype as the CPU sees it, and the same as its GPU does.

        None where it is no tensor of the current GPU, or there is no room left until the next wait.
        """
        end = self._used + like.nbytes
        if not like.is_cuda or like.get_device() != torch.cuda.current_device() or end > _STAGE_BYTES:
            return None
        if self._here is None or self._there is None:
            self._here = torch.empty(_STAGE_BYTES, dtype=torch.uint8, pin_memory=True)
            self._there = torch.as_tensor(_OnDevice(self._here), device=like.device)
        start, self._used = self._used, math.ceil(end / _ALIGNMENT) * _ALIGNMENT
        here, there = (each[start:end].view(like.dtype).view(like.shape) for each in (self._here, self._there))
        return here, there

    def expect(self, arrival: Arrival) -> None:
        """Note who will find something here."""
        self._expected.append(arrival)

    def clear(self) -> None:
        """Use the memory again: the device has nothing left to do."""
        for arrival in self._expected:
            arrival.land()
        self._expected.clear()
        self._used = 0


class _OnDevice:
    """Page-locked bytes, for PyTorch to take for memory of the device: they have one address on both sides."""

    def __init__(self, here: torch.Tensor) -> None:
        address = here.data_ptr()
        self.__cuda_array_interface__ = {
            "shape": tuple(here.shape), "typestr": "|u1", "data": (address, False), "version": 3
        }  # fmt: skip


_stage: Final = _Stage()


def _copy(source: torch.Tensor, destination: torch.Tensor) -> None:
    """Copy bits by a kernel; PyTorch's own copy of a dense tensor is the copy engine's work."""
    bits = BITS[source.element_size()]
    torch.bitwise_or(source.view(bits), 0, out=destination.view(bits))


def _on_its_way(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return where a tensor will be once its device has come to it; the tensor itself where there is no room."""
    if tensor is None:
        return None
    place = _stage.place(tensor)
    if place is None:
        return tensor
    here, there = place
    _copy(tensor, there)
    return here


def _landed(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return tensor.clone() if tensor is not None and not tensor.is_cuda else tensor


def wait_asleep() -> None:
    """Make this process sleep while it waits for its current GPU; CUDA would ask all the time, which takes a core."""
    # It saves time and nothing else: where there is no such library, or it refuses, everything works without.
    with contextlib.suppress(OSError):
        driver: Any = ctypes.CDLL("libcuda.so.1")
        number = ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(number), torch.cuda.current_device())
        driver.cuDevicePrimaryCtxSetFlags_v2(number, _SLEEP_WHILE_WAITING)


def is_lost(device: torch.device) -> bool:
    """Return whether nothing can be computed on a device any more: after some errors a process has to end."""
    if device.type != "cuda":
        return False
    try:
        torch.zeros(1, device=device).add_(1).item()
    except RuntimeError:
        return True
    return False
