"""Connections to DeepSeek that can be aborted from any thread, in every phase, by their ``Line``.

The classes below are urllib3's own, but for three steps: connecting (``route``), sending the
request, and making the object for the answer, whose body is read without urllib3. They find the
line of the present call in a context variable.
"""

from __future__ import annotations

import socket
import ssl
import typing
from contextvars import ContextVar

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from .body import Body
from .line import Line, Step, plain_socket
from .route import Route

#: The line of the call that runs in this thread (or greenlet).
current_line: ContextVar[Line] = ContextVar("chatproxy_current_line")


class _AbortableMixin(HTTPConnection):
    #: How the other end is reached; its pool sets this.
    route: Route
    #: The line of the call that uses this connection now.
    line: Line | None = None
    #: The parts of the request that is being made.
    _unsent: list[bytes] | None = None

    def _new_conn(self) -> socket.socket:
        """Connect to the upstream, or to the HTTP proxy before it; urllib3 goes on from there."""
        line = current_line.get()
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        sock = self.route.open(line, self._dns_host.strip("[]"), self.port, timeout)
        line.enter(Step.TLS, f"{self.host}:{self.port}")  # if there is any
        return sock

    def _tunnel(self) -> None:
        line = current_line.get()
        line.enter(Step.PROXY, f"{self.host}:{self.port}")
        super()._tunnel()
        line.enter(Step.TLS, f"{self._tunnel_host}:{self._tunnel_port}")

    @property
    def is_connected(self) -> bool:
        """Whether it is open, and nothing has come that nobody asked for; for the pool."""
        descriptor = -1 if self.sock is None else self.sock.fileno()
        if descriptor < 0:
            return False
        plain = plain_socket(descriptor)
        try:
            plain.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        finally:
            plain.detach()
        return False

    def request(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        line = current_line.get()
        if self.sock is None:
            self.connect()
        # Also checks the flag: once aborted, no byte of a request is sent.
        line.connected(self.sock)
        self.line = line
        self._unsent = []
        try:
            super().request(*args, **kwargs)
        finally:
            request, self._unsent = b"".join(self._unsent), None
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

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, **kwargs: typing.Any
    ) -> Body:
        """Make the object for an answer, as ``http.client`` does by this attribute."""
        body = Body(sock, **kwargs)
        if self.line is not None:
            self.line.body = body
        return body


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
        if conn is not None and conn.line is not None:
            conn.line.close()
            if conn.line.aborted:
                conn.close()  # a whole answer had come before, but its socket is shut
            conn.line = None
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
