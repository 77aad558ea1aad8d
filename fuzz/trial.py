"""One `Case` on one target → `Verdict`. The only place where tensors, target, oracle and guards meet."""

from __future__ import annotations

import gc
from typing import Any, Final

import msgspec
import torch

from fuzz.arithmetic import PrecisionClass
from fuzz.case import Case
from fuzz.coverage import LineCoverage, merge
from fuzz.earlier import call_earlier, fill
from fuzz.earlier_call import replaced
from fuzz.errors import is_out_of_memory, judge_error, judge_loss
from fuzz.judge import judge, judge_twin
from fuzz.machine import machine
from fuzz.on_device import is_lost
from fuzz.oracle import Admissible, admissible
from fuzz.reference import RejectedError
from fuzz.relations import Twin, twin_of
from fuzz.session import Begun, Outcome, Session
from fuzz.target import Target
from fuzz.tensors import TORCH_DTYPE, Numbers, Poison, full_tensors, numbers_of, poison_value
from fuzz.verdict import Lane, Verdict, declined, failure

_POISONS: Final[tuple[Poison, ...]] = ("nan", "finite")
_BRIEF_BYTES: Final = 2**22
# Long enough for a kernel on the wrong stream to run before the numbers that it needs are there: about a millisecond.
_DELAY_CYCLES: Final = 2_000_000


def run_trial(
    target: Target,
    case: Case,
    device: torch.device,
    *,
    bare: bool = False,
    blind: frozenset[Lane] = frozenset(),
    coverage: list[LineCoverage] | None = None,
    outputs: list[torch.Tensor] | None = None,
) -> Verdict:
    """Run the case twice, among NaN and among large finite numbers, and return the worse verdict.

    Args:
        target: The kernel under test.
        case: What to run it on.
        device: Where the tensors live; on the CPU Triton's interpreter must be in force.
        bare: Whether to do without red zones and poison (`fuzz.session`).
        blind: Lanes that do not judge: what the others say by themselves.
        coverage: Receives how the masks of the target's kernels were exercised.
        outputs: Receives what the judged calls returned.

    Raises:
        TargetError: The target turns out not to be one, for example a module without a weight.
    """
    reason = target.abilities.why_not(case)
    if reason:
        return declined(reason)
    with machine(case, device):
        trial = _Trial(target, case, device, bare=bare, blind=blind)
        try:
            verdict = trial.run()
        except (RuntimeError, MemoryError) as error:
            # What the target raises never comes here: this is memory for its tensors, or what its kernels did.
            if is_out_of_memory(error):
                return declined(f"out of memory: {error}")
            if not is_lost(device):
                raise
            return judge_loss(error, case).without(blind)
    if coverage is not None:
        coverage.extend(merge(*(session.coverage for session in trial.sessions)))
    if outputs is not None:
        outputs.extend(output for output in trial.outputs if isinstance(output, torch.Tensor))
    return verdict


def warm_up(device: torch.device) -> None:
    """Do once what the first trial of a process would otherwise pay for; no target takes part."""
    case = Case()
    numbers = numbers_of(case)
    admissible(case, *full_tensors(case, numbers), precision="ieee", in_order=True)
    with machine(case, device):
        torch.empty_like(numbers["x"], device=device)
    # What is loaded by now stays, and the collector need not look through it again and again.
    gc.freeze()


def precision_class(case: Case, device: torch.device) -> PrecisionClass:
    """Return how products of float32 operands may be rounded: `default` is what PyTorch would do on the device."""
    if case.precision != "default":
        return case.precision
    return "tf32" if device.type == "cuda" and _torch_allows_tf32() else "ieee"


def _torch_allows_tf32() -> bool:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        # Once fp32_precision has been set, PyTorch refuses to read the older switch.
        return bool(torch.backends.cudnn.conv.fp32_precision == "tf32")  # type: ignore[attr-defined]  # torch does not declare it


def expect(
    target: Target,
    case: Case,
    operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
    device: torch.device,
) -> Admissible | RejectedError:
    """Return what the target's result may be for these operands, in full shape on the CPU, or why there is none."""
    precision, in_order = precision_class(case, device), target.abilities.in_order
    try:
        return admissible(case, *operands, precision=precision, in_order=in_order)
    except RejectedError as rejected:
        return rejected


def judge_outcome(session: Session, case: Case, outcome: Outcome, expected: Admissible | RejectedError) -> Verdict:
    """Return the verdict on one call of a session."""
    return _judge_outcome(session, case, outcome, expected).without(session.blind)


def _judge_outcome(session: Session, case: Case, outcome: Outcome, expected: Admissible | RejectedError) -> Verdict:
    if outcome.damage is not None:
        return outcome.damage
    if outcome.error is not None:
        rejected = isinstance(expected, RejectedError)
        return judge_error(outcome.error, session.target, case, session.device, rejected=rejected)
    if isinstance(expected, RejectedError):
        return failure("not-rejected", "errors", f"returned a result where PyTorch raises {expected}")
    wrong_form = _check_form(outcome.output, case, session.device)
    if wrong_form:
        return wrong_form
    poison = poison_value(session.poison)
    assert outcome.answer is not None
    verdict = judge(case, outcome.answer, expected, poison=poison)
    if outcome.lost is None or verdict.failed:
        return verdict
    # Programs run in any order on a GPU. Two that store the same numbers, or equally good ones, may do so.
    other = judge(case, outcome.lost, expected, poison=poison)
    if not other.failed:
        return verdict
    return failure(
        "stored-twice", "access", f"{outcome.race}; had the other come last: {other.message}", wrong=other.wrong
    )


class _Trial:
    """A target, a case, its numbers and what its result may be."""

    def __init__(self, target: Target, case: Case, device: torch.device, *, bare: bool, blind: frozenset[Lane]) -> None:
        self._target, self._case, self._device, self._bare, self._blind = target, case, device, bare, blind
        self.sessions: list[Session] = []
        self.outputs: list[Any] = []
        self._numbers = numbers_of(case)
        self._expected = expect(target, case, full_tensors(case, self._numbers), device)

    def run(self) -> Verdict:
        """Return the verdict."""
        verdicts = []
        begun = map(self._begin, _POISONS)
        # Both in one turn on a GPU, where processes take turns.
        for session, calls in list(begun) if self._is_brief else begun:
            verdict, answer = self._judge(session, calls)
            if verdict.status != "pass":
                return verdict
            verdicts.append(verdict)
        # The first call may compile, or import what it needs: the quicker one says how fast the target is.
        quickest = min(verdict.seconds for verdict in verdicts)
        worst = max(verdicts, key=lambda verdict: verdict.error_ratio)
        worst = msgspec.structs.replace(worst, seconds=quickest)
        broken = self._run_twin(answer) if self._case.relation and verdict.lane in ("exact", "interval") else None
        return broken.without(self._blind) if broken else worst

    def _session(self, poison: Poison) -> Session:
        self.sessions.append(Session(self._target, self._device, poison, bare=self._bare, blind=self._blind))
        return self.sessions[-1]

    @property
    def _is_brief(self) -> bool:
        """Whether to wait for a GPU takes longer than all that it does; and memory for all calls is no matter."""
        return self._device.type == "cuda" and sum(each.nbytes for each in self._numbers.values()) <= _BRIEF_BYTES

    def _begin(self, poison: Poison) -> tuple[Session, list[Begun]]:
        """Make the judged call after the earlier ones, up to one that damages memory where that is known at once."""
        session = self._session(poison)
        bound = self._target.bind(self._case)
        operands = session.place(self._case, self._numbers)
        calls = []
        for call in call_earlier(session, self._case, bound, operands, self._numbers):
            calls.append(call)
            if not self._is_brief and call.wait().damage is not None:
                return session, calls
        return session, [*calls, session.begin(bound, operands)]

    def _judge(self, session: Session, calls: list[Begun]) -> tuple[Verdict, torch.Tensor | None]:
        """Return the verdict on the last call, or on the first that damaged memory, and what that returned."""
        outcomes = [call.wait() for call in calls]
        outcome = next((each for each in outcomes if each.damage is not None), outcomes[-1])
        self.outputs.append(outcome.output)
        verdict = judge_outcome(session, self._case, outcome, self._expected)
        if verdict.failed and self._case.earlier:
            verdict = msgspec.structs.replace(verdict, lane="state", message=f"after earlier calls: {verdict.message}")
            verdict = verdict.without(self._blind)
        return msgspec.structs.replace(verdict, seconds=outcome.seconds), outcome.answer

    def _run_twin(self, answer: torch.Tensor | None) -> Verdict | None:
        """Make the second call of the case's relation; return a verdict where the two do not agree."""
        case = self._case
        if case.relation == "other stream" and self._device.type != "cuda":
            return None
        twin = twin_of(case, *full_tensors(case, self._numbers), configs=self._target.abilities.configs)
        if twin is None:
            return None
        expected = expect(self._target, twin.case, (twin.x, twin.weight, twin.bias), self._device)
        session = self._session("finite")
        outcome = self._call_twin(session, twin)
        verdict = judge_outcome(session, twin.case, outcome, expected)
        if verdict.status == "pass":
            assert answer is not None
            assert outcome.answer is not None
            return judge_twin(case, twin, answer, outcome.answer, bitwise=self._is_bitwise(twin, expected))
        if verdict.status == "declined":
            return None
        message = f"relation '{case.relation}', second call: {verdict.message}"
        return msgspec.structs.replace(verdict, lane="relations", message=message)

    def _call_twin(self, session: Session, twin: Twin) -> Outcome:
        full: Numbers = {"x": twin.x, "weight": twin.weight}
        if twin.bias is not None:
            full["bias"] = twin.bias
        operands = session.place(twin.case, _stored(twin.case, full))
        bound = self._target.bind(twin.case)
        if self._case.relation != "other stream":
            return session.call(bound, operands)
        resident = {name: operand.stored.clone() for name, operand in operands.items()}
        fill(operands, numbers_of(replaced(self._case, values="ones")))
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(_DELAY_CYCLES)  # type: ignore[no-untyped-call]  # likewise
            fill(operands, resident)
        return session.call(bound, operands, stream=side)

    def _is_bitwise(self, twin: Twin, expected: Admissible | RejectedError) -> bool:
        """Whether both calls must give the same bits.

        A target with configurations may choose, for other sizes or for offsets that do not fit in 32 bits, how many
        programs share a sum.
        """
        abilities, case = self._target.abilities, self._case
        exact = isinstance(expected, Admissible) and expected.exact
        alike = _sizes(case) == _sizes(twin.case)
        return exact or (abilities.reproducible and twin.same_order and (alike or not abilities.configs))


def _sizes(case: Case) -> tuple[object, ...]:
    """Return what a target may choose its way by: sizes, and whether offsets are far."""
    far = any(layout.far for layout in (case.x_layout, case.weight_layout, case.bias_layout))
    return case.x_shape, case.weight_shape, far


def _stored(case: Case, full: Numbers) -> Numbers:
    """Return full tensors without the repetitions of dimensions of stride 0."""
    layouts = {"x": case.x_layout, "weight": case.weight_layout, "bias": case.bias_layout}
    cut = {
        name: tuple(slice(0, 1) if dim in layouts[name].expand else slice(None) for dim in range(tensor.dim()))
        for name, tensor in full.items()
    }
    return {name: tensor[cut[name]] for name, tensor in full.items()}


def _check_form(output: Any, case: Case, device: torch.device) -> Verdict | None:
    if not isinstance(output, torch.Tensor):
        return failure("wrong-type", "errors", f"returned {type(output).__name__}, must be a torch.Tensor")
    if output.layout != torch.strided:
        return failure("wrong-type", "errors", f"returned a tensor of layout {output.layout}, must be torch.strided")
    shape = (case.n, 1, *case.out_size)
    if tuple(output.shape) != shape:
        return failure("wrong-shape", "errors", f"returned shape {tuple(output.shape)}, must be {shape}")
    if output.dtype != TORCH_DTYPE[case.dtype]:
        return failure("wrong-dtype", "errors", f"returned dtype {output.dtype}, must be {TORCH_DTYPE[case.dtype]}")
    if output.device.type != device.type:
        return failure("wrong-type", "errors", f"returned a tensor on {output.device}, must be on {device}")
    return None
