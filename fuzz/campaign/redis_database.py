"""Hypothesis's database in Redis, with limits on how long one waits for it, and with changes that are read.

The one place that imports redis, which is installed on request only.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from hypothesis.extra.redis import RedisExampleDatabase
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

FAILURES: Final = (RedisError, OSError)
# Examples are fetched between the examples of a test, which must not wait for a machine that is gone.
_CONNECT_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 2.0
_LISTEN_SECONDS: Final = 0.5
_RECONNECT_SECONDS: Final = 5.0


class ListeningRedisDatabase(RedisExampleDatabase):
    """Reads the changes that Hypothesis's own class subscribes to, in a thread, as long as there are listeners."""

    def _start_listening(self) -> None:
        self._ended = threading.Event()
        self._listener = threading.Thread(target=self._listen, args=(self._ended,), daemon=True)
        self._listener.start()

    def _stop_listening(self) -> None:
        self._ended.set()
        if threading.current_thread() is not self._listener:
            self._listener.join()

    def _listen(self, ended: threading.Event) -> None:
        client: Any = self.redis  # whose method is untyped
        while not ended.is_set():
            try:
                with client.pubsub(ignore_subscribe_messages=True) as changes:
                    changes.subscribe(**{self.listener_channel: self._handle_message})
                    while not ended.is_set():
                        changes.get_message(timeout=_LISTEN_SECONDS)
            except FAILURES:
                # Who saves or fetches is told of the failure; a listener has missed changes, and goes on.
                ended.wait(_RECONNECT_SECONDS)


def connect(url: str) -> ListeningRedisDatabase:
    """Return the database at a URL. Nothing is sent yet.

    Raises:
        ValueError: An option in the URL has a value that it cannot have.
        TypeError: There is no such option.
    """
    client = Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),  # by itself redis-py tries for many seconds
    )
    client.connection_pool.make_connection()  # what reads the options
    return ListeningRedisDatabase(client)
