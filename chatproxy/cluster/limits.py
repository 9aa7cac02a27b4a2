"""SlotLimiter: how many sessions may run at once, in this worker, and of one owner on all workers.

An owner has as many places as it may have sessions. A place is a key among the peers as an id is,
held by the worker whose session sits there; so the limit holds across workers, and the places of a
worker that dies are free again.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from ..config import Settings
from ..errors import TooManySessions
from .coordinator import Coordinator
from .peers import LeaseKey


@dataclass(frozen=True)
class Slot:
    """What a session has, so that it may run."""

    owner: str
    key: LeaseKey | None


class SlotLimiter:
    """The slots of one worker."""

    def __init__(self, settings: Settings, coordinator: Coordinator) -> None:
        self._most = settings.max_sessions
        self._most_of_owner = settings.max_sessions_per_owner
        self._coordinator = coordinator
        self._lock = threading.Lock()
        self._slots = 0
        self._owned: Counter[str] = Counter()

    def check(self, owner: str) -> None:
        """See whether there is a slot on this worker.

        :raises TooManySessions: if the worker's or the owner's limit is reached.
        """
        if self._slots >= self._most:
            raise TooManySessions("Too many answers are running.", retry_after=1)
        if owner and self._owned[owner] >= self._most_of_owner:
            raise _too_many_of_owner()

    def take(self, owner: str) -> Slot:
        """Take a slot for a new session.

        :raises TooManySessions: where the worker's or the owner's limit is reached.
        :raises PeersUnavailable: where the other workers can't be asked.
        """
        taken_here = self._count(owner)
        try:
            return Slot(owner, self._take_place(owner, taken_here) if owner else None)
        except BaseException:
            self._uncount(owner)
            raise

    def free(self, slot: Slot) -> None:
        """Give a slot back."""
        if slot.key is not None:
            self._coordinator.free(slot.key)
        self._uncount(slot.owner)

    def _count(self, owner: str) -> int:
        with self._lock:
            self.check(owner)
            taken_here = self._owned[owner]
            self._slots += 1
            self._owned[owner] += 1
            return taken_here

    def _uncount(self, owner: str) -> None:
        with self._lock:
            self._slots -= 1
            self._owned[owner] -= 1
            if not self._owned[owner]:
                del self._owned[owner]

    def _take_place(self, owner: str, taken_here: int) -> LeaseKey:
        # From the first one that this worker is likely not to have taken itself.
        numbers = range(taken_here, taken_here + self._most_of_owner)
        places = (("place", owner, str(number % self._most_of_owner)) for number in numbers)
        place = self._coordinator.take_any(places)
        if place is None:
            raise _too_many_of_owner()
        return place


def _too_many_of_owner() -> TooManySessions:
    return TooManySessions("Too many of your answers are running.", retry_after=1)
