"""The relay: an answer is produced once, and followed by any number of readers.

``produce`` is a coroutine of its own, which reads DeepSeek and appends to the answer log.
A ``Follower`` reads that log on behalf of one client. Neither knows the other: a Stop ends the
producer wherever its readers are, a slow reader lags in the log, a heartbeat is a reader that
waited in vain, and a client that left is a log without readers.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import signals, sse
from .disconnect import Watch
from .errors import Aborted, UpstreamError
from .readiness import Coroutine
from .reading import Reading
from .registry import Registry
from .session import Outcome, Phase, Reason, StreamSession
from .upstream import UpstreamCall

if TYPE_CHECKING:
    from .wire import Wire

logger = logging.getLogger("chatproxy")

#: Seconds for which the end of the body is awaited after ``[DONE]``, all told, so that the
#: connection can be used for another answer.
_TAIL_SECONDS = 0.5

_TIMED_OUT = frozenset({Reason.IDLE, Reason.DEADLINE})


def produce(session: StreamSession, call: UpstreamCall, registry: Registry) -> Coroutine[None]:
    """Make the whole answer; close everything and tell of it at the end."""
    outcome, refusal = Outcome.FAILED, None
    try:
        session.on_cancel(call.abort)
        yield from _pump(session, call)
        outcome = Outcome.FINISHED
    except Aborted:
        outcome = Outcome.STOPPED
    except UpstreamError as error:
        refusal = copy.copy(error)  # without the frames, which hold all that there is of the answer
    except Exception:
        logger.exception("An answer failed by an error of the server")
        refusal = UpstreamError("The answer failed by an error of the server.", status=500)
    finally:
        _finish(session, call, registry, session.end(outcome), refusal)


def _pump(session: StreamSession, call: UpstreamCall) -> Coroutine[None]:
    intake = _Intake(session)
    ended = False
    while not (ended or intake.done):
        ended = yield from call.receive(intake.take)
        session.log.wait_for_room()
    if not intake.done:
        raise UpstreamError("DeepSeek closed the connection before the answer was complete.")
    if session.end(Outcome.FINISHED) is not Outcome.FINISHED:
        raise Aborted
    session.log.append([sse.DONE])
    session.log.end()
    call.drain(_TAIL_SECONDS)


class _Intake:
    """Takes what DeepSeek sends, and puts the events into the log. Never waits."""

    def __init__(self, session: StreamSession) -> None:
        self._session = session
        self._decoder = sse.Decoder()
        #: Whether the answer is whole.
        self.done = False

    def take(self, piece: bytes) -> bool:
        """Take the next bytes; return whether there is room for more, and more to come."""
        events = []
        commented = False
        for block in self._decoder.feed(piece):
            if sse.is_comment(block):
                commented = True
            elif sse.is_done(block):
                self.done = True
                break
            else:
                events.append(block)
        if commented:
            self._session.log.pulse()  # once for all of them: each wakes every reader
        if events:
            self._record(events)
        return not (self.done or self._session.log.full)

    def _record(self, events: list[bytes]) -> None:
        session = self._session
        session.last_event_at = time.monotonic()
        if session.first_event_at is None:
            session.first_event_at = session.last_event_at
            session.enter(Phase.STREAMING)
        session.events += len(events)
        session.bytes += sum(map(len, events))
        session.log.append(events)
        if session.transcript is not None:
            session.transcript.add(events)


def _finish(
    session: StreamSession,
    call: UpstreamCall,
    registry: Registry,
    outcome: Outcome,
    refusal: UpstreamError | None,
) -> None:
    try:
        if session.reason is Reason.USER:
            signals.stream_aborted.send(registry.sender, session=session)
    finally:
        try:
            call.close()
            session.closed_at = time.monotonic()
        finally:
            _write_ending(session, outcome, refusal)
            registry.discard(session)
            try:
                signals.stream_closed.send(registry.sender, session=session)
            finally:
                session.closed.set()
                registry.release(session)


def _write_ending(session: StreamSession, outcome: Outcome, refusal: UpstreamError | None) -> None:
    if outcome is Outcome.STOPPED:
        if session.reason in _TIMED_OUT and not session.events:
            session.refusal = UpstreamError(
                "DeepSeek sent nothing in time.", status=504, code="upstream_timeout"
            )
        session.log.append([_stopped_event(session), sse.DONE])
    elif outcome is Outcome.FAILED and refusal is not None:
        session.refusal = refusal
        error = {"message": refusal.message, "code": refusal.code}
        session.log.append([sse.event("error", {"error": error})])
    session.log.end()


def _stopped_event(session: StreamSession) -> bytes:
    return sse.event(
        "stopped",
        {
            "sessionId": session.id,
            "reason": session.reason,
            "phase": session.phase,
            "events": session.events,
        },
    )


class Follower:
    """What a client is sent: an iterable of bytes for a WSGI server, which closes it.

    :param reading: the client's way through the answer.
    :param heartbeat: seconds of silence after which the client gets a comment.
    """

    def __init__(self, reading: Reading, heartbeat: float) -> None:
        self._reading = reading
        self._heartbeat = heartbeat
        self._first: bytes | None = None
        self.watch: Watch | None = None

    def begin(self) -> None:
        """Wait until there is something to say, for one heartbeat at the most.

        :raises Refusal: where the answer failed before there was.
        """
        self._first = self._read()
        if self._reading.refusal is not None:
            raise copy.copy(self._reading.refusal)

    def begin_at_once(self) -> None:
        """Have something to say now, so that the client sees that it reads."""
        self._first = self._reading.read(0.0) or sse.HEARTBEAT

    def lend(self, wire: Wire) -> None:
        """Have events written to the client while the server waits for the next item."""
        self._reading.lend(wire)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        ready, self._first = self._first or self._read(), None
        if ready is None:
            self.close()
            raise StopIteration
        return ready

    def close(self) -> None:
        """Stop following.

        Called by the WSGI server at the end, and by the watch when the client has gone, from
        another thread.
        """
        watch, self.watch = self.watch, None  # each refers to the other
        if watch is not None:
            watch.stop()
        self._reading.close()

    def _read(self) -> bytes | None:
        ready = self._reading.read(self._heartbeat)
        return sse.HEARTBEAT if ready == b"" else ready
