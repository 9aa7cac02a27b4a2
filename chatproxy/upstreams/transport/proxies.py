"""Proxies: which one the environment names for a host, and how a SOCKS proxy is used.

HTTP proxies are urllib3's business: it connects to one as to any other host (``connection``). The
handshake with a SOCKS proxy is python-socks', on a connection of our own, so that an abort ends it
like any other wait. The schemes are those of ``requests``: with ``socks5`` and ``socks4`` the host
is looked up here, with ``socks5h`` and ``socks4a`` by the proxy.
"""

from __future__ import annotations

import socket
import time
import typing
from urllib.parse import unquote, urlsplit

import python_socks
import python_socks.sync
import requests.utils

from ...errors import ConfigError
from .dialer import Dialer, Resolver
from .exchange import Exchange, Step, Unreachable

_SOCKS = {
    "socks4": python_socks.ProxyType.SOCKS4,
    "socks4a": python_socks.ProxyType.SOCKS4,
    "socks5": python_socks.ProxyType.SOCKS5,
    "socks5h": python_socks.ProxyType.SOCKS5,
}
_REMOTE_NAMES = frozenset({"socks4a", "socks5h"})
_DEFAULT_PORT = 1080
_LONGEST_CREDENTIAL = 255  # RFC 1929, section 2


class SocksDialer(Dialer):
    """Connects to hosts through a SOCKS proxy (RFC 1928, RFC 1929, and SOCKS 4).

    :param url: the proxy's, with a user and password if it wants one.
    :raises ConfigError: if it can't be used.
    """

    def __init__(self, url: str, resolver: Resolver) -> None:
        super().__init__(resolver)
        parts = urlsplit(url)
        self._kind = _SOCKS[parts.scheme.lower()]
        self._remote_names = parts.scheme.lower() in _REMOTE_NAMES
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORT
        self._user, self._password = (
            value and unquote(value) for value in (parts.username, parts.password)
        )
        for value in filter(None, (self._user, self._password)):
            if not value.isascii() or len(value) > _LONGEST_CREDENTIAL:
                raise ConfigError(
                    "The user and password of a SOCKS proxy must be short ASCII (255 at most)."
                )

    def dial(
        self, exchange: Exchange, host: str, port: int, timeout: float | None
    ) -> socket.socket:
        """Connect to a host through the proxy, as ``Dialer.dial`` does."""
        begun = time.monotonic()
        if not self._remote_names:
            found = self.look_up(exchange, host, port, timeout)
            # The proxy may have no IPv6, and SOCKS 4 has none.
            found.sort(key=lambda address: address[0] != socket.AF_INET)
            host = str(found[0][4][0])
        sock = self._dial(exchange, (self._host, self._port), timeout, begun)
        try:
            exchange.shake_hands(Step.PROXY, f"{self._host}:{self._port}")
            self._shake_hands(sock, host, port)
        except BaseException:
            sock.close()
            raise
        return sock

    def _shake_hands(self, sock: socket.socket, host: str, port: int) -> None:
        socks = python_socks.sync.Proxy(
            self._kind,
            self._host,
            self._port,
            self._user,
            self._password,
            rdns=True,
            forward=_Connected(sock),
        )
        try:
            socks.connect(host, port)
        except TimeoutError as error:
            raise Unreachable(f"timed out after {sock.gettimeout():g} s") from error
        except (python_socks.ProxyError, OSError, ValueError) as error:
            raise Unreachable(str(error)) from error


class _Connected(python_socks.sync.Proxy):
    """What python-socks takes for a proxy before the SOCKS proxy: the connection that there is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def connect(self, *_: typing.Any, **__: typing.Any) -> socket.socket:
        return self._sock


def proxy_for(url: str, named: typing.Mapping[str, str]) -> str | None:
    """The URL of the proxy that ``requests`` would use for ``url``; None if it would use none.

    :param named: the proxies that the environment names, by scheme or by scheme and host.
    :raises ConfigError: if the proxy can't be used.
    """
    proxy = requests.utils.select_proxy(url, dict(named))
    if not proxy:
        return None
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = parts.scheme.lower() in {"http", "https", *_SOCKS} and parts.hostname
        _ = parts.port
    except ValueError:
        usable = None
    if not usable:
        raise ConfigError(
            "The environment names a proxy that can't be used; its URL must be of the kind "
            "http://, https://, socks5://, socks5h://, socks4:// or socks4a://."
        )
    return parts.geturl()


def is_socks(proxy: str) -> bool:
    """Whether a proxy of this URL speaks SOCKS."""
    return urlsplit(proxy).scheme.lower() in _SOCKS
