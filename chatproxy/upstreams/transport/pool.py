"""The pools of connections, one for each address, as ``requests`` is given them: its adapter.

A connection is taken from the pool for one request, and comes back when its response has been read
or the call has ended. What happens to it in between, and when it may come back, is told in
``connection``. A pool belongs to an address, whatever keys are sent there: HTTP/1.1 keeps nothing
of a request for the next one on its connection. urllib3 forgets the pool that was not used for
longest if there are more than ``MOST_POOLS``; how many connections all of them keep, ``idle`` says.
"""

from __future__ import annotations

import ssl
import typing
from collections.abc import Callable
from functools import partial

import requests.adapters
import urllib3

from .connection import AbortableConnection, AbortableTLSConnection
from .dialer import Dialer
from .exchange import current_exchange
from .idle import IdleConnections, Places

#: The most addresses that have a pool.
MOST_POOLS = 100


class _PoolMixin(urllib3.HTTPConnectionPool):
    QueueCls: typing.Any = Places
    dialer: Dialer
    idle: IdleConnections

    def _new_conn(self) -> typing.Any:
        conn: typing.Any = super()._new_conn()
        conn.dialer, conn.idle = self.dialer, self.idle
        return conn

    def _get_conn(self, timeout: float | None = None) -> typing.Any:
        conn: typing.Any = super()._get_conn(timeout)
        if conn.is_kept and current_exchange.get().is_large:
            conn.close()  # it connects again; see ``connection``
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
        places: typing.Any = self.pool  # None if the pool is closed
        super()._put_conn(conn)
        if conn is not None and conn.is_kept and places is not None:
            self.idle.put(conn, places)


class _HTTPPool(_PoolMixin, urllib3.HTTPConnectionPool):
    ConnectionCls = AbortableConnection


class _HTTPSPool(_PoolMixin, urllib3.HTTPSConnectionPool):
    ConnectionCls = AbortableTLSConnection


class AbortableAdapter(requests.adapters.HTTPAdapter):
    """The transport of ``requests``, with connections that an ``Exchange`` can abort.

    :param dialer_for: what connects to the host of a URL.
    :param idle: what keeps connections between two requests, those of other adapters among them.
    :param tls: gives the context for TLS, with the certificates that are trusted.
    :param pool_maxsize: the most connections that a pool keeps.
    """

    def __init__(
        self,
        dialer_for: Callable[[str], Dialer],
        idle: IdleConnections,
        tls: Callable[[], ssl.SSLContext],
        pool_maxsize: int,
    ) -> None:
        self._dialer_for = dialer_for
        self._idle = idle
        self._tls = tls
        #: The pool, and the target of the request line, for the URLs of late.
        self._pools: dict[str, typing.Any] = {}
        self._targets: dict[str, str] = {}
        super().__init__(pool_connections=MOST_POOLS, pool_maxsize=pool_maxsize)

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *args: typing.Any, **kwargs: typing.Any
    ) -> typing.Any:
        """The pool for a request. To find it takes long, and nearly all go to the same few URLs."""
        url = request.url or ""
        pool: typing.Any = self._pools.get(url)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, *args, **kwargs)
            pool.dialer, pool.idle = self._dialer_for(url), self._idle
            _remember(self._pools, url, pool)
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: typing.Any) -> str:
        """The target of the request line; likewise."""
        url = request.url or ""
        target = self._targets.get(url)
        if target is None:
            target = super().request_url(request, proxies)
            _remember(self._targets, url, target)
        return target

    def build_response(self, req: requests.PreparedRequest, resp: typing.Any) -> requests.Response:
        """Make the response as ``requests`` does, but for cookies and an encoding."""
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = resp.headers
        response.raw, response.connection = resp, self
        response.request, response.url = req, req.url or ""
        return response

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: typing.Any, cert: typing.Any = None
    ) -> tuple[typing.Any, typing.Any]:
        """What a pool is found by, and made with: one context of TLS for all."""
        host: typing.Any
        options: typing.Any
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            options["ssl_context"] = self._tls()
        return host, options

    def init_poolmanager(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        """Make the pools of connections to upstreams."""
        super().init_poolmanager(*args, **kwargs)
        self._use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: typing.Any) -> typing.Any:
        """Make the pools of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._use_our_pools(manager)
        return manager

    def cert_verify(self, conn: typing.Any, *_: typing.Any) -> None:
        """Leave the certificates to the context; requests would load them for each connection."""
        conn.cert_reqs = "CERT_REQUIRED"

    @staticmethod
    def _use_our_pools(manager: typing.Any) -> None:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def _remember(known: dict[str, typing.Any], url: str, found: typing.Any) -> None:
    """Remember what was found for a URL; all is forgotten when there is too much."""
    if len(known) >= MOST_POOLS:
        known.clear()
    known[url] = found
