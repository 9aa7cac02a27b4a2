"""A session of ``requests`` whose connections end with an ``AbortHandle``, in every phase.

It is for an application's own requests in a run, to whatever host. So unlike the transport for
upstreams it does all that ``requests`` does: redirects, cookies, proxies of the environment,
timeouts, bodies that are read by urllib3. What differs is how a connection is made, and who can
end it:

* Each request, and each that it is redirected to, is an ``Exchange``, which is attached to the
  handle before anything of it begins: resolving, connecting (``dialer``), the handshakes with
  proxies and of TLS, the request, its response.
* The exchange lets go of its connection when that is closed or goes back to the pool. It is a
  request with all its tries, so it lets go of the handle when there is a response and its
  connection is let go of, or none of the tries has brought one.
* After an abort whatever fails raises the handle's error; so does a body that goes on, or that
  seems to have ended.
* What comes is read, inflated and joined in pieces, and between two of them others have their turn
  (``Turns``): gevent's ``recv`` lets nobody else run while there is something.

A session and its connections serve one run: no other gets its cookies, or what came too late.
"""

from __future__ import annotations

import copy
import functools
import http.client
import io
import socket
import ssl
import time
import typing
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3
from requests.models import ITER_CHUNK_SIZE
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Retry

from ..answers.abort import AbortHandle
from ..answers.calls import Calls
from ..answers.coroutines import A_TURN
from ..answers.session import Outcome, Phase
from ..answers.trace import Trace
from ..answers.usage import NO_ACCOUNT
from ..errors import ConfigError
from .connections import tls_context
from .transport.content_coding import PIECE_BYTES
from .transport.dialer import Dialer, Resolver
from .transport.exchange import Exchange, Step, current_exchange
from .transport.http1 import MOST_HEAD_BYTES
from .transport.proxies import SocksDialer, is_socks, proxy_for

#: Seconds after which others have their turn before the next piece is read.
_SLICE = 0.001
#: Bytes that are read ahead, for lines: chunks of a byte each fill a slice with that.
_BUFFER_BYTES = 2048


class Turns:
    """Has requests that read without a pause do so one after the other, for a slice each.

    Between two slices the event loop sees to all else. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._waiting: set[object] = set()

    def wait(self, request: object) -> None:
        """Wait until all others that are at it have had their slice."""
        self._waiting.add(request)
        try:
            time.sleep(A_TURN + _SLICE * (len(self._waiting) - 1))
        finally:
            self._waiting.discard(request)


class HttpSession(requests.Session):
    """A session of ``requests``; see above.

    :param handle: ends all requests. Its error is raised by them from then on.
    :param calls: is told of each request.
    :param turns: those of all sessions of an application.
    """

    def __init__(self, handle: AbortHandle, resolver: Resolver, calls: Calls, turns: Turns) -> None:
        super().__init__()
        adapter = _Adapter(handle, resolver, calls, turns)
        super().mount("http://", adapter)
        super().mount("https://", adapter)

    def mount(self, prefix: str | bytes, adapter: requests.adapters.BaseAdapter) -> None:
        """Refuse another adapter: no Stop would reach what it sends.

        :raises TypeError: always, but while the session is made.
        """
        if self.adapters.keys() == {"https://", "http://"}:
            raise TypeError(
                "A run's session keeps its adapter; for retries set max_retries of the one that "
                "run.http.get_adapter(url) returns."
            )
        super().mount(prefix, adapter)


class _Request(Exchange):
    """One HTTP request, as ``Calls`` lists it."""

    def __init__(self, handle: AbortHandle, calls: Calls, turns: Turns, name: str) -> None:
        super().__init__(on_sent=self._has_been_sent)
        self._handle = handle
        self._calls = calls
        self._turns = turns
        self.phase = Phase.CONNECTING
        self.events = 0
        self.upstream = ""
        self.account = NO_ACCOUNT
        self.started_at = time.monotonic()
        self.closed_at: float | None = None
        self.trace: Trace | None = None
        #: The status of the response; None before. What has failed, if anything has.
        self.status: int | None = None
        self.failure = ""
        self._turn_began = self.started_at
        handle.attach(self.abort)
        calls.begin(name, self)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before."""
        if self.closed_at is None:
            return None
        if self.aborted:
            return Outcome.STOPPED
        return Outcome.FINISHED if self.phase is Phase.STREAMING else Outcome.FAILED

    def _has_been_sent(self) -> None:
        self.phase = Phase.WAITING

    def abort(self) -> None:
        """Shut the connection down. The other side sees the end of it now, whoever holds it."""
        super().abort()
        self.closed_at = self.closed_at or time.monotonic()

    def answered(self) -> None:
        """Note that the response is there. Whatever lets go of its connection ends the request."""
        super().answered()
        self.phase = Phase.STREAMING
        if self._shut is None:  # as it has no body
            self.end()

    def let_go(self) -> None:
        """Let go of the connection. Before the response there may be another try, on another."""
        self.close()
        if self.phase is Phase.STREAMING:
            self.end()

    def check(self) -> None:
        """See that what has failed was not ended by the handle, whose error nobody tries again."""
        self._handle.check()

    def give_way(self) -> None:
        """Let others have their turn if it is time; see also ``check``."""
        if time.monotonic() - self._turn_began > _SLICE:
            self._turns.wait(self)
            self._turn_began = time.monotonic()
        self.check()

    def end(self) -> None:
        """Let go of the connection, and of the handle. May be called twice."""
        self.close()
        self.closed_at = self.closed_at or time.monotonic()
        self._handle.detach(self.abort)
        self._calls.end(self)


class _Pieces(io.RawIOBase):
    """What a response is read from: a connection, in small pieces, for a request that gives way."""

    def __init__(self, connection: io.RawIOBase, request: _Request) -> None:
        self._connection = connection
        self._request = request
        #: Whether the head has not ended; how many bytes have come.
        self.in_head = True
        self._came = 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._connection.fileno()

    def readinto(self, buffer: typing.Any) -> int | None:
        self._request.give_way()
        if self.in_head and self._came > MOST_HEAD_BYTES:
            raise http.client.HTTPException(f"the head is larger than {MOST_HEAD_BYTES} bytes")
        count: int | None = self._connection.readinto(memoryview(buffer)[:PIECE_BYTES])
        self._came += count or 0
        return count

    def close(self) -> None:
        super().close()
        self._connection.close()


class _FinalResponse(http.client.HTTPResponse):
    """A response that is not an interim one: ``http.client`` skips 100 alone."""

    def __init__(self, sock: socket.socket, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(sock, *args, **kwargs)
        request = current_exchange.get()
        assert isinstance(request, _Request)
        self._pieces = _Pieces(self.fp.detach(), request)
        self.fp = io.BufferedReader(self._pieces, _BUFFER_BYTES)

    def begin(self) -> None:
        super().begin()
        self._pieces.in_head = False

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not http.client.SWITCHING_PROTOCOLS < found[1] < http.client.OK:
                return found
            http.client.parse_headers(self.fp)


class _Connection(HTTPConnection):
    """A connection that the request which uses it can abort."""

    response_class = _FinalResponse
    #: What connects it; its pool sets this.
    dialer: Dialer
    _exchange: _Request | None = None

    def _new_conn(self) -> socket.socket:
        exchange = current_exchange.get()
        assert isinstance(exchange, _Request)
        exchange.check()
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        begun = time.monotonic()
        exchange.limit(timeout)
        try:
            sock = self.dialer.dial(exchange, self._dns_host.strip("[]"), self.port, timeout)
        except OSError as error:
            if timeout is not None and time.monotonic() - begun >= timeout:
                raise ConnectTimeoutError(self, str(error)) from error
            raise NewConnectionError(self, str(error)) from error
        if isinstance(self, HTTPSConnection):
            exchange.shake_hands(Step.TLS, f"{self.host}:{self.port}")
        return sock

    def connect(self) -> None:
        """Connect, with the handshakes of a proxy and of TLS, within the timeout."""
        try:
            super().connect()
        finally:  # see ``AbortableConnection.connect``
            self._check_time()

    def _tunnel(self) -> None:
        super()._tunnel()  # it takes the end of the connection for a success
        self._check_time()

    def _check_time(self) -> None:
        if current_exchange.get().overdue:
            raise ConnectTimeoutError(self, "A handshake timed out.")

    def request(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        """Send a request; connect before if need be."""
        exchange = current_exchange.get()
        if self.sock is None:
            self.connect()
        assert isinstance(exchange, _Request)
        self._exchange = exchange
        exchange.use(self.sock, f"{self.host}:{self.port}")
        super().request(*args, **kwargs)
        exchange.sent()

    def getresponse(self) -> typing.Any:
        """Wait for the head of a response.

        ``http.client`` closes a connection here if it is not to be used again, though the body is
        still to be read from its socket: that is no end of the request.
        """
        request, self._exchange = self._exchange, None
        try:
            return super().getresponse()
        except Exception:
            if request is not None:
                request.check()
            raise
        finally:
            self._exchange = request

    def release(self) -> None:
        """Let go of the request; close the connection if that was aborted."""
        request, self._exchange = self._exchange, None
        if request is not None:
            request.let_go()
            if request.aborted:
                self.close()

    def close(self) -> None:
        """Close the connection."""
        request, self._exchange = self._exchange, None
        if request is not None:
            request.let_go()
        super().close()


class _TLSConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _PoolMixin(urllib3.HTTPConnectionPool):
    dialer: Dialer

    def _new_conn(self) -> typing.Any:
        conn: typing.Any = super()._new_conn()
        conn.dialer = self.dialer
        return conn

    def _put_conn(self, conn: typing.Any) -> None:
        if conn is not None:
            conn.release()
        super()._put_conn(conn)


class _HTTPPool(_PoolMixin, urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _HTTPSPool(_PoolMixin, urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Response(requests.Response):
    """A response that comes in pieces, and whose body does not seem to end if it was aborted."""

    exchange: _Request
    _content_consumed: bool

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[typing.Any]:
        """See ``requests``."""
        if chunk_size is None and not self._content_consumed:
            chunk_size = PIECE_BYTES  # else all that comes at once would be inflated at once
        return self._until_aborted(super().iter_content(chunk_size, decode_unicode))

    def _until_aborted(self, pieces: Iterator[typing.Any]) -> Iterator[typing.Any]:
        try:
            for piece in pieces:
                self.exchange.give_way()
                yield piece
        except Exception:
            self.exchange.check()
            raise
        self.exchange.check()

    def iter_lines(
        self,
        chunk_size: int | None = ITER_CHUNK_SIZE,
        decode_unicode: bool = False,
        delimiter: typing.Any = None,
    ) -> Iterator[typing.Any]:
        """See ``requests``, which goes over a long line again with each piece of it."""
        if delimiter:
            yield from super().iter_lines(chunk_size, decode_unicode, delimiter)
            return
        begun: list[typing.Any] = []
        for piece in self.iter_content(chunk_size, decode_unicode):
            for line in piece.splitlines(keepends=True):
                begun.append(line)
                if (ended := line.splitlines()[0]) != line:
                    begun[-1] = ended
                    yield piece[:0].join(begun)
                    begun.clear()
        if begun:
            yield begun[0][:0].join(begun)

    @property
    def content(self) -> typing.Any:
        """See ``requests``. A file is as large as its pieces; to join them would take a while."""
        if not self._content_consumed and self.raw is not None:
            body = io.BytesIO()
            for piece in self.iter_content(PIECE_BYTES):
                body.write(piece)
            self._content = body.getvalue()
        return super().content


class _Adapter(requests.adapters.HTTPAdapter):
    """The transport of such a session."""

    def __init__(self, handle: AbortHandle, resolver: Resolver, calls: Calls, turns: Turns) -> None:
        self._handle = handle
        self._resolver = resolver
        self._calls = calls
        self._turns = turns
        super().__init__()

    @property
    def max_retries(self) -> Retry:
        """See ``requests``. A Stop ends the pause before another try, too."""
        return self._max_retries

    @max_retries.setter
    def max_retries(self, retries: Retry | int) -> None:
        self._max_retries = _with_abortable_pauses(Retry.from_int(retries), self._handle)

    def send(
        self, request: requests.PreparedRequest, *args: typing.Any, **kwargs: typing.Any
    ) -> requests.Response:
        """Send one request; see ``requests``.

        :raises requests.exceptions.InvalidProxyURL: if its proxy can't be used. Unlike the error of
            ``requests``, it does not repeat the proxy's URL, which may have a password.
        """
        name = f"{request.method} {urlsplit(request.url or '').hostname or ''}"
        exchange = _Request(self._handle, self._calls, self._turns, name)
        token = current_exchange.set(exchange)
        try:
            _check_proxy(request.url or "", kwargs.get("proxies") or {})
            response = super().send(request, *args, **kwargs)
        except BaseException as error:
            exchange.failure = type(error).__name__
            exchange.fail()
            exchange.end()
            self._handle.check()
            raise
        finally:
            current_exchange.reset(token)
        exchange.status = response.status_code
        exchange.answered()
        return response

    def build_response(self, req: requests.PreparedRequest, resp: typing.Any) -> requests.Response:
        """See ``requests``."""
        response = _Response()
        response.__dict__.update(super().build_response(req, resp).__dict__)
        exchange = current_exchange.get()
        assert isinstance(exchange, _Request)
        response.exchange = exchange
        return response

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: typing.Any, cert: typing.Any = None
    ) -> typing.Any:
        """See ``requests``. By default one context of TLS serves all: to make one takes long."""
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        if verify is True and cert is None:
            options["ssl_context"] = _default_context()
        return host, options

    def cert_verify(self, conn: typing.Any, url: str, verify: typing.Any, cert: typing.Any) -> None:
        """See ``requests``. The default context has its certificates already."""
        if verify is True and cert is None:
            conn.cert_reqs = "CERT_REQUIRED"
        else:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]

    def init_poolmanager(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **kwargs)
        _dial_by(self.poolmanager, Dialer(self._resolver))

    def proxy_manager_for(self, proxy: str, **kwargs: typing.Any) -> typing.Any:
        """Make the pools of connections through a proxy, once for each."""
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        if is_socks(proxy):
            manager: typing.Any = urllib3.PoolManager(maxsize=requests.adapters.DEFAULT_POOLSIZE)
            self.proxy_manager[proxy] = _dial_by(manager, SocksDialer(proxy, self._resolver))
        else:
            _dial_by(super().proxy_manager_for(proxy, **kwargs), Dialer(self._resolver))
        return self.proxy_manager[proxy]


def _check_proxy(url: str, named: typing.Mapping[str, str]) -> None:
    try:
        proxy_for(url, named)
    except ConfigError as error:
        raise requests.exceptions.InvalidProxyURL(str(error)) from None


def _with_abortable_pauses(retries: Retry, handle: AbortHandle) -> Retry:
    """The same retries, whose pauses end with a handle."""

    class AbortableRetry(type(retries)):  # type: ignore[misc]  # it makes more of its own type
        def sleep(self, response: typing.Any = None) -> None:
            asked_for = None
            if self.respect_retry_after_header and response is not None:
                asked_for = self.get_retry_after(response)
            handle.sleep(asked_for or self.get_backoff_time())

    abortable = copy.copy(retries)
    abortable.__class__ = AbortableRetry
    return abortable


def _dial_by(manager: typing.Any, dialer: Dialer) -> typing.Any:
    """Have the pools of a manager connect by this dialer."""
    manager.pool_classes_by_scheme = {
        scheme: type(kind.__name__, (kind,), {"dialer": dialer})
        for scheme, kind in (("http", _HTTPPool), ("https", _HTTPSPool))
    }
    return manager


@functools.cache
def _default_context() -> ssl.SSLContext:
    return tls_context(True)
