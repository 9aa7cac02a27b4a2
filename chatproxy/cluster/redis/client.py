"""The client of Redis or Valkey: one script at a time, and whether the server is there.

A request must not wait for a Redis that is away. So the client is a circuit breaker: each operation
has a timeout, and none is tried twice; after one has failed, all others fail at once, until the one
thread that keeps trying has had an answer (``reach``, then ``mend``). Errors of the library become
ours here.

This module alone imports redis. No error and no log line has a password of the URL.
"""

from __future__ import annotations

import copy
import logging
import re
import socket
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ... import forks
from ...errors import ConfigError, PeersUnavailable
from ...masking import one_line, passwords_in

logger = logging.getLogger("chatproxy")

#: Lua, for the beginning of a script: ``now``, in milliseconds of Redis's own clock.
NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
#: Seconds for connecting, and for each reply. A Sentinel is near, has little to do, and is not the
#: only one.
TIMEOUT = 1.0
_SENTINEL_TIMEOUT = 0.5
#: Seconds for which ``pop`` waits at Redis; its reply has the usual time beside that.
_POP_SECONDS = 1
#: Operations at once; each takes a connection. And the seconds that others wait for their turn:
#: longer than any of these may take.
_AT_ONCE = 64
_TURN = 2 * TIMEOUT
#: Beside RedisError: what connecting raises, and what a host raises if it can't be a name.
_FAILURES = (RedisError, OSError, ValueError)


def unreachable() -> PeersUnavailable:
    """The error to raise while Redis is away."""
    return PeersUnavailable("The other workers cannot be reached; try again.", retry_after=1)


class Uncertain(PeersUnavailable):
    """An operation was sent and not answered: Redis may have done it all the same."""


class RedisClient:
    """Redis at a URL as redis-py knows them, or behind Sentinels.

    ``redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]``, where user and
    password are those of the servers; the Sentinels' own are ``sentinel_username`` and
    ``sentinel_password`` in the query. ``rediss+sentinel`` has TLS to both.

    Nothing is opened before it is needed.

    :ivar slowest: the seconds that one attempt to reach Redis may ordinarily take.
    :ivar wakeup: set when Redis seems to have gone away, for the thread that keeps trying.
    :raises ConfigError: if the URL is none of these.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._secrets = passwords_in(url)
            forks.begin(self._begin)
        except Exception:  # whose text may hold a part of the password
            raise ConfigError(
                "CHATPROXY_PEERS is not a URL of Redis; in a user or password, the characters "
                "/ ? # @ must be written as %2F %3F %23 %40."
            ) from None
        self.slowest = TIMEOUT + _SENTINEL_TIMEOUT * len(_sentinels(self._client))

    def _begin(self) -> None:
        self._client = _client(self._url, TIMEOUT)
        self._blocking_client = _client(self._url, _POP_SECONDS + TIMEOUT)
        self.wakeup = threading.Event()
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._away = False
        self._outages = 0
        self._pop_refused = False

    @property
    def away(self) -> bool:
        """Whether Redis is known to be away."""
        return self._away

    def run(
        self, script: str, keys: list[str], args: list[Any], *, although_away: bool = False
    ) -> Any:
        """Run a Lua script, for a request.

        :param although_away: even if Redis seems to be away.
        :raises PeersUnavailable: at once, if Redis is known to be away.
        :raises Uncertain: if it turns out to be away.
        """
        if self._may_try(although_away) and self._slots.acquire(timeout=_TURN):
            try:
                if self._may_try(although_away):
                    return self.reach(script, keys, args)
            finally:
                self._slots.release()
        raise unreachable()

    def _may_try(self, although_away: bool) -> bool:
        return although_away or not self._away

    def reach(self, script: str, keys: list[str], args: list[Any]) -> Any:
        """Run a Lua script, even if Redis seems to be away.

        :raises Uncertain: if it is.
        """
        outages = self._outages
        try:
            return self._client.register_script(script)(keys, args)
        except _FAILURES as error:
            self._lose(outages, error)
            # Without the cause, which may name the password, and may be printed.
            raise Uncertain(
                "The other workers cannot be reached; try again.", retry_after=1
            ) from None

    def mend(self) -> None:
        """Note that Redis was reached, so that all others try again."""
        with self._lock:
            was_away, self._away = self._away, False
        if was_away:
            logger.info("Redis is back: the other workers can be reached again")

    def pop(self, name: str) -> bytes | None:
        """Wait a second for the next item of a list. For one thread.

        :returns: None if nothing has come.
        :raises PeersUnavailable: if Redis is away.
        """
        try:
            item: Any = self._blocking_client.blpop([name], timeout=_POP_SECONDS)
        except _FAILURES as error:
            self._report_pop(error)
            self._blocking_client.connection_pool.disconnect(inuse_connections=False)
            raise PeersUnavailable("Redis cannot be reached.", retry_after=1) from None
        self._pop_refused = False
        return bytes(item[1]) if item else None

    def close(self) -> None:
        """Close all connections that nobody uses at the moment."""
        for client in (self._blocking_client, self._client):
            for each in (client, *_sentinels(client)):
                each.connection_pool.disconnect(inuse_connections=False)

    def _lose(self, outages: int, error: Exception) -> None:
        with self._lock:
            # What began before an outage that is over by now says nothing new.
            new = not self._away and outages == self._outages
            if new:
                self._away = True
                self._outages += 1
        # Not those in use: each ends by its own timeout. A new connection finds a new address, or
        # the server that was promoted in the meantime.
        self._client.connection_pool.disconnect(inuse_connections=False)
        if new:
            self.wakeup.set()
            logger.warning(
                "Redis is away: the other workers cannot be reached (%s)", self._text_of(error)
            )

    def _report_pop(self, error: Exception) -> None:
        # Any other failure to pop is one of all operations, and reported by them.
        if isinstance(error, ResponseError) and not self._pop_refused:
            self._pop_refused = True
            logger.warning("Requests from other workers cannot be read (%s)", self._text_of(error))

    def _text_of(self, error: Exception) -> str:
        # What follows " : " describes each Sentinel at length.
        return one_line(f"{type(error).__name__}: {error}".partition(" : ")[0], self._secrets)


class _Sentinel(Sentinel):
    """Sentinels for any number of threads.

    redis-py moves the one that answered to the front of its list while others read that list. If
    two threads do so at once, a Sentinel may be lost for ever.
    """

    def discover_master(self, service_name: str) -> Any:
        """The address of the first server. The Sentinel that knew it is asked first from now on."""
        own = copy.copy(self)
        own.sentinels = list(self.sentinels)
        address = Sentinel.discover_master(own, service_name)
        self.sentinels = own.sentinels
        return address


def _sentinels(client: Redis) -> list[Redis]:
    manager: Sentinel | None = getattr(client.connection_pool, "sentinel_manager", None)
    return manager.sentinels if manager else []


def _ours(timeout: float, scheme: str) -> dict[str, Any]:
    """The options of every connection. The URL can't change them."""
    ours: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, TIMEOUT),
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
        "encoding": "utf-8",
    }
    if scheme != "unix":
        # A firewall must neither forget an idle connection, nor leave a dead one unnoticed.
        ours["socket_keepalive"] = True
        ours["socket_keepalive_options"] = {
            getattr(socket, name): value
            for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
            if hasattr(socket, name)
        }
    return ours


def _client(url: str, timeout: float) -> Redis:
    parts = urlsplit(url)
    if "#" in url or "@" in parts.path + parts.query:
        raise ValueError("a password that is not quoted")
    scheme, _, kind = parts.scheme.partition("+")
    # redis-py's own limit makes operations fail; ours (``run``) makes them wait.
    ours = {**_ours(timeout, scheme), "max_connections": 100 * _AT_ONCE}
    if kind == "sentinel":
        client = _sentinel_client(url, scheme, ours)
    else:
        if scheme != "unix" and not re.fullmatch("/?[0-9]*", parts.path):
            raise ValueError("not a database")
        client = Redis.from_pool(ConnectionPool(**{**parse_url(url), **ours}))
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # raises if an option is not known
    if pool.connection_class is UnixDomainSocketConnection and not parts.path:
        raise ValueError("no path")
    return client


def _sentinel_client(url: str, scheme: str, ours: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    service, database = re.fullmatch("/([^/]+)(/[0-9]+)?/?", parts.path).groups("")  # type: ignore[union-attr]
    servers = parse_url(f"{scheme}://{login}{at}server{database}?{parts.query}")
    servers.update(ours, ssl=servers.pop("connection_class", None) is not None)
    del servers["host"]
    sentinels = {name: value for name, value in servers.items() if name.startswith("ssl")}
    sentinels.update(_ours(_SENTINEL_TIMEOUT, scheme))
    for name in ("username", "password"):
        sentinels[name] = servers.pop(f"sentinel_{name}", None)
    addresses = [_address(host) for host in hosts.split(",")]
    found: Any = _Sentinel(addresses, 0, sentinels, **servers)  # type: ignore[no-untyped-call]
    client: Redis = found.master_for(unquote(service))
    return client


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or 26379
