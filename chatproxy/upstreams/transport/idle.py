"""Idle connections: those that are kept without a request, of all pools together.

There is a pool for each address, and an application may name as many addresses as it likes. So what
is bounded is their sum: if there are too many, those that have been idle for longest are closed,
and so is what is too old to be used again.

A connection is idle from ``put`` until its next user calls ``take``, before anything else. If it
was evicted before that, its socket is closed, and the user connects anew. A connection that was
taken is not closed here: its descriptor may be another's by then.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Protocol


class Idle(Protocol):
    """A connection, as far as this is concerned.

    :ivar evicted: set when its socket was closed here.
    """

    sock: socket.socket | None
    evicted: bool


class IdleConnections:
    """The idle connections of one application.

    :param most: how many there may be.
    :param seconds: for how long each may be idle.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._lock = threading.Lock()
        #: The socket of each, and since when it has been idle; the oldest first.
        self._kept: dict[Idle, tuple[socket.socket, float]] = {}

    def put(self, connection: Idle) -> None:
        """Keep a connection that has come to rest, and close those that are too many or too old."""
        now = time.monotonic()
        evicted = []
        with self._lock:
            assert connection.sock is not None
            self._kept[connection] = connection.sock, now
            while self._has_one_too_many(now - self._seconds):
                oldest = next(iter(self._kept))
                oldest.evicted = True
                evicted.append(self._kept.pop(oldest)[0])
        for sock in evicted:
            sock.close()

    def take(self, connection: Idle) -> bool:
        """Use a connection again, or close it; False if it was evicted."""
        with self._lock:
            self._kept.pop(connection, None)
            return not connection.evicted

    def _has_one_too_many(self, oldest_allowed: float) -> bool:
        _, since = next(iter(self._kept.values()), (None, oldest_allowed))
        return len(self._kept) > self._most or since < oldest_allowed
