"""A folder that was damaged is used as far as it can be read, and nothing in it is taken for something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from drills import one_line, target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.campaign.isolation import UsageError
from fuzz.campaign.reading import read_case, read_records, read_summary, trial_of
from fuzz.cli import main

few = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
many = settings(few, max_examples=150)


@pytest.fixture(scope="module")
def hunted(tmp_path_factory: pytest.TempPathFactory, forking: None) -> Path:
    """The folder of a finished hunt that has found something."""
    folder = tmp_path_factory.mktemp("hunt")
    flawed = target(folder, "if bias.any(): return (torch.conv2d(x, weight) * scale).amin(1, keepdim=True)")
    words = ["--target", str(flawed), "--max-cases", "40", "--workers", "1", "--seed", "1"]
    assert main(["run", *words, "--out", str(folder / "out")]) == 1
    return folder / "out"


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Ways in which a file is damaged: it ends too soon, a bit is flipped, a byte or a block is another."""
    place, bit = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 7))
    byte, length = draw(st.binary(min_size=1, max_size=1)), draw(st.integers(1, 600))
    kind = draw(st.sampled_from(("cut", "bit", "byte", "zeros", "lost")))

    def damage(content: bytes) -> bytes:
        at = int(place * len(content))
        before, after = content[:at], content[at + 1 :]
        return {
            "cut": before,
            "bit": before + bytes([content[at] ^ 1 << bit]) + after,
            "byte": before + byte + after,
            "zeros": before + bytes(length) + content[at + length :],
            "lost": before + content[at + length :],
        }[kind]

    return damage


def damaged(hunt: Path, folder: Path, name: str, damage: Callable[[bytes], bytes]) -> Path:
    """Copy a hunt's folder, damage one of the files there, and return the copy."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(hunt, copy)
    (path,) = copy.glob(name)
    path.write_bytes(damage(path.read_bytes()))
    return copy


def assert_answered(status: int, errors: str, *allowed: int) -> None:
    """A command did its work, or said in one line why not."""
    assert status in (*allowed, 2), errors
    if status == 2:
        one_line(errors)
    assert "Traceback" not in errors


FILES = ("records.jsonl", "summary.json", "state.json", "failures/*/case.json", "failures/*/failure.json")


@many
@given(damage=damages())
def test_a_record_that_can_be_read_is_one_that_was_written(
    damage: Callable[[bytes], bytes], hunted: Path, tmp_path: Path
) -> None:
    copy = damaged(hunted, tmp_path, "records.jsonl", damage)
    written, read = (list(read_records(folder / "records.jsonl")) for folder in (hunted, copy))
    rest = iter(written)
    assert all(record in rest for record in read), "a damaged record passes for another one"
    assert [trial_of(record) for record in read if record["event"] == "trial"].count(None) == 0


def test_one_flipped_bit_costs_one_record_or_two(hunted: Path, tmp_path: Path) -> None:
    content = (hunted / "records.jsonl").read_bytes()
    count = len(content.splitlines())
    path = tmp_path / "records.jsonl"
    for at in range(0, len(content), 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert len(list(read_records(path))) >= count - 2, (
            f"bit {at % 8} of byte {at}: a line end loses two lines, no more"
        )


@many
@given(damage=damages())
def test_a_summary_that_can_be_read_is_the_one_that_was_written(
    damage: Callable[[bytes], bytes], hunted: Path, tmp_path: Path
) -> None:
    copy = damaged(hunted, tmp_path, "summary.json", damage)
    try:
        read = read_summary(copy)
    except UsageError:
        return
    assert read == read_summary(hunted)


def test_a_case_that_was_changed_on_purpose_is_read_as_it_stands(hunted: Path, tmp_path: Path) -> None:
    (kept,) = hunted.glob("failures/*/case.json")
    path, document = tmp_path / "case.json", json.loads(kept.read_text())
    document["case"]["seed"] = 77
    path.write_text(json.dumps(document))
    assert read_case(path).case.seed == 77


@few
@given(name=st.sampled_from(("records.jsonl", "summary.json", "state.json")), damage=damages())
def test_a_damaged_folder_is_reported_or_refused(
    name: str, damage: Callable[[bytes], bytes], hunted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = damaged(hunted, tmp_path, name, damage)
    assert_answered(main(["report", str(copy)]), capsys.readouterr().err, 0)


@settings(few, max_examples=40)
@given(damage=damages())
def test_a_damaged_folder_is_distilled_or_refused(
    damage: Callable[[bytes], bytes], hunted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = damaged(hunted, tmp_path, "records.jsonl", damage)
    assert_answered(main(["distill", str(copy), "--into", str(tmp_path / "cases")]), capsys.readouterr().err, 0)


@few
@given(damage=damages())
def test_a_damaged_failure_is_tried_or_refused(
    damage: Callable[[bytes], bytes], hunted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = damaged(hunted, tmp_path, "failures/*/case.json", damage)
    (folder,) = (copy / "failures").iterdir()
    # A flipped bit may make another case of it: people change cases by hand, so that there is no checksum.
    assert_answered(main(["repro", str(folder)]), capsys.readouterr().err, 0, 1, 3)


@few
@given(name=st.sampled_from(FILES), damage=damages())
def test_a_damaged_hunt_goes_on_or_is_refused_and_loses_no_failure(
    name: str,
    damage: Callable[[bytes], bytes],
    hunted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    quick: None,
) -> None:
    copy = damaged(hunted, tmp_path, name, damage)
    words = ["--target", str(hunted.parent / "target.py"), "--max-cases", "1", "--workers", "1"]
    assert_answered(main(["run", "--resume", *words, "--out", str(copy)]), capsys.readouterr().err, 1)
    kept = {path.name for path in (hunted / "failures").iterdir()}
    assert {path.name for path in (copy / "failures").iterdir()} >= kept
