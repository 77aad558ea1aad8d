"""How many workers a machine has room for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fuzz.campaign import engine
from fuzz.campaign.engine import LocalEngine
from fuzz.campaign.plan import Plan
from fuzz.campaign.worker import room_for

CORES = 8


@pytest.fixture
def hired(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a worker says of its machine; no process is started."""
    worker = SimpleNamespace(room=None)
    monkeypatch.setattr(engine, "cores", lambda: CORES)
    for kind in ("Hunter", "HunterProcess"):
        monkeypatch.setattr(engine, kind, lambda *_: worker)
    return worker


@pytest.mark.parametrize(
    ("room", "asked", "workers"), [(None, None, CORES), (3, None, 3), (100, None, CORES), (3, 5, 5)]
)
def test_workers_are_as_many_as_there_is_room_for(
    hired: SimpleNamespace, tmp_path: Path, room: int | None, asked: int | None, workers: int
) -> None:
    hired.room = room
    local = LocalEngine(Plan(target="fused", out=tmp_path, seed=0, workers=asked))
    assert local.workers == (asked or CORES), "nobody knows the GPUs before a worker has looked"
    local.hire(0)
    assert local.workers == workers


def test_room_is_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [24 * 2**30 - 1, 80 * 2**30, 2**29]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(sizes))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=sizes[number]))
    assert room_for(torch.device("cuda")) == 23 + 80 + 1, "a GPU that is small still has room for one"
    assert room_for(torch.device("cpu")) is None
