"""The endpoint of an upstream: its address, its key, its pool of connections.

Rules:

* What the environment says of proxies and certificates is asked once, at the start.
* Redirects are not followed: they would carry the key elsewhere. Cookies are not kept: the session
  is shared by all users.
* No text of DeepSeek's leaves here with the key in it (``without_key``).
"""

from __future__ import annotations

import os
import ssl
from typing import Any
from urllib.parse import urlsplit

import certifi
import requests
from requests.cookies import RequestsCookieJar
from urllib3.connection import port_by_scheme
from urllib3.util import parse_url

from ..config import Settings
from ..errors import ConfigError
from .transport.dialer import Dialer, Resolver
from .transport.pool import AbortableAdapter
from .transport.proxies import SocksDialer, is_socks, proxy_for

#: How many connections without an answer are kept for the next ones.
KEPT_CONNECTIONS = 100
#: How much of the beginning of the key may be read by anybody.
_HARMLESS = 6


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

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Where a redirect leads is not even looked at; else its body would be read here."""


class Endpoint:
    """The address, the key and the connections of one application's upstream.

    :param resolver: finds the addresses of its host.
    :raises ConfigError: if the environment names certificates or a proxy that can't be used.
    """

    def __init__(self, settings: Settings, resolver: Resolver) -> None:
        self.base_url = settings.base_url
        self.url = f"{settings.base_url}/chat/completions"
        self.path = urlsplit(self.url).path
        #: How often one question is sent at the most.
        self.tries = settings.tries
        self._key = settings.api_key
        self._timeout = (settings.connect_timeout, None)  # silence is the watchdog's business
        headers = {
            "Host": _host_of(self.url),
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            # A compressed stream arrives in lumps.
            "Accept-Encoding": "identity",
            "User-Agent": "chatproxy",
        }
        if settings.api_key:
            headers["Authorization"] = f"Bearer {settings.api_key}"
        self._template = requests.Request("POST", self.url, headers=headers).prepare()
        # Asked once. Nothing else is taken from the environment; a netrc would replace the key.
        with requests.Session() as session:
            found = session.merge_environment_settings(self.url, {}, True, None, None)
        proxy = None if settings.upstream_is_local else proxy_for(self.url, found["proxies"])
        self._proxies: dict[str, str] = {}
        dialer = Dialer(resolver)
        if proxy is not None and is_socks(proxy):
            dialer = SocksDialer(proxy, resolver)
        elif proxy is not None:
            self._proxies = {urlsplit(self.url).scheme: proxy}
        tls = _tls_context(found["verify"]) if self.url.startswith("https:") else None
        self._session = _Session(AbortableAdapter(dialer, tls, pool_maxsize=KEPT_CONNECTIONS))

    def prepare(self, body: bytes) -> requests.PreparedRequest:
        """The request for one answer: a copy of a prepared one, as preparing takes longer."""
        request = requests.PreparedRequest()
        request.method, request.url = self._template.method, self._template.url
        request.headers = self._template.headers.copy()
        request.headers["Content-Length"] = str(len(body))
        request.body = body
        return request

    def prepare_get(self, path: str) -> requests.PreparedRequest:
        """The request for a document of the upstream.

        :param path: below the base URL.
        """
        request = self.prepare(b"")
        request.method, request.url, request.body = "GET", f"{self.base_url}{path}", None
        request.headers["Accept"] = "application/json"
        for name in ("Content-Type", "Content-Length"):
            del request.headers[name]
        return request

    def send(self, request: requests.PreparedRequest) -> requests.Response:
        """Send it, and return as soon as the headers of an answer have come."""
        return self._session.send(
            request,
            stream=True,
            timeout=self._timeout,
            proxies=self._proxies,
            allow_redirects=False,
            verify=True,
            cert=None,
        )

    def without_key(self, text: str) -> str:
        """This text without the key, which DeepSeek may repeat; one printable line of it.

        The text may be cut amid the key.
        """
        printable = "".join(each if each.isprintable() else " " for each in text)
        line = " ".join(printable.split())
        if self._key:
            line = line.replace(self._key, "***")
            for length in range(len(self._key) - 1, _HARMLESS, -1):
                if line.endswith(self._key[:length]):
                    line = line[:-length] + "***"
        return line[:1000]

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()


def _host_of(url: str) -> str:
    """The field ``Host`` (RFC 9110, section 7.2); with the port if it is not the scheme's own."""
    parts = parse_url(url)
    has_usual_port = parts.port == port_by_scheme.get(parts.scheme or "")
    return str(parts.host if has_usual_port else parts.netloc)


def _tls_context(verify: Any) -> ssl.SSLContext:
    """One context for all connections: loading the certificates takes milliseconds.

    :param verify: the file or folder of certificates that the environment names, or True.
    """
    path = certifi.where() if verify is True else str(verify)
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ConfigError(f"The certificates at {path!r} cannot be used.") from error
