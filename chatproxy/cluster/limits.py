"""The limits: how many sessions may run at once, in this worker, and of one owner on all workers.

An owner has as many slots as it may have sessions. Each slot is a lease among the peers, held by
the worker whose session has it. So the limit holds across workers, and the slots of a worker that
dies are free again.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

from .. import forks
from ..config import Settings
from ..errors import TooManySessions
from .coordinator import Coordinator
from .peers import LeaseKey


class Slot(NamedTuple):
    """What a session must have to run.

    ``key`` is its lease among the owner's; None if owners are not known.
    """

    owner: str
    key: LeaseKey | None


class SlotLimiter:
    """The slots of one worker."""

    def __init__(self, settings: Settings, coordinator: Coordinator) -> None:
        self._most = settings.max_sessions
        self._most_of_owner = settings.max_sessions_per_owner
        self._coordinator = coordinator
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0
        self._taken_by: Counter[str] = Counter()

    def check(self, owner: str) -> None:
        """See whether this worker has a slot for this owner.

        :raises TooManySessions: if the worker's or the owner's limit is reached.
        """
        if self._taken >= self._most:
            raise TooManySessions("Too many answers are running.", retry_after=1)
        if owner and self._taken_by[owner] >= self._most_of_owner:
            raise _too_many_of_owner()

    def take(self, owner: str) -> Slot:
        """Take a slot for a new session.

        :raises TooManySessions: if the worker's or the owner's limit is reached.
        :raises PeersUnavailable: if the other workers can't be asked.
        """
        with self._lock:
            self.check(owner)
            taken_here = self._taken_by[owner]
            self._taken += 1
            self._taken_by[owner] += 1
        try:
            return Slot(owner, self._take_lease(owner, taken_here) if owner else None)
        except BaseException:
            self._uncount(owner)
            raise

    def free(self, slot: Slot) -> None:
        """Give a slot back."""
        if slot.key is not None:
            self._coordinator.free(slot.key)
        self._uncount(slot.owner)

    def _uncount(self, owner: str) -> None:
        with self._lock:
            self._taken -= 1
            self._taken_by[owner] -= 1
            if not self._taken_by[owner]:
                del self._taken_by[owner]

    def _take_lease(self, owner: str, taken_here: int) -> LeaseKey:
        # From the first one that this worker has probably not taken itself.
        numbers = range(taken_here, taken_here + self._most_of_owner)
        keys = (("place", owner, str(number % self._most_of_owner)) for number in numbers)
        key = self._coordinator.take_first(keys)
        if key is None:
            raise _too_many_of_owner()
        return key


def _too_many_of_owner() -> TooManySessions:
    return TooManySessions("Too many of your answers are running.", retry_after=1)
