"""Whoever wants a hunt to end is obeyed, soon; everything found is kept and nobody is left behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from drills import EAGER, assert_whole, one_line, start, target, trials, wait_for

HANGS = "import signal\nfor number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\nwhile True: pass"
SOON = 15.0  # seconds: a machine with two slow cores, which others share


def is_hunting(out: Path) -> bool:
    return (out / "records.jsonl").exists() and bool(trials(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_hunt_that_is_asked_to_end_does_so_and_says_so(number: signal.Signals, tmp_path: Path) -> None:
    hunt = start("run", "--target", EAGER, "--time", "10m", "--workers", "1", "--out", tmp_path)
    wait_for(lambda: is_hunting(tmp_path))
    hunt.signal(number)
    ended = hunt.finish(SOON)
    assert ended.returncode == 130, ended.stderr
    assert "interrupted" in one_line(ended.stderr)
    assert assert_whole(tmp_path, 130)["cases"] > 0
    assert "The hunt was interrupted" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "junit.xml").exists()


def test_the_first_request_does_not_wait_for_a_case_that_hangs(tmp_path: Path) -> None:
    hangs = "if CALLS == 40:\n" + "\n".join(f"    {line}" for line in HANGS.splitlines())
    out = tmp_path / "out"
    hunt = start("run", "--target", target(tmp_path, hangs), "--time", "10m", "--workers", "2", "--out", out)
    wait_for(lambda: is_hunting(out))
    time.sleep(2.0)
    hunt.signal(signal.SIGINT)
    assert hunt.finish(SOON).returncode == 130
    summary = assert_whole(out, 130)
    assert not summary["failures"], "a case that was cut off says nothing about the target"


def test_a_request_ends_the_shrinking_and_the_failure_can_be_looked_into_again(tmp_path: Path) -> None:
    # Every step of shrinking takes a while, and there are many.
    slow, out = (
        target(tmp_path, "time.sleep(0.1)\nscale = scale + 1 if bias.any() else scale", first="import time"),
        tmp_path / "out",
    )
    hunt = start("run", "--target", slow, "--time", "10m", "--workers", "1", "--seed", "1", "--out", out)
    wait_for(lambda: is_hunting(out) and trials(out)[-1]["purpose"] == "shrink")
    hunt.signal(signal.SIGINT)
    ended = hunt.finish(SOON)
    assert ended.returncode == 130
    assert_whole(out, 130)
    assert any(trial["verdict"]["status"] == "fail" for trial in trials(out)), "the failing case is in the records"


def test_a_second_request_ends_at_once(tmp_path: Path) -> None:
    hangs, out = (
        target(tmp_path, "if CALLS > 20:\n" + "\n".join(f"    {line}" for line in HANGS.splitlines())),
        tmp_path / "out",
    )
    hunt = start("run", "--target", hangs, "--time", "10m", "--workers", "2", "--out", out)
    wait_for(lambda: is_hunting(out))
    time.sleep(2.0)
    hunt.signal(signal.SIGINT)
    time.sleep(0.2)
    hunt.signal(signal.SIGINT)
    asked = time.monotonic()
    ended = hunt.finish(SOON)
    assert ended.returncode == 130, ended.stderr
    assert time.monotonic() - asked < 5.0
    assert trials(out)


def test_a_request_before_the_first_case_is_answered_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    slow = target(tmp_path, first="import time, os\nopen(__file__ + '.here', 'w').close()\ntime.sleep(1000)")
    hunt = start("run", "--target", slow, "--out", out)
    wait_for(Path(f"{slow}.here").exists)
    hunt.signal(signal.SIGTERM)
    ended = hunt.finish(SOON)
    assert ended.returncode == 130, ended.stderr
    one_line(ended.stderr)


def test_a_reader_that_goes_away_does_not_end_a_hunt(tmp_path: Path) -> None:
    hunt = start("run", "--target", EAGER, "--max-cases", "60", "--workers", "1", "--out", tmp_path)
    assert hunt.process.stdout is not None
    assert hunt.process.stderr is not None
    hunt.process.stdout.close()
    hunt.process.stderr.close()
    hunt.process.stdout = hunt.process.stderr = None
    assert hunt.process.wait(120) == 3, "nobody got the result: that must not look clean"
    assert assert_whole(tmp_path, 0)["cases"] >= 60
