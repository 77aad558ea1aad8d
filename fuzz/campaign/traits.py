"""Traits: what a trial was like, finely enough that a new one is worth going after.

The census counts features for people, a hundred of them; traits are what guides the hunt, some thousands: pairs of
features, residues of sizes by tiles, what Triton specialises a kernel for, which lines ran with which masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from fuzz.case import Case
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS, Layout
from fuzz.verdict import Verdict

_TILES: Final = (16, 64)
_MOST_TILES: Final = 3
# Triton compiles anew for an argument that is 1, and for one that is a multiple of this.
_DIVISOR: Final = 16


def traits(case: Case, verdict: Verdict, lines: Iterable[str] = ()) -> list[str]:
    """Return the names of a trial's traits.

    Args:
        case: What was tried.
        verdict: What came of it.
        lines: Lines of the kernel, and how their masks were, as far as that was new to the process that ran it.
    """
    arithmetic, way = case.arithmetic, case.config or "chosen"
    found = [f"{arithmetic} by {way}", f"{arithmetic} {verdict.lane}", f"{arithmetic} {case.values}"]
    found += [f"{arithmetic} with {_options(case)}", f"{way} with {_options(case)}", f"{way}, {_specialisation(case)}"]
    found += [f"{case.values} times {_scale(case.scale)}", f"{arithmetic} times {_scale(case.scale)}"]
    found += [f"{name}: {residue}" for name, size in _sizes(case) for residue in _residues(size)]
    for name in ("x", "weight", "bias"):
        kind = _layout(getattr(case, f"{name}_layout"))
        found += [f"{arithmetic}, {name} {kind}", f"{way}, {name} {kind}"]
    found += [f"{arithmetic}, {sprinkle.value} in {sprinkle.tensor}" for sprinkle in case.specials]
    found += [f"{way} after {step}" for step in case.earlier]
    if case.relation:
        found += [f"{arithmetic}, {case.relation}", f"{way}, {case.relation}"]
    if verdict.winners:
        low, high, last = (min(channel // _TILES[0], _MOST_TILES) for channel in (*verdict.winners, case.c_out - 1))
        found.append(f"{way}, minimum in tiles {low} to {high} of 0 to {last}")
    if verdict.lane == "interval" and math.isfinite(verdict.error_ratio):
        # Beyond the bound all errors are alike: there is no end of them.
        found.append(f"{arithmetic}: {int(10 * min(1.0, verdict.error_ratio))} tenths of the allowed error")
    return [*found, *lines]


def _sizes(case: Case) -> tuple[tuple[str, int], ...]:
    rows, columns = (max(0, size) for size in case.out_size)
    return (
        ("positions", case.n * rows * columns),
        ("columns", columns),
        ("channels", case.c_out // case.groups),
        ("products", case.reduction_length),
    )


def _residues(size: int) -> Iterable[str]:
    for tile in _TILES:
        tiles, rest = divmod(size, tile)
        more = {0: "", 1: " and one", tile - 1: " less one"}.get(rest, " and some")
        yield f"{min(tiles + (rest == tile - 1), _MOST_TILES)} tiles of {tile}{more}"


def _options(case: Case) -> str:
    names = ("stride", "padding", "same", "dilation", "groups")
    plain = ((1, 1), (0, 0), False, (1, 1), 1)
    given = [name for name, default in zip(names, plain, strict=True) if getattr(case, name) != default]
    return " and ".join(given) or "no option"


def _specialisation(case: Case) -> str:
    sizes = case.c_in, case.c_out, case.h, case.w
    return "×".join("1" if size == 1 else "16" if size % _DIVISOR == 0 else "n" for size in sizes)


def _scale(scale: float) -> str:
    if not math.isfinite(scale):
        return str(scale)
    size = "0" if scale == 0 else "1" if abs(scale) == 1 else "small" if abs(scale) < 1 else "large"
    return f"-{size}" if math.copysign(1.0, scale) < 0 else size


def _layout(layout: Layout) -> str:
    if layout == CONTIGUOUS:
        return "contiguous"
    names = ("far", "order", "step", "margin", "offset", "expand", "unit_stride")
    kind = " and ".join(name for name in names if getattr(layout, name))
    return kind.replace("order", "channels last") if layout.order == CHANNELS_LAST.order else kind
