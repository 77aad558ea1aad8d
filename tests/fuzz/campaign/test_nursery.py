"""A nursery forks processes that are as good as those started anew, and loses none."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from planted import TILED

from fuzz.campaign.isolation import InfrastructureError, IsolatedTarget, UsageError, worker_environment
from fuzz.campaign.nursery import Nursery
from fuzz.case import Case
from fuzz.interpreter import is_interpreting

pytestmark = pytest.mark.skipif(
    not is_interpreting(), reason="forks the interpreter: a machine without a GPU runs it, since CUDA survives no fork"
)

DIES = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"


def test_a_forked_process_gives_the_same_verdicts(nursery: Nursery) -> None:
    cases = [Case(), Case(c_in=3, h=5, w=5, c_out=4, kh=3, kw=3, bias=True, values="gaussian", scale=-2.0)]
    with (
        IsolatedTarget("fused", "cpu", digests=True) as anew,
        IsolatedTarget("fused", "cpu", digests=True, nursery=nursery) as forked,
    ):
        assert forked.abilities == anew.abilities
        assert forked.versions == anew.versions
        for case in cases:
            assert forked.run(case, 60.0).status == anew.run(case, 60.0).status == "pass"
            assert forked.digest == anew.digest != ""


def test_a_process_that_was_killed_is_replaced(nursery: Nursery) -> None:
    with IsolatedTarget(str(TILED), "cpu", nursery=nursery) as forked:
        os.kill(forked._process.child.pid, signal.SIGKILL)
        verdict = forked.run(Case(bias=True), 60.0)
        assert (verdict.kind, verdict.message) == ("killed", "killed by SIGKILL")
        assert forked.run(Case(bias=True), 60.0).status == "pass"
        assert forked.restarts == 1


def test_a_target_that_dies_while_it_is_loaded_is_refused(nursery: Nursery, tmp_path: Path) -> None:
    target = tmp_path / "dies.py"
    target.write_text(DIES)
    with pytest.raises(UsageError, match="killed by SIGSEGV"):
        IsolatedTarget(str(target), "cpu", nursery=nursery)


def test_a_running_child_can_be_waited_for(nursery: Nursery, tmp_path: Path) -> None:
    with IsolatedTarget("fused", "cpu", nursery=nursery) as forked:
        child = forked._process.child
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.01)
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait(timeout=10.0) == child.wait() == -signal.SIGKILL


def test_children_end_with_their_nursery() -> None:
    with Nursery(worker_environment()) as own:
        forked = IsolatedTarget("fused", "cpu", nursery=own)
        pid = forked._process.child.pid
        forked._process.send(b"")  # nothing that it would answer: it ends by itself, or is ended
    deadline = time.monotonic() + 10.0
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists(), "a worker outlives the hunt"
    forked._process.close()
    forked._process._log.close()


def test_a_nursery_that_is_gone_says_so() -> None:
    with Nursery(worker_environment()) as own:
        own._process.kill()
        own._process.wait()
        with pytest.raises(InfrastructureError, match="no process could be started"):
            IsolatedTarget("fused", "cpu", nursery=own)
