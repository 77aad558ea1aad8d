"""Metamorphic relations: a second call whose result follows from that of the first, whatever the right result is.

Each relation turns the operands of a case into those of its *twin* and says which part of the twin's result must equal
which part of the first. No reference takes part (Chen, Cheung, Yiu, Metamorphic testing, HKUST-CS98-01, 1998), so a
mistake that the oracle shared with a kernel would show here.

Most relations keep the order of every sum. A target that promises to be reproducible must then give the same bits; from
any other target only what holds for every sound implementation is asked: the same bits where the case is exact, and
otherwise a result that is admissible for the twin's own operands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import torch
from torch.nn.functional import pad

from fuzz.case import EXTREME_FAMILIES, Case, Relation
from fuzz.layout import CHANNELS_LAST, CONTIGUOUS

_FACTOR: Final = 8.0
_SMALLEST_SCALE: Final = 2.0**-40

Part = Callable[[torch.Tensor], torch.Tensor]


def _whole(out: torch.Tensor) -> torch.Tensor:
    return out


@dataclass(frozen=True)
class Twin:
    """The second call.

    Attributes:
        case: Its parameters; `relation` and `earlier` are not set.
        x: `[n, c_in, h, w]` of the twin's case, on the CPU, like `weight` and `bias`.
        weight: `[c_out, c_in/groups, kh, kw]`.
        bias: `[c_out]` or None.
        expected: What the first result `[n, 1, oh, ow]` says about the compared part of the twin's.
        part: The compared part of the twin's result.
        nan_is_unknown: Whether a NaN in what is expected says nothing instead of NaN.
        same_order: Whether every sum is formed in the same order as in the first call, given the same configuration.
    """

    case: Case
    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    expected: Part = _whole
    part: Part = _whole
    nan_is_unknown: bool = False
    same_order: bool = True


@dataclass(frozen=True)
class _Call:
    """The first call: a case and its operands in full shape, on the CPU."""

    case: Case
    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None

    def twin(self, *, keep_layout: bool = False, changes: dict[str, Any] | None = None, **rest: Any) -> Twin:
        """Return the twin with these fields of the case changed; `rest` goes to `Twin`."""
        fields: dict[str, Any] = {"relation": None, "earlier": ()}
        if not keep_layout:
            fields.update(x_layout=CONTIGUOUS, weight_layout=CONTIGUOUS, bias_layout=CONTIGUOUS)
        operands = {"x": self.x, "weight": self.weight, "bias": self.bias}
        case = msgspec.structs.replace(self.case, **{**fields, **(changes or {})})
        return Twin(case=case, **{**operands, **rest})


def twin_of(
    case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, configs: tuple[str, ...] = ()
) -> Twin | None:
    """Return the twin that the case's relation asks for; None where the relation does not apply to it.

    Args:
        case: A case with a relation, whose call PyTorch accepts.
        x: `[n, c_in, h, w]` on the CPU, like the others.
        weight: `[c_out, c_in/groups, kh, kw]`.
        bias: `[c_out]` or None.
        configs: Names of the target's launch configurations.
    """
    assert case.relation is not None
    call = _Call(case, x, weight, bias)
    return _other_config(call, configs) if case.relation == "other config" else _TWINS[case.relation](call)


def _shuffled(size: int, seed: int) -> torch.Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed % 2**63))


def _same(call: _Call) -> Twin | None:
    return call.twin(keep_layout=True)


def _other_layout(call: _Call) -> Twin | None:
    other = CHANNELS_LAST if call.case.x_layout == CONTIGUOUS else CONTIGUOUS
    return call.twin(changes={"x_layout": other})


def _permuted_channels(call: _Call) -> Twin | None:
    """Reorder the output channels within each group, since a group's channels see its inputs only."""
    size = call.case.c_out // call.case.groups
    order = torch.cat([_shuffled(size, call.case.seed) + group * size for group in range(call.case.groups)])
    return call.twin(weight=call.weight[order], bias=None if call.bias is None else call.bias[order])


def _duplicate_channel(call: _Call) -> Twin | None:
    if call.case.groups > 1:
        return None
    order = torch.tensor([*range(call.case.c_out), call.case.seed % call.case.c_out])
    bias = None if call.bias is None else call.bias[order]
    return call.twin(changes={"c_out": call.case.c_out + 1}, weight=call.weight[order], bias=bias)


def _permuted_batch(call: _Call) -> Twin | None:
    order = _shuffled(call.case.n, call.case.seed)
    return call.twin(x=call.x[order], expected=lambda out: out[order.to(out.device)])


def _one_image(call: _Call) -> Twin | None:
    if call.case.n < 2:
        return None
    image = call.case.seed % call.case.n
    return call.twin(changes={"n": 1}, x=call.x[image : image + 1], expected=lambda out: out[image : image + 1])


def _crop(call: _Call) -> Twin | None:
    """Cut x off below and right: positions whose window lies in what is left must not change."""
    case = call.case
    h, w = (max(window, size * 2 // 3) for window, size in zip(case.window, (case.h, case.w), strict=True))
    if (h, w) == (case.h, case.w) or h > case.h or w > case.w:
        return None
    rows, columns = (
        (size + before - window) // step + 1
        for size, window, step, before in zip((h, w), case.window, case.stride, case.sides[:2], strict=True)
    )

    def inside(out: torch.Tensor) -> torch.Tensor:
        return out[:, :, :rows, :columns]

    return call.twin(changes={"h": h, "w": w}, x=call.x[:, :, :h, :w], expected=inside, part=inside)


def _explicit_padding(call: _Call) -> Twin | None:
    """Zeros in x instead of `padding`; where the weight is not finite, implicit zeros may mean something else."""
    above, left, below, right = call.case.sides
    if not any(call.case.sides) or not bool(call.weight.isfinite().all()):
        return None
    sizes = {"h": call.case.h + above + below, "w": call.case.w + left + right, "padding": (0, 0), "same": False}
    return call.twin(changes=sizes, x=pad(call.x, (left, right, above, below)))


def _scale_times_power_of_two(call: _Call) -> Twin | None:
    """Multiply the scale by 8; results near underflow or overflow are left out, where rounding differs."""
    scale, case = call.case.scale, call.case
    if not _SMALLEST_SCALE <= abs(scale) <= 1 / _SMALLEST_SCALE or case.values in EXTREME_FAMILIES:
        return None
    limits = torch.finfo(call.x.dtype)

    def expected(out: torch.Tensor) -> torch.Tensor:
        size = out.double().abs()
        known = out.isinf() | ((size >= 64 * limits.tiny) & (size <= limits.max / 64))
        return torch.where(known, out.double() * _FACTOR, torch.nan)

    return call.twin(changes={"scale": scale * _FACTOR}, expected=expected, nan_is_unknown=True)


def _negated(call: _Call) -> Twin | None:
    """(−x·w − b)·(−scale) is the same product: rounding to nearest and truncation are both symmetric."""
    bias = None if call.bias is None else -call.bias
    return call.twin(changes={"scale": -call.case.scale}, weight=-call.weight, bias=bias)


def _channel_of_zeros(call: _Call) -> Twin | None:
    """Append an input channel of zeros: sums may be formed in another order then."""
    if call.case.groups > 1:
        return None
    x, weight = (torch.cat([each, torch.zeros_like(each[:, :1])], dim=1) for each in (call.x, call.weight))
    return call.twin(changes={"c_in": call.case.c_in + 1}, x=x, weight=weight, same_order=False)


def _other_config(call: _Call, configs: tuple[str, ...]) -> Twin | None:
    others = [name for name in configs if name != call.case.config]
    if not others:
        return None
    chosen = others[call.case.seed % len(others)]
    return call.twin(keep_layout=True, changes={"config": chosen}, same_order=False)


_TWINS: Final[dict[Relation, Callable[[_Call], Twin | None]]] = {
    "repeat": _same,
    "other stream": _same,
    "other layout": _other_layout,
    "permuted channels": _permuted_channels,
    "duplicate channel": _duplicate_channel,
    "permuted batch": _permuted_batch,
    "one image": _one_image,
    "crop": _crop,
    "explicit padding": _explicit_padding,
    "scale times power of two": _scale_times_power_of_two,
    "negated": _negated,
    "channel of zeros": _channel_of_zeros,
}
