"""Which parts of host code trials come to."""

from __future__ import annotations

import textwrap
from pathlib import Path

from fuzz.mutation.reach import instrumented, is_among, statements_in, unreached

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
    def kernel(n):
        return n
    '''
).lstrip()


def test_what_does_not_run_is_unreached(tmp_path: Path) -> None:
    statements = statements_in(SOURCE)
    space: dict[str, object] = {}
    source = SOURCE.replace("@triton.jit\n", "")
    exec(instrumented(source, statements_in(source), tmp_path), space)
    assert space["outer"](3) == 5  # type: ignore[operator]  # a function
    assert space["Model"]().forward() == 2  # type: ignore[operator]  # a class
    left = {(statement.function, statement.first) for statement in unreached(statements, tmp_path)}
    lines = SOURCE.splitlines()
    assert {(name, lines[first - 1].strip()) for name, first in left} == {
        ("never", "return n"),
        ("outer", "n += 1"),
        ("outer", "n += 3"),
        ("outer", "pass"),
        ("forward", "return 1"),
    }


def test_a_kernel_has_no_statements() -> None:
    assert all(statement.function != "kernel" for statement in statements_in(SOURCE))


def test_lines_belong_to_the_statements_around_them() -> None:
    statements = [statement for statement in statements_in(SOURCE) if statement.function == "never"]
    assert [is_among(line, statements) for line in (3, 4, 5)] == [False, True, False]
