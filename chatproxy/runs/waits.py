"""Waits: who waits for which future, over all runs of an application.

A future keeps for good what it is to call when it is done. So each is given one call, however many
wait for it, and however often; who waits is kept here, and only meanwhile.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

from ..answers.abort import AbortHandle


class Waits:
    """The waits of one application. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: WeakKeyDictionary[Future[Any], set[threading.Event]] = WeakKeyDictionary()

    def is_done(
        self, future: Future[Any], handle: AbortHandle, timeout: float | None = None
    ) -> bool:
        """Wait for a future; return whether it is done after so many seconds at the most.

        :raises Aborted: as soon as the handle's ``abort`` is called.
        """
        over = threading.Event()
        with self._lock:
            waiting = self._waiting.get(future)
            is_known = waiting is not None
            if waiting is None:
                waiting = self._waiting[future] = set()
            waiting.add(over)
        try:
            if not is_known:
                future.add_done_callback(self._wake)  # which calls it if it is done
            with handle.waiting(over.set):
                return over.wait(timeout)
        finally:
            with self._lock:
                waiting.discard(over)

    def _wake(self, future: Future[Any]) -> None:
        with self._lock:
            waiting = self._waiting.pop(future, ())
            for over in waiting:
                over.set()
