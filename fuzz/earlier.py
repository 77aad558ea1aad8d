"""Calls before the one that is judged: a kernel that keeps something between calls must keep the right thing.

Each step is a call that differs from the judged one in a single respect, made in the same process, on the same function
or module. What a target caches by address, by shape, by dtype or not at all is stale afterwards in one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from fuzz.abilities import Abilities
from fuzz.case import Case, Earlier
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS, CaseError, Layout
from fuzz.session import Outcome, Session
from fuzz.target import Call
from fuzz.tensors import Numbers, Operands, numbers_of

# What a module is constructed with.
_CONSTRUCTION: Final[tuple[Earlier, ...]] = ("scale", "argument", "dtype", "c_in", "c_out")
# Whole tiles: what is tuned for them may leave its masks out.
_WHOLE: Final = (32, 64)


def call_earlier(session: Session, case: Case, bound: Call, operands: Operands, numbers: Numbers) -> Outcome | None:
    """Make the case's earlier calls, in order; return the first that damaged memory, or None.

    What they return or raise is not judged: each of them is a case of its own.

    Args:
        session: Where to make them.
        case: The case.
        bound: The target, bound to the case.
        operands: The memory of the judged call, which some steps use as well.
        numbers: What that memory holds for the judged call, and holds again afterwards.
    """
    for step in case.earlier:
        outcome = _make(session, case, step, bound, operands, numbers)
        if outcome is not None and outcome.damage is not None:
            return outcome
    return None


def _make(
    session: Session, case: Case, step: Earlier, bound: Call, operands: Operands, numbers: Numbers
) -> Outcome | None:
    if step == "same":
        return session.call(bound, operands)
    if step == "contents":
        return _with_other_contents(session, case, bound, operands, numbers)
    other = _changed(case, step, session.target.abilities)
    if other is None:
        return None
    if step in _CONSTRUCTION:
        # What a module is constructed with cannot change between its calls: it is another module of the same class.
        bound = session.target.bind(other)
    return session.call(bound, session.place(other, numbers_of(other)))


def _with_other_contents(session: Session, case: Case, bound: Call, operands: Operands, numbers: Numbers) -> Outcome:
    """Call on the same memory with other numbers, then put the case's own numbers there."""
    other = numbers_of(replaced(case, values="lattice", specials=(), seed=case.seed ^ 1))
    fill(operands, other)
    outcome = session.call(bound, operands)
    fill(operands, numbers)
    return outcome


def fill(operands: Operands, numbers: Numbers) -> None:
    """Put other numbers into the operands' memory."""
    for name, operand in operands.items():
        operand.refill(numbers[name])


def replaced(case: Case, **changes: Any) -> Case:
    """Return the case with some fields changed and without earlier calls."""
    return msgspec.structs.replace(case, **{"earlier": (), "relation": None, **changes})


def _changed(case: Case, step: Earlier, abilities: Abilities) -> Case | None:
    try:
        changes = _CHANGES[step](case, abilities)
        return replaced(case, **changes) if changes else None
    except CaseError:
        return None


def _layout(case: Case, abilities: Abilities) -> dict[str, Any]:
    return {"x_layout": CHANNELS_LAST if case.x_layout == CONTIGUOUS else CONTIGUOUS}


def _weight_layout(case: Case, abilities: Abilities) -> dict[str, Any]:
    if abilities.kind == "module":
        return {}
    return {"weight_layout": CHANNELS_LAST if case.weight_layout == CONTIGUOUS else CONTIGUOUS}


def _bias_layout(case: Case, abilities: Abilities) -> dict[str, Any]:
    if abilities.kind == "module" or not case.bias:
        return {}
    return {"bias_layout": Layout(step=(2,)) if case.bias_layout == CONTIGUOUS else CONTIGUOUS}


def _argument(case: Case, abilities: Abilities) -> dict[str, Any]:
    """One of the arguments that are no tensors and change nothing about those."""
    others: list[dict[str, Any]] = []
    if abilities.convolution_options and not case.same:
        others += [{name: tuple(n % 2 + 1 for n in getattr(case, name))} for name in ("stride", "dilation", "padding")]
    if abilities.precision and case.dtype == "float32":
        others.append({"precision": "ieee" if case.precision == "tf32" else "tf32"})
    others += [{"config": name} for name in abilities.configs if name != case.config][:1]
    return others[case.seed % len(others)] if others else {}


def _larger(case: Case, abilities: Abilities) -> dict[str, Any]:
    return {"n": case.n + 1, "h": case.h + 1, "w": case.w + 1}


def _smaller(case: Case, abilities: Abilities) -> dict[str, Any]:
    return {"n": min(case.n, 1), "h": max(1, case.h - 1), "w": max(1, case.w - 1)}


def _scale(case: Case, abilities: Abilities) -> dict[str, Any]:
    return {"scale": -2.0 if case.scale != -2.0 else 1.0}


def _bias(case: Case, abilities: Abilities) -> dict[str, Any]:
    return {"bias": not case.bias, "bias_layout": CONTIGUOUS}


def _dtype(case: Case, abilities: Abilities) -> dict[str, Any]:
    others = [dtype for dtype in abilities.dtypes if dtype != case.dtype]
    return {"dtype": others[case.seed % len(others)], "precision": "default"} if others else {}


def _c_in(case: Case, abilities: Abilities) -> dict[str, Any]:
    """Other products for the same output."""
    return {"c_in": _other_channels(case.c_in, case), "x_layout": CONTIGUOUS, "weight_layout": CONTIGUOUS}


def _c_out(case: Case, abilities: Abilities) -> dict[str, Any]:
    return {"c_out": _other_channels(case.c_out, case), "weight_layout": CONTIGUOUS, "bias_layout": CONTIGUOUS}


def _other_channels(channels: int, case: Case) -> int:
    others = [channels + case.groups, *(case.groups * whole for whole in _WHOLE if case.groups * whole != channels)]
    return others[case.seed % len(others)]


_CHANGES: Final[dict[str, Callable[[Case, Abilities], dict[str, Any]]]] = {
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
