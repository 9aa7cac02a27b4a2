"""Reservations: ids that are taken although no answer runs under them.

An answer that has ended is retained for a while: it can be read, and its id is not used twice. And
an id whose Stop came before its start is taken by that Stop: the start is refused.

Both are bounded in time, the retained answers in bytes, the early cancels in number, so that they
cannot be used to fill the memory. No owner can push out the early cancels of another. What is given
up, by age or to make room, is kept in a list until it is fetched by ``given_up``, so that whoever
holds these ids can free them.

Not safe to use from several threads at once: the registry's lock guards it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from cachetools import TTLCache

from .session import StreamSession

#: Seconds for which a Stop for an id that has not started yet is remembered.
EARLY_CANCEL_SECONDS = 30.0
#: The most early cancels without an owner that a worker remembers; the least recent go first.
_MOST = 10_000
#: The most early cancels of one owner, and the most owners with any.
_MOST_OF_OWNER = 100
_MOST_OWNERS = 1_000
#: Seconds between two looks at what is too old.
_LOOK_SECONDS = 1.0

SessionKey = tuple[str, str]
_K = TypeVar("_K")
_V = TypeVar("_V")


class Reservations:
    """The reserved ids of one worker, each as ``(owner, session id)``.

    :param retain: seconds for which an ended session is retained.
    :param retain_bytes: the most bytes of all that are; the oldest go first.
    :param timer: tells the time, in seconds.
    """

    def __init__(
        self, retain: float, retain_bytes: int, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._timer = timer
        self._next_look = 0.0
        self._given_up: list[SessionKey] = []
        #: How many early cancels had to make room for others, in all.
        self.forgotten = 0
        self._ended = _Telling[SessionKey, StreamSession](
            retain_bytes, retain, timer, self._give_up_ended, _footprint
        )
        self._early = _Telling[str, _Telling[str, None]](
            _MOST_OWNERS, EARLY_CANCEL_SECONDS, timer, self._give_up_owner
        )

    def end(self, session: StreamSession) -> None:
        """Retain a session that has ended, if there is room for one of its size at all."""
        key = (session.owner, session.id)
        try:
            self._ended[key] = session
        except ValueError:
            self._given_up.append(key)

    def cancel(self, key: SessionKey) -> None:
        """Reserve an id by a Stop that came first, or do so for longer."""
        owner, session_id = key
        stops = self._early.get(owner)
        if stops is None:
            stops = _Telling(
                _MOST_OF_OWNER if owner else _MOST,
                EARLY_CANCEL_SECONDS,
                self._timer,
                lambda stop, _ids, early: self._give_up_stop((owner, stop), early),
            )
        stops[session_id] = None
        self._early[owner] = stops

    def ended(self, key: SessionKey) -> StreamSession | None:
        """The retained session of this id."""
        return self._ended.get(key)

    def retained(self) -> list[StreamSession]:
        """All that are retained, the oldest first."""
        return self._ended.held()

    def is_cancelled(self, key: SessionKey) -> bool:
        """Whether the Stop for this id came first."""
        owner, session_id = key
        return session_id in self._early.get(owner, ())

    def __len__(self) -> int:
        """How many ids are reserved, or have yet to be told of as given up."""
        reserved = len(self._ended) + sum(map(len, self._early.held()))
        return reserved + len(self._given_up)

    def given_up(self) -> list[SessionKey]:
        """The ids that are no longer reserved, each told once, about a second late at the most."""
        if self._timer() >= self._next_look:
            self._next_look = self._timer() + _LOOK_SECONDS
            caches: list[_Telling[Any, Any]] = [self._ended, *self._early.held(), self._early]
            for remembered in caches:
                remembered.expire()
        fetched, self._given_up = self._given_up, []
        return fetched

    def _give_up_ended(self, key: SessionKey, _session: StreamSession, _early: bool) -> None:
        self._given_up.append(key)

    def _give_up_stop(self, key: SessionKey, early: bool) -> None:
        self._given_up.append(key)
        self.forgotten += early

    def _give_up_owner(self, owner: str, stops: _Telling[str, None], early: bool) -> None:
        stops.expire()
        for session_id in list(stops):
            self._give_up_stop((owner, session_id), early)


class _Telling(TTLCache[_K, _V]):
    """A cache that calls ``tell(key, value, early)`` for what it gives up, the oldest first.

    ``early`` says that it was to make room, and not by age.
    """

    def __init__(
        self,
        maxsize: int,
        ttl: float,
        timer: Callable[[], float],
        tell: Callable[[_K, _V, bool], None],
        size: Callable[[_V], int] | None = None,
    ) -> None:
        super().__init__(maxsize, ttl, timer, size)
        self._tell = tell

    def expire(self, time: float | None = None) -> list[tuple[_K, _V]]:
        expired = list(super().expire(time))
        for key, value in expired:
            self._tell(key, value, False)
        return expired

    def popitem(self) -> tuple[_K, _V]:
        # The one that was put in first: to have been looked at since is no merit here.
        key = next(iter(self))
        value = self.pop(key)
        self._tell(key, value, True)
        return key, value

    def held(self) -> list[_V]:
        """What is held, the oldest first."""
        found = [self.get(key) for key in self]
        return [value for value in found if value is not None]


def _footprint(session: StreamSession) -> int:
    return session.log.footprint
