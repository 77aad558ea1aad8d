"""Every call that a trial makes, as cases."""

from __future__ import annotations

from everything import EVERYTHING

from fuzz.case import Case
from fuzz.earlier_call import earlier_call
from fuzz.second_call import second_call


def all_calls(case: Case) -> list[Case]:
    """The judged call, and the others but for those on its own memory."""
    earlier = [earlier_call(case, step, EVERYTHING) for step in case.earlier]
    second = second_call(case) if case.relation is not None else None
    return [case, *(other for other in (*earlier, second) if other is not None)]
