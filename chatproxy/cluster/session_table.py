"""Reservations: ids that are taken although no answer runs under them.

An answer that has ended is retained for a while (``ended``): it can be read, and its id is not used
twice. And an id whose Stop came before its start is taken by that Stop (``early_stops``): the start
is refused. Both are bounded, so that they can't be used to fill the memory. What is given up, by
age or to make room, is kept in a list until it is fetched by ``given_up``, so that whoever holds
these ids can free them.

Not safe to use from several threads at once: the registry's lock guards it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..answers.session import SessionKey, StreamSession
from .early_stops import EarlyStops
from .retention import EndedAnswers

#: Seconds between two looks at what is too old.
_LOOK_SECONDS = 1.0


class Reservations:
    """The reserved ids of one worker.

    :param retain: seconds for which an ended session is retained.
    :param retain_bytes: the most bytes of all that are held; see ``EndedAnswers``.
    :param share_bytes: the most of them that one owner may have.
    :param timer: tells the time, in seconds.
    """

    def __init__(
        self,
        retain: float,
        retain_bytes: int,
        share_bytes: int,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timer = timer
        self._next_look = 0.0
        self._given_up: list[SessionKey] = []
        give_up = self._given_up.append
        self._ended = EndedAnswers(retain, retain_bytes, share_bytes, timer, give_up)
        self._early = EarlyStops(timer, give_up)

    @property
    def forgotten(self) -> int:
        """How many early Stops had to make room for others, in all."""
        return self._early.forgotten

    def end(self, session: StreamSession) -> None:
        """Retain a session that has ended, if there is room for one of its size at all."""
        self._ended.add(session)

    def cancel(self, key: SessionKey, client: str = "") -> None:
        """Reserve an id by a Stop that came first, or do so for longer.

        :param client: the address that the Stop came from, where owners are not known.
        """
        self._early.add(key, client)

    def ended(self, key: SessionKey) -> StreamSession | None:
        """The retained session of this id."""
        return self._ended.get(key)

    def retained(self) -> list[StreamSession]:
        """All that are retained, the oldest first."""
        return self._ended.retained()

    def is_cancelled(self, key: SessionKey) -> bool:
        """Whether the Stop for this id came first."""
        return key in self._early

    def __len__(self) -> int:
        """How many ids are reserved, or have yet to be told of as given up.

        An answer that is held for its readers alone counts too: it is still to be looked at.
        """
        return len(self._ended) + len(self._early) + len(self._given_up)

    def given_up(self) -> list[SessionKey]:
        """The ids that are no longer reserved, each told once, about a second late at the most."""
        if self._timer() >= self._next_look:
            self._next_look = self._timer() + _LOOK_SECONDS
            self._ended.look()
            self._early.expire()
        fetched = self._given_up.copy()
        self._given_up.clear()
        return fetched
