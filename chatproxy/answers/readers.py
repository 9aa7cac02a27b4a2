"""Readings: one reader's way through an answer, made on this worker or on another.

A ``SessionReading`` reads the log of a session of this worker. A ``PeerReading`` asks the worker
that has the session for what comes next, again and again; there, ``RemoteReaders`` keeps its place.
Both give the same bytes, whoever reads.

The last reader that leaves a live answer stops it: at once, or after the time that its session
allows for coming back. A reader that can't be given what comes next, because it is no longer held
or because its worker is gone, is told so by a ``Refusal``, never by a gap.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from .. import signals
from ..cluster.peers import Message
from ..errors import EventsGone, PeersUnavailable, Refusal
from .session import StreamSession

if TYPE_CHECKING:
    from ..server.direct_write import Wire

#: Seconds for which a worker waits at once for something to tell a reader of another.
WAIT_SECONDS = 1.0
#: Seconds between two questions, so that the events of a fast answer come several at a time.
_PAUSE_SECONDS = 0.02
#: The same where there was no answer.
_RETRY_SECONDS = 0.3
#: Seconds without any word from the other worker after which the answer counts as lost.
_LOST_SECONDS = 20.0


class Reading(Protocol):
    """What a client's ``Follower`` reads from."""

    @property
    def refusal(self) -> Refusal | None:
        """Why there is no answer at all, where there is none."""

    def lend(self, wire: Wire) -> None:
        """What is ready may be written to the client while ``read`` waits."""

    def read(self, timeout: float) -> bytes | None:
        """All that is ready; ``b""`` where nothing came in time, None at the end.

        :raises Refusal: if the rest can't be read. The reading is to be closed then.
        """

    def close(self) -> None:
        """Read no more. May be called twice, and from another thread."""


class SessionReading:
    """Reads a session of this worker, from the event after number ``after``.

    :param sender: the sender of the signals.
    :raises EventsGone: where these events are no longer held.
    :raises ValueError: where there are not that many yet.
    """

    def __init__(self, session: StreamSession, after: int, sender: object) -> None:
        self._session = session
        self._sender = sender
        self._reader = session.log.reader(after)
        session.left_at = None

    @property
    def refusal(self) -> Refusal | None:
        """See ``Reading``."""
        return self._session.refusal if not self._session.events else None

    @property
    def last(self) -> int:
        """The number of the last event that was read."""
        return self._reader.seen

    @property
    def over(self) -> bool:
        """Whether the answer has ended and all of it was read."""
        return self._session.log.ended and self._reader.seen == self._session.log.last

    def lend(self, wire: Wire) -> None:
        """See ``Reading``."""
        self._reader.wire = wire

    def read(self, timeout: float) -> bytes | None:
        """See ``Reading``."""
        return self._reader.read(timeout)

    def go_back(self, after: int) -> None:
        """Read again from the event after number ``after``: what came since did not arrive."""
        if after != self._reader.seen:
            before, self._reader = self._reader, self._session.log.reader(after)
            before.close()

    def close(self) -> None:
        """Stop reading. See the top for what that means to the answer."""
        if not self._reader.close():
            return
        session = self._session
        if session.outcome is None and not session.flag.is_set():
            signals.client_disconnected.send(self._sender, session=session)
            if not session.log.followed:
                session.leave()


class PeerReading:
    """Reads a session of another worker.

    :param ask: asks that worker; returns the state of the reading, and all that it says.
    :param worker: the name of this worker, at which that one can see whether it is still there.
    :param key: the session's owner and id.
    """

    refusal: Refusal | None = None  # it would not have been kept

    def __init__(
        self,
        ask: Callable[[Message], tuple[str, Message]],
        worker: str,
        key: tuple[str, str],
        after: int,
    ) -> None:
        self._ask = ask
        self._question: Message = {
            "owner": key[0],
            "id": key[1],
            "visit": secrets.token_hex(16),
            "worker": worker,
        }
        self._after = after
        self._ready = b""
        self._over = False
        self._closed = threading.Event()
        self._heard_at = time.monotonic()

    def begin(self) -> tuple[str, bytes]:
        """Ask for the first time; return the state of the reading, and what is ready.

        :raises PeersUnavailable: where the other worker does not answer.
        """
        return self._read_on(0.0), self._ready

    def lend(self, wire: Wire) -> None:
        """See ``Reading``. Not used: what another worker says comes in answers to questions."""

    def read(self, timeout: float) -> bytes | None:
        """See ``Reading``."""
        end = time.monotonic() + timeout
        while not (self._ready or self._over or self._closed.is_set()):
            left = end - time.monotonic()
            if left <= 0:
                return b""
            self._try_on(min(WAIT_SECONDS, left))
        if self._closed.is_set():
            return None
        ready, self._ready = self._ready, b""
        return ready or None

    def close(self) -> None:
        """Read no more, and tell the other worker."""
        if not self._closed.is_set():
            self._closed.set()
            if not self._over:
                threading.Thread(target=self._leave, name="chatproxy-leave", daemon=True).start()

    def _try_on(self, seconds: float) -> None:
        try:
            state = self._read_on(seconds)
        except PeersUnavailable:
            if time.monotonic() - self._heard_at > _LOST_SECONDS:
                raise self._lost() from None
            self._closed.wait(_RETRY_SECONDS)
            return
        if state == "gone":
            raise EventsGone(f"The events after number {self._after} are no longer held.")
        if state not in ("reading", "over"):
            raise self._lost()
        if state == "reading":
            self._closed.wait(_PAUSE_SECONDS)

    def _read_on(self, seconds: float) -> str:
        state, answer = self._ask(
            {**self._question, "ask": "read", "after": self._after, "wait": seconds}
        )
        if state in ("reading", "over"):
            try:
                self._ready = base64.b64decode(answer["data"])
                self._after = int(answer["last"])
            except (KeyError, TypeError, ValueError):
                raise PeersUnavailable("Another worker's answer could not be understood.") from None
            self._over = state == "over"
            self._heard_at = time.monotonic()
        return state

    def _lost(self) -> Refusal:
        message = f"The rest of the answer was lost after event {self._after}: its worker is gone."
        return Refusal(message, status=502, code="answer_lost")

    def _leave(self) -> None:
        with suppress(PeersUnavailable):  # it notices by itself
            self._ask({**self._question, "ask": "leave"})
