"""An attempt: one request to one upstream, until its answer begins or it is refused.

Every failure leaves here as an ``UpstreamError`` with a short sentence for the client and a reason
for the operators (``refusals``, ``failures``), both without a key.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import requests
import urllib3.exceptions
from urllib3.util import wait_for_read

from ..answers.coroutines import A_TURN, NOTHING_YET
from ..answers.foreign_json import text_of, value_of
from ..errors import Aborted, UpstreamError
from . import refusals
from .endpoint import Endpoint
from .transport import failures
from .transport.exchange import Exchange, current_exchange
from .transport.http1 import Malformed
from .transport.response import Response

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


class Attempt:
    """One request, and the beginning of its response.

    :param exchange: is aborted to end it, in every phase.
    """

    __slots__ = ("_content_type", "_endpoint", "_exchange", "body", "raw")

    def __init__(self, endpoint: Endpoint, exchange: Exchange) -> None:
        self._endpoint = endpoint
        self._exchange = exchange
        #: What there is to read: ``body``, or what a mock of requests has made. The response of
        #: requests is not kept: it has the request too, which may be large.
        self.raw: Any = None
        #: The body of the answer, if it can be read straight from the socket.
        self.body: Response | None = None
        self._content_type = ""

    def send(self, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send the request, and wait until an answer begins.

        :param headers: see ``Endpoint.prepare``.
        :raises Aborted: if the exchange is aborted.
        :raises UpstreamError: if there is no answer.
        """
        token = current_exchange.set(self._exchange)
        self._exchange.begin(len(content))
        try:
            response = self._endpoint.send(self._endpoint.prepare(content, headers))
        except (*TRANSPORT_ERRORS, Aborted) as error:
            self._exchange.fail()
            if self._exchange.aborted:
                raise Aborted from None
            name = self._endpoint.name
            raise self._told(failures.unanswered(error, self._exchange, name)) from error
        finally:
            current_exchange.reset(token)
        self.raw = response.raw
        self._take_head(response)

    def _take_head(self, response: requests.Response) -> None:
        # A mock of requests sends nothing, and an upstream may answer before all of it is sent.
        self._exchange.answered()
        if response.status_code != 200:
            raise self._refusal(response)
        self.body = self._exchange.response
        if self.body is not None and self.body.unknown_coding:
            raise self._told(refusals.compressed(self.body.unknown_coding, self._endpoint.name))
        self._content_type = response.headers.get("Content-Type", "")
        if not refusals.may_be_a_stream(self._content_type):
            said = self._said()
            self.close()
            raise self.no_stream(said)
        if self.body is not None:
            del self.body.headers  # the stream may last for long

    def read(self) -> bytes:
        """Read from what has no socket, such as a mock."""
        piece: bytes = self.raw.read1(_READ_BYTES, decode_content=True)
        self._exchange.check()
        return piece

    def close(self, *, done: bool = False) -> None:
        """Close the connection, or give it back to the pool if the body was read to its end.

        :param done: whether ``[DONE]`` has come: then the end of the body is awaited for a moment.
            The client has the whole answer by then.
        """
        try:
            if done and self.body is not None and not self._exchange.aborted:
                _rest_of(self.body, _TAIL_SECONDS)
        finally:
            self._exchange.close()
            if self.raw is not None:
                self.raw.close()

    def no_stream(self, said: bytes) -> UpstreamError:
        """The error for a body with the status 200 that is no event stream.

        :param said: the beginning of it, or all: perhaps the upstream's word of an error, in JSON.
        """
        found = refusals.error_in(value_of(said))
        error = UpstreamError(f"{self._endpoint.name}'s answer is not a stream of events.")
        if found is not None:
            error = self.reported(found, begun=False)
        kind = self._endpoint.without_secrets(self._content_type)[:100]
        excerpt = self._excerpt_of(said)
        error.reason = f"got no event stream with status 200, Content-Type {kind!r}: {excerpt!r}"
        return error

    def reported(self, error: Any, *, begun: bool) -> UpstreamError:
        """The error for one that the upstream reports in an answer; see ``refusals.reported``."""
        clean, name = self._endpoint.without_secrets, self._endpoint.name
        return refusals.reported(error, clean, name, begun=begun)

    def broken_off(self, error: Exception) -> UpstreamError:
        """The error for one of the transport amid an answer."""
        return self._told(failures.broken_off(error, self._endpoint.name))

    def cut_off(self) -> UpstreamError:
        """The error for an answer that ends before it is whole."""
        name = self._endpoint.name
        return UpstreamError(f"{name} closed the connection before the answer was complete.")

    def _excerpt_of(self, said: bytes) -> str:
        """The beginning of a body, for operators."""
        return self._endpoint.without_secrets(text_of(said))[:200]

    def _told(self, error: UpstreamError) -> UpstreamError:
        """This error, with a reason that may be logged."""
        error.reason = self._endpoint.without_secrets(error.reason)
        return error

    def _refusal(self, response: requests.Response) -> UpstreamError:
        said = self._said()
        self.close()
        pause = refusals.seconds_of(response.headers.get("Retry-After"))
        status = response.status_code
        message = self._endpoint.without_secrets(refusals.message_in(said, status))
        error = refusals.refusal(status, message, pause, self._endpoint.name)
        if said and not message:
            error.reason += f": {self._excerpt_of(said)!r}"
        error.transient = status in _RETRIED_STATUSES
        error.refused = status < 500 or error.transient
        error.pause = pause
        return error

    def _said(self) -> bytes:
        response = self._exchange.response
        return self.read() if response is None else self._words_of(response)

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
