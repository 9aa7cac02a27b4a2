"""One answer asked of DeepSeek, through ``requests`` with ``stream=True``: open, read, abort.

Rules:

* A call is made by one coroutine, which alone opens, reads and closes it. Any other may only
  ``abort`` it, in every phase; the call then raises ``Aborted``, whatever the transport said.
* A request is sent again only if nothing can have come of it: if it was not written whole
  (``failures``), or DeepSeek was busy (429, 503). That makes at most ``CHATPROXY_TRIES`` requests,
  with a pause between them that grows and honours ``Retry-After``.
* Every failure leaves here as an ``UpstreamError`` with a short sentence for the client and a
  reason for the operators (``refusals``, ``failures``), both without the key.
"""

from __future__ import annotations

import functools
import http.client
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import requests
import urllib3.exceptions
from urllib3.util import wait_for_read

from .. import signals
from ..answers.coroutines import NOTHING_YET, Coroutine, Readable
from ..answers.session import Phase, StreamSession
from ..errors import Aborted, UpstreamError
from . import refusals
from .endpoint import Upstream
from .transport import failures
from .transport.exchange import Exchange, current_exchange
from .transport.http1 import Malformed
from .transport.response import A_TURN, Response

#: The first pause between two tries, in seconds; each further one is twice as long.
FIRST_PAUSE = 0.25
#: The longest pause that a ``Retry-After`` may ask for and be waited for, in seconds.
LONGEST_PAUSE = 20.0

_READ_BYTES = 64 * 1024
#: The most that is read of the rest of a body, or of that of an error.
_REST_BYTES = 64 * 1024
#: How long the body of an error is awaited, in seconds: a sentence, that comes with the status or
#: not at all.
_ERROR_SECONDS = 2.0
_RETRIED_STATUSES = frozenset({429, 503})
_TRANSPORT_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


class UpstreamCall:
    """One answer asked of DeepSeek.

    :param body: the JSON of the request.
    :param session: the session whose flag ends this call, and whose phase it moves on.
    """

    def __init__(self, upstream: Upstream, body: bytes, session: StreamSession) -> None:
        self._upstream = upstream
        self._content = body
        self._session = session
        self._flag = session.flag
        self._exchange = Exchange(on_sent=lambda: session.enter(Phase.WAITING))
        #: The answer as urllib3 has it. That of requests has the request too, which may be large,
        #: and is not kept.
        self._raw: Any = None
        #: The body of the answer, where it can be read straight from the socket.
        self._body: Response | None = None
        self._content_type = ""

    def abort(self) -> None:
        """Shut the connection down, and end whatever this call waits for.

        If the flag was not set before, what has come is still given, and then the connection
        counts as broken off.
        """
        if self._flag.is_set():
            self._exchange.abort()
        else:
            self._exchange.interrupt()

    def receive(self, take: Callable[[bytes], bool]) -> Coroutine[bool]:
        """Open the call, and have ``take`` called with what comes, in pieces as they arrive.

        That must not wait for anything. Where it returns False, this coroutine ends, and there may
        be another one for the rest.

        :returns: whether this is the end of the answer's body.
        :raises Aborted: where the flag was set.
        :raises UpstreamError: where no answer could be had, or it broke off.
        """
        try:
            if self._raw is None:
                self._open()
            return (yield from self._receive(take))
        except Aborted:
            raise
        except _TRANSPORT_ERRORS as error:
            if self._exchange.aborted:
                raise Aborted from None
            raise self._told(failures.broken_off(error)) from error

    def drain(self, seconds: float) -> None:
        """Read the rest of the body, if it is little and comes soon, to keep the connection.

        :param seconds: the longest wait, all told, in however many pieces it comes.
        """
        if self._body is not None:
            _rest_of(self._body, seconds)

    def close(self) -> None:
        """Close the connection, or give it back to the pool if the answer was read to its end."""
        self._exchange.close()
        if self._raw is not None:
            self._raw.release_conn()  # the pool decides; see connection
            self._raw.close()

    def _open(self) -> None:
        request = self._upstream.prepare(self._content)
        self._content = b""
        tries = self._upstream.tries
        for number in range(1, tries + 1):
            try:
                self._try(request)
            except UpstreamError as error:
                reason = error.reason or error.message
                error.reason = f"{reason} (try {number} of {tries}, {self._upstream.path})"
                pause = _pause_after(error, number) if number < tries else None
                if pause is None:
                    raise
                signals.try_failed.send(
                    self._upstream, session=self._session, reason=error.reason, pause=pause
                )
            else:
                return
            self._session.enter(Phase.CONNECTING)
            self._exchange.sleep(pause)

    def _try(self, request: requests.PreparedRequest) -> None:
        token = current_exchange.set(self._exchange)
        self._exchange.begin()
        try:
            response = self._upstream.send(request)
        except (*_TRANSPORT_ERRORS, Aborted) as error:
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
            raise self.no_stream(said)

    def no_stream(self, said: bytes) -> UpstreamError:
        """The error for a body with the status 200 that is no event stream.

        :param said: the beginning of it, or all: perhaps DeepSeek's word of an error, in JSON.
        """
        try:
            found = refusals.error_in(json.loads(said))
        except (ValueError, RecursionError):
            found = None
        error = UpstreamError("DeepSeek's answer is not a stream of events.")
        if found is not None:
            error = self.reported(found, begun=False)
        kind = self._upstream.without_key(self._content_type)[:100]
        excerpt = self._excerpt_of(said)
        error.reason = f"got no event stream with status 200, Content-Type {kind!r}: {excerpt!r}"
        return error

    def _excerpt_of(self, said: bytes) -> str:
        """The beginning of a body, for operators."""
        return self._upstream.without_key(said.decode("utf-8", "replace"))[:200]

    def reported(self, error: Any, *, begun: bool) -> UpstreamError:
        """The error for one that DeepSeek reports within an answer; see ``refusals.reported``."""
        return refusals.reported(error, self._upstream.without_key, begun=begun)

    def _told(self, error: UpstreamError) -> UpstreamError:
        """This error, with a reason that may be logged."""
        error.reason = self._upstream.without_key(error.reason)
        return error

    def _receive(self, take: Callable[[bytes], bool]) -> Coroutine[bool]:
        if self._body is not None:
            step = functools.partial(self._step, self._body, take)
            awaited = Readable(self._body.socket, step, self._body.holds_some)
            with self._exchange.waiting(awaited.hurry):
                yield awaited
            return self._body.complete
        while piece := self._read():
            if not take(piece):
                return False
        return True

    def _step(self, body: Response, take: Callable[[bytes], bool]) -> bool:
        piece = body.receive()
        self._exchange.check()
        goes_on = not piece or take(piece)
        return goes_on and not body.complete

    def _read(self) -> bytes:
        """The next piece from what has no socket, such as a mock."""
        piece: bytes = self._raw.read1(_READ_BYTES, decode_content=True)
        self._exchange.check()
        return piece

    def _refusal(self, response: requests.Response) -> UpstreamError:
        said = self._said()
        self.close()
        pause = refusals.seconds_of(response.headers.get("Retry-After"))
        message = self._upstream.without_key(refusals.message_in(said))
        error = refusals.refusal(response.status_code, message, pause)
        if said and not message:
            error.reason += f": {self._excerpt_of(said)!r}"
        error.transient = response.status_code in _RETRIED_STATUSES
        error.pause = pause
        return error

    def _said(self) -> bytes:
        return (
            self._read()
            if self._exchange.response is None
            else self._words_of(self._exchange.response)
        )

    def _words_of(self, body: Response) -> bytes:
        """What comes soon of the body of an error; its status is told in any case."""
        said = _rest_of(body, _ERROR_SECONDS)
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
        except _TRANSPORT_ERRORS:
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
