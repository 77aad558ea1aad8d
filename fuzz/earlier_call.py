"""What an earlier call looks like: its parameters, as a case. To make it is `fuzz.earlier`'s job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from fuzz.abilities import Abilities
from fuzz.case import Case, Earlier
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS, CaseError, Layout

# Whole tiles: what is tuned for them may leave its masks out.
_WHOLE: Final = (32, 64)

Changes = dict[str, Any]


def earlier_call(case: Case, step: Earlier, abilities: Abilities) -> Case | None:
    """Return the earlier call that a step stands for; None if there is none, or it uses the judged call's own memory.

    Args:
        case: The judged call.
        step: What differs.
        abilities: Those of the target.
    """
    if step not in _CHANGES:
        return None
    try:
        changes = _CHANGES[step](case, abilities)
        return replaced(case, **changes) if changes else None
    except CaseError:
        return None


def replaced(case: Case, **changes: Any) -> Case:
    """Return the case with some fields changed and without other calls."""
    return msgspec.structs.replace(case, **{"earlier": (), "relation": None, **changes})


def _layout(case: Case, abilities: Abilities) -> Changes:
    return {"x_layout": CHANNELS_LAST if case.x_layout == CONTIGUOUS else CONTIGUOUS}


def _weight_layout(case: Case, abilities: Abilities) -> Changes:
    if abilities.kind == "module":
        return {}
    return {"weight_layout": CHANNELS_LAST if case.weight_layout == CONTIGUOUS else CONTIGUOUS}


def _bias_layout(case: Case, abilities: Abilities) -> Changes:
    if abilities.kind == "module" or not case.bias:
        return {}
    return {"bias_layout": Layout(step=(2,)) if case.bias_layout == CONTIGUOUS else CONTIGUOUS}


def _argument(case: Case, abilities: Abilities) -> Changes:
    """One of the arguments that are no tensors and change nothing about those."""
    others: list[Changes] = []
    if abilities.convolution_options and not case.same:
        others += [{name: tuple(n % 2 + 1 for n in getattr(case, name))} for name in ("stride", "dilation", "padding")]
    if abilities.precision and case.dtype == "float32":
        others.append({"precision": "ieee" if case.precision == "tf32" else "tf32"})
    others += [{"config": name} for name in abilities.configs if name != case.config][:1]
    return others[case.seed % len(others)] if others else {}


def _larger(case: Case, abilities: Abilities) -> Changes:
    return {"n": case.n + 1, "h": case.h + 1, "w": case.w + 1}


def _smaller(case: Case, abilities: Abilities) -> Changes:
    return {"n": min(case.n, 1), "h": max(1, case.h - 1), "w": max(1, case.w - 1)}


def _scale(case: Case, abilities: Abilities) -> Changes:
    return {"scale": -2.0 if case.scale != -2.0 else 1.0}


def _bias(case: Case, abilities: Abilities) -> Changes:
    return {"bias": not case.bias, "bias_layout": CONTIGUOUS}


def _dtype(case: Case, abilities: Abilities) -> Changes:
    others = [dtype for dtype in abilities.dtypes if dtype != case.dtype]
    return {"dtype": others[case.seed % len(others)], "precision": "default"} if others else {}


def _c_in(case: Case, abilities: Abilities) -> Changes:
    """Other products for the same output."""
    return {"c_in": _other_channels(case.c_in, case), "x_layout": CONTIGUOUS, "weight_layout": CONTIGUOUS}


def _c_out(case: Case, abilities: Abilities) -> Changes:
    return {"c_out": _other_channels(case.c_out, case), "weight_layout": CONTIGUOUS, "bias_layout": CONTIGUOUS}


def _other_channels(channels: int, case: Case) -> int:
    others = [channels + case.groups, *(case.groups * whole for whole in _WHOLE if case.groups * whole != channels)]
    return others[case.seed % len(others)]


_CHANGES: Final[dict[str, Callable[[Case, Abilities], Changes]]] = {
    "layout": _layout,
    "weight layout": _weight_layout,
    "bias layout": _bias_layout,
    "larger": _larger,
    "smaller": _smaller,
    "scale": _scale,
    "bias": _bias,
    "argument": _argument,
    "dtype": _dtype,
    "c_in": _c_in,
    "c_out": _c_out,
}
