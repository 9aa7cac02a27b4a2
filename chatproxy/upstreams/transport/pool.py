"""The pool of connections to one upstream, as ``requests`` is given it: its transport adapter.

A connection is taken from the pool for one request, and comes back when its response has been read
or the call has ended. What happens to it in between, and when it may come back, is told in
``connection``.
"""

from __future__ import annotations

import ssl
import typing
from functools import partial

import requests.adapters
import urllib3

from .connection import AbortableConnection, AbortableTLSConnection
from .dialer import Dialer


class _PoolMixin(urllib3.HTTPConnectionPool):
    dialer: Dialer

    def _new_conn(self) -> typing.Any:
        conn: typing.Any = super()._new_conn()
        conn.dialer = self.dialer
        return conn

    def _make_request(  # type: ignore[override]
        self,
        conn: typing.Any,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: typing.Any = None,
        **_: typing.Any,
    ) -> typing.Any:
        """Have a connection ask; urllib3 would do so by way of ``http.client``."""
        self._validate_conn(conn)  # connects it if there is TLS
        response = conn.ask(method, url, headers, body)
        response.give_back = partial(self._put_conn, conn)
        return response

    def _put_conn(self, conn: typing.Any) -> None:
        """Take a connection back; another call may have it as soon as this is done."""
        if conn is not None:
            conn.release()
        if conn is not None and self.pool is not None and self.pool.full():
            conn.close()  # one too many to keep; urllib3 would warn of each
            return
        super()._put_conn(conn)


class _HTTPPool(_PoolMixin, urllib3.HTTPConnectionPool):
    ConnectionCls = AbortableConnection


class _HTTPSPool(_PoolMixin, urllib3.HTTPSConnectionPool):
    ConnectionCls = AbortableTLSConnection


class AbortableAdapter(requests.adapters.HTTPAdapter):
    """The transport of ``requests``, with connections that an ``Exchange`` can abort.

    :param dialer: connects to hosts.
    :param tls: the context for TLS, with the certificates that are trusted; None without TLS.
    """

    def __init__(self, dialer: Dialer, tls: ssl.SSLContext | None, pool_maxsize: int) -> None:
        self._dialer = dialer
        self._tls = tls
        self._pool: typing.Any = None
        self._targets: dict[str | None, str] = {}
        super().__init__(pool_maxsize=pool_maxsize)

    def get_connection_with_tls_context(
        self, *args: typing.Any, **kwargs: typing.Any
    ) -> typing.Any:
        """The pool of connections. It is found once, as all requests go to the same address."""
        if self._pool is None:
            pool: typing.Any = super().get_connection_with_tls_context(*args, **kwargs)
            pool.dialer = self._dialer
            self._pool = pool
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: typing.Any) -> str:
        """The target of the request line. It is found once for each of the few addresses."""
        if request.url not in self._targets:
            self._targets[request.url] = super().request_url(request, proxies)
        return self._targets[request.url]

    def build_response(self, req: requests.PreparedRequest, resp: typing.Any) -> requests.Response:
        """Make the response as ``requests`` does, but for cookies and an encoding."""
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = resp.headers
        response.raw, response.connection = resp, self
        response.request, response.url = req, req.url or ""
        return response

    def init_poolmanager(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        """Make the pools of connections to upstreams."""
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
