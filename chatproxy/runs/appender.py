"""Appender: several threads append to the log of one answer, one at a time, without a lock.

A log has one thread that appends at a time, and no lock may be held while it writes to its sinks.
So whoever has something to append leaves it here, and whoever finds nobody at it appends what all
have left, in the order in which it came.
"""

from __future__ import annotations

import threading
import time

from ..answers.session import StreamSession


class Appender:
    """Appends to the answer of one session. Safe to use from any thread."""

    def __init__(self, session: StreamSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        #: Each: events, and whether they are counted as an upstream's.
        self._left: list[tuple[list[bytes], bool]] = []
        self._is_at_it = False
        self._closed = False

    def append(self, events: list[bytes], *, counted: bool) -> None:
        """Append events, after those that were left before. Waits while the log is full."""
        with self._lock:
            self._left.append((events, counted))
            is_mine = not (self._is_at_it or self._closed)
            self._is_at_it = self._is_at_it or is_mine
        if is_mine:
            self._append_all()
        self._session.log.wait_for_room()

    def close(self) -> None:
        """Append nothing more from now on, whoever tries."""
        with self._lock:
            self._closed = True
            self._left.clear()
        while self._is_at_it:  # which does not block
            time.sleep(0)

    def _append_all(self) -> None:
        session = self._session
        try:
            while taken := self._take():
                for events, counted in taken:
                    (session.take if counted else session.tell)(events)
        except BaseException:
            with self._lock:
                self._is_at_it = False
            raise

    def _take(self) -> list[tuple[list[bytes], bool]]:
        with self._lock:
            taken, self._left = self._left, []
            self._is_at_it = bool(taken)
            return taken
