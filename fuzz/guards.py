"""What a target allocates while it runs: poisoned, and between red zones.

`AllocationGuard` sees every allocation that PyTorch makes for the target, whichever function it came from, and puts a
larger buffer under it. Memory that the target leaves unwritten then holds the poison, and a write past either end is
found by comparing the red zones afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fuzz.memory import Memory, Region
from fuzz.on_device import Flag
from fuzz.tensors import RED_ZONE, Poison, poison_value

_UNINITIALISED: Final = {
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
}
_INITIALISED: Final = {
    f"aten::{prefix}{name}{suffix}"
    for name in ("zeros", "ones", "full")
    for prefix, suffix in (("", ""), ("new_", ""), ("", "_like"))
}
_FILL: Final = {"nan": 0xFF, "finite": 0xE0}


class AllocationGuard(TorchDispatchMode):
    """While active, gives every dense tensor that is allocated a poisoned buffer with red zones.

    Args:
        poison: Floating-point memory starts as this; other memory as a byte pattern.
        device_type: Only allocations on this kind of device are guarded.
        memory: Where to register what kernels may touch of each allocation, or None.
    """

    def __init__(self, poison: Poison, device_type: str, memory: Memory | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._poison = poison
        self._memory = memory
        self._device_type = device_type
        self._buffers: list[tuple[torch.Tensor, int]] = []
        self._uninitialised: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # PyTorch asks when the class is made. If so, the first operator of a process imports the compiler, for seconds.
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operator; where it allocated a tensor, move that tensor into a guarded buffer."""
        if cast("Any", func)._schema.is_mutable:
            touched = [_storage(each) for each in (*args, *(kwargs or {}).values())]
            # Triton's interpreter ends a launch by copying each tensor on the CPU onto itself.
            if not (len(touched) > 1 and touched[0] == touched[1]):
                self._uninitialised -= set(touched)
        result = func(*args, **(kwargs or {}))
        name = cast("Any", func).name().partition(".")[0]
        if name in _UNINITIALISED:
            guarded = self._guarded(result, copy=False)
            self._uninitialised.add(_storage(guarded))
            return guarded
        return self._guarded(result, copy=True) if name in _INITIALISED else result

    def is_uninitialised(self, tensor: torch.Tensor) -> bool:
        """Return whether PyTorch allocated this memory without a value and has written nothing to it since."""
        return _storage(tensor) in self._uninitialised

    def zones_written(self) -> list[Flag]:
        """For each red zone whether anything was written into it."""
        return [
            _is_written(zone, _FILL[self._poison])
            for buffer, size in self._buffers
            for zone in (buffer[:RED_ZONE], buffer[RED_ZONE + size :])
        ]

    def overwritten(self) -> bool:
        """Return whether anything was written into a red zone."""
        return any(map(bool, self.zones_written()))

    def _guarded(self, tensor: torch.Tensor, *, copy: bool) -> torch.Tensor:
        if tensor.device.type != self._device_type or tensor.numel() == 0 or tensor.layout != torch.strided:
            return tensor
        extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        size = extent * tensor.element_size()
        buffer = torch.full((size + 2 * RED_ZONE,), _FILL[self._poison], dtype=torch.uint8, device=tensor.device)
        self._buffers.append((buffer, size))
        body = buffer[RED_ZONE : RED_ZONE + size].view(tensor.dtype)
        if self._memory is not None:
            name, start = "memory that the target allocated", body.data_ptr()
            self._memory.add(Region(name=name, start=start, size=size, itemsize=tensor.element_size(), owner=buffer))
        if copy:
            body.as_strided(tensor.shape, tensor.stride(), body.storage_offset()).copy_(tensor)
        elif tensor.is_floating_point():
            body.fill_(poison_value(self._poison))
        return body.as_strided(tensor.shape, tensor.stride(), body.storage_offset())


def _storage(value: object) -> int:
    """Return the address of a tensor's storage; 0 for anything else."""
    return value.untyped_storage().data_ptr() if isinstance(value, torch.Tensor) else 0


def _is_written(zone: torch.Tensor, fill: int) -> Flag:
    return bool((zone.numpy() != fill).any()) if zone.device.type == "cpu" else (zone != fill).any()
