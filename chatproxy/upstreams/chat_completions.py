"""DeepSeek, and every service that speaks like it: requests, retries, answers, failures.

Rules:

* One coroutine makes a call; it alone opens, receives and closes it. Any other thread may only
  ``abort`` it, in every phase; the call then raises ``Aborted``, whatever the transport says.
* A request is sent again only if nothing can have come of it: if it was not written whole
  (``failures``), or if DeepSeek was busy (429, 503). That makes ``CHATPROXY_TRIES`` requests at
  most, with a pause between them that grows and honours ``Retry-After``.
* Every failure leaves here as an ``UpstreamError`` with a short sentence for the client and a
  reason for the operators (``refusals``, ``failures``), both without the key.
* After ``[DONE]`` the close waits a moment for the end of the body, so that the connection can
  serve another answer. The client has the whole answer by then.
"""

from __future__ import annotations

import functools
import http.client
import json
import random
import time
from contextlib import suppress
from typing import Any

import requests
import urllib3.exceptions
from urllib3.util import wait_for_read

from .. import signals
from ..answers.coroutines import A_TURN, NOTHING_YET, Coroutine, Readable
from ..answers.question import Question
from ..answers.session import Phase, StreamSession
from ..errors import Aborted, UpstreamError
from . import refusals
from .chunks import ChunkReader
from .endpoint import Endpoint
from .transport import failures
from .transport.exchange import Exchange, current_exchange
from .transport.http1 import Malformed
from .transport.response import Response

#: The first pause between two tries, in seconds; each further one is twice as long.
FIRST_PAUSE = 0.25
#: The longest pause that a ``Retry-After`` may ask for and be waited for, in seconds.
LONGEST_PAUSE = 20.0

_READ_BYTES = 64 * 1024
#: The most that is read of the rest of a body, or of that of an error.
_REST_BYTES = 64 * 1024
#: How long the body of an error is awaited, in seconds: a sentence, that comes with the status or
#: not at all.
ERROR_SECONDS = 2.0
#: How long the close waits for the end of the body after ``[DONE]``, all told, in seconds.
_TAIL_SECONDS = 0.5
_RETRIED_STATUSES = frozenset({429, 503})
TRANSPORT_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


class ChatCompletions(Endpoint):
    """An ``Upstream``: the chat completions of one service."""

    def call(self, question: Question, session: StreamSession) -> ChatCompletionCall:
        """See ``Upstream``."""
        return ChatCompletionCall(self, question.body, ChunkReader(question.choices), session)


class ChatCompletionCall:
    """A ``Call``: one chat completion.

    :param content: the JSON of the request.
    :param chunks: reads what comes.
    :param session: its flag ends this call, which moves its phase on and fills its log.
    """

    def __init__(
        self, endpoint: Endpoint, content: bytes, chunks: ChunkReader, session: StreamSession
    ) -> None:
        self._endpoint = endpoint
        self._content = content
        self._session = session
        self._flag = session.flag
        self._chunks = chunks
        self._exchange = Exchange(on_sent=lambda: session.enter(Phase.WAITING))
        #: What there is to read: ``_body``, or what a mock of requests has made. The response of
        #: requests is not kept: it has the request too, which may be large.
        self._raw: Any = None
        #: The body of the answer, if it can be read straight from the socket.
        self._body: Response | None = None
        self._content_type = ""

    def abort(self) -> None:
        """Shut the connection down, and end whatever this call waits for.

        If the flag is not set, what has come by then is still taken.
        """
        if self._flag.is_set():
            self._exchange.abort()
        else:
            self._exchange.interrupt()

    def open(self) -> None:
        """Send the request, again if need be, until an answer begins; see ``Call``."""
        try:
            self._open()
        except TRANSPORT_ERRORS as error:
            raise self._failure(error) from error

    def receive(self) -> Coroutine[bool]:
        """Put what comes into the session; see ``Call``."""
        chunks = self._chunks
        try:
            ended = yield from self._receive()
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
            raise self._reported(chunks.error)
        return ended or chunks.done

    def close(self) -> None:
        """Close the connection, or give it back to the pool if the answer was read to its end."""
        try:
            if self._chunks.done and self._body is not None and not self._exchange.aborted:
                _rest_of(self._body, _TAIL_SECONDS)
        finally:
            self._exchange.close()
            if self._raw is not None:
                self._raw.close()

    def _take(self, piece: bytes) -> bool:
        """Take the next bytes; return whether more is to come, and has room."""
        session, chunks = self._session, self._chunks
        events = chunks.read(piece)
        if chunks.commented:
            session.log.pulse()  # once for all of them: each wakes every reader
        session.take(events, whole=chunks.seems_whole)
        return not (chunks.over or session.log.full)

    def _take_end(self) -> None:
        """Take the end of the body."""
        session, chunks = self._session, self._chunks
        session.take(chunks.end(), whole=chunks.seems_whole)
        if chunks.over or chunks.whole:
            return
        if chunks.strays and not session.events:
            raise self._no_stream(chunks.strays)
        raise UpstreamError("DeepSeek closed the connection before the answer was complete.")

    def _open(self) -> None:
        request = self._endpoint.prepare(self._content)
        self._content = b""
        tries = self._endpoint.tries
        for number in range(1, tries + 1):
            try:
                self._try(request)
            except UpstreamError as error:
                reason = error.reason or error.message
                error.reason = f"{reason} (try {number} of {tries}, {self._endpoint.path})"
                pause = _pause_after(error, number) if number < tries else None
                if pause is None:
                    raise
                signals.try_failed.send(
                    self._endpoint, session=self._session, reason=error.reason, pause=pause
                )
            else:
                return
            self._session.enter(Phase.CONNECTING)
            self._exchange.sleep(pause)

    def _try(self, request: requests.PreparedRequest) -> None:
        token = current_exchange.set(self._exchange)
        self._exchange.begin()
        try:
            response = self._endpoint.send(request)
        except (*TRANSPORT_ERRORS, Aborted) as error:
            failure = self._told(failures.unanswered(error, self._exchange))
            self._exchange.close()
            if self._exchange.aborted:
                raise Aborted from None
            raise failure from error
        finally:
            current_exchange.reset(token)
        # A mock of requests sends nothing, and an upstream may answer before all of it is sent.
        self._session.enter(Phase.WAITING)
        self._raw = response.raw
        if response.status_code != 200:
            raise self._refusal(response)
        self._body = self._exchange.response
        if self._body is not None and self._body.unknown_coding:
            raise self._told(refusals.compressed(self._body.unknown_coding))
        self._content_type = response.headers.get("Content-Type", "")
        if not refusals.may_be_a_stream(self._content_type):
            said = self._said()
            self.close()
            raise self._no_stream(said)
        if self._body is not None:
            del self._body.headers  # the stream may last for long

    def _no_stream(self, said: bytes) -> UpstreamError:
        """The error for a body with the status 200 that is no event stream.

        :param said: the beginning of it, or all: perhaps DeepSeek's word of an error, in JSON.
        """
        try:
            found = refusals.error_in(json.loads(said))
        except (ValueError, RecursionError):
            found = None
        error = UpstreamError("DeepSeek's answer is not a stream of events.")
        if found is not None:
            error = self._reported(found)
        kind = self._endpoint.without_key(self._content_type)[:100]
        excerpt = self._excerpt_of(said)
        error.reason = f"got no event stream with status 200, Content-Type {kind!r}: {excerpt!r}"
        return error

    def _excerpt_of(self, said: bytes) -> str:
        """The beginning of a body, for operators."""
        return self._endpoint.without_key(said.decode("utf-8", "replace"))[:200]

    def _reported(self, error: Any) -> UpstreamError:
        """The error for one that DeepSeek reports within an answer; see ``refusals.reported``."""
        return refusals.reported(error, self._endpoint.without_key, begun=self._session.events > 0)

    def _failure(self, error: Exception) -> Exception:
        """What is raised for an error of the transport amid an answer."""
        return Aborted() if self._exchange.aborted else self._told(failures.broken_off(error))

    def _told(self, error: UpstreamError) -> UpstreamError:
        """This error, with a reason that may be logged."""
        error.reason = self._endpoint.without_key(error.reason)
        return error

    def _receive(self) -> Coroutine[bool]:
        """Read the body until it ends, or ``_take`` wants no more; return whether it has ended."""
        if self._body is not None:
            step = functools.partial(self._step, self._body)
            awaited = Readable(self._body.socket, step, self._body.holds_some)
            with self._exchange.waiting(awaited.hurry):
                yield awaited
            return self._body.complete
        while piece := self._read():
            if not self._take(piece):
                return False
        return True

    def _step(self, body: Response) -> bool:
        piece = body.receive()
        self._exchange.check()
        goes_on = not piece or self._take(piece)
        return goes_on and not body.complete

    def _read(self) -> bytes:
        """Read from what has no socket, such as a mock."""
        piece: bytes = self._raw.read1(_READ_BYTES, decode_content=True)
        self._exchange.check()
        return piece

    def _refusal(self, response: requests.Response) -> UpstreamError:
        said = self._said()
        self.close()
        pause = refusals.seconds_of(response.headers.get("Retry-After"))
        message = self._endpoint.without_key(refusals.message_in(said))
        error = refusals.refusal(response.status_code, message, pause)
        if said and not message:
            error.reason += f": {self._excerpt_of(said)!r}"
        error.transient = response.status_code in _RETRIED_STATUSES
        error.pause = pause
        return error

    def _said(self) -> bytes:
        response = self._exchange.response
        return self._read() if response is None else self._words_of(response)

    def _words_of(self, body: Response) -> bytes:
        """What comes soon of the body of an error; its status is told in any case."""
        said = _rest_of(body, ERROR_SECONDS)
        self._exchange.check()
        with suppress(Malformed):
            return body.decoded(said)
        return b""


def _rest_of(body: Response, seconds: float) -> bytes:
    """What comes of a body within so many seconds, all told, without its transfer coding.

    It may not be all: not what comes later, or after a fault, or is more than ``_REST_BYTES``.
    """
    end, most = time.monotonic() + seconds, body.taken + _REST_BYTES
    rest = b""
    body.socket.settimeout(0.0)
    while not body.received and body.taken < most and (left := end - time.monotonic()) > 0:
        try:
            rest += body.receive_coded()
            time.sleep(A_TURN)
        except NOTHING_YET:
            wait_for_read(body.socket, left)
        except TRANSPORT_ERRORS:
            break
    return rest


def _pause_after(error: UpstreamError, number: int) -> float | None:
    """Seconds until the next try, after so many and this error; None for no more."""
    if not error.transient:
        return None
    pause = random.uniform(0.5, 1.0) * FIRST_PAUSE * float(2 ** (number - 1))  # noqa: S311
    if error.pause is not None:
        pause = max(pause, error.pause)  # servers say 0, too
    return pause if pause <= LONGEST_PAUSE else None
