"""Limits of upstreams: how many calls of this worker run at once, and whose turn is next.

What counts together is a *place*: an address, a key and a model, as services count them. Each
worker counts for itself. A place that nobody uses is forgotten.

* Whoever finds a place taken may wait for it. Places are given in the order of arrival, and nobody
  who comes later is served before those who wait.
* As many may wait for a place as may use it at once; one more is refused.
* A wait ends with the call's turn, with its time, or with an abort. A turn that comes just then
  goes to the next.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

from .. import forks
from ..answers.abort import AbortHandle


class _Place:
    """How many calls use a place, and who waits for it, the first first."""

    def __init__(self) -> None:
        self.used = 0
        self.waiting: dict[threading.Event, None] = {}


class CallLimits:
    """The limits of one application in this worker. Safe to use from any thread."""

    def __init__(self) -> None:
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[Hashable, _Place] = {}

    @property
    def in_use(self) -> int:
        """How many places are used or waited for."""
        with self._lock:
            return len(self._places)

    def waiting(self, key: Hashable) -> int:
        """How many wait for a place."""
        with self._lock:
            return len(self._places[key].waiting) if key in self._places else 0

    def take(self, key: Hashable, most: int) -> bool:
        """Take a place, if it is free now and nobody waits for it. ``free`` gives it back."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            if place.used >= most or place.waiting:
                return False
            place.used += 1
            return True

    def wait(self, key: Hashable, most: int, handle: AbortHandle, seconds: float) -> bool:
        """Wait for a place, which was not free; return whether it was had in time.

        :raises Aborted: as soon as the handle's ``abort`` is called.
        """
        turn = threading.Event()
        with self._lock:
            place = self._places.setdefault(key, _Place())
            if len(place.waiting) >= most:
                return False
            if place.used < most and not place.waiting:  # it has been freed meanwhile
                place.used += 1
                return True
            place.waiting[turn] = None
        try:
            with handle.waiting(turn.set):
                turn.wait(seconds)
        except BaseException:
            if not self._leave(key, turn):
                self.free(key)
            raise
        return not self._leave(key, turn)

    def free(self, key: Hashable) -> None:
        """Give a place to whoever has waited longest for it, or let it be free."""
        with self._lock:
            place = self._places[key]
            if place.waiting:
                turn = next(iter(place.waiting))
                del place.waiting[turn]
                turn.set()
                return
            place.used -= 1
            if not place.used:
                del self._places[key]

    def _leave(self, key: Hashable, turn: threading.Event) -> bool:
        """Wait no longer; return whether the turn had not come."""
        with self._lock:
            place = self._places.get(key)
            return place is not None and place.waiting.pop(turn, turn) is None
