"""Ended answers: what a worker still holds of them, in one account with two bounds.

* An answer that has ended is retained for some time: it is found by its id, and can be read again.
  After that it is held for as long as a reader has yet to read some of it, or its client to take
  some of an answer that is given whole, and no longer than an answer may take. One that has no id
  of its own is held like that from the beginning.
* All that is held counts, retained or not, for the worker and for the owner. Past a bound the
  oldest go first: those that nobody reads before those that are read. If the worker has too many,
  the owner who has most makes room; if owners are not known, all are one.
* Whatever goes is emptied, so that its memory is free whoever still refers to it. A reader that has
  not had all of it is told (``EventsGone``).
* Those that are read go only at a look (once a second), not when another answer ends: by then a
  reader that keeps up has had its last events. Until then they take no more than when they ran.

Not safe to use from several threads at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from ..answers.session import SessionKey, StreamSession
from ..answers.shares import Shares

#: How many of the oldest are searched for one that nobody reads, when another answer ends.
_SEARCHED = 64


class EndedAnswers:
    """The ended answers of one worker.

    :param retain: seconds for which each is retained.
    :param hold: seconds for which one is held at most for its readers alone.
    :param timer: tells the time, in seconds.
    :param give_up: called with the key of each that is retained no longer.
    :param most: the most bytes of all.
    :param most_of_owner: the most bytes of one owner, if owners are known.
    """

    def __init__(
        self,
        retain: float,
        hold: float,
        timer: Callable[[], float],
        give_up: Callable[[SessionKey], None],
        *,
        most: int,
        most_of_owner: int,
    ) -> None:
        self._retain = retain
        self._hold = hold
        self._most = most
        self._most_of_owner = most_of_owner
        self._timer = timer
        self._give_up = give_up
        #: Until when each is retained; the oldest first.
        self._retained: dict[SessionKey, tuple[StreamSession, float]] = {}
        self._held = Shares[StreamSession, str]()
        #: Until when those of them are held that are no longer retained, and have readers left.
        self._held_on: dict[StreamSession, float] = {}
        #: Those of them that become smaller as a client takes what was withheld from it.
        self._shrinking: dict[StreamSession, None] = {}

    def __len__(self) -> int:
        """How many are held, retained or not."""
        return len(self._held)

    def add(self, session: StreamSession) -> None:
        """Retain an answer that has ended, unless it is larger than all that may be held."""
        self._expire()
        key, size = session.key, session.log.footprint
        if size > self._most and session.log.clear():
            if session.is_retained:
                self._give_up(key)
            return
        self._held.put(session, session.owner, size)
        if session.log.withheld:
            self._shrinking[session] = None
        if session.is_retained:
            replaced = self._retained.pop(key, None)
            self._retained[key] = session, self._timer() + self._retain
            if replaced is not None:
                self._hold_on(replaced[0])
        else:
            self._hold_on(session)
        while (owner := self._overdrawn()) is not None:
            oldest = next(self._unread(owner, _SEARCHED), None)
            if oldest is None or not oldest.log.clear():
                break
            self._drop(oldest)

    def get(self, key: SessionKey) -> StreamSession | None:
        """The retained answer of this owner and id."""
        session, until = self._retained.get(key, (None, 0.0))
        return session if self._timer() < until else None

    def retained(self) -> list[StreamSession]:
        """All that are retained, the oldest first."""
        now = self._timer()
        return [session for session, until in self._retained.values() if now < until]

    def forget(self, key: SessionKey) -> None:
        """Retain the answer of this id no longer, if there is one; its readers read on."""
        session, _ = self._retained.pop(key, (None, 0.0))
        if session is not None:
            self._hold_on(session)

    def look(self) -> None:
        """Drop what need not be held any longer, and keep the bounds. To be called now and then."""
        self._expire()
        for session in list(self._held_on):
            self._hold_on(session)
        for session in list(self._shrinking):
            self._held.resize(session, session.log.footprint)
            if not session.log.withheld:
                del self._shrinking[session]
        oldest: dict[str, Iterator[StreamSession]] = {}
        while (owner := self._overdrawn()) is not None:
            if owner not in oldest:
                oldest[owner] = self._eviction_order(owner)
            session = next(oldest[owner])
            session.log.clear(although_needed=True)
            self._drop(session)

    def _expire(self) -> None:
        now = self._timer()
        while self._retained:
            key, (session, until) = next(iter(self._retained.items()))
            if now < until:
                break
            del self._retained[key]
            self._give_up(key)
            self._hold_on(session)

    def _hold_on(self, session: StreamSession) -> None:
        """Hold an answer that is no longer retained, if a reader needs it."""
        now = self._timer()
        until = self._held_on.setdefault(session, now + self._hold)
        if session.log.clear(although_needed=now >= until):
            self._drop(session)

    def _drop(self, session: StreamSession) -> None:
        self._held.remove(session)
        self._held_on.pop(session, None)
        self._shrinking.pop(session, None)
        key = session.key
        if self._retained.get(key, (None,))[0] is session:
            del self._retained[key]
            self._give_up(key)

    def _overdrawn(self) -> str | None:
        """The owner who has to make room; None if nobody has."""
        if not self._held:
            return None
        owner = self._held.largest()
        too_much = owner and self._held.size_of(owner) > self._most_of_owner
        return owner if too_much or self._held.size > self._most else None

    def _unread(self, owner: str, most: int | None = None) -> Iterator[StreamSession]:
        held = list(itertools.islice(self._held.of(owner), most))
        return (session for session in held if not session.log.needed)

    def _eviction_order(self, owner: str) -> Iterator[StreamSession]:
        """All of an owner's, in the order in which they are to go."""
        held = list(self._held.of(owner))
        yield from self._unread(owner)
        yield from (session for session in held if session in self._held)
