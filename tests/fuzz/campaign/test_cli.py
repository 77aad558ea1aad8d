"""The command: exit statuses, one clear line for every mistake, and what a hunt leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from planted import TILED, plant

from fuzz.campaign.pace import Pace
from fuzz.campaign.reading import read_records
from fuzz.campaign.store import Store
from fuzz.case import Case, CaseFile, write_case_file
from fuzz.cli import main

ROOT = Path(__file__).resolve().parents[3]
VALID = write_case_file(CaseFile(case=Case()))


def fuzz(*arguments: str | Path, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "fuzz", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)


def assert_one_line(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert result.returncode == status, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, f"a mistake is answered with one line: {result.stderr}"
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]


TARGETS = {
    "missing.py": (None, "no such file"),
    "syntax.py": ("def conv_scale_min(:\n", "SyntaxError"),
    "empty.py": ("x = 1\n", "ModelNew, conv_scale_min"),
    "raises.py": ("raise ValueError('no\\nway')\n", "ValueError: no way"),
    "exits.py": ("import os; os._exit(5)\n", "exited with status 5"),
    "signature.py": ("def conv_scale_min(x):\n    return x\n", "f(x, weight, bias, scale)"),
    "constructor.py": (
        "import torch\nclass ModelNew(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n",
        "in_channels",
    ),
    "weightless.py": (
        "import torch\nclass ModelNew(torch.nn.Module):\n"
        "    def __init__(self, a, b, c, d):\n        super().__init__()\n",
        "4-D parameter",
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_cannot_be_used_is_one_line(name: str, tmp_path: Path) -> None:
    source, word = TARGETS[name]
    path = tmp_path / name
    if source is not None:
        path.write_text(source)
    case = tmp_path / "case.json"
    case.write_text(VALID)
    assert_one_line(fuzz("repro", case, "--target", path), 2, str(path), word)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (VALID[:-20], ("not JSON",)),
        (VALID.replace('"version": 2', '"version": 7'), ("version=7",)),
        (VALID.replace('"case": {}', '"case": {"c_in": 0}'), ("c_in=0",)),
        (VALID.replace('"case": {}', '"case": {"dtype": "int8"}'), ("int8",)),
    ],
    ids=["truncated", "version", "range", "dtype"],
)
def test_a_malformed_case_is_one_line(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(text)
    assert_one_line(fuzz("repro", path), 2, str(path), *words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--tim", "3s"],
        ["run", "--time", "soon"],
        ["run", "--time", "0s"],
        ["run", "--workers", "none"],
        ["run", "--dtype", "int8"],
        ["run", "--target", "no.such.module:f"],
        ["repro", "no/such/case.json"],
        ["hunt"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "out")] if arguments[0] == "run" else []
    assert_one_line(fuzz(*arguments, *options), 2)
    assert not (tmp_path / "out").exists(), "a mistake must not leave anything behind"


def test_a_hunt_leaves_what_it_found(tmp_path: Path) -> None:
    flawed, out = plant("bias_after_scale", tmp_path), tmp_path / "out"
    hunt = fuzz("run", "--target", flawed, "--time", "60s", "-x", "--out", out)
    assert hunt.returncode == 1, hunt.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert {"target", "device", "seed", "cases", "cases_per_second", "declined", "features"} <= summary.keys()
    (failure,) = summary["failures"]
    assert {"id", "bucket", "message", "case_file", "cases_to_find"} <= failure.keys()
    assert summary["exit"] == 1
    folder = out / "failures" / failure["id"]
    assert (out / failure["case_file"]) == folder / "case.json"
    assert "Case(" in (folder / "report.txt").read_text()

    assert fuzz("repro", folder / "case.json").returncode == 1
    assert fuzz("repro", folder).returncode == 1
    assert fuzz("repro", folder, "--target", "fused").returncode == 0
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    script = subprocess.run(
        [sys.executable, folder / "repro.py"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert script.returncode == 1, script.stderr
    assert "must be" in script.stdout

    again = fuzz("run", "--target", flawed, "--max-cases", "1", "--resume", "--out", out)
    assert again.returncode == 1, "a known failure is replayed before anything else"
    assert json.loads((out / "summary.json").read_text())["cases"] > summary["cases"]


def test_declining_everything_is_not_clean(tmp_path: Path) -> None:
    path = tmp_path / "declines.py"
    path.write_text("def conv_scale_min(x, weight, bias, scale):\n    raise NotImplementedError('not yet')\n")
    result = fuzz("run", "--target", path, "--time", "3s", "--out", tmp_path / "out")
    assert result.returncode == 3, result.stdout
    assert "not yet" in result.stdout


def test_an_interrupt_keeps_what_was_found(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fuzz", "run", "--target", str(TILED), "--time", "10m", "--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not (out / "records.jsonl").exists():
                time.sleep(0.2)
            time.sleep(2.0)
            # Not SIGINT: a shell's background jobs, and so this test in one of them, ignore it.
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert json.loads((out / "summary.json").read_text())["exit"] == 130


def test_a_torn_record_is_skipped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record({"event": "hunt"})
    store.close()
    with (tmp_path / "records.jsonl").open("a") as records:
        records.write('{"event": "tri')
    assert list(read_records(tmp_path / "records.jsonl")) == [{"event": "hunt"}]


def test_a_hunt_with_one_seed_repeats_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a hunt draws depends on which calls were slow, and that on what else the machine does.
    monkeypatch.setattr(Pace, "is_worth_trying", lambda *_: True)
    monkeypatch.setattr(Pace, "is_affordable", lambda *_: True)

    def hunted(out: Path) -> list[object]:
        arguments = [
            "run",
            "--target",
            str(TILED),
            "--max-cases",
            "40",
            "--seed",
            "5",
            "--workers",
            "1",
            "--out",
            str(out),
        ]
        assert main(arguments) == 0, capsys.readouterr().err
        return [record["case"] for record in read_records(out / "records.jsonl") if record["event"] == "trial"]

    assert hunted(tmp_path / "a")[:30] == hunted(tmp_path / "b")[:30]
