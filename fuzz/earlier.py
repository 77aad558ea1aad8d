"""Calls before the one that is judged: a kernel that keeps something between calls must keep the right thing.

Each step is a call that differs from the judged one in a single respect, made in the same process, on the same function
or module. What a target caches by address, by shape, by dtype or not at all is stale afterwards in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.case import Case, Earlier, TensorName
from fuzz.earlier_call import earlier_call, replaced
from fuzz.session import Begun, Session
from fuzz.target import Call
from fuzz.tensors import Numbers, Operands, numbers_of

# What a module is constructed with.
_CONSTRUCTION: Final[tuple[Earlier, ...]] = ("scale", "argument", "dtype", "c_in", "c_out")


def call_earlier(session: Session, case: Case, bound: Call, operands: Operands, numbers: Numbers) -> Iterator[Begun]:
    """Make the case's earlier calls, in order, each when it is asked for.

    What they return or raise is not to be judged: each of them is a case of its own. What they damage is.

    Args:
        session: Where to make them.
        case: The case.
        bound: The target, bound to the case.
        operands: The memory of the judged call, which some steps use as well.
        numbers: What that memory holds for the judged call, and holds again afterwards.
    """
    for step in case.earlier:
        begun = _make(session, case, step, bound, operands, numbers)
        if begun is not None:
            yield begun


def _make(
    session: Session, case: Case, step: Earlier, bound: Call, operands: Operands, numbers: Numbers
) -> Begun | None:
    if step == "same":
        return session.begin(bound, operands)
    if step == "contents":
        return _with_other_contents(session, case, bound, operands, numbers)
    other = earlier_call(case, step, session.target.abilities)
    if other is None:
        return None
    if step in _CONSTRUCTION:
        # What a module is constructed with cannot change between its calls: it is another module of the same class.
        bound = session.target.bind(other)
    return session.begin(bound, session.place(other, numbers_of(other)))


def _with_other_contents(session: Session, case: Case, bound: Call, operands: Operands, numbers: Numbers) -> Begun:
    """Call on the same memory with other numbers, then put the case's own numbers there.

    By its seed a case has other numbers in all tensors, or in one: what is kept for the others has to serve again.
    """
    other = numbers_of(replaced(case, values="lattice", specials=(), seed=case.seed ^ 1))
    names = tuple(operands)
    alone, turn = case.seed % 2, case.seed // 2 % len(names)
    changed: tuple[TensorName, ...] = (names[turn],) if alone else names
    fill(operands, {name: other[name] for name in changed})
    begun = session.begin(bound, operands)
    # Before other numbers are there, since what it did to this memory is seen only as long as it stays.
    begun.wait()
    fill(operands, {name: numbers[name] for name in changed})
    return begun


def fill(operands: Operands, numbers: Numbers) -> None:
    """Put other numbers into the memory of the operands that they are for."""
    for name, values in numbers.items():
        operands[name].refill(values)
