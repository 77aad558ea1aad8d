"""What a relation's second call looks like: its parameters, as a case. Its tensors are `fuzz.relations`' job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from fuzz.case import EXTREME_FAMILIES, Case, Relation
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS

# By so much the relation "scale times power of two" multiplies.
FACTOR: Final = 8.0
_SMALLEST_SCALE: Final = 2.0**-40

Changes = dict[str, Any]
_CONTIGUOUS: Final[Changes] = {"x_layout": CONTIGUOUS, "weight_layout": CONTIGUOUS, "bias_layout": CONTIGUOUS}


def second_call(case: Case, configs: tuple[str, ...] = ()) -> Case | None:
    """Return the second call of a case's relation; None where the relation does not apply to it.

    With its own seed it is a case like any other, and a second call that is wrong by itself mostly fails as such, too.

    Args:
        case: A case with a relation.
        configs: Names of the target's launch configurations.
    """
    assert case.relation is not None
    changes = _other_config(case, configs) if case.relation == "other config" else _CHANGES[case.relation](case)
    return None if changes is None else msgspec.structs.replace(case, **{"relation": None, "earlier": (), **changes})


def _other_config(case: Case, configs: tuple[str, ...]) -> Changes | None:
    others = [name for name in configs if name != case.config]
    return {"config": others[case.seed % len(others)]} if others else None


def _same(case: Case) -> Changes | None:
    return {}


def _contiguous(case: Case) -> Changes | None:
    return _CONTIGUOUS


def _other_layout(case: Case) -> Changes | None:
    return {**_CONTIGUOUS, "x_layout": CHANNELS_LAST if case.x_layout == CONTIGUOUS else CONTIGUOUS}


def _one_more(name: str) -> Callable[[Case], Changes | None]:
    def changes(case: Case) -> Changes | None:
        return {**_CONTIGUOUS, name: getattr(case, name) + 1} if case.groups == 1 else None

    return changes


def _one_image(case: Case) -> Changes | None:
    return {**_CONTIGUOUS, "n": 1} if case.n > 1 else None


def _crop(case: Case) -> Changes | None:
    """Cut x off below and right: positions whose window lies in what is left must not change."""
    h, w = (max(window, size * 2 // 3) for window, size in zip(case.window, (case.h, case.w), strict=True))
    if (h, w) == (case.h, case.w) or h > case.h or w > case.w:
        return None
    return {**_CONTIGUOUS, "h": h, "w": w}


def _explicit_padding(case: Case) -> Changes | None:
    above, left, below, right = case.sides
    if not any(case.sides):
        return None
    sizes = {"h": case.h + above + below, "w": case.w + left + right, "padding": (0, 0), "same": False}
    return {**_CONTIGUOUS, **sizes}


def _larger_scale(case: Case) -> Changes | None:
    if not _SMALLEST_SCALE <= abs(case.scale) <= 1 / _SMALLEST_SCALE or case.values in EXTREME_FAMILIES:
        return None
    return {**_CONTIGUOUS, "scale": case.scale * FACTOR}


def _negated(case: Case) -> Changes | None:
    return {**_CONTIGUOUS, "scale": -case.scale}


_CHANGES: Final[dict[Relation, Callable[[Case], Changes | None]]] = {
    "repeat": _same,
    "other stream": _same,
    "other layout": _other_layout,
    "permuted channels": _contiguous,
    "duplicate channel": _one_more("c_out"),
    "permuted batch": _contiguous,
    "one image": _one_image,
    "crop": _crop,
    "explicit padding": _explicit_padding,
    "scale times power of two": _larger_scale,
    "negated": _negated,
    "channel of zeros": _one_more("c_in"),
}
