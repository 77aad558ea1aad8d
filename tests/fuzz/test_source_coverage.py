"""Mask coverage on a kernel's source: every access is there, on its line, with a word where something is missing."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fuzz.coverage import LineCoverage
from fuzz.report.source_coverage import count_words, covered_files

SOURCE = '''\
import triton
import triton.language as tl
shown = "<b>&</b>"


@triton.jit
def helper(x, mask):
    return tl.load(x)


@triton.jit
def kernel(x, mask):
    """Do nothing."""
    y = tl.load(x, mask=mask)
    z = tl.load(
        x, mask=mask,
    )
    tl.store(x, tl.load(x + 1, mask=mask), mask=mask)


def beyond():
    return 1
'''
PLACES = [(8, "load"), (14, "load"), (15, "load"), (18, "load"), (18, "store")]


def coverage(path: Path | str, counts: list[tuple[int, int, int]]) -> list[LineCoverage]:
    lines = SOURCE.split("\n")
    return [
        LineCoverage(
            file=str(path), line=line, operation=operation, text=lines[line - 1].strip(),  # type: ignore[arg-type]
            all_true=seen[0], mixed=seen[1], all_false=seen[2],
        )
        for (line, operation), seen in zip(PLACES, counts, strict=True)
    ]  # fmt: skip


def test_an_access_says_in_a_word_what_was_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(SOURCE)
    (file,) = covered_files(coverage(path, [(4, 0, 0), (4, 0, 1), (0, 0, 0), (0, 1, 0), (0, 0, 9)]))
    assert [access.word for access in file.accesses] == ["unmasked", "never mixed", "never reached", "", "never mixed"]
    assert count_words(file.accesses) == {"never reached": 1, "never mixed": 2, "unmasked": 1}
    assert [count_words(excerpt.accesses) for excerpt in file.excerpts] == [
        {"unmasked": 1},
        {"never reached": 1, "never mixed": 2},
    ]


def test_a_mask_of_one_lane_is_tested_by_both_that_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(SOURCE)
    entries = coverage(path, [(4, 0, 0), (4, 0, 1), (4, 0, 1), (4, 0, 0), (0, 0, 9)])
    lanes = (1, 1, 32, 1, 1)
    (file,) = covered_files(msgspec.structs.replace(entry, lanes=n) for entry, n in zip(entries, lanes, strict=True))
    assert [access.word for access in file.accesses] == ["unmasked", "", "never mixed", "never mixed", "never mixed"]


def test_the_source_of_functions_that_access_memory_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(SOURCE)
    (file,) = covered_files(coverage(path, [(1, 1, 1)] * len(PLACES)))
    assert [excerpt.name for excerpt in file.excerpts] == ["helper", "kernel"]
    helper, kernel = (excerpt.lines for excerpt in file.excerpts)
    assert (helper[0].number, helper[-1].number) == (6, 8), "a decorator or a line is missing, or too much is shown"
    assert (kernel[0].number, kernel[-1].number) == (11, 18)
    assert all(line.text == SOURCE.split("\n")[line.number - 1] for line in (*helper, *kernel))


@given(counts=st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=len(PLACES), max_size=len(PLACES)))
def test_every_access_is_shown_once(counts: list[tuple[int, int, int]]) -> None:
    # The source of this very test serves as a file that is there: its lines are what is claimed to have run.
    lines = Path(__file__).read_text(encoding="utf-8").split("\n")
    entries = [
        msgspec.structs.replace(entry, file=__file__, text=lines[entry.line - 1].strip())
        for entry in coverage("", counts)
    ]
    (file,) = covered_files(entries)
    shown = [access.seen for excerpt in file.excerpts for line in excerpt.lines for access in line.accesses]
    assert sorted(shown, key=entries.index) == entries
    assert [access.seen for access in file.accesses] == entries


def test_a_file_that_is_gone_or_has_changed_has_no_source(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    entries = coverage(path, [(1, 0, 0)] * len(PLACES))
    changed = {"missing": None, "moved": f"\n{SOURCE}", "shorter": SOURCE[:200], "binary": "\x00", "broken": "def ("}
    for name, text in changed.items():
        if text is not None:
            path.write_text(text)
        (file,) = covered_files(entries)
        assert not file.excerpts, f"{name}: counts would stand beside lines that did not run"
        assert len(file.accesses) == len(PLACES)
