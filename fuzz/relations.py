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

import torch
from torch.nn.functional import pad

from fuzz.case import Case, Relation
from fuzz.second_call import FACTOR, second_call

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
class _Calls:
    """The first call, a case and its operands in full shape on the CPU, and the case of the second."""

    case: Case
    second: Case
    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None

    def twin(self, **changed: Any) -> Twin:
        """Return the twin: the operands of the first call unless others are given."""
        operands = {"x": self.x, "weight": self.weight, "bias": self.bias}
        return Twin(case=self.second, **{**operands, **changed})


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
    second = second_call(case, configs)
    return None if second is None else _TWINS[case.relation](_Calls(case, second, x, weight, bias))


def _shuffled(size: int, seed: int) -> torch.Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed % 2**63))


def _same(calls: _Calls) -> Twin | None:
    return calls.twin()


def _permuted_channels(calls: _Calls) -> Twin | None:
    """Reorder the output channels within each group, since a group's channels see its inputs only."""
    size = calls.case.c_out // calls.case.groups
    order = torch.cat([_shuffled(size, calls.case.seed) + group * size for group in range(calls.case.groups)])
    return calls.twin(weight=calls.weight[order], bias=None if calls.bias is None else calls.bias[order])


def _duplicate_channel(calls: _Calls) -> Twin | None:
    order = torch.tensor([*range(calls.case.c_out), calls.case.seed % calls.case.c_out])
    return calls.twin(weight=calls.weight[order], bias=None if calls.bias is None else calls.bias[order])


def _permuted_batch(calls: _Calls) -> Twin | None:
    order = _shuffled(calls.case.n, calls.case.seed)
    return calls.twin(x=calls.x[order], expected=lambda out: out[order.to(out.device)])


def _one_image(calls: _Calls) -> Twin | None:
    image = calls.case.seed % calls.case.n
    return calls.twin(x=calls.x[image : image + 1], expected=lambda out: out[image : image + 1])


def _crop(calls: _Calls) -> Twin | None:
    """Cut x off below and right: positions whose window lies in what is left must not change."""
    case, h, w = calls.case, calls.second.h, calls.second.w
    rows, columns = (
        (size + before - window) // step + 1
        for size, window, step, before in zip((h, w), case.window, case.stride, case.sides[:2], strict=True)
    )

    def inside(out: torch.Tensor) -> torch.Tensor:
        return out[:, :, :rows, :columns]

    return calls.twin(x=calls.x[:, :, :h, :w], expected=inside, part=inside)


def _explicit_padding(calls: _Calls) -> Twin | None:
    """Zeros in x instead of `padding`; where the weight is not finite, implicit zeros may mean something else."""
    if not bool(calls.weight.isfinite().all()):
        return None
    above, left, below, right = calls.case.sides
    return calls.twin(x=pad(calls.x, (left, right, above, below)))


def _scale_times_power_of_two(calls: _Calls) -> Twin | None:
    """Multiply the scale by 8; results near underflow or overflow are left out, where rounding differs."""
    limits = torch.finfo(calls.x.dtype)

    def expected(out: torch.Tensor) -> torch.Tensor:
        size = out.double().abs()
        known = out.isinf() | ((size >= 64 * limits.tiny) & (size <= limits.max / 64))
        return torch.where(known, out.double() * FACTOR, torch.nan)

    return calls.twin(expected=expected, nan_is_unknown=True)


def _negated(calls: _Calls) -> Twin | None:
    """(−x·w − b)·(−scale) is the same product: rounding to nearest and truncation are both symmetric."""
    return calls.twin(weight=-calls.weight, bias=None if calls.bias is None else -calls.bias)


def _channel_of_zeros(calls: _Calls) -> Twin | None:
    """Append an input channel of zeros: sums may be formed in another order then."""
    x, weight = (torch.cat([each, torch.zeros_like(each[:, :1])], dim=1) for each in (calls.x, calls.weight))
    return calls.twin(x=x, weight=weight, same_order=False)


def _other_config(calls: _Calls) -> Twin | None:
    return calls.twin(same_order=False)


_TWINS: Final[dict[Relation, Callable[[_Calls], Twin | None]]] = {
    "repeat": _same,
    "other stream": _same,
    "other layout": _same,
    "permuted channels": _permuted_channels,
    "duplicate channel": _duplicate_channel,
    "permuted batch": _permuted_batch,
    "one image": _one_image,
    "crop": _crop,
    "explicit padding": _explicit_padding,
    "scale times power of two": _scale_times_power_of_two,
    "negated": _negated,
    "channel of zeros": _channel_of_zeros,
    "other config": _other_config,
}
