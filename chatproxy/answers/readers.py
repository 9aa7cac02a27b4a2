"""Readers: what a client's response reads an answer from, on the worker that has it or on another.

A ``LogReader`` reads the log of a session of this worker. A ``RemoteReader`` (``cluster``) asks the
worker that has the session. Both give the same bytes, whoever reads.

When the last reader leaves a live answer, the answer stops: at once, or after the time that its
session allows for coming back. A reader that can't be given what comes next, because the log no
longer holds it or because its worker is gone, is told so by a ``Refusal``, never by a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from .. import signals
from ..errors import Refusal
from .cursor import Cursor, Sink
from .log import AnswerLog
from .session import StreamSession


class Reader(Protocol):
    """One client's way through an answer. One thread reads; any thread may close.

    :ivar session_id: the id of the answer's session, "" if it has none.
    """

    session_id: str

    @property
    def refusal(self) -> Refusal | None:
        """Why there is no answer; None if there is one, or if it may still begin."""

    def read(self, timeout: float) -> bytes | None:
        """Return everything that is ready, joined; wait for it up to ``timeout`` seconds.

        What is returned counts as delivered.

        :returns: ``b""`` if nothing came in time, None if the answer has ended or the reader was
            closed.
        :raises Refusal: if the rest can't be read. The reader is to be closed then.
        :raises OSError: if the sink found that the client has gone.
        """

    def lend(self, sink: Sink) -> None:
        """Allow writing what is ready to ``sink`` while ``read`` waits. Not every reader does."""

    def close(self) -> None:
        """Stop reading; ends a ``read`` that waits. May be called twice, and from any thread."""


class LogReader(Cursor):
    """Reads a log of this worker, from the event after number ``after``.

    :param on_leave: called once, by the ``close`` that ends the reading.
    :raises EventsGone: if these events are no longer held.
    :raises ValueError: if there are not that many yet.
    """

    __slots__ = ("_log", "_on_leave", "session", "session_id")

    #: Whose log it is; for ``follow`` to say.
    session: StreamSession

    def __init__(
        self, log: AnswerLog, after: int = 0, on_leave: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self.session_id = ""
        self._log = log
        self._on_leave = on_leave
        log.join(self, after)

    @property
    def refusal(self) -> Refusal | None:
        """See ``Reader``."""
        return self._log.refusal

    @property
    def over(self) -> bool:
        """Whether the answer has ended and all of it was read."""
        return self._log.ended and self.seen == self._log.last

    def read(self, timeout: float) -> bytes | None:
        """See ``Reader``."""
        while (ready := self._log.take(self)) == b"":
            woken = self._wait(timeout)
            if self.sink is not None:
                self.sink.flush()  # even if the time is over: a write may have been cut short then
            if not woken:
                break
        return ready

    def lend(self, sink: Sink) -> None:
        """See ``Reader``."""
        self.sink = sink

    def close(self) -> None:
        """See ``Reader``."""
        if self._log.leave(self) and self._on_leave is not None:
            self._on_leave()

    def _wait(self, timeout: float) -> bool:
        """Wait to be woken; False after ``timeout`` seconds in which nothing was written either."""
        left = timeout
        try:
            while left >= 0:
                if self.sleep(left):
                    return True
                if self.sink is None:
                    break
                left = self.sink.written_at + timeout - time.monotonic()
            return False
        finally:
            self._log.recall(self)
            while self.writing:  # which does not block
                time.sleep(0)


def follow(session: StreamSession, after: int, sender: object) -> LogReader:
    """Read a session of this worker, from the event after number ``after``.

    :param sender: the sender of the signals.
    :raises EventsGone: see ``LogReader``.
    :raises ValueError: see ``LogReader``.
    """
    reader = LogReader(session.log, after, partial(_left, session, sender))
    reader.session, reader.session_id = session, session.id
    session.left_at = None
    return reader


def _left(session: StreamSession, sender: object) -> None:
    """See the top for what it means to an answer that a reader has left."""
    if session.outcome is None and not session.flag.is_set():
        signals.client_disconnected.send(sender, session=session)
        if not session.log.followed:
            session.leave()
