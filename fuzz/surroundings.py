"""What a target may change in its process, kept apart: its settings are its own, and the oracle never meets them.

A candidate may set PyTorch's default dtype or device, clear the environment, or put a function of its own in the place
of one of PyTorch's. None of this is a fault by itself. So the target finds again in each call what it has left, and
everybody else what was there before.
"""

from __future__ import annotations

import builtins
import gc
import locale
import math
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch

# Where functions may be exchanged that the oracle calls by these modules' names.
_NAMESPACES: Final[tuple[Any, ...]] = (builtins, math, np, torch, torch.Tensor, torch.nn.functional)
_ABSENT: Final = object()
_SMALLEST: Final = 5e-324

_Patch = tuple[Any, str, Any]


class Surroundings:
    """The surroundings of one target: in force inside a `with` block, which must not be nested."""

    def __init__(self) -> None:
        """Begin with those that are found at the first entry."""
        self._settings: list[Any] | None = None
        self._patches: list[_Patch] = []
        self._others: list[Any] = []
        self._names: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        """Bring back what the target has left."""
        self._names = [vars(namespace).copy() for namespace in _NAMESPACES]
        self._others = [get() for get, _ in _SETTINGS]
        if self._settings is not None:
            _set(self._others, self._settings)
        _put(self._patches)

    def __exit__(self, *_: object) -> None:
        """Keep what the target leaves, and bring back what was there before."""
        self._patches, undone = _patches(self._names)
        _put(undone)
        self._settings = [get() for get, _ in _SETTINGS]
        _set(self._settings, self._others)


def _set(present: list[Any], wanted: list[Any]) -> None:
    for (_, put), there, value in zip(_SETTINGS, present, wanted, strict=True):
        if there != value:
            put(value)


def _patches(before: list[dict[str, Any]]) -> tuple[list[_Patch], list[_Patch]]:
    """Return what was exchanged since then, and what takes it back."""
    made: list[_Patch] = []
    undone: list[_Patch] = []
    for namespace, names in zip(_NAMESPACES, before, strict=True):
        now = vars(namespace)
        if _alike(now, names):
            continue
        for name in {**names, **now}:
            new, old = now.get(name, _ABSENT), names.get(name, _ABSENT)
            # What is imported late belongs to everybody.
            if new is not old and not (old is _ABSENT and isinstance(new, ModuleType)):
                made.append((namespace, name, new))
                undone.append((namespace, name, old))
    return made, undone


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # Objects are compared by identity first; to look at each in Python would take longer than many a call.
    try:
        return list(one.values()) == list(other.values())
    except Exception:  # whatever has been put there cannot be compared
        return False


def _put(patches: list[_Patch]) -> None:
    for namespace, name, value in patches:
        if value is not _ABSENT:
            setattr(namespace, name, value)
        elif name in vars(namespace):
            delattr(namespace, name)


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _autocast() -> tuple[bool, bool]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def _set_autocast(enabled: tuple[bool, bool]) -> None:
    torch.set_autocast_enabled("cpu", enabled[0])
    torch.set_autocast_enabled("cuda", enabled[1])


def _environment() -> dict[bytes, bytes]:
    # Not by its own methods, which decode each variable: a trial asks a dozen times.
    return dict(os.environb._data)  # type: ignore[attr-defined]  # typeshed does not tell of it


def _set_environment(variables: dict[bytes, bytes]) -> None:
    os.environb.clear()
    os.environb.update(variables)


# Each is read by a function and set by another. What the caller of a target decides, gradients for one, is not here.
_SETTINGS: Final[tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...]] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (_deterministic, lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1])),
    (_autocast, _set_autocast),
    # There is nobody to ask whether subnormal numbers count as 0.
    (lambda: math.ldexp(_SMALLEST, 1) * 0.5 == 0.0, torch.set_flush_denormal),
    (np.geterr, lambda errors: np.seterr(**errors)),
    (_environment, _set_environment),
    (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
)
