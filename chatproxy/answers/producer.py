"""The relay: an answer is produced once, and followed by any number of readers.

``produce`` is a coroutine of its own, which reads DeepSeek and appends to the answer log.
A ``Follower`` reads that log on behalf of one client. Neither knows the other: a Stop ends the
producer wherever its readers are, a slow reader lags in the log, a heartbeat is a reader that
waited in vain, and a client that left is a log without readers.
"""

from __future__ import annotations

import copy
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .. import signals, sse
from ..cluster.registry import Registry
from ..errors import Aborted, Refusal, UpstreamError
from ..server.disconnect import Watch
from ..upstreams import refusals
from ..upstreams.chat_completions import UpstreamCall
from .coroutines import Coroutine
from .readers import Reading
from .session import Outcome, Phase, Reason, StreamSession
from .transcript import chunk_of, finished_in

if TYPE_CHECKING:
    from ..server.direct_write import Wire

logger = logging.getLogger("chatproxy")

#: Seconds for which the end of the body is awaited after ``[DONE]``, all told, so that the
#: connection can be used for another answer.
_TAIL_SECONDS = 0.5

#: How nearly every event begins.
_OBJECT = b"data: {"
#: What is looked for in each event before any of them is decoded. In a text within JSON, where
#: quotes are escaped, it can't be. (``rfind`` is three times as fast as ``in`` here.)
_ERROR = b'"error"'
_UNFINISHED = b'"finish_reason":null'
#: With what an event ends that may end an answer.
_LAST = (b"}", b"]")
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')

_TIMED_OUT = frozenset({Reason.IDLE, Reason.DEADLINE})


def produce(
    session: StreamSession, call: UpstreamCall, registry: Registry, choices: int = 1
) -> Coroutine[None]:
    """Make the whole answer; close everything and tell of it at the end.

    :param choices: how many choices it has.
    """
    outcome = Outcome.FAILED
    refusal: Refusal | None = None
    try:
        session.on_cancel(call.abort)
        yield from _pump(session, call, _Intake(session, call, choices))
        outcome = Outcome.FINISHED
    except Aborted:
        outcome = Outcome.STOPPED
    except UpstreamError as error:
        refusal = copy.copy(error)  # without the frames, which hold all that there is of the answer
    except Exception:
        logger.exception("An answer failed by an error of the server")
        refusal = Refusal(
            "The answer failed by an error of the server.",
            status=500,
            code=UpstreamError.code,
            should_retry=False,
        )
    finally:
        _finish(session, call, registry, session.end(outcome), refusal)


def _pump(session: StreamSession, call: UpstreamCall, intake: _Intake) -> Coroutine[None]:
    ended = False
    try:
        while not (ended or intake.over):
            session.quiet_since = time.monotonic() if session.whole else None
            ended = yield from call.receive(intake.take)
            session.quiet_since = None
            session.log.wait_for_room()
        if ended:
            intake.end()
    except UpstreamError:
        if not (intake.whole or (session.whole and session.concluded)):
            raise
        if not intake.whole:
            intake.end()
    if intake.failure is not None:
        raise intake.failure
    if session.end(Outcome.FINISHED) is not Outcome.FINISHED:
        raise Aborted
    session.log.append([sse.DONE])
    session.log.end()
    if intake.done:
        call.drain(_TAIL_SECONDS)


class _Intake:
    """Takes what DeepSeek sends, and puts the events into the log. Never waits.

    The answer is whole by a ``finish_reason`` for each choice, or by ``[DONE]``. An event with an
    error in it fails the answer, whole or not, and is not an event of the answer. The last event
    may lack its line ends: with a ``finish_reason`` it counts if the body ends well, or if nothing
    more comes.

    :param choices: how many choices the answer has.
    """

    def __init__(self, session: StreamSession, call: UpstreamCall, choices: int) -> None:
        self._session = session
        self._call = call
        self._choices = choices
        self._finished: set[int] = set()
        self._decoder = sse.Decoder()
        #: Whether DeepSeek has said that nothing more will come.
        self.done = False
        #: What has gone wrong.
        self.failure: UpstreamError | None = None

    @property
    def over(self) -> bool:
        """Whether what may still come does not matter."""
        return self.done or self.failure is not None

    @property
    def whole(self) -> bool:
        """Whether all choices have finished, by events that are whole."""
        return len(self._finished) >= self._choices

    def take(self, piece: bytes) -> bool:
        """Take the next bytes; return whether there is room for more, and more to come."""
        decoder = self._decoder
        events: list[bytes] = []
        commented = False
        blocks = decoder.feed(piece)
        has_names = decoder.names_events
        for block in blocks:
            if not block.startswith(_OBJECT):  # as nearly all do
                if sse.is_comment(block):
                    commented = True
                    continue
                if sse.is_done(block):
                    self.done = True
                    break
                if sse.is_blank(block):
                    continue
            if block.rfind(_ERROR) >= 0 or has_names:
                self.failure = self._failure_in(block, begun=bool(events))
                if self.failure is not None:
                    break
            if block.rfind(_UNFINISHED) < 0 or self._choices > 1:
                self._finish(block)
            events.append(block)
        if commented:
            self._session.log.pulse()  # once for all of them: each wakes every reader
        if events:
            self._record(events)
        if not (decoder.is_between_events or self.over) and piece.rstrip().endswith(_LAST):
            self._look_at(decoder.pending)
        return not (self.done or self.failure or self._session.log.full)

    def end(self) -> None:
        """Take the end of the body, which came as it should: the last event may lack line ends."""
        if not self.over:
            self.take(b"\n\n")
        if not (self.over or self.whole):
            self.failure = self._too_short()

    def _failure_in(self, block: bytes, *, begun: bool) -> UpstreamError | None:
        chunk = chunk_of(block)
        error = refusals.error_in(chunk)
        if error is None and sse.is_error(block):
            error = sse.data_of(block).decode("utf-8", "replace") if chunk is None else chunk
        if error is None:
            return None
        return self._call.reported(error, begun=begun or self._session.events > 0)

    def _finish(self, block: bytes) -> None:
        if _FINISH_REASON.search(block):
            self._finished |= finished_in(chunk_of(block))
            self._session.whole = self.whole

    def _look_at(self, pending: bytes) -> None:
        """See what the present event says, if it lacks no more than its line ends."""
        self.done = sse.is_done(pending)
        if isinstance(chunk := chunk_of(pending), dict) and not self.whole:
            if refusals.error_in(chunk) is not None:
                self.failure = self._failure_in(pending, begun=False)
            ended = self._finished | finished_in(chunk)
            self._session.whole = len(ended) >= self._choices
            self._session.quiet_since = time.monotonic()

    def _too_short(self) -> UpstreamError:
        if self._decoder.strays and not self._session.events:
            return self._call.no_stream(self._decoder.strays)
        return UpstreamError("DeepSeek closed the connection before the answer was complete.")

    def _record(self, events: list[bytes]) -> None:
        session = self._session
        session.last_event_at = time.monotonic()
        if session.whole:
            session.quiet_since = session.last_event_at
        if session.first_event_at is None:
            session.first_event_at = session.last_event_at
            session.enter(Phase.STREAMING)
        session.events += len(events)
        session.bytes += len(b"".join(events))
        session.log.append(events)
        if session.transcript is not None:
            session.transcript.add(events)


def _finish(
    session: StreamSession,
    call: UpstreamCall,
    registry: Registry,
    outcome: Outcome,
    refusal: Refusal | None,
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


def _write_ending(session: StreamSession, outcome: Outcome, refusal: Refusal | None) -> None:
    if outcome is Outcome.STOPPED:
        if session.reason in _TIMED_OUT and not session.events:
            session.refusal = UpstreamError(
                "DeepSeek sent nothing in time.", status=504, code="upstream_timeout"
            )
        session.log.append([_stopped_event(session), sse.DONE])
    elif outcome is Outcome.FAILED and refusal is not None:
        session.refusal = refusal
        session.log.append([_error_event(refusal)])
    session.log.end()


def _error_event(refusal: Refusal) -> bytes:
    return sse.event("error", {"error": {"message": refusal.message, "code": refusal.code}})


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
    :param on_close: called when it is closed, perhaps twice.
    """

    def __init__(
        self, reading: Reading, heartbeat: float, on_close: Callable[[], None] | None = None
    ) -> None:
        self._reading = reading
        self._heartbeat = heartbeat
        self._first: bytes | None = None
        self._on_close = on_close
        self.watch: Watch | None = None

    def begin(self) -> None:
        """Wait until there is something to say, for one heartbeat at the most.

        :raises Refusal: where the answer failed before there was.
        """
        if self._first is None:
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
        if self._on_close is not None:
            self._on_close()

    def _read(self) -> bytes | None:
        try:
            ready = self._reading.read(self._heartbeat)
        except Refusal as refusal:
            self._reading.close()
            return _error_event(refusal) + b"\n\n"  # it has no number: others don't see it
        return sse.HEARTBEAT if ready == b"" else ready
