"""The connections of one application to all its upstreams: proxies, certificates, one account.

Rules:

* What the environment says of the proxy for an address is asked when that is first named, and what
  it says of certificates when TLS is first wanted. For the upstreams that are known at the start,
  that is the start.
* Redirects are not followed: they would carry the key elsewhere. Cookies are not kept: the session
  is shared by all users.
* Connections are shared by all who ask the same address, and ``KEPT_CONNECTIONS`` are kept at the
  most, whatever they lead to (``transport.pool``, ``transport.idle``).
"""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import certifi
import requests
from requests.cookies import RequestsCookieJar

from ..errors import ConfigError
from ..hosts import is_loopback
from ..masking import passwords_in
from .transport.connection import KEPT_SECONDS
from .transport.dialer import Dialer, Resolver
from .transport.idle import IdleConnections
from .transport.pool import MOST_POOLS, AbortableAdapter
from .transport.proxies import SocksDialer, is_socks, proxy_for

#: How many connections without an answer are kept for the next ones.
KEPT_CONNECTIONS = 100


class _NoCookies(RequestsCookieJar):
    """A jar that stays empty."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Keep none."""


class _Session(requests.Session):
    """Sends what it is given, and keeps nothing of the answers.

    Through a session, because that is what ``requests_mock`` takes the place of.
    """

    def __init__(self, adapter: requests.adapters.BaseAdapter) -> None:
        super().__init__()
        self.cookies = _NoCookies()
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def resolve_redirects(self, *_args: Any, **_kwargs: Any) -> Iterator[Any]:
        """Where a redirect leads is not even looked at; else its body would be read here."""
        return iter(())


class Way(NamedTuple):
    """How an address is reached: by an HTTP proxy, for ``requests``, and by a dialer.

    :ivar secrets: what a proxy is told, and nobody else.
    """

    proxies: dict[str, str]
    dialer: Dialer
    secrets: tuple[str, ...] = ()


class Connections:
    """See above. Safe to use from any thread.

    :param resolver: finds the addresses of hosts.
    :param connect_timeout: seconds for all steps until a request can be sent, together.
    """

    def __init__(self, resolver: Resolver, connect_timeout: float) -> None:
        self._resolver = resolver
        self._timeout = (connect_timeout, None)  # silence is the watchdog's business
        self._dialer = Dialer(resolver)
        self._ways: dict[tuple[str, str], Way] = {}
        #: The context for all TLS, as soon as there is any: loading it takes milliseconds.
        self._tls: ssl.SSLContext | None = None
        self._idle = IdleConnections(KEPT_CONNECTIONS, KEPT_SECONDS)
        self._session = _Session(
            AbortableAdapter(
                lambda url: self.way_to(url).dialer, self._idle, self._trusted, KEPT_CONNECTIONS
            )
        )

    def way_to(self, url: str) -> Way:
        """How the host of a URL is reached.

        :raises ConfigError: if the environment names certificates or a proxy that can't be used.
        """
        parts = urlsplit(url)
        address = parts.scheme, parts.netloc
        way = self._ways.get(address)
        if way is None:
            way = self._find_way(url, local=is_loopback(parts.hostname or ""))
            if len(self._ways) >= MOST_POOLS:
                self._ways.clear()
            self._ways[address] = way
        return way

    def _find_way(self, url: str, *, local: bool) -> Way:
        # Nothing else is taken from the environment; a netrc would replace the key.
        with requests.Session() as session:
            found = session.merge_environment_settings(url, {}, True, None, None)
        if url.startswith("https:") and self._tls is None:
            self._tls = tls_context(found["verify"])
        proxy = None if local else proxy_for(url, found["proxies"])
        if proxy is None:
            return Way({}, self._dialer)
        if is_socks(proxy):
            return Way({}, SocksDialer(proxy, self._resolver), _secrets_of(proxy))
        return Way({urlsplit(url).scheme: proxy}, self._dialer, _secrets_of(proxy))

    def _trusted(self) -> ssl.SSLContext:
        assert self._tls is not None  # since the way to the address was found
        return self._tls

    def send(self, request: requests.PreparedRequest, way: Way) -> requests.Response:
        """Send a request, and return as soon as the headers of an answer have come."""
        return self._session.send(
            request,
            stream=True,
            timeout=self._timeout,
            proxies=way.proxies,
            allow_redirects=False,
            verify=True,
            cert=None,
        )

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()
        self._idle.close()


def _secrets_of(proxy: str) -> tuple[str, ...]:
    """The password in a proxy's URL, and the login as ``Proxy-Authorization`` has it (RFC 7617)."""
    login = unquote(urlsplit(proxy).netloc.rpartition("@")[0])
    basic = b64encode(login.encode("latin-1", "replace")).decode()
    return (basic, *passwords_in(proxy)) if login else ()


def tls_context(verify: Any) -> ssl.SSLContext:
    """The context for TLS.

    :param verify: the file or folder of certificates that the environment names, or True.
    """
    path = certifi.where() if verify is True else str(verify)
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ConfigError(f"The certificates at {path!r} cannot be used.") from error
