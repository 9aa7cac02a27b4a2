"""Places: what there is a bounded number of, threads or readers, say, for all and for each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from ..answers.shares import Shares
from ..errors import TooManySessions


class Places:
    """A number of places.

    :param most: how many there are.
    :param most_of_one: how many of them one may have.
    """

    def __init__(self, most: int, most_of_one: int | None = None) -> None:
        self._most = most
        self._most_of_one = most if most_of_one is None else most_of_one
        self._lock = threading.Lock()
        self._taken = Shares[object, str]()

    def take(self, who: str = "") -> Callable[[], None]:
        """Take a place.

        :returns: how to give it back; may be called twice.
        :raises TooManySessions: if there is none left.
        """
        place = object()
        with self._lock:
            if len(self._taken) >= self._most or self._taken.size_of(who) >= self._most_of_one:
                raise TooManySessions("Too many answers are running.", retry_after=1)
            self._taken.put(place, who)
        return partial(self._leave, place)

    def _leave(self, place: object) -> None:
        with self._lock:
            if place in self._taken:
                self._taken.remove(place)
