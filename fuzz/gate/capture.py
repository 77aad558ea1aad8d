"""Runs a target as if on a card that is not there, and keeps what Triton compiles for its launches.

Tensors are PyTorch's meta tensors, which have a shape and no memory, and say that they lie on a GPU. Whatever the
target's Python decides, it decides as on that card; a launch compiles and does not start. This is the one place of the
gate that touches what PyTorch and Triton keep to themselves.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton
from torch.overrides import TorchFunctionMode
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from fuzz.gate.devices import Card

_CUDA = torch.device("cuda", 0)
# What kernels call the sizes of a tile: BLOCK_M, BLOCK_SIZE_N, BN, TILE_W.
_TILE = re.compile(r"(BLOCK|TILE|BLOCK_SIZE)_[A-Z]+|BLOCK_SIZE|BLOCK|B[MNK]")


@dataclass(frozen=True)
class Launch:
    """One launch, as the card would get it.

    Attributes:
        kernel: The kernel's name.
        warps: How many warps each program has.
        shared: Bytes of shared memory of a program.
        tensor_bytes: Of all tensors that it does something with.
        cubin: The machine code.
        tile: Sizes that the kernel takes as constants, BLOCK_M and the like.
        rebuilt: Gives the launch with other constants, by name.
    """

    kernel: str
    warps: int
    shared: int
    tensor_bytes: int
    cubin: bytes = field(repr=False)
    tile: dict[str, int]
    rebuilt: Callable[[dict[str, int]], Launch] = field(repr=False, compare=False)


class _Pointer:
    """What Triton asks of a tensor argument: its dtype, and whether its address is a multiple of 16."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.dtype = tensor.dtype
        self._offset = int(tensor.storage_offset()) * tensor.element_size()

    def data_ptr(self) -> int:
        return self._offset


class _Driver:
    """Triton's way to the card: which it is, and nothing that would start anything on it."""

    def __init__(self, card: Card) -> None:
        self._target = GPUTarget("cuda", card.capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        del device
        return 0

    def get_active_torch_device(self) -> torch.device:
        return _CUDA


class _OnCard(TorchFunctionMode):
    """Meta tensors that say they lie on a GPU, and are made where somebody asks for one there."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func == torch.Tensor.device.__get__:
            return _CUDA
        if func == torch.Tensor.is_cuda.__get__:  # type: ignore[attr-defined]  # a descriptor, said to be a bool
            return True
        if func is torch.Tensor.cuda:
            return args[0]
        named = {key: _on_meta(value) if key == "device" else value for key, value in (kwargs or {}).items()}
        return func(*map(_on_meta, args), **named)


def _on_meta(value: Any) -> Any:
    """`value`, but the meta device for a CUDA device, whether by name or not."""
    is_cuda = isinstance(value, torch.device) and value.type == "cuda"
    is_name = isinstance(value, str) and value.partition(":")[0] == "cuda"
    return torch.device("meta") if is_cuda or is_name else value


def _bytes(arguments: dict[str, Any], code: str) -> int:
    """Of tensors among arguments that Triton's code does something with; memory that is given twice counts once.

    Args:
        arguments: By parameter.
        code: Triton's intermediate code, where parameters have their names, if only in the head of the function.
    """
    given: dict[int, int] = {}
    for name, value in arguments.items():
        used = len(re.findall(rf"%{re.escape(name)}\b", code)) != 1
        if used and isinstance(value, torch.Tensor):
            place, size = value.untyped_storage()._cdata, value.numel() * value.element_size()
            given[place] = max(given.get(place, 0), size)
    return sum(given.values())


def _compiled(
    compile_only: Callable[..., Any], kernel: Any, grid: Any, arguments: dict[str, Any]
) -> tuple[Any, Launch]:
    given = {key: _Pointer(value) if isinstance(value, torch.Tensor) else value for key, value in arguments.items()}
    built = compile_only(kernel, grid=grid, warmup=True, **given)
    launch = Launch(
        kernel=kernel.fn.__name__,
        warps=built.metadata.num_warps,
        shared=built.metadata.shared,
        tensor_bytes=_bytes(arguments, built.asm["ttir"]),
        cubin=built.asm["cubin"],
        tile={key: value for key, value in arguments.items() if _TILE.fullmatch(key) and isinstance(value, int)},
        rebuilt=lambda changed: _compiled(compile_only, kernel, grid, {**arguments, **changed})[1],
    )
    return built, launch


def _plain_operator(name: str, function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """Stands in for `torch.library.triton_op` and `custom_op`: the function itself, without a dispatcher."""
    del name
    return _Operator if function is None else _Operator(function)


class _Operator:
    """A function that lets everything be registered with it and does nothing about that."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("register_"):
            raise AttributeError(name)
        return lambda given=None, *_args, **_kwargs: given


def _run_all(tuner: Any, *args: Any, **kwargs: Any) -> Any:
    """Stands in for an autotuner, which would time its configurations: launch them all."""
    for config in tuner.configs:
        built = tuner.fn.run(*args, **{**kwargs, **config.all_kwargs()})
    return built


@contextlib.contextmanager
def on_card(card: Card) -> Iterator[list[Launch]]:
    """Until this ends, launches compile for `card` and are appended to the list that this gives.

    Targets have to be loaded inside, so that operators that they register with PyTorch are plain functions.
    """
    launches: list[Launch] = []
    compile_only = JITFunction.run

    def record(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        del warmup
        arguments = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
        built, launch = _compiled(compile_only, kernel, grid, arguments)
        launches.append(launch)
        return built

    properties = SimpleNamespace(
        name=f"NVIDIA {card.name}",
        major=card.capability // 10,
        minor=card.capability % 10,
        multi_processor_count=card.multiprocessors,
        shared_memory_per_multiprocessor=card.shared_memory,
        shared_memory_per_block_optin=card.shared_memory_per_block,
        regs_per_multiprocessor=card.registers,
        max_threads_per_multi_processor=card.threads,
        L2_cache_size=card.l2,
        warp_size=32,
    )
    capability = divmod(card.capability, 10)
    replaced: dict[str, Any] = {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.device": lambda _: contextlib.nullcontext(),
        "torch.cuda.get_device_properties": lambda *_: properties,
        "torch.cuda.get_device_capability": lambda *_: capability,
        "torch.cuda.synchronize": lambda *_: None,
        "torch.library.triton_op": _plain_operator,
        "torch.library.custom_op": _plain_operator,
        "torch.library.wrap_triton": lambda kernel: kernel,
        "triton.runtime.jit.JITFunction.run": record,
        "triton.runtime.autotuner.Autotuner.run": _run_all,
    }
    before = triton.runtime.driver._active
    triton.runtime.driver.set_active(_Driver(card))
    try:
        with contextlib.ExitStack() as stack:
            for name, value in replaced.items():
                stack.enter_context(mock.patch(name, value))
            stack.enter_context(_OnCard())
            yield launches
    finally:
        triton.runtime.driver._active = before
