"""Looking into a failing case: what fails alone, what fails after other calls, what was seen only once."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from fuzz.campaign.buckets import HISTORY, Bucket
from fuzz.campaign.investigation import Finding, Investigation, Run
from fuzz.campaign.sighting import Sighting
from fuzz.case import Case, Sprinkle
from fuzz.layout import CHANNELS_LAST
from fuzz.verdict import Verdict, failure

WRONG = failure("wrong-value", "exact", "wrong")
PASS = Verdict(status="pass")
FOUND = Case(n=2, c_in=3, h=7, w=8, c_out=40, kh=3, kw=3, bias=True, scale=-2.0, values="lattice", seed=99)


def investigate(
    fails: Callable[[Case], bool], case: Case = FOUND, known: tuple[Bucket, ...] = (), verdict: Verdict = WRONG
) -> Finding | Bucket | None:
    """Investigate a case that failed in a hunt, on a target that fails, when fresh, where `fails` says so."""
    return looking(lambda other, purpose: verdict if fails(other) else PASS, case, verdict, known)


def looking(run: Run, case: Case, verdict: Verdict, known: tuple[Bucket, ...] = ()) -> Finding | Bucket | None:
    kept: list[Finding] = []
    investigation = Investigation(run=run, known=lambda: known, may_go_on=lambda: True, notify=lambda news: None)
    bug = investigation.investigate(case, verdict, kept.append)
    assert bug is None or not kept, "a bug that is known was kept again"
    return bug or (kept[0] if kept else None)


def test_a_flaw_is_shrunk_and_says_what_it_depends_on() -> None:
    found = investigate(lambda case: case.c_out > 32 and case.scale < 0)
    assert isinstance(found, Finding)
    assert found.case == Case(c_out=33, scale=-1.0)
    assert found.bucket == Bucket("wrong result", ("scale",))
    assert found.seen == Sighting(FOUND, WRONG), "the report would not show what the hunt came upon"
    outcomes = {attribute.name: (attribute.necessary, attribute.without) for attribute in found.attributes}
    assert outcomes == {
        "scale": (True, "scale=-1.0 → 1.0"),
        "output channels": (True, "c_out=33 → 1"),
    }, "the report would not say what the failure needs"


def test_what_fails_only_after_another_call_is_kept_with_that_call() -> None:
    found = investigate(lambda case: "contents" in case.earlier)
    assert isinstance(found, Finding)
    assert found.case == Case(earlier=("contents",))
    assert found.bucket == Bucket("wrong result", ("earlier calls",))


def test_a_second_call_that_meets_a_stale_state_is_shown_without_its_relation() -> None:
    case = Case(h=4, w=4, relation="negated")
    found = investigate(lambda case: bool(case.earlier) or case.relation is not None, case)
    assert isinstance(found, Finding)
    assert found.case == Case(earlier=("same",))


def test_a_second_call_that_is_wrong_by_itself_is_shown_as_the_only_one() -> None:
    def fails(case: Case) -> bool:
        return case.x_layout == CHANNELS_LAST or case.relation == "other layout"

    case = Case(c_in=3, h=4, w=4, relation="other layout")
    known = Bucket("wrong result", ("layout of x",))
    assert investigate(fails, case, known=(known,)) == known, "one bug, seen twice, is two"
    found = investigate(fails, case)
    assert isinstance(found, Finding)
    assert (found.bucket, found.case) == (known, Case(x_layout=CHANNELS_LAST))


def test_what_nobody_can_show_again_is_kept_as_it_was_seen() -> None:
    found = investigate(lambda case: False)
    assert isinstance(found, Finding)
    assert found.case == FOUND
    assert found.seen == Sighting(FOUND, WRONG)
    assert found.bucket == Bucket("wrong result", (HISTORY,))
    assert "seen once" in found.verdict.message


@pytest.mark.parametrize("facets", [(HISTORY,), ("earlier calls",)])
def test_what_a_known_state_explains_is_not_kept_again(facets: tuple[str, ...]) -> None:
    known = Bucket("wrong result", facets)
    assert investigate(lambda case: False, known=(known,)) == known


def test_a_process_that_others_may_have_killed_accuses_nobody() -> None:
    lost = failure("killed", "process", "killed by SIGKILL")
    assert investigate(lambda case: False, verdict=lost) is None


@pytest.mark.parametrize("kills", [1, 2, 3])
def test_what_is_killed_again_and_again_is_to_blame(kills: int) -> None:
    """A machine that is short of memory may hit one case twice."""
    lost, passes = failure("killed", "process", "killed by SIGKILL"), Verdict(status="pass")
    left = [lost] * kills
    found: list[Finding] = []
    Investigation(
        run=lambda case, purpose: left.pop() if left and case == Case() else passes,
        known=tuple,
        may_go_on=lambda: True,
        notify=lambda words: None,
    ).investigate(Case(), lost, found.append)
    assert bool(found) == (kills == 3), "killed as often as three times in a row, and only then"


def test_a_process_that_ended_by_itself_is_kept_though_nobody_can_show_it_again() -> None:
    found = investigate(lambda case: False, verdict=failure("crash", "process", "killed by SIGSEGV"))
    assert found is not None
    assert found.bucket == Bucket("crash", (HISTORY,))


def test_a_known_bug_is_not_shrunk_again() -> None:
    known = Bucket("wrong result", ("scale",)), Bucket("crash", ("scale",))
    assert investigate(lambda case: case.scale < 0, known=known) == known[0]


def by_kind(case: Case) -> str:
    """A flaw of wide images: an infinite scale turns what it gives into a NaN that is missing."""
    return (
        "" if case.w <= 128 or case.values == "ones" else "wrong-value" if math.isfinite(case.scale) else "missing-nan"
    )


def test_what_ordinary_numbers_show_too_is_not_put_down_to_a_nan() -> None:
    def run(other: Case, purpose: str) -> Verdict:
        kind = by_kind(other)
        return failure(kind, "exact", "wrong") if kind else PASS  # type: ignore[arg-type]  # a Kind all the same

    case = Case(w=170, scale=math.inf, values="impulse", seed=1)
    found = looking(run, case, run(case, "hunt"))
    assert isinstance(found, Finding)
    assert (found.case, found.bucket.manifestation) == (Case(w=129, values="lattice"), "wrong result")


def test_a_nan_that_comes_of_a_scale_of_zero_is_shown_by_ordinary_numbers_and_another_scale() -> None:
    def run(other: Case, purpose: str) -> Verdict:
        if other.scale < 0:
            return WRONG
        return failure("missing-nan", "exact", "wrong") if other.specials and other.scale == 0 else PASS

    case = Case(c_out=2, scale=0.0, specials=(Sprinkle("bias", "inf"),), bias=True)
    found = looking(run, case, run(case, "hunt"))
    assert isinstance(found, Finding)
    assert (found.case, found.bucket.manifestation) == (Case(scale=-1.0), "wrong result")


def test_a_lost_nan_is_kept_where_ordinary_numbers_show_a_bug_that_is_known() -> None:
    known = Bucket("wrong result", ("image size",))

    def run(other: Case, purpose: str) -> Verdict:
        lost = other.specials or not math.isfinite(other.scale)
        kind = by_kind(other) or ("missing-nan" if lost else "")
        return failure(kind, "exact", "wrong") if kind else PASS  # type: ignore[arg-type]  # likewise

    case = Case(w=170, scale=math.inf, values="impulse")
    found = looking(run, case, run(case, "hunt"), (known,))
    assert isinstance(found, Finding)
    assert found.bucket == Bucket("missing NaN", ("special or extreme values",))
    assert found.case.w == 1, "a width that does not matter stays"
