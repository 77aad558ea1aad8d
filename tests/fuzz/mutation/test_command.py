"""`python -m fuzz mutants`: exit statuses, one line for every mistake, and what it writes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from planted import TILED, plant

from fuzz.mutation.record import read_record
from fuzz.report.matrix_picture import matrix_svg

ROOT = Path(__file__).resolve().parents[3]


def mutants(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz", "mutants", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240.0, cwd=ROOT, check=False)


def test_killed_mutants_are_status_0_and_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "mutants.json"
    run = mutants("--target", TILED, "--only", "conv_min_kernel/identity changed", "--json", file, "--workers", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    record = read_record(file)
    assert {result.status for result in record.results} == {"killed"}
    assert all(result.case for result in record.results)
    assert record.kernels[0].target == str(TILED)
    assert record.circumstances["versions"]["triton"]
    assert "mutants killed (100.0 %)" in run.stdout
    again = mutants("--target", TILED, "--only", "conv_min_kernel/identity changed", "--json", file, "--workers", "1")
    assert again.returncode == 0
    kept = {result.name: (result.case, result.cases) for result in record.results}
    assert {result.name: (result.case, result.cases) for result in read_record(file).results} == kept, "a seed repeats"


def test_an_interrupted_score_keeps_what_was_tried(tmp_path: Path) -> None:
    file = tmp_path / "mutants.json"
    command = [sys.executable, "-m", "fuzz", "mutants", "--target", TILED, "--json", file, "--workers", "1"]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # A shell's background job ignores Ctrl-C, and so would what a test in one of them starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stderr is not None
        assert " of " in run.stderr.readline(), "it tells how far it is"
        run.send_signal(signal.SIGINT)
        told = run.stderr.read().splitlines()
    record = read_record(file)
    assert run.returncode == 130, told
    assert told[-1] == f"fuzz: interrupted; {record.untried} mutants are left"
    assert record.untried > 0
    assert record.results


def test_a_survivor_is_status_1_and_is_shown() -> None:
    # One case, which is the simplest call, has one tile of everything: nobody sees a loop that skips tiles.
    run = mutants("--target", TILED, "--only", "conv_min_kernel/loop changed/3", "--max-cases", "1")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "survived: conv_min_kernel/loop changed/3" in run.stdout
    assert "survived: conv_min_kernel/loop changed/3" in run.stderr


def test_a_change_that_is_listed_is_no_survivor(tmp_path: Path) -> None:
    listed = tmp_path / "equivalents.json"
    listed.write_text(
        '[{"function": "conv_min_kernel", "operator": "other changed", "before": "tl.load(b_ptr + offs_n, mask=mask_n,'
        ' other=0.0)", "after": "tl.load(b_ptr + offs_n, mask=mask_n, other=(1.0))", "why": "channels that do not exist'
        ' are masked later"}]'
    )
    run = mutants(
        "--target", TILED, "--only", "conv_min_kernel/other changed/5", "--max-cases", "5", "--equivalents", listed
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "channels that do not exist are masked later" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "nothing"), ("--only nothing", "no mutant")),
        (("--target", "missing.py"), ("missing.py", "No such file")),
        (("--target", "no_such_package.module:kernel"), ("no_such_package",)),
        (("--max-cases", "0"), ("max-cases",)),
        (("--equivalents", "missing.json"), ("missing.json",)),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    run = mutants(*arguments)
    assert run.returncode == 2, run.stderr
    (line,) = run.stderr.strip().splitlines()
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("text", "words"), [("def conv_scale_min(:\n", "not Python"), ("x = 1\n", "nothing in it that could be mutated")]
)
def test_a_file_without_a_kernel_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    target = tmp_path / "kernel.py"
    target.write_text(text)
    run = mutants("--target", target)
    assert run.returncode == 2
    (line,) = run.stderr.strip().splitlines()
    assert words in line


def test_a_kernel_that_is_wrong_is_status_1(tmp_path: Path) -> None:
    flawed = plant("minimum_before_scale", tmp_path)
    run = mutants("--target", flawed, "--only", "conv_min_kernel/loop changed", "--max-cases", "200")
    assert run.returncode == 1
    assert "fails by itself" in run.stderr


def test_the_picture_is_an_image(tmp_path: Path) -> None:
    file = tmp_path / "mutants.json"
    assert mutants("--target", TILED, "--only", "conv_min_kernel/identity changed/1", "--json", file).returncode == 0
    record = read_record(file)
    picture = ElementTree.fromstring(matrix_svg(record, {"allclose 1e-2": {"identity changed": 1}}))
    words = [element.text for element in picture.iter() if element.text and element.text.strip()]
    assert "identity changed (1)" in words
    assert "allclose 1e-2" in words
