"""Chats: what a new question does while another one of its chat is live (``CHATPROXY_ON_ACTIVE``).

* ``reject``: it is refused (``SessionActive``).
* ``replace``: it first stops the other one, on whichever worker that is, and begins when the
  upstream of that has been closed. The other answer ends with the reason ``replaced``, unless
  something else is stopping it already.
* ``enqueue``: it begins at once, as a session that can be stopped, left and listed like any other,
  but asks nobody before the chat is free. A Stop for the chat is for the one that is live.

Those that wait on one worker have their turn in the order of arrival, those of several in the order
in which they find the chat free. Each stays in its line until it has ended, and leaves it then,
whatever it came to (``leave``). Each wait has an end: the turn, a Stop, the client's leaving, the
deadline, or ``CHATPROXY_IDLE_TIMEOUT``. Other workers that can't be asked for a moment don't end
it. How many may wait is bounded by what bounds all sessions.

The routes say which chat a question belongs to (``web.streaming.chat_of``).
"""

from __future__ import annotations

import threading
import time

from .. import forks, signals, sse
from ..answers.abort import AbortHandle
from ..answers.coroutines import Coroutine
from ..answers.producer import Call
from ..answers.session import Reason, SessionKey, StreamSession
from ..config import Settings
from ..errors import PeersUnavailable, Refusal, SessionActive, TooManySessions
from .registry import Registry

#: How often one question may replace another, if ever more of them come.
_MOST_REPLACED = 5
#: Seconds in which an answer that was stopped leaves its ids and its slot.
_RELEASE_SECONDS = 1.0
#: Seconds between two looks whether a chat is free: the first ones, and the longest.
SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25


class Chats:
    """The chats of one application, as this worker sees them."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._registry = registry
        self._on_active = settings.on_active
        self._patience = settings.idle_timeout
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: The sessions of this worker that wait for a chat, or have waited for it and live, the
        #: first first.
        self._lines: dict[SessionKey, dict[StreamSession, None]] = {}

    def claim(
        self, key: SessionKey, reconnect_seconds: float, chat: SessionKey | None
    ) -> StreamSession:
        """Take an id, and that of a chat, as ``Registry.claim`` does, in the way that is set.

        :raises Refusal: as that does.
        """
        if chat is not None and self._on_active == "replace":
            return self._replace(key, reconnect_seconds, chat)
        if chat is not None and self._on_active == "enqueue":
            return self._enqueue(key, reconnect_seconds, chat)
        return self._registry.claim(key, reconnect_seconds, chat)

    def in_turn(self, session: StreamSession, call: Call) -> Call:
        """The call of a session, which waits for its chat if the session does."""
        chat = session.chat
        if chat is None or not chat.id or chat in session.keys:
            return call
        return _CallInTurn(self, session, chat, call)

    def _replace(
        self, key: SessionKey, reconnect_seconds: float, chat: SessionKey
    ) -> StreamSession:
        replaced, end = 0, time.monotonic() + SHORTEST_PAUSE
        while True:
            try:
                return self._registry.claim(key, reconnect_seconds, chat)
            except (SessionActive, TooManySessions):
                receipt = self._registry.cancel(
                    chat, time.monotonic(), remember=False, reason=Reason.REPLACED
                )
                if receipt is not None and not receipt.repeated:
                    signals.stream_replaced.send(self._registry.sender, receipt=receipt, by=key.id)
                if receipt is not None and (receipt.upstream_closed or not receipt.repeated):
                    replaced, end = replaced + 1, time.monotonic() + _RELEASE_SECONDS
                elif time.monotonic() > end:
                    raise  # the id is taken, others have all the slots, or the close does not come
                if replaced >= _MOST_REPLACED:
                    raise
            time.sleep(SHORTEST_PAUSE)

    def _enqueue(
        self, key: SessionKey, reconnect_seconds: float, chat: SessionKey
    ) -> StreamSession:
        if not self._is_awaited(chat):
            try:
                return self._registry.claim(key, reconnect_seconds, chat)
            except (SessionActive, PeersUnavailable):
                pass  # that may be the chat's alone: if it is the id's, the next line says so
        session = self._registry.claim(key, reconnect_seconds, chat, waits=True)
        with self._lock:
            self._lines.setdefault(chat, {})[session] = None
        return session

    def wait(self, session: StreamSession, chat: SessionKey, handle: AbortHandle) -> None:
        """Wait until a session has its chat.

        :raises Aborted: as soon as the handle's ``abort`` is called.
        :raises Refusal: if it does not come to that.
        """
        session.log.pulse(sse.QUEUED)
        pause, end = SHORTEST_PAUSE, time.monotonic() + self._patience
        while (refusal := self._look(session, chat)) is not None:
            handle.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            session.last_event_at = time.monotonic()  # it is not the upstream that is silent
            if session.last_event_at >= end:
                raise refusal

    def _look(self, session: StreamSession, chat: SessionKey) -> Refusal | None:
        """Why a session does not have its chat yet; None if it has."""
        try:
            if self._is_first(session, chat) and self._registry.join_chat(session, chat):
                return None
        except PeersUnavailable as unavailable:  # perhaps only for a moment
            return unavailable
        return SessionActive("The answer before this one in the chat did not end in time.")

    @property
    def in_use(self) -> int:
        """How many chats have a line."""
        with self._lock:
            return len(self._lines)

    def leave(self, session: StreamSession) -> None:
        """Take a session that has ended out of its line, if it is in one."""
        chat = session.chat
        with self._lock:
            if chat is not None and (line := self._lines.get(chat)) is not None:
                line.pop(session, None)
                if not line:
                    del self._lines[chat]

    def _is_awaited(self, chat: SessionKey) -> bool:
        with self._lock:
            return chat in self._lines

    def _is_first(self, session: StreamSession, chat: SessionKey) -> bool:
        with self._lock:
            return next(iter(self._lines[chat])) is session


class _CallInTurn:
    """A ``Call`` that waits for its chat before it is opened."""

    def __init__(self, chats: Chats, session: StreamSession, chat: SessionKey, call: Call) -> None:
        self._chats = chats
        self._session = session
        self._chat = chat
        self._call = call
        self._handle = AbortHandle()

    def open(self) -> None:
        """See ``Call``."""
        self._chats.wait(self._session, self._chat, self._handle)
        self._call.open()

    def receive(self) -> Coroutine[bool]:
        """See ``Call``."""
        return self._call.receive()

    def abort(self) -> None:
        """See ``Call``."""
        self._handle.abort()
        self._call.abort()

    def close(self) -> None:
        """See ``Call``."""
        self._call.close()
