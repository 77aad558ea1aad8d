"""Which parts of a kernel file trials come to, and which of them a change is in."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from fuzz.campaign.marks import taken_marks
from fuzz.mutation.reach import changed_in, instrumented, is_among, statements_in, unreached

SOURCE = textwrap.dedent(
    '''
    import functools

    def never(n):
        return n

    def outer(n):
        """Says something."""
        if n > 3:
            n += 1
        elif n > 2:
            n += 2
        else:
            n += 3
        if n: n += 1
        try:
            n // (n - 4)
        except ZeroDivisionError:
            pass
        finally:
            n -= 1

        @functools.cache
        def inner():
            return n

        return inner()

    class Model:
        def forward(self):
            for _ in range(0):
                return 1
            return 2

    @triton.jit
    def kernel(
        n,
    ):
        """Says something, too."""
        if n > 3:
            n = n + 1
        return n

    @triton.jit
    def other_kernel(n):
        return n
    '''
).lstrip()


@pytest.fixture(autouse=True)
def no_marks() -> Iterator[None]:
    taken_marks()
    yield
    taken_marks()


def test_what_does_not_run_is_unreached() -> None:
    statements = statements_in(SOURCE)
    space: dict[str, object] = {}
    exec(instrumented(SOURCE, statements).replace("@triton.jit\n", ""), space)
    assert space["outer"](3) == 5  # type: ignore[operator]  # a function
    assert space["Model"]().forward() == 2  # type: ignore[operator]  # a class
    assert space["kernel"](2) == 2  # type: ignore[operator]  # a function here
    left = {(statement.function, statement.first) for statement in unreached(statements, taken_marks())}
    lines = SOURCE.splitlines()
    assert {(name, lines[first - 1].strip()) for name, first in left} == {
        ("never", "return n"),
        ("outer", "n += 1"),
        ("outer", "n += 3"),
        ("outer", "pass"),
        ("forward", "return 1"),
        ("kernel", "n = n + 1"),
        ("other_kernel", "return n"),
    }


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("n += 2", "n -= 2", {("outer", "n += 2")}),
        ("n // (n - 4)", "n //\\\n(n - 4)", {("outer", "n // (n - 4)")}),
        ("elif n > 2:", "elif n >= 2:", {("outer", "if n > 3:")}),
        ("n = n + 1", "n = n - 1", {("kernel", "n = n + 1")}),
        ("    return 2", "    n = 1\n        return 2", {("forward", "return 2")}),
        (
            "n += 1\n    elif n > 2:\n        n += 2",
            "pass",
            {("outer", "n += 1"), ("outer", "if n > 3:"), ("outer", "n += 2")},
        ),
        ("import functools", "import functools as functools", None),
        ("@triton.jit\ndef kernel", "@triton.jit()\ndef kernel", None),
    ],
)
def test_a_change_is_in_the_innermost_statements(before: str, after: str, where: set[tuple[str, str]] | None) -> None:
    assert SOURCE.count(before) == 1, f"this test changes {before!r}, which is not in the source once"
    statements = statements_in(SOURCE)
    changed = changed_in(SOURCE, SOURCE.replace(before, after), statements)
    lines = SOURCE.splitlines()
    named = changed and {
        (statements[number].function, lines[statements[number].first - 1].strip()) for number in changed
    }
    assert named == where, "trials that come to the change would be left out, or others tried for nothing"


def test_lines_belong_to_the_statements_around_them() -> None:
    statements = [statement for statement in statements_in(SOURCE) if statement.function == "never"]
    assert [is_among(line, statements) for line in (3, 4, 5)] == [False, True, False]
