"""Failures of an exchange: an exception and a step in, an ``UpstreamError`` out. No I/O.

A request is a POST that may cost money (it is not idempotent: RFC 9110, section 9.2.2). So it is
sent to an upstream again only if that can't have got it whole: no byte of a response has come, and
the step that failed was before ``Step.ANSWER``. What another try can't help is not tried again
either: a certificate that is refused stays refused, and so does the password of a proxy. Nor is a
request that has been written for longer than ``LONG_SECONDS``: another try would take as long.

The client is told one short sentence. Operators are told the reason: the step, with whom, and the
words of the system, the resolver, TLS or the proxy.
"""

from __future__ import annotations

import errno
import http.client
import ssl
import time
from collections.abc import Iterator

import requests

from ...errors import UpstreamError
from .exchange import Exchange, Refused, Step, Unreachable

#: Seconds of writing after which a request is not sent to the same upstream again.
LONG_SECONDS = 10.0
#: These say only that a read or write had to wait.
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: TLS's errors for a connection that was closed or reset. No certificate is at fault then.
_TLS_CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


def unanswered(error: BaseException, exchange: Exchange, name: str) -> UpstreamError:
    """The error for a request that got no response.

    :param name: the upstream's.
    """
    failure = _kind_of(error, exchange.step, name)
    if exchange.step is Step.SEND and time.monotonic() - exchange.since > LONG_SECONDS:
        failure.transient = False
    # Without a peer no step has begun: a mock of requests stands in for the upstream.
    step = f"{exchange.step.value} {exchange.peer}: " if exchange.peer else ""
    failure.reason = step + words_of(error)
    return failure


def broken_off(error: BaseException, name: str) -> UpstreamError:
    """The error for a response that had begun.

    :param name: the upstream's.
    """
    failure = UpstreamError(f"The connection to {name} broke off.")
    failure.reason = f"during the answer: {words_of(error)}"
    return failure


def words_of(error: BaseException) -> str:
    """Why it happened, in the words of whatever noticed it first."""
    *_, root = _causes(error)
    for each in _causes(error):
        if isinstance(each, Unreachable):
            return str(each)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {root.verify_message}"
    if isinstance(root, ssl.SSLError) and (reason := getattr(root, "reason", None)):
        return str(reason).replace("_", " ").lower()
    if isinstance(root, TimeoutError) and root.errno is None:
        return "timed out"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return str(root) or type(root).__name__


def _kind_of(error: BaseException, step: Step, name: str) -> UpstreamError:
    if _out_of_descriptors(error):
        short = UpstreamError(
            "Too many answers are running.",
            status=429,
            code="too_many_sessions",
            retry_after=1,
            should_retry=True,
        )
        short.elsewhere = False
        return short
    if _not_http(error) and step in (Step.SEND, Step.ANSWER):
        return UpstreamError(f"{name}'s answer is not HTTP.")
    if step is Step.ANSWER:
        return UpstreamError(f"{name} broke the connection off before it answered.")
    if _tls_refused(error):
        sentence = f"{name} could not be reached: the TLS connection could not be made."
        return UpstreamError(sentence, code="upstream_unreachable")
    unreachable = UpstreamError(f"{name} could not be reached.", code="upstream_unreachable")
    unreachable.transient = not any(isinstance(each, Refused) for each in _causes(error))
    return unreachable


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what led to it, the first cause last."""
    while error is not None:
        yield error
        context = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or (None if isinstance(context, _WAITS) else context)


def _out_of_descriptors(error: BaseException) -> bool:
    """Whether this process may not open another socket."""
    numbers = (errno.EMFILE, errno.ENFILE)
    return any(isinstance(each, OSError) and each.errno in numbers for each in _causes(error))


def _not_http(error: BaseException) -> bool:
    """Whether something came that could not be read; False if nothing came at all."""
    for each in _causes(error):
        if isinstance(each, http.client.HTTPException):
            return not isinstance(each, http.client.RemoteDisconnected)
    return False


def _tls_refused(error: BaseException) -> bool:
    """Whether one of the two sides refused TLS; False if the handshake was cut short."""
    causes = list(_causes(error))
    kinds = (ssl.SSLError, requests.exceptions.SSLError)
    return any(isinstance(each, kinds) for each in causes) and not any(
        isinstance(each, _TLS_CLOSED) for each in causes
    )
