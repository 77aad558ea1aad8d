"""The kernel under test: finding it, loading it, saying what it can be asked, calling it.

Only the process that runs trials imports this module's targets: a candidate file is another person's program.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

import torch

from fuzz.abilities import BUILT_IN, Abilities
from fuzz.case import Case
from fuzz.interpreter import is_interpreting
from fuzz.surroundings import Surroundings
from fuzz.tensors import differ, flat

_DEFAULT_NAMES: Final = ("ModelNew", "conv_scale_min")
_PAIRS: Final = ("stride", "padding", "dilation")
_CONVOLUTION_OPTIONS: Final = (*_PAIRS, "groups")
_MODULE_SIGNATURE: Final = "(in_channels, out_channels, kernel_size, scale_factor)"


class Call(Protocol):
    """A target, bound to the options of a case: call it with x, weight and bias."""

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        """Return whatever the target returns."""


class TargetError(Exception):
    """The target cannot be loaded; the message is one line that says what and why."""


@dataclass(frozen=True)
class Target:
    """A loaded kernel.

    Attributes:
        name: What the user called it.
        abilities: What it can be asked.
        bind: Gives a function of x, weight and bias that calls the target as the case asks; called again, it calls the
            same function or the same module, whose parameters are then overwritten in place.
        surroundings: What the target has changed in the process; calls are made inside.
    """

    name: str
    abilities: Abilities
    bind: Callable[[Case], Call]
    surroundings: Surroundings = field(default_factory=Surroundings)


def load_target(name: str) -> Target:
    """Load a target by the name that a user gives.

    Args:
        name: `fused`, `two-pass`, `path/to/file.py`, `path/to/file.py:NAME` or `package.module:NAME`.

    Raises:
        TargetError: There is no such file, it cannot be imported, or it holds nothing usable.
    """
    if name in BUILT_IN:
        return _load_built_in(name)
    place, attribute = _split(name)
    surroundings = Surroundings()
    with surroundings:
        module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place, name)
    found = _attribute(module, attribute, name)
    if inspect.isclass(found) and issubclass(found, torch.nn.Module):
        return replace(_module_target(name, found), surroundings=surroundings)
    if callable(found) and not inspect.isclass(found):
        return replace(_function_target(name, found, module, built_in=False), surroundings=surroundings)
    raise TargetError(f"target {name}: {attribute or found} is neither a torch.nn.Module class nor a function")


def reload_target(name: str) -> Target | None:
    """Load a target file once more, without what earlier calls left in its module; None where that cannot be done.

    Only a file is run again by loading it again, and one that registers operators with PyTorch may refuse.
    """
    if not _split(name)[0].endswith(".py"):
        return None
    try:
        return load_target(name)
    except TargetError:
        return None


def _load_built_in(name: str) -> Target:
    module_name, attribute = BUILT_IN[name]
    module = importlib.import_module(module_name)
    return _function_target(name, getattr(module, attribute), module, built_in=True)


def _split(name: str) -> tuple[str, str | None]:
    place, colon, attribute = name.rpartition(":")
    if colon and not attribute.endswith(".py"):
        return place, attribute
    return name, None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"target {path}: there is no such file")
    # The name is the path's own, so that two candidate files never meet in sys.modules.
    module_name = f"fuzz_target_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"target {path}: Python cannot import this file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    # Another person's file may raise anything at all while it is imported; each of it means that it cannot be loaded.
    except Exception as error:
        raise TargetError(f"target {path}: importing it raised {_one_line(error)}") from error
    finally:
        sys.path.pop(0)
    return module


def _import_module(place: str, name: str) -> ModuleType:
    if not place or not all(part.isidentifier() for part in place.split(".")):
        raise TargetError(f"target {name}: use fused, two-pass, FILE.py, FILE.py:NAME or package.module:NAME")
    try:
        return importlib.import_module(place)
    # As for a file: whatever an import raises means that the target cannot be loaded.
    except Exception as error:
        raise TargetError(f"target {name}: importing {place} raised {_one_line(error)}") from error


def _attribute(module: ModuleType, attribute: str | None, name: str) -> Any:
    if attribute is not None:
        if not hasattr(module, attribute):
            raise TargetError(f"target {name}: there is no {attribute} in it")
        return getattr(module, attribute)
    for candidate in _DEFAULT_NAMES:
        if hasattr(module, candidate):
            return getattr(module, candidate)
    raise TargetError(f"target {name}: it defines none of {', '.join(_DEFAULT_NAMES)}; name one as {name}:NAME")


def _function_target(name: str, function: Callable[..., Any], module: ModuleType, *, built_in: bool) -> Target:
    abilities = _function_abilities(name, function, module, built_in=built_in)

    def bind(case: Case) -> Call:
        options: dict[str, Any] = {}
        if abilities.convolution_options:
            options.update({option: getattr(case, option) for option in _CONVOLUTION_OPTIONS})
        if built_in and abilities.convolution_options and case.seed % 2:
            # PyTorch takes an int for two equal ones, and so do the kernels that promise what PyTorch does.
            options.update({name: options[name][0] for name in _PAIRS if len({*options[name]}) == 1})
        if case.same:
            options["padding"] = "same"
        if abilities.precision and case.precision != "default":
            options["precision"] = case.precision
        if case.config in abilities.configs:
            options["config"] = case.config

        def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
            if bias is None and not abilities.optional_bias:
                bias = x.new_zeros(case.c_out)
            return function(x, weight, bias, case.scale, **options)

        return call

    return Target(name, abilities, bind)


def _function_abilities(name: str, function: Callable[..., Any], module: ModuleType, *, built_in: bool) -> Abilities:
    try:
        signature = inspect.signature(function)
        signature.bind("x", "weight", "bias", "scale")
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"target {name}: a function target is called as f(x, weight, bias, scale), but {error}"
        ) from None
    parameters = signature.parameters
    optional = {key for key, parameter in parameters.items() if parameter.default is None}
    positional = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    configs = getattr(module, "named_configs", None)
    return Abilities(
        kind="function",
        convolution_options=all(option in parameters for option in _CONVOLUTION_OPTIONS),
        same_padding=built_in,
        optional_bias=len(positional) > 2 and positional[2] in optional,
        precision="precision" in optional,
        configs=tuple(configs()) if "config" in optional and callable(configs) else (),
        every_dtype=built_in,
        in_order=built_in,
        far=built_in and is_interpreting(),
        reproducible=built_in,
    )


def _module_target(name: str, module_class: type[torch.nn.Module]) -> Target:
    _check_module(name, module_class)

    def bind(case: Case) -> Call:
        return BoundModule(name, module_class, case)

    return Target(name, Abilities(kind="module"), bind)


class BoundModule:
    """A module, constructed by the first call; every call sets its parameters in place, if they are to be others.

    One that stays as it is must not look as if it was written to: what a module keeps for it has to serve again.

    Args:
        name: The target's name.
        module_class: What to construct.
        case: Decides the constructor's arguments.

    Attributes:
        module: The module; None before the first call.
        parameters: By name, each parameter and what the last call put into it: a call must leave it there.
    """

    def __init__(self, name: str, module_class: type[torch.nn.Module], case: Case) -> None:
        self.parameters: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._name, self._module_class, self._case = name, module_class, case
        self.module: torch.nn.Module | None = None

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        """Return what the module returns."""
        if self.module is None:
            self.module = _construct(self._module_class, self._case).to(device=x.device, dtype=x.dtype)
        held = dict(zip(("weight", "bias"), _parameters(self._name, self.module), strict=True))
        with torch.no_grad():
            for name, given in (("weight", weight), ("bias", bias)):
                parameter = held[name]
                if parameter is not None:
                    wanted = torch.zeros_like(parameter) if given is None else given
                    if not _alike(parameter, wanted):
                        parameter.copy_(wanted)
                    self.parameters[name] = parameter, parameter.clone()
        if bias is not None and held["bias"] is None:
            raise NotImplementedError("the module has no bias")
        return self.module(x)


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are of one shape and dtype and hold the same bits; those on the meta device hold none."""
    same_kind = one.shape == other.shape and one.dtype == other.dtype and not one.is_meta
    return same_kind and not bool(differ(flat(one), flat(other)))


def _construct(module_class: type[torch.nn.Module], case: Case) -> torch.nn.Module:
    kernel_size: int | tuple[int, int] = case.kh if case.kh == case.kw else (case.kh, case.kw)
    torch.manual_seed(case.seed % 2**63)
    return module_class(case.c_in, case.c_out, kernel_size, case.scale)


def _check_module(name: str, module_class: type[torch.nn.Module]) -> None:
    try:
        inspect.signature(module_class).bind(1, 1, 1, 1.0)
    except (TypeError, ValueError):
        raise TargetError(f"target {name}: a module target is constructed as {_MODULE_SIGNATURE}") from None


def _parameters(name: str, module: torch.nn.Module) -> tuple[torch.nn.Parameter, torch.nn.Parameter | None]:
    weights = [parameter for parameter in module.parameters() if parameter.dim() == 4]
    biases = [parameter for parameter in module.parameters() if parameter.dim() == 1]
    if len(weights) != 1 or len(biases) > 1:
        shapes = [tuple(parameter.shape) for parameter in module.parameters()]
        raise TargetError(f"target {name}: a module needs one 4-D parameter and at most one 1-D, this one has {shapes}")
    return weights[0], biases[0] if biases else None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
