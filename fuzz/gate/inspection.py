"""What a target returns while it is timed: by the oracle before and after, by its own first answer in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import torch

from fuzz.case import Case
from fuzz.gate.stopwatch import Inputs
from fuzz.judge import judge
from fuzz.oracle import Admissible, admissible
from fuzz.target import Target
from fuzz.trial import precision_class

_NO_POISON: Final = float("nan")


class Inspection:
    """Looks at the results of one workload.

    The oracle judges one image of each x, another one each time. A result in between must be that of the first call on
    the same x, within twice the widest interval of what the oracle found admissible: both lie in theirs.

    Args:
        target: The kernel.
        case: The workload.
        weight: As the calls are given it.
        bias: Likewise.

    Attributes:
        error_ratio: The largest error over the allowed one that the oracle has seen.
    """

    def __init__(self, target: Target, case: Case, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.error_ratio = 0.0
        self._target, self._case = target, msgspec.structs.replace(case, n=1)
        self._parameters = weight, bias
        self._kept = weight.clone(), bias.clone()
        self._first: dict[tuple[int, int], torch.Tensor] = {}
        self._admissible: dict[tuple[int, int], Admissible] = {}
        self._farthest = torch.zeros((), device=weight.device)
        self._lines: list[str] = []

    def look(self, call: Callable[[torch.Tensor], torch.Tensor], inputs: Inputs, when: str) -> None:
        """Let the oracle judge what a call returns for each x."""
        for number, (which, x) in enumerate(inputs.all()):
            before = x.clone()
            out = call(x)
            if not torch.equal(before, x):
                self._lines.append(f"{when}: the target changed x")
            wrong = self._wrong_form(out, x)
            if wrong:
                self._lines.append(f"{when}: {wrong}")
                return
            image = number * (len(x) - 1) // 3 % len(x)
            if which not in self._admissible:
                self._first[which] = out.clone()
                self._admissible[which] = self._expected(x[image : image + 1])
            verdict = judge(
                self._case, out[image : image + 1].detach().cpu(), self._admissible[which], poison=_NO_POISON
            )
            self.error_ratio = max(self.error_ratio, verdict.error_ratio or 0.0)
            if verdict.failed:
                self._lines.append(f"{when}: image {image}: {verdict.message}")

    def _wrong_form(self, out: object, x: torch.Tensor) -> str:
        """Say what is wrong with a result that cannot even be compared; nothing if it can."""
        if not isinstance(out, torch.Tensor):
            return f"the target returned {type(out).__name__}, no tensor"
        wanted = (len(x), 1, *self._case.out_size)
        if tuple(out.shape) != wanted or out.dtype != x.dtype:
            return f"the target returned {out.dtype} {tuple(out.shape)}, must be {x.dtype} {wanted}"
        return ""

    def compare(self, which: tuple[int, int], out: torch.Tensor) -> None:
        """Keep how far a timed call is from the first on the same x, on the stream that the call was made on."""
        first = self._first[which]
        if not isinstance(out, torch.Tensor) or out.shape != first.shape:
            self._lines.append("a timed call returned something else than the first, and no tensor of its shape")
            return
        distance = (out.double() - first.double()).abs().max().float()
        # A NaN would be lost in a maximum of Python's; torch.maximum keeps it.
        self._farthest = torch.maximum(self._farthest, distance)

    def complaints(self) -> list[str]:
        """Return what was wrong, a line each."""
        found = list(self._lines)
        widest = max((float((one.high - one.low).max()) for one in self._admissible.values()), default=0.0)
        farthest = float(self._farthest)
        if not farthest <= 2 * widest:
            found.append(f"a timed call was {farthest:.3g} away from the first on the same x; {2 * widest:.3g} may be")
        if not all(map(torch.equal, self._parameters, self._kept)):
            found.append("the target changed the weight or the bias")
        return found

    def _expected(self, x: torch.Tensor) -> Admissible:
        on_cpu = [tensor.cpu() for tensor in (x, *self._parameters)]
        precision = precision_class(self._case, x.device)
        return admissible(self._case, *on_cpu, precision=precision, in_order=self._target.abilities.in_order)
