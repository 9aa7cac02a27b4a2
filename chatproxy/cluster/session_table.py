"""The session table: what each id stands for in this worker.

An id that stands for something is one of these:

* *live*: its answer runs.
* *retained*: its answer has ended (``retention``). It can be read again, and the id is not used
  twice.
* *stopped early*: its Stop came before its start, which will be refused (``early_stops``).

The last two are reserved for a while only, and bounded, so that they can't be used to fill the
memory. An id that is given up, by age or to make room, is kept in a list until ``given_up`` fetches
it: its lease is to be freed then.

Safe to use from any thread. One lock guards all three, so that a session is never missing while it
goes from one to the next. Nothing here waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .. import forks
from ..answers.session import SessionKey, StreamSession
from ..answers.usage import NO_ACCOUNT
from .early_stops import EarlyStops
from .peers import PeerState
from .retention import EndedAnswers

#: Seconds between two looks for what is too old.
_LOOK_SECONDS = 1.0
#: The most sessions that are described at once.
_MOST_DESCRIBED = 1000


class SessionTable:
    """The ids that one worker knows.

    :param retain: seconds for which an ended session is retained.
    :param hold: seconds for which its readers may hold it after that; see ``EndedAnswers``.
    :param retain_bytes: the most bytes of all that are held; see ``EndedAnswers``.
    :param share_bytes: the most of them that one owner may have.
    :param timer: tells the time, in seconds.
    """

    def __init__(
        self,
        retain: float,
        hold: float,
        retain_bytes: int,
        share_bytes: int,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = retain, hold, retain_bytes, share_bytes
        self._timer = timer
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._next_look = 0.0
        self._given_up: list[SessionKey] = []
        give_up = self._given_up.append
        self._lock = threading.Lock()
        self._live: dict[StreamSession, None] = {}
        self._by_key: dict[SessionKey, StreamSession] = {}
        retain, hold, most, share = self._bounds
        self._ended = EndedAnswers(
            retain, hold, self._timer, give_up, most=most, most_of_owner=share
        )
        self._early = EarlyStops(self._timer, give_up)

    def __len__(self) -> int:
        """How many ids stand for something, or have been given up and not been fetched.

        An answer that is held for its readers alone counts too: it is still to be looked at.
        """
        with self._lock:
            reserved = len(self._ended) + len(self._early) + len(self._given_up)
            return len(self._live) + reserved

    def live(self) -> list[StreamSession]:
        """The sessions that have not ended yet, the oldest first."""
        with self._lock:
            return list(self._live)

    def all(self) -> list[StreamSession]:
        """The sessions whose answers can be read: the retained ones, then those that live."""
        with self._lock:
            return [*self._ended.retained(), *self._live]

    def describe(self, owner: str | None) -> list[dict[str, Any]]:
        """The latest of these sessions, for JSON; see ``Registry.list_sessions``."""
        found = [each for each in self.all() if owner is None or each.owner == owner]
        return [
            {**_as_json(session), **({"owner": session.owner} if owner is None else {})}
            for session in found[-_MOST_DESCRIBED:]
        ]

    def find(self, key: SessionKey) -> StreamSession | None:
        """The live or retained session with this key."""
        with self._lock:
            return self._by_key.get(key) or self._ended.get(key)

    def find_live(self, key: SessionKey) -> StreamSession | None:
        """The live session with this key."""
        with self._lock:
            return self._by_key.get(key)

    def state(self, key: SessionKey) -> PeerState:
        """What an id stands for: ``ACTIVE``, ``CANCELLED`` or ``UNKNOWN``."""
        with self._lock:
            if key in self._by_key or self._ended.get(key):
                return PeerState.ACTIVE
            return PeerState.CANCELLED if key in self._early else PeerState.UNKNOWN

    def ending(self, key: SessionKey) -> StreamSession | None:
        """The session of this key that has its outcome, if the key is free as soon as it is out."""
        with self._lock:
            session = self._by_key.get(key)
            if session is None or session.outcome is None:
                return None
            return None if key == session.key and session.is_retained else session

    def add(self, session: StreamSession) -> None:
        """Put in a session that begins."""
        with self._lock:
            self._live[session] = None
            self._by_key.update(dict.fromkeys(session.keys, session))

    def join(self, session: StreamSession, chat: SessionKey) -> None:
        """Have a session that lives found by its chat too."""
        with self._lock:
            session.keys = (*session.keys, chat)
            self._by_key[chat] = session

    def end(self, session: StreamSession) -> None:
        """Take out a session that has ended; retain it, unless it was refused or has no own id.

        If it is not in (any more), nothing happens.
        """
        with self._lock:
            if session not in self._live:
                return
            del self._live[session]
            for key in session.keys:
                del self._by_key[key]
            if not session.was_refused:
                self._ended.add(session)

    def lose(self, key: SessionKey) -> StreamSession | None:
        """Have an id stand for nothing here from now on, whatever it stood for.

        :returns: the session that lives, if it stood for one. That will not be retained under it.
        """
        with self._lock:
            self._ended.forget(key)
            self._early.forget(key)
            session = self._by_key.pop(key, None)
            if session is not None:
                session.keys = tuple(each for each in session.keys if each != key)
                session.is_retained = session.is_retained and key != session.key
            return session

    def remember_stop(self, key: SessionKey, client: str = "") -> bool:
        """Reserve an id for a Stop that came before its start.

        :param client: the address that the Stop came from, if owners are not known.
        :returns: whether another early Stop had to make room.
        """
        with self._lock:
            return self._early.add(key, client)

    def extend_stop(self, key: SessionKey) -> None:
        """Remember an early Stop for longer, if there is one for this id."""
        with self._lock:
            if key in self._early:
                self._early.add(key)

    def given_up(self) -> list[SessionKey]:
        """The ids that are reserved no longer, each once, at most about a second late."""
        with self._lock:
            if self._timer() >= self._next_look:
                self._next_look = self._timer() + _LOOK_SECONDS
                self._ended.look()
                self._early.expire()
            fetched = self._given_up.copy()
            self._given_up.clear()
            return fetched


def _as_json(session: StreamSession) -> dict[str, Any]:
    return {
        "sessionId": session.id or None,
        "phase": session.phase,
        "outcome": session.outcome,
        "reason": session.reason,
        "events": session.events,
        "upstream": session.upstream or None,
        "ageSeconds": round(session.age(), 1),
        **({} if session.account is NO_ACCOUNT else session.account.as_json()),
    }
