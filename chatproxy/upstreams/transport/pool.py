"""Connections to DeepSeek that can be aborted from any thread, in every phase, by their ``Line``.

The classes below are urllib3's own, but for three steps: connecting (``route``), sending the
request, and making the object for the answer, which is read without urllib3. They find the line of
the present call in a context variable.

A connection that is used again could give one user what was sent for another. So it goes back to
the pool only if the answer to the request that was sent on it was read to its end, and nothing came
after that; and it is taken from there only if nothing has come since (``release`` and
``is_connected``). Whatever else there is on it, and whoever gives it back, it is closed.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import typing
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar

import requests.adapters
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3.connection import HTTPConnection, HTTPSConnection

from ...answers.abort import Line, Step, Unreachable
from ...answers.coroutines import NOTHING_YET
from ...sockets import plain_socket
from .body import Body
from .http1 import Malformed
from .route import Route

#: For how many seconds a connection is kept without an answer. Servers close one after a minute, as
#: a rule, and what lies between may forget it without a word. A request that is sent just then may
#: be lost, and must not be sent again; another connection costs a few round trips.
KEPT_SECONDS = 30.0

#: The line of the call that runs in this thread (or greenlet).
current_line: ContextVar[Line] = ContextVar("chatproxy_current_line")


class _AbortableMixin(HTTPConnection):
    #: How the other end is reached; its pool sets this.
    route: Route
    #: The line of the call that uses this connection now.
    line: Line | None = None
    #: What came in answer to the latest request, from its head on.
    answer: Body | None = None
    #: Since when it has been kept without an answer, by the monotonic clock; None before.
    _kept_since: float | None = None
    #: The parts of the request that is being made.
    _unsent: list[bytes] | None = None

    def _new_conn(self) -> socket.socket:
        """Connect to the upstream, or to the HTTP proxy before it; urllib3 goes on from there."""
        line = current_line.get()
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        sock = self.route.open(line, self._dns_host.strip("[]"), self.port, timeout)
        line.enter(Step.TLS, f"{self.host}:{self.port}")  # if there is any
        return sock

    def set_tunnel(
        self,
        host: str,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
        scheme: str = "http",
    ) -> None:
        """Have ``connect`` ask a proxy for a tunnel to this address."""
        super().set_tunnel(host, port=port, headers=headers, scheme=scheme)
        self._tunnel_authority = f"{host}:{port}"
        self._tunnel_fields = {"Host": self._tunnel_authority, **(headers or {})}

    def _tunnel(self) -> None:
        """Ask for it (RFC 9110, section 9.3.6)."""
        line = current_line.get()
        line.enter(Step.PROXY, f"{self.host}:{self.port}")
        lines = [f"{name}: {value}" for name, value in self._tunnel_fields.items()]
        request = [f"CONNECT {self._tunnel_authority} HTTP/1.1", *lines, "", ""]
        self.send("\r\n".join(request).encode("latin-1"))
        answer = Body(self.sock, method="CONNECT")
        answer.begin()
        if not 200 <= answer.status < 300:
            self.close()
            raise OSError(f"Tunnel connection failed: {answer.status} {answer.reason}")
        if answer.exceeded:
            raise Malformed("Something came through a tunnel before anything was asked for.")
        line.enter(Step.TLS, self._tunnel_authority)

    @property
    def is_connected(self) -> bool:
        """Whether it may be used again; for the pool, which closes it if not."""
        if self._kept_since is None or time.monotonic() - self._kept_since > KEPT_SECONDS:
            return False
        return _is_quiet(self.sock)

    def release(self) -> None:
        """Let go of the call; close the connection unless another may use it."""
        line, answer = self.line, self.answer
        self.line = self.answer = None
        if line is not None:
            line.close()
        aborted = line is None or line.aborted
        if answer is not None and answer.reusable and not aborted and self._is_at_rest():
            answer.close()
            self._kept_since = time.monotonic()
        else:
            self.close()

    def _is_at_rest(self) -> bool:
        """Whether nothing comes after an answer, as far as can be told.

        By Nagle's algorithm the other side may hold back what it has written since, until what came
        before is acknowledged; by default that waits for the next request, with which what was held
        back would come, as its answer.
        """
        if self.sock is not None and (descriptor := self.sock.fileno()) >= 0:
            # The option is Linux's, and TCP's.
            with suppress(OSError, AttributeError), plain_socket(descriptor) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return _is_quiet(self.sock)

    def close(self) -> None:
        """Close the connection; it can be connected again."""
        self._kept_since = None
        super().close()

    def request(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        line = current_line.get()
        if self.sock is None:
            self.connect()
        # Also checks the flag: once aborted, no byte of a request is sent.
        host, port = self._tunnel_host or self.host, self._tunnel_port or self.port
        line.connected(self.sock, f"{host}:{port}")
        self.line = line
        self.answer = None
        self._unsent = []
        try:
            super().request(*args, **kwargs)
        finally:
            request, self._unsent = b"".join(self._unsent), None
        if self._kept_since is not None and not _is_quiet(self.sock):
            raise Unreachable("something came that was not asked for")
        # Whatever takes too long from here on is ended by the clock, as if by a Stop.
        self.sock.settimeout(None)
        super().send(request)
        line.sent()

    def send(self, data: typing.Any) -> None:
        """Send the head and the body of a request together, not one after the other."""
        if self._unsent is None:
            super().send(data)
        else:
            self._unsent.append(data)

    def getresponse(self) -> typing.Any:
        """Wait for the head of the answer; make of it what urllib3 does, without a copy of it."""
        assert self._response_options is not None
        answer: typing.Any = http.client.HTTPConnection.getresponse(self)
        options, self._response_options = self._response_options, None
        return urllib3.HTTPResponse(
            body=answer,
            headers=answer.msg,
            status=answer.status,
            version=answer.version,
            reason=answer.reason,
            original_response=answer,
            **options._asdict(),
        )

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, **kwargs: typing.Any
    ) -> Body:
        """Make the object for an answer, as ``http.client`` does by this attribute."""
        self.answer = Body(sock, **kwargs)
        if self.line is not None:
            self.line.body = self.answer
        return self.answer


def _is_quiet(sock: socket.socket | None) -> bool:
    """Whether a connection is open and nothing has come; if something has, it must be closed.

    A byte is read, not looked at, as only so TLS tells what it holds, be it a goodbye.
    """
    if sock is None:
        return False
    timeout = sock.gettimeout()
    try:
        sock.settimeout(0.0)
        sock.recv(1)
    except NOTHING_YET:
        sock.settimeout(timeout)
        return True
    except (OSError, ValueError):  # it is closed, or TLS on it has ended
        pass
    return False


class _AbortableHTTPConnection(_AbortableMixin, HTTPConnection):
    pass


class _AbortableHTTPSConnection(_AbortableMixin, HTTPSConnection):
    pass


class _PoolMixin(urllib3.HTTPConnectionPool):
    route: Route

    def _new_conn(self) -> typing.Any:
        conn: typing.Any = super()._new_conn()
        conn.route = self.route
        return conn

    def _put_conn(self, conn: typing.Any) -> None:
        """Take a connection back. From here on another call may have it, so the last lets go."""
        if conn is not None:
            conn.release()
        if conn is not None and self.pool is not None and self.pool.full():
            conn.close()  # one too many to keep; urllib3 would warn of each
            return
        super()._put_conn(conn)


class _HTTPPool(_PoolMixin, urllib3.HTTPConnectionPool):
    ConnectionCls = _AbortableHTTPConnection


class _HTTPSPool(_PoolMixin, urllib3.HTTPSConnectionPool):
    ConnectionCls = _AbortableHTTPSConnection


class AbortableAdapter(requests.adapters.HTTPAdapter):
    """The transport of ``requests``, with connections that a ``Line`` can abort.

    :param route: how to reach a host.
    :param tls: the context for TLS, with the certificates that are trusted; None without TLS.
    """

    def __init__(self, route: Route, tls: ssl.SSLContext | None, pool_maxsize: int) -> None:
        self._route = route
        self._tls = tls
        self._pool: typing.Any = None
        self._target: str | None = None
        super().__init__(pool_maxsize=pool_maxsize)

    def get_connection_with_tls_context(
        self, *args: typing.Any, **kwargs: typing.Any
    ) -> typing.Any:
        """The pool of connections. It is found once, as all requests go to the same address."""
        if self._pool is None:
            pool: typing.Any = super().get_connection_with_tls_context(*args, **kwargs)
            pool.route = self._route
            self._pool = pool
        return self._pool

    def request_url(self, *args: typing.Any, **kwargs: typing.Any) -> str:
        """What the request line asks for; found once, as the pool is."""
        if self._target is None:
            self._target = super().request_url(*args, **kwargs)
        return self._target

    def build_response(self, req: requests.PreparedRequest, resp: typing.Any) -> requests.Response:
        """Make the response of ``requests`` as it does, but for the cookies: none are kept."""
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = CaseInsensitiveDict(resp.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw, response.connection = resp, self
        response.request, response.url = req, req.url or ""
        return response

    def init_poolmanager(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        """Make the pools of connections to DeepSeek."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._tls)
        self._use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: typing.Any) -> typing.Any:
        """Make the pools of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs, ssl_context=self._tls)
        self._use_our_pools(manager)
        return manager

    def cert_verify(self, conn: typing.Any, *_: typing.Any) -> None:
        """Leave the certificates to the context; requests would load them for each connection."""
        conn.cert_reqs = "CERT_REQUIRED"

    @staticmethod
    def _use_our_pools(manager: typing.Any) -> None:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
