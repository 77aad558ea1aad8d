"""Whatever a target does to its process, a hunt ends with the right status, and accuses nobody of bad manners."""

from __future__ import annotations

import os
import time
from pathlib import Path

import drills
import pytest
from drills import assert_whole, target, trials

from fuzz.campaign import process
from fuzz.campaign.isolation import IsolatedTarget, UsageError
from fuzz.campaign.nursery import Nursery
from fuzz.case import Case, Sprinkle
from fuzz.cli import main

CASES = [
    Case(),
    Case(c_in=3, h=5, w=5, c_out=4, kh=3, kw=3, bias=True, values="gaussian", scale=-2.0),
    Case(w=3, c_out=3, values="subnormal", bias=True),
    Case(w=3, c_out=3, bias=True, specials=(Sprinkle("x", "nan"), Sprinkle("weight", "inf"))),
    Case(w=3, c_out=3, bias=True, values="uniform", relation="negated"),
    Case(c_in=3, h=5, w=5, c_out=4, kh=3, kw=3, bias=True, values="lattice", earlier=("same", "layout")),
]
# By name: what a target does when it is imported, and in each call. None of it changes what it returns.
RUDE = {
    "default dtype": ("", "torch.set_default_dtype(torch.float64)"),
    "default device": ("", 'torch.set_default_device("meta")'),
    "default device at import": ('torch.set_default_device("meta")', ""),
    "gradients": ("torch.set_grad_enabled(False)", "torch.set_grad_enabled(True)"),
    "determinism": ("", "torch.use_deterministic_algorithms(True)"),
    "inference mode": ("", "torch.inference_mode().__enter__()"),
    "collector": ("import gc", "gc.disable()"),
    "streams": ("import sys", "sys.stdout = sys.stderr = sys.stdin = None"),
    "environment": ("import os", "os.environ.clear()"),
    "working directory": ("import os", 'os.chdir("/proc")'),
    "numpy's errors": ("import numpy", 'numpy.seterr(all="raise")'),
    "locale": ("import locale", 'locale.setlocale(locale.LC_ALL, "C")'),
    "warnings": ("import warnings", 'warnings.simplefilter("error")'),
    "standard input": ("import sys", "sys.stdin.read()"),
    "threads": ("import threading, time", "threading.Thread(target=time.sleep, args=(1000,)).start()"),
    "signals": ("import signal", "for number in range(1, 32):\n    if number not in (9, 19): signal.signal(number, 1)"),
    "a pause": ("import time", "if CALLS == 3: time.sleep(0.5)"),
    "a child": ("import os, time", "if CALLS == 1 and os.fork() == 0: time.sleep(1000)"),
    "a loud child": ("import subprocess", 'subprocess.run(["echo", "hello"])'),
    "much output": ("import sys", 'print("x" * 10**7); print("y" * 10**7, file=sys.stderr)'),
    "functions of its own": (
        "import numpy\nnumpy.isfinite = None",
        "torch.equal = torch.zeros = torch.Tensor.double = torch.Tensor.isnan = None",
    ),
}
# Each of these is a fault. By name: what each call does, how the verdict names it, and a word of its message.
FAULTS = {
    "exits": ("import os; os._exit(0)", "crash", "status 0"),
    "exits as Python does": ("raise SystemExit", "raised", "SystemExit"),
    "is interrupted": ("raise KeyboardInterrupt", "crash", "KeyboardInterrupt"),
    "raises what is no Exception": ('raise BaseException("odd")', "crash", "odd"),
    "raises without words": (
        'raise type("Mute", (ValueError,), {"__str__": lambda self: 1 / 0})',
        "raised",
        "ZeroDivisionError",
    ),
    "raises what cannot be written": (r'raise ValueError("\udc80")', "raised", "ValueError"),
    "aborts": ("import os; os.abort()", "crash", "SIGABRT"),
    "reads address 0": ("import ctypes; ctypes.string_at(0)", "crash", "SIGSEGV"),
    "recurses": ("def again(): again()\nagain()", "raised", "RecursionError"),
    "closes everything": ("import os; os.closerange(0, 1000)", "crash", ""),
    "closes everything and goes on": (
        "import os, time; os.closerange(0, 1000); time.sleep(1000)",
        "crash",
        "closed its connection",
    ),
    "talks on the connection": (
        "import os, stat, time\n"
        "for name in os.listdir('/proc/self/fd'):\n"
        "    if os.path.exists(f'/proc/self/fd/{name}') and stat.S_ISSOCK(os.fstat(int(name)).st_mode):\n"
        "        os.write(int(name), b'0000000000000000')\n"
        "time.sleep(1000)",
        "crash",
        "",
    ),
    "loops, whoever wants it to end": (
        "import signal\nfor number in (2, 14, 15): signal.signal(number, signal.SIG_IGN)\nwhile True: pass",
        "timeout",
        "no answer",
    ),
    "asks for more memory than there is": ("torch.ones(2**46)", "declined", "out of memory"),
}
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def hunt(path: Path, *options: str) -> int:
    out = str(path.parent / "out")
    return main(["run", "--target", str(path), "--out", out, "--seed", "1", "--workers", "1", *options])


@pytest.mark.parametrize("name", RUDE)
def test_bad_manners_are_no_fault(name: str, nursery: Nursery, tmp_path: Path) -> None:
    first, acts = RUDE[name]
    with IsolatedTarget(str(target(tmp_path, acts, first=first)), "cpu", nursery=nursery) as isolated:
        for case in CASES * 2:
            verdict = isolated.run(case, 30.0)
            assert verdict.status == "pass", f"{case}: {verdict.message}"
        assert isolated.run(CASES[0], 30.0, fresh=True).status == "pass", "it must load a second time, too"
        assert isolated.restarts <= 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_a_verdict_and_the_next_case_runs(
    name: str, nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_MESSAGE_SECONDS", 1)
    acts, kind, word = FAULTS[name]
    # Only with a bias, so that there is a case that it gets right.
    acts = "if bias.any():\n" + "\n".join(f"    {line}" for line in acts.splitlines())
    with IsolatedTarget(str(target(tmp_path, acts)), "cpu", nursery=nursery) as isolated:
        for _ in range(2):
            verdict = isolated.run(Case(bias=True), 1.0)
            assert (verdict.kind, verdict.failed) == (kind, kind != "declined"), verdict.message
            assert word in verdict.message
            assert isolated.run(Case(), 30.0).status == "pass", "the process that comes next must be as good"


@pytest.mark.parametrize("act", ["raise SystemExit(0)", "import os; os._exit(0)", KILLED, "raise KeyboardInterrupt"])
def test_a_target_that_ends_while_it_is_imported_is_refused(act: str, nursery: Nursery, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"target\.py ended the process"):
        IsolatedTarget(str(target(tmp_path, first=act)), "cpu", nursery=nursery)


CHEAT = """
def yes(*arguments, **options): return True
def nothing(tensor, *arguments, **options): return torch.empty_like(tensor)
import numpy
numpy.isnan = numpy.isfinite = numpy.array_equal = torch.equal = torch.allclose = yes
torch.conv2d = torch.min = torch.amin = torch.Tensor.amin = torch.Tensor.min = torch.nn.functional.conv2d = nothing
torch.Tensor.double = torch.Tensor.abs = torch.where = torch.maximum = torch.minimum = nothing
torch.Tensor.__eq__ = torch.Tensor.__ne__ = torch.Tensor.__le__ = torch.Tensor.__gt__ = nothing
"""
WRONG = "return x.new_full((x.shape[0], 1, x.shape[2], x.shape[3]), 7.0)"


@pytest.mark.parametrize("when", ["import", "call"])
@pytest.mark.parametrize("values", ["ones", "gaussian"])
def test_the_oracle_does_not_use_what_a_target_has_put_in_the_place_of_pytorch(
    when: str, values: str, nursery: Nursery, tmp_path: Path
) -> None:
    first, acts = (CHEAT, WRONG) if when == "import" else ("", CHEAT.strip() + "\n" + WRONG)
    with IsolatedTarget(str(target(tmp_path, acts, first=first)), "cpu", nursery=nursery) as isolated:
        for _ in range(2):
            verdict = isolated.run(Case(h=3, w=3, c_out=2, bias=True, values=values), 30.0)  # type: ignore[arg-type]
            assert verdict.kind == "wrong-value", verdict.message


def test_a_target_that_leaks_is_replaced_before_memory_runs_out(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_MODEST_BYTES", 2**26)
    monkeypatch.setattr(process, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(process, "bytes_left", lambda: 2**28)
    leaks = target(tmp_path, "KEPT.append(torch.ones(50_000_000 // 4))", first="KEPT = []")
    assert hunt(leaks, "--max-cases", "12") == 0, "to leak is no wrong result"
    summary = assert_whole(tmp_path / "out", 0)
    assert summary["restarts"] >= 3, "a process of 320 MB too many is given up"
    assert summary["cases"] >= 12
    # A case of many calls may take more than there is by itself.
    assert all("out of memory" in reason for reason in summary["declined_reasons"])


def test_a_call_that_takes_all_memory_is_ended_and_declined(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_MODEST_BYTES", 2**26)
    monkeypatch.setattr(process, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(process, "bytes_left", lambda: 2**28)
    swallows = target(
        tmp_path,
        "kept = []\nfor _ in range(1000): kept.append(torch.ones(2**20)); time.sleep(0.001)",
        first="import time",
    )
    assert hunt(swallows, "--time", "2s") == 3, "nothing could be run"
    reasons = assert_whole(tmp_path / "out", 3)["declined_reasons"]
    assert all("out of memory" in reason for reason in reasons), reasons


@pytest.mark.parametrize("name", ["exits", "aborts", "closes everything", "is interrupted", "reads address 0"])
def test_what_kills_now_and_then_is_kept_once(name: str, quick: None, tmp_path: Path) -> None:
    acts = "\n".join(f"    {line}" for line in FAULTS[name][0].splitlines())
    assert hunt(target(tmp_path, f"if CALLS == 100:\n{acts}"), "--max-cases", "80") == 1
    (failure,) = assert_whole(tmp_path / "out", 1)["failures"]
    assert "what ran before" in failure["bucket"], "by itself no case kills it"


def test_what_always_kills_is_shrunk_and_kept(quick: None, tmp_path: Path) -> None:
    assert hunt(target(tmp_path, "if bias.any():\n    import os; os._exit(3)"), "--max-cases", "60") == 1
    failure = assert_whole(tmp_path / "out", 1)["failures"][0]
    assert (failure["bucket"], failure["message"]) == ("crash that depends on bias", "exited with status 3")
    assert main(["repro", str(tmp_path / "out" / "failures" / failure["id"])]) == 1


def test_what_a_target_says_when_it_declines_is_bounded(quick: None, tmp_path: Path) -> None:
    declines = target(tmp_path, "if bias.any(): raise NotImplementedError(f'{CALLS} ' + 'x' * 10**6)")
    assert hunt(declines, "--max-cases", "60") == 0
    assert (tmp_path / "out" / "summary.json").stat().st_size < 10**6
    assert (tmp_path / "out" / "records.jsonl").stat().st_size < 10**6


def test_being_killed_from_outside_accuses_nobody(quick: None, tmp_path: Path) -> None:
    assert hunt(target(tmp_path, f"if CALLS == 100: {KILLED}"), "--max-cases", "80") == 0
    summary = assert_whole(tmp_path / "out", 0)
    assert summary["restarts"] >= 1
    assert "killed" in {trial["verdict"].get("kind") for trial in trials(tmp_path / "out")}


# Once in a hunt, however often the target is loaded: children that leave the process group, and one that does not.
FORKS = """
if not os.path.exists(__file__ + ".forked"):
    open(__file__ + ".forked", "w").close()
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    if os.fork() == 0: time.sleep(1000)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(1000)
        os._exit(0)
"""


def test_a_hunt_survives_everything_rude_at_once_and_leaves_nobody_behind(tmp_path: Path) -> None:
    # Without what gets in the way of the others.
    names = [name for name in RUDE if name not in ("signals", "standard input", "a loud child", "a child")]
    acts = [f"if CALLS % {len(names)} == {place}:\n    {RUDE[name][1] or 'pass'}" for place, name in enumerate(names)]
    first = "import gc, locale, numpy, os, subprocess, sys, threading, time, warnings\nprint('the target', flush=True)"
    path, out = target(tmp_path, "\n".join(acts), first=first + FORKS), tmp_path / "out"
    hunted = drills.run("run", "--target", path, "--max-cases", "100", "--workers", "2", "--seed", "1", "--out", out)
    assert hunted.returncode == 0, hunted.stdout + hunted.stderr
    assert "the target\n" not in hunted.stdout + hunted.stderr, "what a target prints is not what the command prints"
    assert Path(f"{path}.forked").exists()
    assert_whole(out, 0)


def test_what_a_target_prints_is_bounded(nursery: Nursery, tmp_path: Path) -> None:
    loud = target(
        tmp_path, "for _ in range(40): print('x' * 10**6, flush=True)\nif bias.any(): raise KeyboardInterrupt"
    )
    with IsolatedTarget(str(loud), "cpu", nursery=nursery) as isolated:
        for _ in range(3):
            assert isolated.run(Case(), 30.0).status == "pass"
            time.sleep(process._LOOK_SECONDS)
        isolated.run(Case(), 30.0)
        log = isolated._process._log.fileno()
        assert os.fstat(log).st_size < 2**28, "the log of a target that prints for ever must not fill the memory"
        verdict = isolated.run(Case(bias=True), 30.0)
        assert verdict.message == "exited with status 1: KeyboardInterrupt", "the last words must survive"
