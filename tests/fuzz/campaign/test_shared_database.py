"""A shared database passes examples on, and does no harm while it is gone."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase, InMemoryExampleDatabase

from fuzz.campaign.shared_database import SharedDatabase, SharedDatabaseError, open_shared_database

ROOT = Path(__file__).resolve().parents[3]
EAGER = ROOT / "tests" / "candidates" / "eager_function.py"
REACHING = b"fused-fuzz reaching"
RETRY = 0.2
PATIENCE = 20.0


class Flaky(InMemoryExampleDatabase):
    """Fails while it is down."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.asked = 0

    def _answer(self) -> None:
        self.asked += 1
        if self.is_down:
            raise ConnectionError("no\nway")

    def fetch(self, key: bytes) -> Iterable[bytes]:
        self._answer()
        yield from super().fetch(key)

    def save(self, key: bytes, value: bytes) -> None:
        self._answer()
        super().save(key, value)

    def delete(self, key: bytes, value: bytes) -> None:
        self._answer()
        super().delete(key, value)


class Clock:
    """A clock that stands still until it is set forward."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def over(inner: Flaky, complaints: list[str], clock: Callable[[], float]) -> SharedDatabase:
    return SharedDatabase(inner, "here", (OSError,), complain=complaints.append, retry_after=30.0, clock=clock)


def use(database: SharedDatabase) -> list[bytes]:
    """Ask everything that can be asked; return what was fetched."""
    database.save(b"key", b"value")
    fetched = list(database.fetch(b"key"))
    database.move(b"key", b"other", b"value")
    database.delete(b"other", b"value")
    return fetched


@given(steps=st.lists(st.sampled_from(["use", "down", "up", "wait"]), max_size=30))
def test_a_database_that_comes_and_goes_is_used_while_it_is_there(steps: list[str]) -> None:
    inner, clock, complaints = Flaky(), Clock(), list[str]()
    database = over(inner, complaints, clock)
    noticed, goings, tried_at = False, 0, 0.0
    for step in steps:
        if step == "use":
            may_try = not noticed or clock.now >= tried_at + 30
            assert use(database) == ([b"value"] if may_try and not inner.is_down else [])
            if may_try:
                goings += inner.is_down and not noticed
                noticed, tried_at = inner.is_down, clock.now
        elif step == "wait":
            clock.now += 20
        else:
            inner.is_down = step == "down"
    assert len(complaints) == goings, "it is told once each time that the database goes away"


def test_a_complaint_is_one_line_that_says_what_happens_next() -> None:
    inner, complaints = Flaky(), list[str]()
    inner.is_down = True
    use(over(inner, complaints, Clock()))
    what = "shared database here cannot be used: ConnectionError: no way"
    assert complaints == [f"{what}; going on without it, and trying it again after 30 s"]


def test_what_is_no_failure_of_the_database_is_raised() -> None:
    class Broken(Flaky):
        def save(self, key: bytes, value: bytes) -> None:
            raise AssertionError("a bug")

    with pytest.raises(AssertionError, match="a bug"):
        over(Broken(), [], Clock()).save(b"key", b"value")


def test_threads_notice_together_and_one_tries_again() -> None:
    class Slow(Flaky):
        def _answer(self) -> None:
            time.sleep(0.05)  # long enough for all threads to ask at once
            super()._answer()

    inner, clock, complaints = Slow(), Clock(), list[str]()
    database = over(inner, complaints, clock)
    inner.is_down = True

    def in_threads() -> None:
        threads = [threading.Thread(target=use, args=(database,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_threads()
    assert len(complaints) == 1
    inner.asked, clock.now = 0, 31.0
    in_threads()
    assert inner.asked == 1, "each thread waits for a database that is gone"
    assert len(complaints) == 1


def test_listeners_hear_of_changes() -> None:
    database, heard = over(Flaky(), [], Clock()), list[object]()
    database.add_listener(heard.append)
    database.save(b"key", b"value")
    database.delete(b"key", b"value")
    database.remove_listener(heard.append)
    database.save(b"key", b"value")
    assert heard == [("save", (b"key", b"value")), ("delete", (b"key", b"value"))]


@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("http://host/1", "http://…: a shared database is redis://HOST:PORT/DB"),
        ("redis://host:port/1", "redis://…: the port is no number below 65536"),
        ("redis://user:pass/secret@host:1/1", "in a password write / as %2F"),
        ("redis://user:pass?secret@host:1/1", "in a password write / as %2F"),
        ("redis://host:1/secret", "no number of a database"),
        ("unix://", "names no socket"),
        ("conftest.py/folder", "no folder"),
    ],
)
def test_a_location_where_no_database_can_be_is_one_line(location: str, rule: str) -> None:
    with pytest.raises(SharedDatabaseError) as caught:
        open_shared_database(location)
    text = str(caught.value)
    assert rule in text
    assert len(text.splitlines()) == 1
    assert "secret" not in text, "passwords end up in logs"


def test_a_folder_is_made(tmp_path: Path) -> None:
    database = open_shared_database(str(tmp_path / "a" / "b"))
    assert isinstance(database, DirectoryBasedExampleDatabase)
    database.save(b"key", b"value")
    assert list(open_shared_database(str(tmp_path / "a" / "b")).fetch(b"key")) == [b"value"]


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fuzz.campaign.redis_database", "hypothesis.extra.redis"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SharedDatabaseError, match=r"^redis://host:1/0 needs .*: pip install 'fused-fuzz\[redis\]'$"):
        open_shared_database("redis://user:secret@host:1/0?socket_timeout=1")


NEEDS_PACKAGE = "needs the package redis: `pip install 'fused-fuzz[redis]'` runs it"
NEEDS_SERVER = "needs redis-server: `apt-get install redis-server` runs it"


@pytest.mark.parametrize("option", ["socket_timeout=secret", "sokket_timeout=1"])
def test_a_wrong_option_is_one_line(option: str) -> None:
    pytest.importorskip("redis", reason=NEEDS_PACKAGE)
    with pytest.raises(SharedDatabaseError, match=r"^redis://host:1/0\?…: an option") as caught:
        open_shared_database(f"redis://host:1/0?{option}")
    assert "secret" not in str(caught.value)


def test_no_password_is_shown() -> None:
    pytest.importorskip("redis", reason=NEEDS_PACKAGE)
    complaints: list[str] = []
    url = "redis://user:secret@127.0.0.1:1/0?password=secret"
    database = open_shared_database(url, complain=complaints.append)
    database.save(b"key", b"value")
    assert "redis://127.0.0.1:1/0 " in complaints[0]
    assert "secret" not in complaints[0] + repr(database)


class Server:
    """A redis-server on a port of this machine."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        wait_until(self.answers, "redis-server does not start")

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
        return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, still: bool) -> None:
        """Let it answer nothing, as a machine does that is gone, or go on."""
        self.process.send_signal(signal.SIGSTOP if still else signal.SIGCONT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("redis", reason=NEEDS_PACKAGE)
    if shutil.which("redis-server") is None:
        pytest.skip(NEEDS_SERVER)
    running = Server(tmp_path)
    yield running
    running.kill()


def wait_until(is_so: Callable[[], Any], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, otherwise
        time.sleep(0.02)


def test_what_one_saves_another_fetches(server: Server) -> None:
    one, other = open_shared_database(server.url), open_shared_database(server.url)
    one.save(b"key", b"value")
    assert list(other.fetch(b"key")) == [b"value"]
    other.move(b"key", b"moved", b"value")
    assert (list(one.fetch(b"key")), list(one.fetch(b"moved"))) == ([], [b"value"])
    one.delete(b"moved", b"value")
    assert list(other.fetch(b"moved")) == []


def test_a_server_that_is_killed_is_used_again_when_it_is_back(server: Server) -> None:
    complaints: list[str] = []
    database = open_shared_database(server.url, complain=complaints.append, retry_after=RETRY)
    database.save(b"key", b"value")
    server.kill()
    for _ in range(3):
        database.save(b"key", b"lost")
        assert list(database.fetch(b"key")) == []
        time.sleep(1.5 * RETRY)
    assert len(complaints) == 1, complaints
    assert server.url in complaints[0]
    server.start()

    def is_used() -> bool:
        database.save(b"key", b"again")
        return list(database.fetch(b"key")) == [b"again"]

    wait_until(is_used, "the server is back, and not used")
    assert len(complaints) == 1, complaints


def test_a_server_that_was_restarted_meanwhile_is_not_complained_of(server: Server) -> None:
    complaints: list[str] = []
    database = open_shared_database(server.url, complain=complaints.append)
    database.save(b"key", b"value")
    server.kill()
    server.start()
    database.save(b"key", b"again")
    assert (list(database.fetch(b"key")), complaints) == ([b"again"], [])


def test_a_server_that_hangs_is_not_waited_for(server: Server) -> None:
    complaints: list[str] = []
    database = open_shared_database(server.url, complain=complaints.append)
    server.stop(True)
    began = time.monotonic()
    for _ in range(20):
        database.save(b"key", b"value")
    assert time.monotonic() - began < PATIENCE, "each call waits for a server that does not answer"
    assert len(complaints) == 1
    server.stop(False)


def test_listeners_hear_of_other_machines_changes(server: Server) -> None:
    one, other, heard = open_shared_database(server.url), open_shared_database(server.url), list[object]()
    one.add_listener(heard.append)

    def is_heard() -> bool:
        other.save(b"key", b"value")
        other.delete(b"key", b"value")
        return ("save", (b"key", b"value")) in heard

    wait_until(is_heard, "a listener does not hear what another has saved")
    one.remove_listener(heard.append)


def test_a_hunt_goes_on_when_the_server_goes_away(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fuzz", "run", "--target", str(EAGER), "--time", "10s", "--workers", "1"]
    with subprocess.Popen(
        [*command, "--database", server.url, "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as hunt:
        wait_until(lambda: (out / "records.jsonl").exists(), "the hunt does not begin")
        wait_until(lambda: list(open_shared_database(server.url).fetch(REACHING)), "a hunt shares nothing")
        server.kill()
        _, errors = hunt.communicate(timeout=60)
    assert hunt.returncode == 0, errors
    assert errors.count(f"shared database {server.url} cannot be used") == 1, errors
    shared = len(list((out / "examples").glob("*/*")))
    assert shared > 20, "without the server the hunt's own database holds what was reached"
