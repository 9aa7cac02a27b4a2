"""The allowed ``Host`` headers: protection against DNS rebinding.

A stranger's page can make its own name resolve to 127.0.0.1 (DNS rebinding). To the browser our
server is then that page's own origin, to which it may post. The ``Host`` header gives it away: it
still has the stranger's name (RFC 9110, 7.2). ``X-Forwarded-Host`` and the like are ignored,
because a page can send those.

``Hosts`` is the list. ``HostGuard`` is WSGI middleware that refuses everything else, before the
application sees it, with 421 (RFC 9110, 15.5.20: the request was sent to a server that does not
answer for this name). Health checks are always answered: probes use addresses, and learn only that
the process lives.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .errors import HostNotAllowed, Refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("chatproxy")

#: The names of any server on a loopback address.
LOOPBACK = ("localhost", ".localhost", "127.0.0.0/8", "::1/128")

#: A Host header (RFC 9110, 7.2): a name or an address, and perhaps a port.
_HOST = re.compile(r"(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])\.?(?::[0-9]*)?", re.I)

#: The start of a request's target in absolute form (RFC 9112, 3.2.2).
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://(?P<host>[^/?#]*)", re.I)

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class Hosts:
    """Host names, networks (``10.0.0.0/8``), domains (``.example.com``), or ``*`` for any.

    :raises ValueError: if an entry is none of these.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._domains: list[str] = []
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._any = False
        for entry in entries:
            self._add(entry.lower())

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._any = True
        elif "/" in entry:
            self._networks.append(ipaddress.ip_network(entry))
        elif _HOST.fullmatch(entry.removeprefix(".")) is None or ":" in entry.rpartition("]")[2]:
            raise ValueError(f"{entry!r} is not a host name")
        elif entry.startswith("."):
            self._domains.append(entry)
        elif (address := _address(entry)) is not None:
            self._networks.append(ipaddress.ip_network(address))
        else:
            self._names.add(entry)

    def __contains__(self, header: str) -> bool:
        """Whether a ``Host`` header names one of these, with any port or none."""
        if self._any:
            return True
        found = _HOST.fullmatch(header)
        if found is None:
            return False
        name = found["name"].lower()
        address = _address(name)
        if address is not None:
            return any(address in network for network in self._networks)
        return name in self._names or f".{name}".endswith(tuple(self._domains))


@functools.lru_cache(maxsize=100)  # nearly all clients name the same few
def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


_LOOPBACK_HOSTS = Hosts(LOOPBACK)


@functools.lru_cache(maxsize=100)
def is_loopback(name: str) -> bool:
    """Whether a name or an address (without a port) is this machine's own."""
    return (f"[{name}]" if ":" in name else name) in _LOOPBACK_HOSTS


#: The JSON of a refusal, at a path.
BodyOf = Callable[[str, Refusal], "dict[str, Any]"]


class HostGuard:
    """Refuses requests to other hosts.

    :param hosts: the allowed ones. If there are none, a server that listens on a loopback address
        allows loopback names, and any other server allows all.
    :param exposed: sentences to log once if the server listens on another address than loopback.
    :param body_of: what a refusal looks like.
    """

    def __init__(
        self,
        application: WSGIApplication,
        hosts: Iterable[str],
        exposed: Iterable[str] = (),
        body_of: BodyOf = lambda _path, refusal: refusal.as_json(),
    ) -> None:
        self._application = application
        self._hosts = Hosts(hosts) if hosts else None
        self._exposed = list(exposed)
        self._body_of = body_of

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or refuse (WSGI)."""
        # The listener's address or name; it may be a wildcard address.
        local = is_loopback(environ.get("SERVER_NAME", ""))
        # A client without an address came over a Unix socket, from a proxy that checks host names.
        if self._exposed and not local and environ.get("REMOTE_ADDR"):
            self._warn()
        hosts = self._hosts or (_LOOPBACK_HOSTS if local else None)
        if hosts and environ.get("PATH_INFO") not in _OPEN_PATHS and not _is_for(hosts, environ):
            return self._refuse(environ, start_response)
        return self._application(environ, start_response)

    def _refuse(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        sentence = "This server does not answer to this host name; its operator can allow it."
        refusal = HostNotAllowed(sentence)
        said = self._body_of(environ.get("PATH_INFO", ""), refusal)
        body = json.dumps(said).encode() + b"\n"
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            **refusal.headers(),
        }
        start_response("421 Misdirected Request", list(headers.items()))
        return [body]

    def _warn(self) -> None:
        sentences, self._exposed = self._exposed, []
        for sentence in sentences:
            logger.warning(sentence)


def _is_for(hosts: Hosts, environ: WSGIEnvironment) -> bool:
    target = _ABSOLUTE.match(environ.get("RAW_URI", ""))
    if target is not None and target["host"] not in hosts:
        return False
    return environ.get("HTTP_HOST", "") in hosts
