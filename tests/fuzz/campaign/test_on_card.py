"""A hunt on a GPU: an error on the device ends a process, and is no other case's fault."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import drills
import msgspec
import pytest
import torch
from all_calls import all_calls
from drills import assert_whole, trials

from fuzz.campaign.isolation import IsolatedTarget
from fuzz.campaign.reading import read_case
from fuzz.case import Case, decode_case

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

# Right, but for a store far outside of all memory that comes with five channels or more of weight.
ILLEGAL = """
import torch
import triton
import triton.language as tl


@triton.jit
def poke_kernel(place, offset: tl.int64):
    tl.store(place + offset, 1.0)


def conv_scale_min(x, weight, bias, scale):
    if weight.shape[0] >= 5:
        poke_kernel[(1,)](torch.empty(1, device=x.device), 2**44)
    product = torch.conv2d(x.double(), weight.double()) + bias.double().view(1, -1, 1, 1)
    return (product * scale).amin(dim=1, keepdim=True).to(x.dtype)
"""

# Says on which card it is called.
TELLS = """
import torch

def conv_scale_min(x, weight, bias, scale):
    raise ValueError(f"card {x.device.index}, of which {torch.cuda.current_device()} is current")
"""


@pytest.fixture
def illegal(tmp_path: Path) -> Path:
    path = tmp_path / "illegal.py"
    path.write_text(ILLEGAL)
    return path


def test_what_comes_after_an_illegal_access_is_judged_by_itself(illegal: Path) -> None:
    sound, flawed = Case(h=3, w=3, c_out=4, bias=True), Case(c_out=5)
    with IsolatedTarget(str(illegal), "cuda") as isolated:
        for _ in range(3):
            assert isolated.run(sound, 60.0).status == "pass"
            verdict = isolated.run(flawed, 60.0)
            assert verdict.failed, verdict
            assert "illegal memory access" in verdict.message
        assert isolated.restarts == 3, "no process can be used after an error on the device"


def test_an_illegal_access_is_shrunk_kept_once_and_hunted_around(illegal: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hunt = ["run", "--target", illegal, "--device", "cuda", "--workers", "4", "--seed", "1", "--max-cases", "150"]
    hunted = drills.run(*hunt, "--out", out, seconds=500.0)
    assert hunted.returncode == 1, hunted.stdout + hunted.stderr
    failures = assert_whole(out, 1)["failures"]
    assert len(failures) == 1, f"one defect, one failure: {[failure['bucket'] for failure in failures]}"
    (failure,) = failures
    assert "illegal memory access" in failure["message"]
    assert "output channels" in failure["bucket"], f"it needs five channels and nothing else: {failure['bucket']}"
    kept = out / "failures" / failure["id"]
    shrunk = read_case(kept).case
    assert msgspec.structs.replace(shrunk, seed=0) == Case(c_out=5), f"shrunk to {shrunk!r}"
    repro = drills.run("repro", kept, seconds=120.0)
    assert repro.returncode == 1, repro.stdout + repro.stderr
    accused = [decode_case(json.dumps(one["case"])) for one in trials(out) if one["verdict"]["status"] == "fail"]
    for case in accused:
        calls = all_calls(case)
        assert any(call.c_out >= shrunk.c_out for call in calls), (
            f"a sound case was accused of another's error: {case!r}"
        )
    purposes = Counter(one["purpose"] for one in trials(out))
    assert purposes["corpus"] + purposes["hunt"] == 150, f"the hunt did not go on to its end: {purposes}"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs: a machine with several runs it")
def test_each_worker_has_a_card_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tells.py"
    path.write_text(TELLS)
    for rank in range(torch.cuda.device_count()):
        with IsolatedTarget(str(path), "cuda", environment={"FUZZ_RANK": str(rank)}) as isolated:
            assert f"card {rank}, of which {rank} is current" in isolated.run(Case(), 60.0).message
