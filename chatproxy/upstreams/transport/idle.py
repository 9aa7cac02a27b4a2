"""Idle connections: those that are kept without a request, of all pools together.

There is a pool for each address, and an application may name as many addresses as it likes. So what
is bounded is their sum: if there are too many, those that have been idle for longest are closed,
and so is what is too old to be used again.

Whoever closes one takes it out of its pool first, as whoever uses it does. So it is closed or used,
and never both: the descriptor of a closed one may be another's.
"""

from __future__ import annotations

import threading
import time
import typing

import urllib3


class Idle(typing.Protocol):
    """A connection, as far as this is concerned."""

    def close(self) -> None:
        """Close it."""


class IdleConnections:
    """The idle connections of one application.

    :param most: how many there may be.
    :param seconds: for how long each may be idle.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._lock = threading.Lock()
        #: The pool that each is in, and since when; the oldest first.
        self._kept: dict[Idle, tuple[urllib3.HTTPConnectionPool, float]] = {}

    def put(self, connection: Idle, pool: urllib3.HTTPConnectionPool) -> None:
        """Note a connection that is in its pool now; close those that are too many or too old."""
        now = time.monotonic()
        evicted = []
        with self._lock:
            self._kept.pop(connection, None)
            self._kept[connection] = pool, now
            while self._has_one_too_many(now - self._seconds):
                oldest = next(iter(self._kept))
                evicted.append((oldest, self._kept.pop(oldest)[0]))
        _close(evicted)

    def take(self, connection: Idle) -> None:
        """Note a connection that was taken out of its pool."""
        with self._lock:
            self._kept.pop(connection, None)

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            kept = [(connection, pool) for connection, (pool, _) in self._kept.items()]
            self._kept.clear()
        _close(kept)

    def _has_one_too_many(self, oldest_allowed: float) -> bool:
        _, since = next(iter(self._kept.values()))
        return len(self._kept) > self._most or since < oldest_allowed


def _close(connections: list[tuple[Idle, urllib3.HTTPConnectionPool]]) -> None:
    for connection, pool in connections:
        if _taken_out(connection, pool):
            connection.close()


def _taken_out(connection: Idle, pool: urllib3.HTTPConnectionPool) -> bool:
    """Take a connection out of its pool; False if it is not in there (any more)."""
    waiting = pool.pool
    if waiting is None:  # it is closed, and closes what was in it
        return False
    with waiting.mutex:
        entries: list[object] = waiting.queue
        for place, each in enumerate(entries):
            if each is connection:
                entries[place] = None  # as urllib3 has it for a connection to come
                return True
    return False
