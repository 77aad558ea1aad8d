"""An output and what it may be → `Verdict`, with the words that a person reads first."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from fuzz.case import Case
from fuzz.oracle import Admissible
from fuzz.relations import Twin
from fuzz.verdict import Kind, Lane, Verdict, WrongElements, failure

_Flags = npt.NDArray[np.bool_]
_Numbers = npt.NDArray[Any]

_AXES = (("n", 0), ("h_out", 2), ("w_out", 3))
# What fits on a page and on a terminal, and bounds what a verdict weighs.
_MOST_CELLS: Final = (48, 96)


def judge(case: Case, out: torch.Tensor, admissible: Admissible, *, poison: float) -> Verdict:
    """Compare an output `[n, 1, oh, ow]` on the CPU with its admissible intervals.

    Args:
        case: The case.
        out: What the target returned, of the case's dtype.
        admissible: What it may be.
        poison: What memory held that the target allocated and did not write.
    """
    with np.errstate(all="ignore"):
        comparison = _Comparison(out, admissible)
    lane: Lane = "exact" if admissible.exact else "interval"
    wrong, outside, ratio = comparison.wrong, comparison.outside, comparison.ratio
    if not wrong.any():
        worst = float(ratio.max()) if ratio.size else 0.0
        return Verdict(status="pass", lane=lane, error_ratio=worst, winners=_winners(admissible.winner))
    kind: Kind = "wrong-value" if outside.any() else "missing-nan" if comparison.missing.any() else "unexpected-nan"
    if _all_poison(comparison.seen[wrong], poison):
        kind = "unwritten"
    index = _worst(outside if kind == "wrong-value" else wrong, ratio)
    element = _element(index, float(comparison.seen[index]), admissible, float(ratio[index]))
    message = f"{case.dtype} · {element} · {int(wrong.sum())} of {wrong.size} wrong"
    if kind == "unwritten":
        message += " · they still hold what the memory held before: never written"
    where = _where(torch.from_numpy(wrong), admissible.winner)
    return failure(
        kind, lane, message, where=where, error_ratio=float(ratio[index]), wrong=wrong_elements(comparison.wrong)
    )


def _winners(winner: torch.Tensor) -> tuple[int, int] | None:
    return (int(winner.min()), int(winner.max())) if winner.numel() else None


def judge_twin(case: Case, twin: Twin, first: torch.Tensor, second: torch.Tensor, *, bitwise: bool) -> Verdict | None:
    """Compare the results of both calls of a relation, on the CPU; return a verdict where they do not agree.

    Args:
        case: The case of the first call.
        twin: The second call.
        first: What the first call returned; it passed, like `second`, by itself.
        second: What the second call returned.
        bitwise: Whether the same bits are due; otherwise that both passed is all that can be asked.
    """
    expected, seen = twin.expected(first).double(), twin.part(second).double()
    unknown = expected.isnan() if twin.nan_is_unknown else expected.isnan() & seen.isnan()
    differs = (expected != seen) & ~unknown
    if not bitwise or not bool(differs.any()):
        return None
    index = tuple(int(i) for i in differs.nonzero()[0])
    message = (
        f"{case.dtype} · relation '{case.relation}': out[{','.join(map(str, index))}] = {float(seen[index]):.9g} in "
        f"the second call, must be {float(expected[index]):.9g} as the first call says · "
        f"{int(differs.sum())} of {differs.numel()} differ"
    )
    return failure(
        "relation-broken", "relations", message, where=_where(differs), wrong=wrong_elements(differs.numpy())
    )


def wrong_elements(wrong: _Flags) -> WrongElements:
    """Return the picture of the image with the most wrong elements.

    Args:
        wrong: Flags `[n, 1, h_out, w_out]`, at least one of them true.
    """
    counts = wrong.sum(axis=(1, 2, 3))
    image = int(counts.argmax())
    plane = wrong[image, 0]
    height, width = plane.shape
    down, across = (-(-size // most) for size, most in zip(plane.shape, _MOST_CELLS, strict=True))
    rows = np.logical_or.reduceat(plane, range(0, height, down), axis=0)
    cells = np.logical_or.reduceat(rows, range(0, width, across), axis=1)
    return WrongElements(
        image=image,
        images=int((counts > 0).sum()),
        wrong=int(counts[image]),
        height=height,
        width=width,
        rows=tuple("".join("#" if cell else "." for cell in row) for row in cells),
        cell=(down, across),
    )


class _Comparison:
    """An output beside what it may be: flags per element, and the error ratio.

    In NumPy, whose calls on small arrays take a fraction of the time of PyTorch's: every trial makes these twice.
    """

    def __init__(self, out: torch.Tensor, admissible: Admissible) -> None:
        self.seen: _Numbers = out.double().resolve_neg().numpy()
        low, high = admissible.low.numpy(), admissible.high.numpy()
        required, allowed = admissible.nan_required.numpy(), admissible.nan_allowed.numpy()
        is_nan = np.isnan(self.seen)
        self.missing: _Flags = required & ~is_nan
        outside = ((self.seen < low) | (self.seen > high)) & ~required
        if outside.any():
            outside &= ~((self.seen == -np.inf) & admissible.minus_allowed.numpy())
            outside &= ~((self.seen == np.inf) & admissible.plus_allowed.numpy())
        self.outside: _Flags = outside
        self.wrong: _Flags = self.missing | self.outside | (is_nan & ~required & ~allowed)
        self.ratio: _Numbers = np.zeros_like(self.seen) if admissible.exact else self._error_ratio(out, admissible)

    def _error_ratio(self, out: torch.Tensor, admissible: Admissible) -> _Numbers:
        """The least |error| before the last rounding that explains an output / the allowed one; 0 where not finite.

        An output stands for every number that rounds to it: what is within half a unit in its last place.
        """
        error = self.seen - admissible.truth.numpy()
        allowed = np.where(error < 0, admissible.below.numpy(), admissible.above.numpy())
        size = out.abs()
        unit = (torch.nextafter(size, size.new_tensor(torch.inf)).double() - size.double()).numpy()
        ratio = np.maximum(np.abs(error) - unit / 2, 0) / allowed
        finite: _Numbers = np.where(np.isfinite(ratio) & np.isfinite(allowed), ratio, 0.0)
        return finite


def _all_poison(wrong: _Numbers, poison: float) -> bool:
    # A NaN is no evidence: it may have been computed. The finite poison is a number that nothing else gives.
    return poison == poison and bool((wrong == poison).all())


def _worst(mask: _Flags, ratio: _Numbers) -> tuple[int, ...]:
    place = np.argmax(np.where(mask, ratio + 1.0, 0.0))
    return tuple(int(i) for i in np.unravel_index(place, mask.shape))


def _element(index: tuple[int, ...], seen: float, admissible: Admissible, ratio: float) -> str:
    value = f"out[{','.join(map(str, index))}] = {seen:.9g}"
    low, high = float(admissible.low[index]), float(admissible.high[index])
    if bool(admissible.nan_required[index]):
        return f"{value}, must be NaN: a channel is NaN there and torch.min keeps it"
    if low == high:
        return f"{value}, must be {low:.9g} exactly"
    times = f" ({ratio:.3g}× the allowed error)" if ratio > 1 else ""
    return f"{value}, admissible [{low:.9g}, {high:.9g}]{times}"


def _where(wrong: torch.Tensor, winner: torch.Tensor | None = None) -> str:
    """Say what all wrong elements share, where they are not spread over the whole output."""
    found = [_extent(name, _hit(wrong, axis), wrong.shape[axis]) for name, axis in _AXES]
    if not any(found):
        # Tiles run over positions as they lie one after the other: n, then h_out, then w_out.
        flat = wrong.flatten()
        found.append(_extent("position", flat.nonzero().flatten().tolist(), flat.numel()))
    if winner is not None:
        found.append(_channels(wrong, winner))
    shared = [each for each in found if each]
    return "wrong only where " + " and ".join(shared) if shared else ""


def _hit(wrong: torch.Tensor, axis: int) -> list[int]:
    moved = wrong.movedim(axis, 0).flatten(1)
    return [int(index) for index in moved.any(dim=1).nonzero().flatten()]


def _extent(name: str, hit: list[int], size: int) -> str:
    """Say in words which of the indices below `size` are hit; empty where all are, or no few words say it."""
    if len(hit) == size:
        return ""
    if hit == list(range(hit[0], size)):
        return f"{name} ≥ {hit[0]}" if len(hit) > 1 else f"{name} = {hit[0]} (the last)"
    if hit == list(range(hit[-1] + 1)):
        return f"{name} ≤ {hit[-1]}" if len(hit) > 1 else f"{name} = {hit[0]} (the first)"
    if len(hit) <= 4:
        return f"{name} in {hit}"
    return "" if (hit[0], hit[-1]) == (0, size - 1) else f"{name} in {hit[0]}..{hit[-1]}"


def _channels(wrong: torch.Tensor, winner: torch.Tensor) -> str:
    """Say which channels hold the minimum at the wrong elements, where at the others it is in different ones."""
    at_fault, sound = set(winner[wrong].tolist()), set(winner[~wrong].tolist())
    if not sound or at_fault & sound:
        return ""
    if min(at_fault) > max(sound):
        return f"the minimum is in a channel ≥ {min(at_fault)}"
    if max(at_fault) < min(sound):
        return f"the minimum is in a channel ≤ {max(at_fault)}"
    return f"the minimum is in channel {', '.join(map(str, sorted(at_fault)))}" if len(at_fault) <= 4 else ""
