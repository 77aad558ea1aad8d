"""The picture of wrong elements: bounded, true to the output, and kept where a person looks, not in every record."""

from __future__ import annotations

import math
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.bugs import Bugs
from fuzz.campaign.investigation import Finding
from fuzz.campaign.reading import read_case
from fuzz.campaign.sighting import Sighting, read_sighting, sighting_files
from fuzz.campaign.store import Store
from fuzz.case import Case
from fuzz.judge import wrong_elements
from fuzz.report.wrong_elements import wrong_svg, wrong_text
from fuzz.verdict import Verdict, failure

ONE = Case()
SEEN = Case(n=3, h=41, w=130, values="lattice")


def flags(n: int, height: int, width: int, places: list[int]) -> np.ndarray:
    found = np.zeros(n * height * width, dtype=bool)
    found[[place % found.size for place in places]] = True
    return found.reshape(n, 1, height, width)


FLAGS = st.builds(
    flags,
    st.integers(1, 4),
    st.integers(1, 120),
    st.integers(1, 400),
    st.lists(st.integers(0, 2**20), min_size=1, max_size=12),
)


@given(wrong=FLAGS)
@example(wrong=np.ones((1, 1, 1, 1), dtype=bool))
@example(wrong=np.ones((2, 1, 4096, 5000), dtype=bool))
def test_a_cell_is_wrong_where_one_of_its_elements_is(wrong: np.ndarray) -> None:
    found = wrong_elements(wrong)
    plane, (down, across) = wrong[found.image, 0], found.cell
    assert (found.height, found.width, found.wrong) == (*plane.shape, plane.sum())
    assert found.wrong == wrong.sum(axis=(1, 2, 3)).max(), "another image has more wrong elements"
    assert found.images == wrong.any(axis=(1, 2, 3)).sum()
    assert len(found.rows) == math.ceil(found.height / down) <= 48
    assert {len(row) for row in found.rows} == {math.ceil(found.width / across)}
    assert len(found.rows[0]) <= 96
    for y, row in enumerate(found.rows):
        for x, cell in enumerate(row):
            any_wrong = plane[y * down : (y + 1) * down, x * across : (x + 1) * across].any()
            assert (cell == "#") == any_wrong, f"cell {y}, {x} is {cell}"
    assert len(msgspec.json.encode(found)) < 6000, "a verdict travels between processes"


@given(wrong=FLAGS)
def test_svg_paints_the_cells_that_the_text_marks(wrong: np.ndarray) -> None:
    found = wrong_elements(wrong)
    painted = re.findall(r'class="wrong" x="(\d+)" y="(\d+)" width="(\d+)"', wrong_svg(found))
    cells = {(int(y), int(x) + step) for x, y, length in painted for step in range(int(length))}
    marked = {(y, x) for y, row in enumerate(found.rows) for x, cell in enumerate(row) if cell == "#"}
    assert cells == marked
    assert [line[2:] for line in wrong_text(found).splitlines()[1:]] == list(found.rows)


def seen_verdict(*, everywhere: bool = False) -> Verdict:
    wrong = np.ones((3, 1, 41, 130), dtype=bool)
    if not everywhere:
        wrong[:2], wrong[2, 0, :, :128] = False, False
    return failure("wrong-value", "interval", "large and wrong", where="wrong only there", wrong=wrong_elements(wrong))


def finding(seen: Sighting) -> Finding:
    alone = failure("wrong-value", "exact", "small and wrong", wrong=wrong_elements(np.ones((1, 1, 1, 1), dtype=bool)))
    return Finding(Bucket("wrong result", ("scale",)), ONE, alone, seen)


def kept(folder: Path, found: Finding) -> tuple[Path, str]:
    """Keep a finding; return its folder, and its report."""
    store, bugs = Store(folder), Bugs()
    bugs.add(found, (1, 0.5), store, "one.py")
    store.close()
    (name,) = bugs.failures
    return folder / "failures" / name, (folder / "failures" / name / "report.txt").read_text()


def test_the_report_shows_what_was_seen_first(tmp_path: Path) -> None:
    folder, report = kept(tmp_path, finding(Sighting(SEEN, seen_verdict())))
    for words in ("small and wrong", repr(ONE), "as first seen", "large and wrong", "wrong only there", repr(SEEN)):
        assert words in report
    assert report.index(repr(ONE)) < report.index(repr(SEEN)), "the shrunk case comes first"
    assert "image 2: 82 of 41 × 130 elements wrong; a cell is 1 × 2 elements" in report
    assert report.count(f"  {'.' * 64}#\n") == 41
    assert read_case(folder / "seen.json").case == SEEN, "what was first seen cannot be tried again"


@pytest.mark.parametrize("verdict", [seen_verdict(everywhere=True), failure("crash", "process", "gone")])
def test_a_picture_that_shows_nothing_is_left_out(verdict: Verdict, tmp_path: Path) -> None:
    _, report = kept(tmp_path, finding(Sighting(SEEN, verdict)))
    assert repr(SEEN) in report
    assert "##" not in report


def test_a_case_that_could_not_be_shrunk_is_shown_once(tmp_path: Path) -> None:
    found = finding(Sighting(ONE, seen_verdict()))
    _, report = kept(tmp_path, found)
    assert report.count(repr(ONE)) == 1
    assert "elements wrong" in report


def test_a_kept_case_that_fails_again_is_still_shown_as_first_seen(tmp_path: Path) -> None:
    first = kept(tmp_path, finding(Sighting(SEEN, seen_verdict())))
    assert kept(tmp_path, finding(Sighting(ONE, failure("wrong-value", "exact", "again")))) == first


@pytest.mark.parametrize("ratio", [0.0, 2.5, math.inf])
def test_a_sighting_is_read_as_it_was_written(ratio: float, tmp_path: Path) -> None:
    sighting = Sighting(Case(scale=math.inf), msgspec.structs.replace(seen_verdict(), error_ratio=ratio))
    assert read_sighting(tmp_path) is None
    for name, text in sighting_files(sighting, "one.py").items():
        (tmp_path / name).write_text(text)
    assert read_sighting(tmp_path) == sighting
    (tmp_path / "seen-verdict.json").write_text('{"status": ')
    assert read_sighting(tmp_path) is None, "a damaged file must not end a hunt"


def test_records_hold_no_pictures(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record_trial(SEEN, seen_verdict(), purpose="shrink", at=0.0)
    store.close()
    assert "#" not in (tmp_path / "records.jsonl").read_text(), "a night of shrinking would fill the disk"
