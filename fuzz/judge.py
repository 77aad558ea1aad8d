"""An output and what it may be → `Verdict`, with the words that a person reads first."""

from __future__ import annotations

import torch

from fuzz.case import Case
from fuzz.oracle import Admissible
from fuzz.verdict import Kind, Lane, Verdict, failure

_AXES = (("n", 0), ("h_out", 2), ("w_out", 3))


def judge(case: Case, out: torch.Tensor, admissible: Admissible, *, poison: float) -> Verdict:
    """Compare an output `[n, 1, oh, ow]` on the CPU with its admissible intervals.

    Args:
        case: The case.
        out: What the target returned, of the case's dtype.
        admissible: What it may be.
        poison: What memory held that the target allocated and did not write.
    """
    seen = out.double()
    missing = admissible.nan_required & ~seen.isnan()
    unexpected = seen.isnan() & ~admissible.nan_required & ~admissible.nan_allowed
    outside = ~seen.isnan() & ~admissible.nan_required & ((seen < admissible.low) | (seen > admissible.high))
    wrong = missing | unexpected | outside
    ratio = torch.zeros_like(seen) if admissible.exact else _error_ratio(seen, admissible)
    lane: Lane = "exact" if admissible.exact else "interval"
    if not bool(wrong.any()):
        worst = float(ratio.max()) if ratio.numel() else 0.0
        return Verdict(status="pass", lane=lane, error_ratio=worst)
    kind: Kind = "wrong-value" if bool(outside.any()) else "missing-nan" if bool(missing.any()) else "unexpected-nan"
    if _all_poison(seen, wrong, poison):
        kind = "unwritten"
    mask = outside if kind == "wrong-value" else wrong
    index = _worst(mask, ratio)
    message = f"{case.dtype} · {_element(index, seen, admissible, ratio)} · {int(wrong.sum())} of {wrong.numel()} wrong"
    if kind == "unwritten":
        message += " · they still hold what the memory held before: never written"
    return failure(kind, lane, message, where=_where(wrong), error_ratio=float(ratio[index]))


def _error_ratio(seen: torch.Tensor, admissible: Admissible) -> torch.Tensor:
    """|out - truth| / allowed error, 0 where either is not finite."""
    error = seen - admissible.truth
    allowed = torch.where(error < 0, admissible.truth - admissible.low, admissible.high - admissible.truth)
    ratio = error.abs() / allowed
    return torch.where(ratio.isfinite() & allowed.isfinite(), ratio, 0.0)


def _all_poison(seen: torch.Tensor, wrong: torch.Tensor, poison: float) -> bool:
    # A NaN is no evidence: it may have been computed. The finite poison is a number that nothing else gives.
    return poison == poison and bool((seen[wrong] == poison).all())


def _worst(mask: torch.Tensor, ratio: torch.Tensor) -> tuple[int, ...]:
    flat = torch.where(mask, ratio + 1.0, 0.0).flatten()
    return tuple(int(i) for i in torch.unravel_index(flat.argmax(), mask.shape))


def _element(index: tuple[int, ...], seen: torch.Tensor, admissible: Admissible, ratio: torch.Tensor) -> str:
    value = f"out[{','.join(map(str, index))}] = {float(seen[index]):.9g}"
    low, high = float(admissible.low[index]), float(admissible.high[index])
    if bool(admissible.nan_required[index]):
        return f"{value}, must be NaN: a channel is NaN there and torch.min keeps it"
    if low == high:
        return f"{value}, must be {low:.9g} exactly"
    times = f" ({float(ratio[index]):.3g}× the allowed error)" if float(ratio[index]) > 1 else ""
    return f"{value}, admissible [{low:.9g}, {high:.9g}]{times}"


def _where(wrong: torch.Tensor) -> str:
    """Say which coordinates all wrong elements share, where they are not spread over the whole output."""
    found = []
    for name, axis in _AXES:
        others = [dim for dim in range(4) if dim != axis]
        hit = wrong.any(dim=others[2]).any(dim=others[1]).any(dim=others[0]).nonzero().flatten().tolist()
        size = wrong.shape[axis]
        if len(hit) == size:
            continue
        if hit == list(range(hit[0], size)):
            found.append(f"{name} ≥ {hit[0]}" if len(hit) > 1 else f"{name} = {hit[0]} (the last)")
        elif hit == list(range(hit[-1] + 1)):
            found.append(f"{name} ≤ {hit[-1]}" if len(hit) > 1 else f"{name} = {hit[0]} (the first)")
        else:
            found.append(f"{name} in {hit}" if len(hit) <= 4 else f"{name} in {hit[0]}..{hit[-1]}")
    return "wrong only where " + " and ".join(found) if found else ""
