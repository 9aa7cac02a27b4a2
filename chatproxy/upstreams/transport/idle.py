"""Idle connections: those that are kept without a request, of all pools together.

There is a pool for each address, and an application may name as many addresses as it likes. So what
is bounded is their sum: if there are too many, those that have been idle for longest are closed,
and so is what is too old to be used again.

Whoever closes one takes it out of its pool first, as whoever uses it does. So it is closed or used,
and never both: the descriptor of a closed one may be another's.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Protocol

from ... import forks


class Idle(Protocol):
    """A connection, as far as this is concerned."""

    def close(self) -> None:
        """Close it."""


class Places:
    """The places for connections in a pool, of which urllib3 uses the last that was filled.

    In place of ``queue.LifoQueue``, out of which nothing else can be taken, and which is another
    class under gevent. An empty place is None. Nobody waits for one: the pools don't block.
    """

    def __init__(self, maxsize: int) -> None:
        self._most = maxsize
        self._places: list[Idle | None] = []
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._places = [None] * len(self._places)

    def full(self) -> bool:
        """Whether there is no room for another."""
        return len(self._places) >= self._most

    def qsize(self) -> int:
        """How many there are, the empty ones too."""
        return len(self._places)

    def put(self, connection: Idle | None, block: bool = True) -> None:
        """Add a place.

        :raises queue.Full: if there is no room for another.
        """
        with self._lock:
            if self.full():
                raise queue.Full
            self._places.append(connection)

    def get(self, block: bool = True, timeout: float | None = None) -> Idle | None:
        """Take a place out.

        :raises queue.Empty: if there is none.
        """
        with self._lock:
            if not self._places:
                raise queue.Empty
            return self._places.pop()

    def take(self, connection: Idle) -> bool:
        """Leave the place of a connection empty; False if it is not here (any more)."""
        with self._lock:
            if connection not in self._places:
                return False
            self._places[self._places.index(connection)] = None
            return True


class IdleConnections:
    """The idle connections of one application.

    :param most: how many there may be.
    :param seconds: for how long each may be idle.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: Where each is, and since when; the oldest first.
        self._kept: dict[Idle, tuple[Places, float]] = {}

    @property
    def number(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._kept)

    def put(self, connection: Idle, places: Places) -> None:
        """Note a connection that is in a pool now; close those that are too many or too old."""
        now = time.monotonic()
        evicted = []
        with self._lock:
            self._kept.pop(connection, None)
            self._kept[connection] = places, now
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
            kept = [(connection, places) for connection, (places, _) in self._kept.items()]
            self._kept.clear()
        _close(kept)

    def _has_one_too_many(self, oldest_allowed: float) -> bool:
        _, since = next(iter(self._kept.values()))
        return len(self._kept) > self._most or since < oldest_allowed


def _close(connections: list[tuple[Idle, Places]]) -> None:
    for connection, places in connections:
        if places.take(connection):
            connection.close()
