"""What a call does to memory is seen: accesses on the interpreter, damage on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
import triton
import triton.language as tl

from fuzz.abilities import Abilities
from fuzz.case import Case
from fuzz.coverage import LineCoverage
from fuzz.interpreter import is_interpreting
from fuzz.session import Session
from fuzz.target import BoundModule, Call, Target
from fuzz.tensors import numbers_of
from fuzz.trial import run_trial
from fuzz.verdict import Verdict

pytestmark = pytest.mark.skipif(
    not is_interpreting(), reason="watches the interpreter: a machine without a GPU runs it"
)
CPU = torch.device("cpu")
CASE = Case(n=2, h=3, w=5, c_out=2)
SIZE = CASE.n * CASE.h * CASE.w


@triton.jit
def fill(x_ptr, out_ptr, size, limit, shift, BLOCK: tl.constexpr):
    """Store 1 in the elements from `shift` on; read as far as `limit`."""
    offs = shift + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.load(x_ptr + offs, mask=offs < limit, other=0.0)
    tl.store(out_ptr + offs, tl.full([BLOCK], 1.0, tl.float32), mask=(offs < size) & (offs >= 0))


@triton.jit
def fill_late(out_ptr, size, BLOCK: tl.constexpr):
    """Every program stores its own number in every element."""
    offs = tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, (tl.zeros([BLOCK], tl.float32) + tl.program_id(0)), mask=offs < size)


def trial(launch: Callable[[torch.Tensor, torch.Tensor], Any], **options: Any) -> Verdict:
    """Run a candidate that is right on ones: the 1×1 convolution of ones is 1."""

    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        out = torch.empty_like(x)
        launch(x, out)
        return out

    return run_trial(Target("candidate", Abilities(kind="function"), lambda case: call), CASE, CPU, **options)


def test_a_kernel_that_keeps_to_its_tensors_passes() -> None:
    coverage: list[LineCoverage] = []
    verdict = trial(lambda x, out: fill[(2,)](x, out, SIZE, SIZE, 0, BLOCK=16), coverage=coverage)
    assert verdict.status == "pass", verdict.message
    assert [(line.operation, line.all_true, line.mixed, line.all_false) for line in coverage if line.executions] == [
        ("load", 2, 2, 0),
        ("store", 2, 2, 0),
    ], "two programs in each of two runs: one full, one with a tail"


WRONG: dict[str, tuple[Call | Callable[..., Any], str, str]] = {
    "reads past the end": (
        lambda x, out: fill[(2,)](x, out, SIZE, SIZE + 1, 0, BLOCK=16),
        "out-of-bounds-read",
        "x, 1 ",
    ),
    "reads before the start": (
        lambda x, out: fill[(3,)](x, out, SIZE, SIZE, -2, BLOCK=16),
        "out-of-bounds-read",
        "x, ",
    ),
    "writes past the end": (
        lambda x, out: fill[(2,)](x, out, SIZE + 1, SIZE, 0, BLOCK=16),
        "out-of-bounds-write",
        "memory that the target allocated, 1 ",
    ),
    "stores nothing at the end": (
        lambda x, out: fill[(2,)](x, out, SIZE - 1, SIZE, 0, BLOCK=16),
        "unwritten",
        "1 of 30",
    ),
    "stores something else first": (
        lambda x, out: fill_late[(2,)](out, SIZE, BLOCK=32),
        "stored-twice",
        "programs (0, 0, 0) and (1, 0, 0)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_access_that_changes_no_result_is_seen(name: str) -> None:
    launch, kind, words = WRONG[name]
    verdict = trial(launch)
    assert (verdict.kind, verdict.lane) == (kind, "access"), verdict
    assert words in verdict.message, verdict.message


def test_a_picture_shows_what_nobody_stored_and_what_another_order_would_leave() -> None:
    unwritten = trial(WRONG["stores nothing at the end"][0]).wrong
    assert unwritten is not None
    assert (unwritten.image, unwritten.rows) == (1, (".....", ".....", "....#"))
    twice = trial(WRONG["stores something else first"][0]).wrong
    assert twice is not None
    assert twice.rows == ("#####",) * 3


def test_programs_that_store_the_same_number_may_do_so() -> None:
    """The last tile is often moved back so that it ends where the tensor does."""
    verdict = trial(lambda x, out: fill[(2, 2)](x, out, SIZE, SIZE, 0, BLOCK=16))
    assert verdict.status == "pass", verdict.message


def test_memory_that_pytorch_filled_need_not_be_stored() -> None:
    verdict = trial(lambda x, out: fill[(2,)](x, out.fill_(1.0), SIZE - 1, SIZE, 0, BLOCK=16))
    assert verdict.status == "pass", verdict.message


def test_a_violation_counts_even_where_the_candidate_catches_it() -> None:
    def launch(x: torch.Tensor, out: torch.Tensor) -> None:
        try:
            fill[(2,)](x, out, SIZE, SIZE + 1, 0, BLOCK=16)
        except Exception:  # as a candidate with a fallback would
            out.fill_(1.0)

    assert trial(launch).kind == "out-of-bounds-read"


@triton.jit
def minimum_in_place(x_ptr, out_ptr, size, BLOCK: tl.constexpr):
    """Every program lowers the same elements, without an atomic operation."""
    offs = tl.arange(0, BLOCK)
    mask = offs < size
    lowest = tl.load(out_ptr + offs, mask=mask, other=0.0)
    tl.store(out_ptr + offs, tl.minimum(lowest, tl.load(x_ptr + offs, mask=mask, other=0.0)), mask=mask)


@triton.jit
def atomic_minimum(x_ptr, out_ptr, size, BLOCK: tl.constexpr):
    """The same with one."""
    offs = tl.arange(0, BLOCK)
    tl.atomic_min(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < size, other=0.0), mask=offs < size)


@triton.jit
def sum_undefined(x_ptr, out_ptr, size, BLOCK: tl.constexpr):
    """Multiply what a masked load leaves undefined by zero."""
    offs = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < size)
    tl.store(out_ptr + offs, 1.0 + tl.sum(tl.where(offs < size, 0.0, 0.0 * x)), mask=offs < size)


def test_programs_that_lower_one_element_in_turn_race() -> None:
    verdict = trial(lambda x, out: minimum_in_place[(2,)](x, out.fill_(2.0), SIZE, BLOCK=32))
    assert (verdict.kind, verdict.lane) == ("race", "access"), verdict
    assert "program (0, 0, 0) stored and program (1, 0, 0) read" in verdict.message


def test_one_program_may_read_what_it_stored() -> None:
    assert trial(lambda x, out: minimum_in_place[(1,)](x, out.fill_(2.0), SIZE, BLOCK=32)).status == "pass"


def test_atomic_operations_do_not_race() -> None:
    assert trial(lambda x, out: atomic_minimum[(3,)](x, out.fill_(2.0), SIZE, BLOCK=32)).status == "pass"


def test_what_a_masked_load_leaves_undefined_is_not_zero() -> None:
    verdict = trial(lambda x, out: sum_undefined[(1,)](x, out, SIZE, BLOCK=32))
    assert verdict.kind == "unexpected-nan", verdict


def test_a_module_that_changes_its_parameters_is_told() -> None:
    class Module(torch.nn.Module):
        def __init__(self, c_in: int, c_out: int, kernel_size: int, scale: float) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(c_in, c_out, kernel_size)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.conv.weight.abs_()
            return self.conv(x).amin(dim=1, keepdim=True)

    def bind(case: Case) -> Call:
        return BoundModule("candidate", Module, case)

    negative = Case(c_out=2, values="lattice", seed=1)
    verdict = run_trial(Target("candidate", Abilities(kind="module"), bind), negative, CPU)
    assert (verdict.kind, verdict.lane) == ("input-modified", "guards"), verdict
    assert "the module's weight" in verdict.message


def returned(output: Callable[[torch.Tensor], Any], case: Case = CASE) -> Verdict:
    """Run a candidate that gives back this, made from the ones that it should return."""

    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        return output(torch.ones_like(x))

    return run_trial(Target("candidate", Abilities(kind="function"), lambda case: call), case, CPU)


NOT_THE_FORM: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "an array": (lambda out: out.numpy(), "ndarray"),
    "a tuple": (lambda out: (out,), "tuple"),
    "a sparse tensor": (lambda out: out.to_sparse(), "torch.sparse_coo"),
    "a tensor elsewhere": (lambda out: out.to("meta"), "meta"),
    "complex numbers": (lambda out: torch.complex(out, out).conj(), "complex64"),
    "other numbers": (lambda out: out.double(), "float64"),
    "another shape": (lambda out: out[:, 0], "(2, 3, 5)"),
}


@pytest.mark.parametrize("name", NOT_THE_FORM)
def test_what_is_not_of_the_form_is_refused_by_name(name: str) -> None:
    output, words = NOT_THE_FORM[name]
    verdict = returned(output)
    assert (verdict.status, verdict.lane) == ("fail", "errors"), verdict
    assert words in verdict.message, verdict.message


@pytest.mark.parametrize(
    "output",
    [
        lambda out: torch.complex(out, -out).conj().imag,  # PyTorch keeps the sign aside
        lambda out: torch.nn.Parameter(out),
        lambda out: out[:, :, :1, :1].expand(out.shape),
    ],
)
def test_any_tensor_with_the_right_numbers_passes(output: Callable[[torch.Tensor], Any]) -> None:
    for dtype in ("float32", "float64"):
        verdict = returned(output, msgspec.structs.replace(CASE, dtype=dtype))
        assert verdict.status == "pass", f"{dtype}: {verdict.message}"


def test_what_a_call_has_changed_is_told_though_a_later_one_puts_it_back() -> None:
    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        x.neg_()
        return x.clone()

    session = Session(Target("candidate", Abilities(kind="function"), lambda case: call), CPU, "finite")
    operands = session.place(CASE, numbers_of(CASE))
    first, second = session.begin(call, operands), session.begin(call, operands)
    damage = first.wait().damage
    assert damage is not None
    assert damage.kind == "input-modified", damage.message
    assert second.wait().damage is None, "memory was as it is to be after the second call"
