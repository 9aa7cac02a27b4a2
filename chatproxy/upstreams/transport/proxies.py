"""The way to a host: straight, or through the proxy that the environment names for it.

HTTP proxies are urllib3's business: it connects to one as to any other host. The handshake with a
SOCKS proxy is python-socks', on a connection of our own, which a Stop ends as any other. The
names are those of ``requests``: ``socks5`` and ``socks4`` look the host up here, ``socks5h`` and
``socks4a`` leave that to the proxy.
"""

from __future__ import annotations

import socket
import typing
from urllib.parse import unquote, urlsplit

import python_socks
import python_socks.sync
import requests.utils

from ...answers.abort import Line, Step, Unreachable
from ...errors import ConfigError
from .dialer import Dialer

_SOCKS = {
    "socks4": python_socks.ProxyType.SOCKS4,
    "socks4a": python_socks.ProxyType.SOCKS4,
    "socks5": python_socks.ProxyType.SOCKS5,
    "socks5h": python_socks.ProxyType.SOCKS5,
}
_REMOTE_NAMES = frozenset({"socks4a", "socks5h"})
_DEFAULT_PORT = 1080
_LONGEST_CREDENTIAL = 255  # RFC 1929, section 2


class Route:
    """The straight way."""

    def __init__(self) -> None:
        self._dialer = Dialer()

    def open(self, line: Line, host: str, port: int, timeout: float | None) -> socket.socket:
        """Connect to a host.

        :param timeout: seconds for each step, and for what is done on the connection next.
        :raises Aborted: if the line's ``abort`` comes first.
        :raises Unreachable: if it can't be had.
        """
        return self._dialer.dial(line, host, port, timeout)


class SocksRoute(Route):
    """The way through a SOCKS proxy (RFC 1928, RFC 1929, and SOCKS 4).

    :param url: the proxy's, with a user and password if it wants one.
    :raises ConfigError: if it can't be used.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
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
                raise ConfigError("The user and password of a SOCKS proxy must be short ASCII.")

    def open(self, line: Line, host: str, port: int, timeout: float | None) -> socket.socket:
        """Connect to a host through the proxy, as ``Route.open`` does."""
        if not self._remote_names:
            host = self._look_up(line, host, port, timeout)
        sock = super().open(line, self._host, self._port, timeout)
        line.enter(Step.PROXY, f"{self._host}:{self._port}")
        try:
            self._shake_hands(sock, host, port)
        except BaseException:
            sock.close()
            raise
        return sock

    def _look_up(self, line: Line, host: str, port: int, timeout: float | None) -> str:
        line.enter(Step.LOOK_UP, host)
        found = self._dialer.resolver.resolve(line, host, port, timeout)
        # The proxy may have no IPv6, and SOCKS 4 has none.
        found.sort(key=lambda address: address[0] != socket.AF_INET)
        return str(found[0][4][0])

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
    """Stands for a proxy that leads to the SOCKS proxy: the connection that there is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def connect(self, *_: typing.Any, **__: typing.Any) -> socket.socket:
        return self._sock


def proxy_for(url: str, named: typing.Mapping[str, str]) -> str | None:
    """The URL of the proxy that ``requests`` would use for ``url``; None for no proxy.

    :param named: the proxies that the environment names, by what they are for.
    :raises ConfigError: if it can't be used.
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
