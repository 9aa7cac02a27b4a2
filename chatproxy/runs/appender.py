"""Appender: several threads append to the log of one answer, one at a time, without a lock.

A log has one thread that appends at a time, and no lock may be held while it writes to its sinks.
So whoever has something to append leaves a step here, and whoever finds nobody at it takes the
steps of all, in the order in which they came.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..answers.session import StreamSession


class Appender:
    """Appends to the answer of one session. Safe to use from any thread."""

    def __init__(self, session: StreamSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._left: list[Callable[[], None]] = []
        self._is_at_it = False
        self._closed = False

    def append(self, step: Callable[[], None]) -> None:
        """Take a step, after those that were left before. Waits while the log is full.

        :param step: appends to the session or its log; it must not block.
        """
        self.leave(step)
        self._session.log.wait_for_room()

    def leave(self, step: Callable[[], None]) -> None:
        """Have a step taken likewise, without waiting for room."""
        with self._lock:
            self._left.append(step)
            is_mine = not (self._is_at_it or self._closed)
            self._is_at_it = self._is_at_it or is_mine
        if is_mine:
            self._append_all()

    def close(self) -> None:
        """Append nothing more from now on, whoever tries."""
        with self._lock:
            self._closed = True
            self._left.clear()
        while self._is_at_it:  # which does not block
            time.sleep(0)

    def _append_all(self) -> None:
        try:
            while taken := self._take():
                for step in taken:
                    step()
        except BaseException:
            with self._lock:
                self._is_at_it = False
            raise

    def _take(self) -> list[Callable[[], None]]:
        with self._lock:
            taken, self._left = self._left, []
            self._is_at_it = bool(taken)
            return taken
