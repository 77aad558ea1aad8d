"""Hunts whose workers start in milliseconds, so that they can be lost by the dozen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.campaign.isolation import IsolatedTarget, worker_environment
from fuzz.campaign.nursery import Nursery
from fuzz.interpreter import is_interpreting


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks processes for targets."""
    if not is_interpreting():
        pytest.skip("forks the interpreter: a machine without a GPU runs it, since CUDA survives no fork")
    with Nursery(worker_environment()) as started:
        yield started


@pytest.fixture(scope="module")
def forking(nursery: Nursery) -> Iterator[None]:
    """While it is in use, hunts and replays in this process fork their workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IsolatedTarget, "_child", lambda self, connection, log: nursery.fork(connection, log.fileno()))
        yield


@pytest.fixture
def quick(forking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked, and no page is written, whose pictures would take longest."""
    monkeypatch.setattr("fuzz.report.page.write_report", lambda folder: folder)
