"""Looking into a failing case: what fails alone, what fails after other calls, what was seen only once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuzz.campaign.buckets import HISTORY, Bucket
from fuzz.campaign.investigation import Finding, Investigation
from fuzz.case import Case
from fuzz.verdict import Verdict, failure

WRONG = failure("wrong-value", "exact", "wrong")
PASS = Verdict(status="pass")
FOUND = Case(n=2, c_in=3, h=7, w=8, c_out=40, kh=3, kw=3, bias=True, scale=-2.0, values="lattice", seed=99)


def investigate(
    fails: Callable[[Case], bool], case: Case = FOUND, known: tuple[Bucket, ...] = (), verdict: Verdict = WRONG
) -> Finding | None:
    """Investigate a case that failed in a hunt, on a target that fails, when fresh, where `fails` says so."""

    def run(other: Case, seconds: float, purpose: str) -> Verdict:
        return verdict if fails(other) else PASS

    looking = Investigation(
        run=run,
        known=known,
        may_go_on=lambda: True,
        limit=lambda case: 1.0,
        hang_limit=lambda case: 2.0,
        notify=lambda news: None,
    )
    return looking.investigate(case, verdict)


def test_a_flaw_is_shrunk_and_says_what_it_depends_on() -> None:
    found = investigate(lambda case: case.c_out > 32 and case.scale < 0)
    assert found is not None
    assert found.case == Case(c_out=33, scale=-1.0)
    assert found.bucket == Bucket("wrong result", ("scale",))
    outcomes = {attribute.name: (attribute.necessary, attribute.without) for attribute in found.attributes}
    assert outcomes == {
        "scale": (True, "scale=-1.0 → 1.0"),
        "output channels": (True, "c_out=33 → 1"),
    }, "the report would not say what the failure needs"


def test_what_fails_only_after_another_call_is_kept_with_that_call() -> None:
    found = investigate(lambda case: "contents" in case.earlier)
    assert found is not None
    assert found.case == Case(earlier=("contents",))
    assert found.bucket == Bucket("wrong result", ("earlier calls",))


def test_a_second_call_that_meets_a_stale_state_is_shown_without_its_relation() -> None:
    case = Case(h=4, w=4, relation="negated")
    found = investigate(lambda case: bool(case.earlier) or case.relation is not None, case)
    assert found is not None
    assert found.case == Case(earlier=("same",))


def test_what_nobody_can_show_again_is_kept_as_it_was_seen() -> None:
    found = investigate(lambda case: False)
    assert found is not None
    assert found.case == FOUND
    assert found.bucket == Bucket("wrong result", (HISTORY,))
    assert "seen once" in found.verdict.message


@pytest.mark.parametrize("facets", [(HISTORY,), ("earlier calls",)])
def test_what_a_known_state_explains_is_not_kept_again(facets: tuple[str, ...]) -> None:
    assert investigate(lambda case: False, known=(Bucket("wrong result", facets),)) is None


def test_a_process_that_was_lost_once_accuses_nobody() -> None:
    lost = failure("crash", "process", "killed by SIGKILL")
    assert investigate(lambda case: False, verdict=lost) is None


def test_a_known_bug_is_not_shrunk_again() -> None:
    known = (Bucket("wrong result", ("scale",)),)
    assert investigate(lambda case: case.scale < 0, known=known) is None
