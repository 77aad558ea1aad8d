"""A pytest plugin: Hypothesis replays what other machines have found, from the database that `FUZZ_DATABASE` names.

Whatever profile has a database shares it; one without, as for CI, stays without.
"""

from __future__ import annotations

import os
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis.database import MultiplexedDatabase

from fuzz.campaign.shared_database import SharedDatabaseError, open_shared_database

_VARIABLE: Final = "FUZZ_DATABASE"
_COMPLAINTS: Final = pytest.StashKey[list[str]]()
_NAME: Final = pytest.StashKey[str]()
_SENT: Final = "shared_database_complaints"


@pytest.hookimpl(trylast=True)  # when a profile is loaded
def pytest_configure(config: pytest.Config) -> None:
    complaints = config.stash[_COMPLAINTS] = []
    location, own = os.environ.get(_VARIABLE), settings().database
    if not location or own is None:
        return
    try:
        shared = open_shared_database(location, complain=complaints.append)
    except SharedDatabaseError as error:
        raise pytest.UsageError(f"{_VARIABLE}: {error}") from None
    config.stash[_NAME] = repr(shared)
    profile = settings.get_current_profile_name()
    settings.register_profile(profile, settings(), database=MultiplexedDatabase(own, shared))
    settings.load_profile(profile)


def pytest_report_header(config: pytest.Config) -> str | None:
    name = config.stash.get(_NAME, None)
    if name is None:
        return None
    unused = config.getoption("--hypothesis-seed", default=None) is not None
    return f"examples are shared: {name}{', but none are replayed with --hypothesis-seed' if unused else ''}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist, which has no terminal, hand the complaints to its controller."""
    sent = getattr(session.config, "workeroutput", None)
    if sent is not None:
        sent[_SENT] = session.config.stash[_COMPLAINTS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    complaints = node.config.stash[_COMPLAINTS]
    sent = getattr(node, "workeroutput", {}).get(_SENT, [])  # a worker that crashed sends none
    complaints.extend(line for line in sent if line not in complaints)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash[_COMPLAINTS]:
        terminalreporter.write_line(line, yellow=True)
