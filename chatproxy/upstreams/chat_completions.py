"""DeepSeek, and every service that speaks like it: questions, answers, and what failures mean.

Rules:

* One coroutine makes a call; it alone opens, receives and closes it. Any other thread may only
  ``abort`` it, in every phase and whichever upstream it is at; the call then raises ``Aborted``,
  whatever the transport says.
* A call is one attempt after the other (``attempt``), in the order that ``tries`` says, until the
  first event has come. All of them are one ``Exchange``, so a Stop between two of them, or in any,
  ends them all.
* An attempt holds a place within the limit of its upstream (``limits``) from before its request is
  sent until its response has ended.
* Every failure leaves here as an ``UpstreamError`` with a short sentence for the client and a
  reason for the operators, both without a key.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable

from .. import signals, sse
from ..answers.coroutines import Coroutine, Readable
from ..answers.question import Question
from ..answers.session import Phase, StreamSession
from ..answers.upstream import CONFIGURED, Upstream, UsageStats
from ..config import Settings
from ..errors import Aborted, UpstreamError
from .attempt import TRANSPORT_ERRORS, Attempt
from .chunks import ChunkReader
from .connections import Connections
from .endpoint import Endpoint
from .limits import CallLimits
from .stream_options import asks_for
from .transport.dialer import Resolver
from .transport.exchange import Exchange
from .tries import Tries


class ChatCompletions:
    """A ``Caller``: the chat completions of an application's upstreams.

    :param resolver: finds the addresses of their hosts.
    :raises ConfigError: if the environment names certificates or a proxy that can't be used.
    """

    def __init__(self, settings: Settings, resolver: Resolver) -> None:
        #: How many requests are sent for one question at the most.
        self.tries = settings.tries
        #: For how many seconds a question waits for a place within an upstream's limit.
        self.queue = settings.queue
        self.limits = CallLimits()
        self._connections = Connections(resolver, settings.connect_timeout)
        #: Those that have been asked, while whoever has named them keeps them.
        self._endpoints = weakref.WeakKeyDictionary[Upstream, Endpoint]()
        self._configured = Upstream(settings.base_url, settings.api_key, name=CONFIGURED)
        self._lacks_key = settings.lacks_key
        #: The upstream of the settings.
        self.configured = self.endpoint(self._configured)

    def call(self, question: Question, session: StreamSession) -> ChatCompletionCall:
        """See ``Caller``.

        :raises UpstreamError: if it is one for the upstream of the settings, which has no key.
        """
        if self._lacks_key and not question.upstreams:
            error = UpstreamError("This server has no key for DeepSeek.", code="upstream_auth")
            error.reason = "DEEPSEEK_API_KEY is not set"
            raise error
        return ChatCompletionCall(self, question, _chunks_for, session)

    def endpoint(self, upstream: Upstream) -> Endpoint:
        """The endpoint of an upstream; the same one as long as somebody keeps the upstream."""
        found = self._endpoints.get(upstream)
        if found is None:
            found = self._endpoints[upstream] = Endpoint(upstream, self._connections)
        return found

    def tries_of(self, question: Question) -> Tries:
        """The upstreams for a question, of which none has been asked."""
        upstreams = question.upstreams or (self._configured,)
        return Tries(question, map(self.endpoint, upstreams), self.tries)

    def close(self) -> None:
        """Close the connections that are kept for later calls."""
        self._connections.close()


class ChatCompletionCall:
    """A ``Call``: one question, put to one upstream or to several.

    :param new_chunks: makes what reads the answer of an attempt.
    :param session: its flag ends this call, which moves its phase on and fills its log.
    """

    # There may be thousands, which are silent for most of the time.
    __slots__ = (
        *("_attempt", "_chunks", "_exchange", "_new_chunks", "_place", "_session", "_tries"),
        "_upstreams",
    )

    def __init__(
        self,
        upstreams: ChatCompletions,
        question: Question,
        new_chunks: Callable[[Question, Endpoint], ChunkReader],
        session: StreamSession,
    ) -> None:
        self._upstreams = upstreams
        tries = upstreams.tries_of(question)
        #: None when no other attempt can be made: the question may be large.
        self._tries: Tries | None = tries
        self._session = session
        self._exchange = Exchange(on_sent=lambda: session.enter(Phase.WAITING))
        self._new_chunks = new_chunks
        self._chunks = new_chunks(question, tries.endpoint)
        self._attempt = Attempt(tries.endpoint, self._exchange)
        #: What this attempt counts for within the limit of its upstream; None for nothing.
        self._place: Hashable = None

    def abort(self) -> None:
        """Shut the connection down, and end whatever this call waits for.

        If the flag is not set, what has come by then is still taken.
        """
        if self._session.flag.is_set():
            self._exchange.abort()
        else:
            self._exchange.interrupt()

    def open(self) -> None:
        """Ask one upstream after the other, until an answer begins; see ``Call``."""
        tries = self._tries
        assert tries is not None
        try:
            while not self._begins(tries):
                continue
        except TRANSPORT_ERRORS as error:
            raise self._failure(error) from error
        if not tries.has_others:
            self._tries = None

    def receive(self) -> Coroutine[bool]:
        """Put what comes into the session; see ``Call``.

        If the answer fails before its first event, the next upstream is asked.
        """
        try:
            ended = yield from self._receive()
        except UpstreamError as error:
            if self._tries is None or not self._goes_on_after(error, self._tries):
                raise
        else:
            self._session.cut_short = self._chunks.cut_short
            return ended
        self.open()
        return False

    def close(self) -> None:
        """Close the connection, or give it back to the pool if the answer was read to its end."""
        place, self._place = self._place, None
        try:
            self._attempt.close(done=self._chunks.done)
        finally:
            if place is not None:
                self._upstreams.limits.free(place)

    # ---- one attempt after the other -------------------------------------------------------------

    def _begins(self, tries: Tries) -> bool:
        """Make an attempt; return whether an answer begins. If not, there is another to make."""
        sent = tries.sent
        if tries.pause:
            self._exchange.sleep(tries.pause)
        try:
            self._ask(tries)
        except UpstreamError as error:
            if tries.sent > sent:
                reason = error.reason or error.message
                made = f"try {tries.sent} of {tries.most}, {tries.endpoint.path}"
                error.reason = f"{reason} ({made})"
            if not self._goes_on_after(error, tries):
                raise
            return False
        return True

    def _ask(self, tries: Tries) -> None:
        endpoint, question = tries.endpoint, tries.question
        self._session.upstream = endpoint.name
        self._session.billing_stops = endpoint.billing_stops
        self._session.upstream_model = endpoint.model_for(question.model)
        self._chunks = self._new_chunks(question, endpoint)
        self._attempt = Attempt(endpoint, self._exchange)
        self._take_place(tries)
        tries.begin()
        self._session.asked_at = time.monotonic()
        trace = self._session.trace
        headers = None if trace is None else trace.headers
        self._attempt.send(endpoint.body_of(question), headers)

    def _take_place(self, tries: Tries) -> None:
        """Take a place within the limit, if there is one. The last upstream is waited for.

        :raises UpstreamError: if there is none in time.
        """
        endpoint = tries.endpoint
        limit = endpoint.limit_for(tries.question.model)
        if limit is None:
            return
        limits, seconds = self._upstreams.limits, self._upstreams.queue
        has_place = limits.take(*limit)
        if not has_place and seconds and not tries.has_others:
            self._session.log.pulse(sse.QUEUED)
            has_place = limits.wait(*limit, self._exchange, seconds)
        if not has_place:
            raise _full(endpoint, limit[1])
        self._place = limit[0]

    def _goes_on_after(self, error: UpstreamError, tries: Tries) -> bool:
        """Turn to the next upstream after a failure before the first event, if there is any."""
        failed, reservation = tries.endpoint, self._session.reservation
        if reservation is not None and (error.refused or self._session.phase is Phase.CONNECTING):
            reservation.refuse()
        if not tries.go_on(error):
            return False
        self.close()
        if reservation is not None:
            with self._session.unconnected():
                may_send_again = reservation.may_send_again()
            if not may_send_again:
                return False
        self._session.enter(Phase.CONNECTING)
        signals.try_failed.send(
            self._upstreams,
            session=self._session,
            upstream=failed.name,
            code=error.code,
            reason=error.reason or error.message,
            following=tries.endpoint.name,
            pause=tries.pause,
        )
        return True

    # ---- one answer ------------------------------------------------------------------------------

    def _receive(self) -> Coroutine[bool]:
        """Read the body until it ends, or ``_take`` wants no more; return whether it has ended."""
        chunks, body = self._chunks, self._attempt.body
        try:
            if body is None:
                ended = self._read()
            else:
                awaited = Readable(body.socket, self._step, body.holds_some)
                with self._exchange.waiting(awaited.hurry):
                    yield awaited
                ended = body.complete
            if ended:
                self._take_end()
        except Aborted:
            raise
        except (*TRANSPORT_ERRORS, UpstreamError) as error:
            concluded = chunks.seems_whole and self._session.concluded
            if self._exchange.aborted or not (chunks.whole or concluded):
                if isinstance(error, UpstreamError) and not self._exchange.aborted:
                    raise  # not from itself, nor by a name that this frame would keep
                raise self._failure(error) from error
            if not chunks.whole:
                self._take_end()
            ended = True
        if chunks.error is not None:
            raise self._attempt.reported(chunks.error, begun=self._session.events > 0)
        return ended or chunks.done

    def _read(self) -> bool:
        """The same for a body that has no socket."""
        while piece := self._attempt.read():
            if not self._take(piece):
                return False
        return True

    def _take(self, piece: bytes) -> bool:
        """Take the next bytes; return whether more is to come, and has room."""
        session, chunks = self._session, self._chunks
        events = chunks.read(piece)
        if chunks.commented:
            session.log.pulse()  # once for all of them: each wakes every reader
        if events:
            self._tries = None
        session.usage = chunks.usage
        session.take(events, whole=chunks.seems_whole)
        return not (chunks.over or session.log.full)

    def _take_end(self) -> None:
        """Take the end of the body."""
        session, chunks = self._session, self._chunks
        events = chunks.end()
        session.usage = chunks.usage
        session.take(events, whole=chunks.seems_whole)
        if chunks.over or chunks.whole:
            return
        if chunks.strays and not session.events:
            raise self._attempt.no_stream(chunks.strays)
        raise self._attempt.cut_off()

    def _failure(self, error: Exception) -> Exception:
        """What is raised for an error of the transport."""
        return Aborted() if self._exchange.aborted else self._attempt.broken_off(error)

    def _step(self) -> bool:
        body = self._attempt.body
        assert body is not None
        piece = body.receive()
        self._exchange.check()
        goes_on = not piece or self._take(piece)
        return goes_on and not body.complete


def _chunks_for(question: Question, endpoint: Endpoint) -> ChunkReader:
    """What reads an answer to this question from there."""
    options, asked = question.stream_options, endpoint.usage
    hides_usage = asked is not UsageStats.NONE and not asks_for(options, "include_usage")
    hides_more = asked is UsageStats.CONTINUOUS and not asks_for(options, "continuous_usage_stats")
    return ChunkReader(question.choices, hides_usage=hides_usage, takes_usage_out=hides_more)


def _full(endpoint: Endpoint, most: int) -> UpstreamError:
    """The error for an upstream that has as many calls as it may have."""
    error = UpstreamError(
        f"{endpoint.name} is busy; try again later.",
        status=429,
        code="upstream_busy",
        retry_after=1,
        should_retry=True,
    )
    error.reason = f"{most} calls are running there, which is its limit"
    return error
