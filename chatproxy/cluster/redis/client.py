"""The redis to Redis or Valkey: whether it is there, and one script at a time.

A request must not wait for a Redis that is away. So every operation has its timeout, nothing is
tried twice, and after a failure all others fail at once, until the one thread that keeps trying
(``reach``, then ``mend``) has been answered. Errors of the library end here.

This module is the only importer of redis. No password of the URL is ever told.
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

from ...errors import ConfigError, PeersUnavailable

logger = logging.getLogger("chatproxy")

#: Seconds for connecting, and for each answer. A Sentinel is near, has little to say, and others.
TIMEOUT = 1.0
_SENTINEL_TIMEOUT = 0.5
#: Seconds for which ``pop`` waits at Redis; the answer has its own time beside that.
_POP_SECONDS = 1
#: Operations at once; each takes a connection. And seconds that others wait for their turn: longer
#: than any of these may take.
_AT_ONCE = 64
_TURN = 2 * TIMEOUT
#: Beside RedisError: what connecting raises, and what a host raises that can't be a name.
_FAILURES = (RedisError, OSError, ValueError)


def unreachable() -> PeersUnavailable:
    """What is said while Redis is away."""
    return PeersUnavailable("The other workers cannot be reached; try again.", retry_after=1)


class Uncertain(PeersUnavailable):
    """An operation was begun and not answered: Redis may have done it all the same."""


class RedisClient:
    """Redis, by a URL as redis-py knows them, or one of Sentinels.

    ``redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]``, where user and
    password are those of the servers; the Sentinels' own are ``sentinel_username`` and
    ``sentinel_password`` in the query. ``rediss+sentinel`` has TLS to both.

    Nothing is opened before it is needed.

    :ivar slowest: the seconds that one try to reach Redis may ordinarily take.
    :ivar wake: set where it seems to have gone away, for the thread that keeps trying.
    :raises ConfigError: where the URL is none of these.
    """

    def __init__(self, url: str) -> None:
        try:
            self._client = _client(url, TIMEOUT)
            self._ear = _client(url, _POP_SECONDS + TIMEOUT)
            self._secrets = _secrets(url)
        except Exception:  # whose text may hold a part of the password
            raise ConfigError(
                "CHATPROXY_PEERS is not a URL of Redis; in a user or password, the characters "
                "/ ? # @ must be written as %2F %3F %23 %40."
            ) from None
        self.slowest = TIMEOUT + _SENTINEL_TIMEOUT * len(_sentinels(self._client))
        self.wake = threading.Event()
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._away = False
        self._outages = 0
        self._deaf = False

    @property
    def away(self) -> bool:
        """Whether Redis is known to be away."""
        return self._away

    def run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        """Have a Lua script run, for a request.

        :raises PeersUnavailable: at once where Redis is known to be away.
        :raises Uncertain: where it turns out to be away.
        """
        if not self._away and self._places.acquire(timeout=_TURN):
            try:
                if not self._away:
                    return self.reach(script, keys, args)
            finally:
                self._places.release()
        raise unreachable()

    def reach(self, script: str, keys: list[str], args: list[Any]) -> Any:
        """The same, even where Redis seems to be away.

        :raises Uncertain: where it is.
        """
        outages = self._outages
        try:
            return self._client.register_script(script)(keys, args)
        except _FAILURES as error:
            self._lose(outages, error)
            # Without the cause, because this may be printed.
            raise Uncertain(
                "The other workers cannot be reached; try again.", retry_after=1
            ) from None

    def mend(self) -> None:
        """Redis was reached: let all others try again."""
        with self._lock:
            was_away, self._away = self._away, False
        if was_away:
            logger.info("Redis is back: the other workers can be reached again")

    def pop(self, name: str) -> bytes | None:
        """Wait a while for the next item of a list; for one thread.

        :returns: None where nothing has come.
        :raises PeersUnavailable: where Redis is away.
        """
        try:
            item: Any = self._ear.blpop([name], timeout=_POP_SECONDS)
        except _FAILURES as error:
            self._tell_deafness(error)
            self._ear.connection_pool.disconnect(inuse_connections=False)
            raise PeersUnavailable("Redis cannot be reached.", retry_after=1) from None
        self._deaf = False
        return bytes(item[1]) if item else None

    def close(self) -> None:
        """Close all connections that nobody uses at the moment."""
        for client in (self._ear, self._client):
            for each in (client, *_sentinels(client)):
                each.connection_pool.disconnect(inuse_connections=False)

    def _lose(self, outages: int, error: Exception) -> None:
        with self._lock:
            # What began before an outage that is over by now tells nothing new.
            new = not self._away and outages == self._outages
            if new:
                self._away = True
                self._outages += 1
        # Not those in use: each ends by its own timeout. A new one finds a new address, or the
        # server that was made the first in the meantime.
        self._client.connection_pool.disconnect(inuse_connections=False)
        if new:
            self.wake.set()
            logger.warning(
                "Redis is away: the other workers cannot be reached (%s)", self._text_of(error)
            )

    def _tell_deafness(self, error: Exception) -> None:
        # Any other failure of the ear is one of the whole redis as well, and told there.
        if isinstance(error, ResponseError) and not self._deaf:
            self._deaf = True
            logger.warning("The other workers cannot be heard (%s)", self._text_of(error))

    def _text_of(self, error: Exception) -> str:
        # What follows describes each Sentinel at length.
        text = " ".join(f"{type(error).__name__}: {error}".partition(" : ")[0].split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Sentinel(Sentinel):
    """Sentinels for any number of threads.

    redis-py moves the one that answered to the front of its list, where others are reading. Two
    that do so at once may lose one for ever.
    """

    def discover_master(self, service_name: str) -> Any:
        """Where the first server is, and from now on, which Sentinel to ask first."""
        own = copy.copy(self)
        own.sentinels = list(self.sentinels)
        address = Sentinel.discover_master(own, service_name)
        self.sentinels = own.sentinels
        return address


def _sentinels(client: Redis) -> list[Redis]:
    manager: Sentinel | None = getattr(client.connection_pool, "sentinel_manager", None)
    return manager.sentinels if manager else []


def _ours(timeout: float, scheme: str) -> dict[str, Any]:
    """The options of every connection, which the URL can't change."""
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
    # redis-py's own limit makes operations fail; ours makes them wait.
    ours = {**_ours(timeout, scheme), "max_connections": 100 * _AT_ONCE}
    if kind == "sentinel":
        client = _sentinel_client(url, scheme, ours)
    else:
        if scheme != "unix" and not re.fullmatch("/?[0-9]*", parts.path):
            raise ValueError("not a database")
        client = Redis.from_pool(ConnectionPool(**{**parse_url(url), **ours}))
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # raises where an option is not known
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


def _secrets(url: str) -> list[str]:
    """Every password in a URL, as it is written and as it is meant."""
    parts = urlsplit(url)
    written = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    written += re.findall("password=([^&]*)", parts.query)
    return [text for each in written for text in (each, unquote(each)) if text]
