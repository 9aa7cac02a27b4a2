"""The registry: which sessions live in this worker, and which ids are taken or already stopped.

An id belongs to its owner: another owner's session is not found, and cannot be in the way of a
claim either, because sessions are looked up by owner and id together.

The lock guards the dictionaries and is never held while anything waits.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from cachetools import TTLCache

from .answer_log import AnswerLog
from .config import Settings
from .errors import SessionActive, SessionCancelled, ShuttingDown, TooManySessions
from .session import Phase, Reason, StreamSession

#: Seconds for which a Stop for an id that has not started yet is remembered.
EARLY_CANCEL_SECONDS = 30.0
#: The most ids of ended sessions, and the most early cancels without an owner, that a worker
#: remembers; the least recent go first.
_REMEMBERED = 10_000
#: The most early cancels of one owner, and the most owners with any. No owner is in another's way.
_REMEMBERED_OF_OWNER = 100
_REMEMBERED_OWNERS = 1_000
#: Seconds for which a cancel waits for the upstream's close before it says that it could not
#: confirm it.
CONFIRM_SECONDS = 2.0

#: Seconds that a drain waits, after its stops, for the application to keep what it wants to keep.
TELL_SECONDS = 4.0

_Key = tuple[str, str]


@dataclass(frozen=True)
class Receipt:
    """What a Stop did.

    ``phase`` is where the answer was, ``stop_ms`` the milliseconds from the arrival of the Stop to
    the close of the connection to DeepSeek, ``events`` the number of DeepSeek's events until then.
    """

    session_id: str
    phase: Phase
    upstream_closed: bool
    stop_ms: float
    events: int


class Registry:
    """The sessions of one application in this worker.

    :param sender: the sender of the signals: the Flask application.
    """

    def __init__(self, settings: Settings, sender: object) -> None:
        self.sender = sender
        self._settings = settings
        self._lock = threading.Lock()
        self._live: dict[_Key, StreamSession] = {}
        self._owned: Counter[str] = Counter()
        self._ended: TTLCache[_Key, None] = TTLCache(_REMEMBERED, settings.retain)
        self._early_cancels: TTLCache[str, TTLCache[str, None]] = TTLCache(
            _REMEMBERED_OWNERS, EARLY_CANCEL_SECONDS
        )
        #: Sessions whose end the application has not been told of yet.
        self._untold: set[StreamSession] = set()
        self.draining = False

    def live(self) -> list[StreamSession]:
        """The sessions that have not ended yet."""
        with self._lock:
            return list(self._live.values())

    def claim(self, session_id: str, owner: str) -> StreamSession:
        """Take an id for a new session.

        :raises ShuttingDown: where the server drains.
        :raises SessionCancelled: where the Stop for this id came first.
        :raises SessionActive: where the id belongs to a live or retained session.
        :raises TooManySessions: where the worker's or the owner's limit is reached.
        """
        key = (owner, session_id)
        with self._lock:
            if self.draining:
                raise ShuttingDown("The server is shutting down; try again.", retry_after=1)
            if session_id in self._early_cancels.get(owner, ()):
                raise SessionCancelled("This session was cancelled before it started.")
            if key in self._live or key in self._ended:
                raise SessionActive("This session id is already in use.")
            if len(self._live) >= self._settings.max_sessions:
                raise TooManySessions("Too many answers are running.", retry_after=1)
            if owner and self._owned[owner] >= self._settings.max_sessions_per_owner:
                raise TooManySessions("Too many of your answers are running.", retry_after=1)
            session = StreamSession(session_id, owner, AnswerLog(self._settings.log_bytes))
            self._live[key] = session
            self._untold.add(session)
            self._owned[owner] += 1
        return session

    def cancel(self, session_id: str, owner: str, arrived: float) -> Receipt | None:
        """Stop a session, wait for the close of its upstream, and tell what was done.

        A Stop for an id that is not known is remembered, and refuses the session that comes
        with it.

        :param arrived: when the Stop came, in seconds of the monotonic clock.
        :returns: None where nothing live has that id.
        """
        key = (owner, session_id)
        with self._lock:
            session = self._live.get(key)
            if session is None and key not in self._ended:
                self._remember_cancel(session_id, owner)
        if session is None or not session.cancel(Reason.USER):
            return None
        session.closed.wait(CONFIRM_SECONDS)
        closed_at = session.closed_at
        return Receipt(
            session_id=session_id,
            phase=session.phase,
            upstream_closed=closed_at is not None,
            stop_ms=round(((closed_at or time.monotonic()) - arrived) * 1000, 1),
            events=session.events,
        )

    def discard(self, session: StreamSession) -> None:
        """Take an ended session out. Its id stays taken for a while, unless it was refused."""
        key = (session.owner, session.id)
        with self._lock:
            if self._live.pop(key, None) is None:
                return
            self._owned[session.owner] -= 1
            if not self._owned[session.owner]:
                del self._owned[session.owner]
            if session.events or session.refusal is None:
                self._ended[key] = None

    def told(self, session: StreamSession) -> None:
        """Note that the application knows how a session ended; nothing more will come of it."""
        with self._lock:
            self._untold.discard(session)
        session.told.set()

    def drain(self, grace: float) -> None:
        """Begin no new session; give the live ones ``grace`` seconds, then stop them.

        Returns when the application has been told of each, or a little later without that.
        """
        self.draining = True
        self._wait_until_told(grace)
        for session in self.live():
            session.cancel(Reason.SHUTDOWN)
        self._wait_until_told(TELL_SECONDS)

    def _wait_until_told(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._lock:
            sessions = list(self._untold)
        for session in sessions:
            session.told.wait(max(0.0, end - time.monotonic()))

    def _remember_cancel(self, session_id: str, owner: str) -> None:
        remembered = self._early_cancels.get(owner)
        if remembered is None:
            most = _REMEMBERED_OF_OWNER if owner else _REMEMBERED
            remembered = TTLCache(most, EARLY_CANCEL_SECONDS)
        remembered[session_id] = None
        self._early_cancels[owner] = remembered
