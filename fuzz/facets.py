"""Facets: what a failure may depend on, each with the way to take it out of a case.

A facet that is taken out of a failing case, whereupon the case passes, is necessary for the failure. The necessary
facets of a shrunk case are what a person would call the bug, so failures are told apart by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fuzz.case import EXTREME_FAMILIES, Case, Family
from fuzz.layout import CONTIGUOUS, CaseError, same

_EXTREME: Final = 2.0**60
_INEXACT: Final[tuple[Family, ...]] = ("uniform", "gaussian", "coherent", "cancelling", "wide")


@dataclass(frozen=True)
class Facet:
    """Something that a case has or has not.

    Attributes:
        name: What a person calls it.
        present: Whether a case has it.
        without: The case without it; may raise `CaseError` where there is no such case.
        is_size: Whether it is a mere size, which many failures need to show at all.
    """

    name: str
    present: Callable[[Case], bool]
    without: Callable[[Case], Case]
    is_size: bool = False


class Attribute(msgspec.Struct, frozen=True):
    """What became of a failing case when one facet was taken out of it.

    Attributes:
        name: The facet.
        necessary: Whether the case then passed.
        without: What was put in its place, as in `c_out=33 → 1`.
    """

    name: str
    necessary: bool
    without: str


def replace(case: Case, **changes: Any) -> Case:
    """Return the case with some fields changed; raises `CaseError` where that breaks a rule."""
    return msgspec.structs.replace(case, **changes)


def _field(name: str, field: str, default: object, *, is_size: bool = False) -> Facet:
    return Facet(
        name,
        lambda case: getattr(case, field) != default,
        lambda case: replace(case, **{field: default}),
        is_size,
    )


def _is_extreme(scale: float) -> bool:
    return not math.isfinite(scale) or abs(scale) > _EXTREME or 0 < abs(scale) < 1 / _EXTREME


def _has_extremes(case: Case) -> bool:
    return bool(case.specials) or case.values in EXTREME_FAMILIES or _is_extreme(case.scale)


def _without_extremes(case: Case) -> Case:
    return replace(
        case,
        specials=(),
        values="lattice" if case.values in EXTREME_FAMILIES else case.values,
        scale=math.copysign(1.0, case.scale) if _is_extreme(case.scale) else case.scale,
    )


def _smallest_image(case: Case) -> Case:
    above, left, below, right = case.sides
    return replace(case, h=max(1, case.window[0] - above - below), w=max(1, case.window[1] - left - right))


EXTREME_VALUES: Final = Facet("special or extreme values", _has_extremes, _without_extremes)
EARLIER_CALLS: Final = _field("earlier calls", "earlier", ())

FACETS: Final[tuple[Facet, ...]] = (
    _field("dtype", "dtype", "float32"),
    _field("precision", "precision", "default"),
    _field("config", "config", None),
    Facet("empty batch", lambda case: case.n == 0, lambda case: replace(case, n=1)),
    _field("stride", "stride", (1, 1)),
    Facet("padding", lambda case: any(case.sides), lambda case: replace(case, padding=(0, 0), same=False)),
    _field("dilation", "dilation", (1, 1)),
    _field("groups", "groups", 1),
    EARLIER_CALLS,
    _field("relation", "relation", None),
    _field("bias", "bias", False),
    Facet("scale", lambda case: case.scale != 1 and not _is_extreme(case.scale), lambda case: replace(case, scale=1.0)),
    EXTREME_VALUES,
    _field("layout of x", "x_layout", CONTIGUOUS),
    _field("layout of weight", "weight_layout", CONTIGUOUS),
    _field("layout of bias", "bias_layout", CONTIGUOUS),
    Facet("inexact values", lambda case: case.values in _INEXACT, lambda case: replace(case, values="lattice")),
    Facet("batch", lambda case: case.n > 1, lambda case: replace(case, n=1), is_size=True),
    Facet(
        "input channels",
        lambda case: case.c_in > case.groups,
        lambda case: replace(case, c_in=case.groups),
        is_size=True,
    ),
    Facet(
        "output channels",
        lambda case: case.c_out > case.groups,
        lambda case: replace(case, c_out=case.groups),
        is_size=True,
    ),
    Facet("image size", lambda case: _smallest_image(case) != case, _smallest_image, is_size=True),
    Facet(
        "kernel size",
        lambda case: (case.kh, case.kw) != (1, 1),
        lambda case: replace(case, kh=1, kw=1),
        is_size=True,
    ),
)

# Numbers that differ tell elements apart: whether a failure needs them explains it, and does not tell it from another.
_VALUES: Final = Facet(
    "values that differ",
    lambda case: case.values not in ("ones", *EXTREME_FAMILIES, *_INEXACT),
    lambda case: replace(case, values="ones"),
)

BY_NAME: Final = {facet.name: facet for facet in FACETS}


def attributes(case: Case, fails: Callable[[Case], bool]) -> tuple[Attribute, ...]:
    """Take every facet of a failing case out in turn and say what the failure depends on."""
    return tuple(
        Attribute(facet.name, not still_fails(case, facet, fails), _difference(case, facet))
        for facet in (*FACETS, _VALUES)
        if facet.present(case)
    )


def causes(found: tuple[Attribute, ...]) -> tuple[str, ...]:
    """Return the names of the facets that make up the bug.

    Sizes count only where nothing else does: most failures need some size to show, whatever their cause.
    """
    necessary = [attribute.name for attribute in found if attribute.necessary and attribute.name in BY_NAME]
    return tuple(name for name in necessary if not BY_NAME[name].is_size) or tuple(necessary)


def still_fails(case: Case, facet: Facet, fails: Callable[[Case], bool]) -> bool:
    """Return whether a failing case fails without the facet, too."""
    if not facet.present(case):
        return True
    try:
        return fails(facet.without(case))
    except CaseError:
        return False


def _difference(case: Case, facet: Facet) -> str:
    try:
        other = facet.without(case)
    except CaseError:
        return "no such case"
    names = [info.name for info in msgspec.structs.fields(Case)]
    changed = [name for name in names if not same(getattr(case, name), getattr(other, name))]
    return ", ".join(f"{name}={getattr(case, name)!r} → {getattr(other, name)!r}" for name in changed)
