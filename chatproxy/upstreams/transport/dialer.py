"""A TCP connection to whichever address of a host answers first: Happy Eyeballs (RFC 8305).

Rules:

* The families alternate, beginning with that of the system's first choice (RFC 8305, section 4).
* The next address is tried when the last attempt has failed, or after ``ATTEMPT_DELAY`` (section
  5). The first to connect wins, and the others are closed.
* The address that won goes first for ``WINNER_SECONDS``. So an address that does not answer delays
  one connection in that time, not each.
* An address that connects and then brings no response, because TLS or a proxy breaks off there,
  goes last for as long; of several the one that failed last. So another try is one elsewhere.
* The look-up and all attempts together take no longer than the time that is given. Until one has
  won, an abort shuts the sockets of all of them; from then on the exchange holds the winner.
* A connection whose peer has gone without a word is noticed within ``DEAD_AFTER``, whether it is
  idle, waits for a response, or has something to send (but see ``set_patience``).
"""

from __future__ import annotations

import _socket
import itertools
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

from ...answers.abort import AbortHandle
from ...sockets import Address, plain_socket, shut
from .exchange import Exchange, Step, Unreachable

#: Seconds between two attempts (RFC 8305, section 8, recommends this).
ATTEMPT_DELAY = 0.25
#: Seconds for which the address that won is tried first, and one that failed then last.
WINNER_SECONDS = 600.0
#: How many hosts' winners are known, and of how many hosts which addresses have failed.
_MOST_HOSTS = 1000
#: Seconds after which a peer that answers nothing is taken for dead.
DEAD_AFTER = 30
#: Seconds of silence before the first keep-alive probe, and between two of them.
PROBE_AFTER, PROBE_EVERY = 15, 5


#: A host and a port.
_Place = tuple[str, int]


class Resolver(Protocol):
    """Finds the addresses of hosts."""

    def resolve(
        self, handle: AbortHandle, host: str, port: int, timeout: float | None
    ) -> list[Address]:
        """The addresses of a host, in the system's order of preference (RFC 6724).

        :param handle: ends the wait for them.
        :param timeout: seconds; None to wait for as long as it takes.
        :raises Aborted: if the handle's ``abort`` comes first.
        :raises OSError: if the name can't be resolved, or not in time. Its text says why.
        """


class Dialer:
    """Connects to hosts, for all calls of one application."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        #: By host and port: the socket address that won last, and until when it goes first.
        self._winners: dict[_Place, tuple[object, float]] = {}
        #: By host and port: the socket addresses that have failed, and until when each goes last.
        self._failed: dict[_Place, dict[object, float]] = {}

    def dial(
        self, exchange: Exchange, host: str, port: int, timeout: float | None
    ) -> socket.socket:
        """Look a host up and connect to it.

        :param timeout: seconds, for the look-up and connecting together.
        :returns: a connected socket, which has this timeout and is held by the exchange.
        :raises Aborted: if the exchange's ``abort`` comes first.
        :raises OSError: if that fails, or takes too long. Its text says why.
        """
        return self._dial(exchange, (host, port), timeout, time.monotonic())

    def _dial(
        self, exchange: Exchange, place: _Place, timeout: float | None, begun: float
    ) -> socket.socket:
        """As ``dial``, with a timeout that began some time ago."""
        host, port = place
        left = None if timeout is None else max(0.0, begun + timeout - time.monotonic())
        found = interleaved(self.look_up(exchange, host, port, left))
        self._put_in_order(place, found)
        exchange.enter(Step.CONNECT, f"{host}:{port}")
        with _Race(exchange, found, timeout, begun) as race:
            sock, address = race.run()
            exchange.hold(sock, partial(self._distrust, place, address[4]))
        _bound(self._winners)
        self._winners[place] = address[4], time.monotonic() + WINNER_SECONDS
        sock.settimeout(timeout)
        set_patience(sock.fileno(), patient=False)
        return sock

    def look_up(
        self, exchange: Exchange, host: str, port: int, timeout: float | None
    ) -> list[Address]:
        """The addresses of a host, as ``Resolver.resolve`` finds them."""
        exchange.enter(Step.LOOK_UP, host)
        return self._resolver.resolve(exchange, host, port, timeout)

    def _put_in_order(self, place: _Place, found: list[Address]) -> None:
        now, failed = time.monotonic(), self._failed.get(place, {})
        last, until = self._winners.get(place, (None, 0.0))

        def rank(address: Address) -> tuple[float, bool]:
            distrusted_until = failed.get(address[4], 0.0)
            is_winner = address[4] == last and now < until
            return distrusted_until if now < distrusted_until else 0.0, not is_winner

        found.sort(key=rank)

    def _distrust(self, place: _Place, sockaddr: object) -> None:
        """Try this address last for a while: it brought no response."""
        now = time.monotonic()
        failed = {each: until for each, until in self._failed.get(place, {}).items() if now < until}
        _bound(self._failed)
        self._failed[place] = {**failed, sockaddr: now + WINNER_SECONDS}


def _bound(known: dict[_Place, Any]) -> None:
    if len(known) >= _MOST_HOSTS:
        known.clear()


def set_patience(descriptor: int, *, patient: bool) -> None:
    """Say what becomes of a connection whose peer takes nothing of what is sent.

    It is broken off after ``DEAD_AFTER``. But a living peer that does not read takes nothing
    either, once its window is full (RFC 9293, section 3.8.6), and the system does not tell it from
    a dead one.

    :param patient: to wait for it, for as long as its system answers. A dead one is noticed late.
    """
    with plain_socket(descriptor) as plain:
        _set(plain, "TCP_USER_TIMEOUT", 0 if patient else DEAD_AFTER * 1000)


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """The addresses with their families taking turns, each in its own order."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for each in rounds for address in each if address is not None]


class _Race:
    """Attempts to connect, of which the first to succeed wins.

    All sockets are closed at the end, so that no number is used again while an abort may still shut
    it down; but the winner's is left open unless there is an error.

    :param timeout: seconds that all may take, since ``begun`` by the monotonic clock.
    """

    def __init__(
        self, handle: AbortHandle, addresses: list[Address], timeout: float | None, begun: float
    ) -> None:
        self._handle = handle
        self._left = deque(addresses)
        self._timeout = math.inf if timeout is None else timeout
        self._end = begun + self._timeout
        self._opened: list[socket.socket] = []
        #: Those that are connecting, by descriptor.
        self._running: dict[int, tuple[socket.socket, Address]] = {}
        self._winner: socket.socket | None = None
        self._poll = select.poll()
        self._next_at = 0.0
        self._failures: list[str] = []
        self._last: OSError | None = None

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for sock in self._opened:
            if sock is not self._winner or kind is not None:
                sock.close()

    def run(self) -> tuple[socket.socket, Address]:
        """The socket that has won, and its address."""
        with self._handle.waiting(self._shut_all):
            sock, address = self._run()
        self._winner = sock
        return sock, address

    def _shut_all(self) -> None:
        for sock in list(self._opened):
            shut(sock)

    def _run(self) -> tuple[socket.socket, Address]:
        now, end = time.monotonic(), self._end
        while now < end:
            self._handle.check()
            if self._left and now >= self._next_at:
                self._next_at = now + ATTEMPT_DELAY
                self._begin(self._left.popleft())
            if not (self._running or self._left):
                raise Unreachable("; ".join(self._failures) or "no address") from self._last
            until = min(end, self._next_at) if self._left else end
            for descriptor, _ in self._poll.poll(_milliseconds(until - time.monotonic())):
                number = self._running[descriptor][0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not number:  # it has connected, or an abort has shut it down
                    return self._running[descriptor]
                self._drop(descriptor, OSError(number, os.strerror(number)))
            now = time.monotonic()
        silent = [f"{address[4][0]} does not answer" for _, address in self._running.values()]
        reasons = "; ".join([*self._failures, *silent])
        raise Unreachable(f"timed out after {self._timeout:g} s ({reasons})")

    def _begin(self, address: Address) -> None:
        family, kind, protocol, _, sockaddr = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            self._note(address, error)
            return
        self._opened.append(sock)
        self._running[sock.fileno()] = sock, address
        self._poll.register(sock, select.POLLOUT)
        try:
            _keep_alive(sock)
            sock.setblocking(False)
            sock.connect(sockaddr)
        except BlockingIOError:
            self._handle.check()  # it may have been shut down before it was connecting
        except OSError as error:
            self._drop(sock.fileno(), error)

    def _drop(self, descriptor: int, error: OSError) -> None:
        self._poll.unregister(descriptor)
        _, address = self._running.pop(descriptor)
        self._note(address, error)

    def _note(self, address: Address, error: OSError) -> None:
        self._last, self._next_at = error, 0.0  # there is nothing to wait for
        self._failures.append(f"{address[4][0]} {error.strerror or error}")


def _milliseconds(seconds: float) -> int | None:
    return None if seconds == math.inf else max(0, math.ceil(seconds * 1000))


def _keep_alive(sock: socket.socket) -> None:
    """Have the system probe an idle connection (RFC 9293, section 3.8.4), and send at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # macOS
    _set(sock, idle, PROBE_AFTER)
    _set(sock, "TCP_KEEPINTVL", PROBE_EVERY)
    _set(sock, "TCP_KEEPCNT", max(1, (DEAD_AFTER - PROBE_AFTER) // PROBE_EVERY))


def _set(sock: _socket.socket, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
