"""The runtime gate on this machine's GPU: `pytest -m perf`, with nothing else running."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.gate.command import gate_runtime

SLOWED = Path(__file__).with_name("slowed.py")
pytestmark = [pytest.mark.gpu, pytest.mark.perf, pytest.mark.slow]


def measured(target: str, *workloads: str) -> tuple[str, int]:
    text, status = gate_runtime(target, 100, workloads, None, json_file=None)
    if status == 3:
        pytest.skip(f"the card did not hold still, a quiet machine runs it: {text.splitlines()[-1]}")
    return text, status


def test_the_kernel_is_fast_enough() -> None:
    text, status = measured("fused")
    assert status == 0, f"the gate is missed; profile it, or, if that is on purpose, change thresholds.toml:\n{text}"


@pytest.mark.parametrize("time", range(3))
def test_a_tenth_slower_is_too_slow(time: int) -> None:
    text, status = measured(str(SLOWED), "headline float32")
    assert status == 1, f"a kernel that does a tenth of its work twice passes, in run {time}:\n{text}"
