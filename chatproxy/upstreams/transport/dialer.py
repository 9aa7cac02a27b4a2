"""A TCP connection to whichever address of a host answers first: Happy Eyeballs (RFC 8305).

Rules:

* The families alternate, beginning with that of the system's first choice (RFC 8305, section 4).
* The next address is tried when the last attempt has failed, or after ``ATTEMPT_DELAY`` (section
  5). The first to connect wins, and the others are closed.
* The address that won goes first for ``WINNER_SECONDS``, so that an address that does not answer
  delays one connection in a while, and not each.
* All attempts together take no longer than the time that is given. The call's ``Line`` has every
  socket from before it connects, so a Stop ends them all at once.
* A connection whose peer is gone without a word is noticed within ``DEAD_AFTER``, whether it is
  idle, waits for an answer, or has something to send.
"""

from __future__ import annotations

import itertools
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable

from ...answers.abort import Line, Step, Unreachable
from ...server.resolver import Address, Resolver

#: Seconds between two attempts (RFC 8305, section 8, recommends this).
ATTEMPT_DELAY = 0.25
#: Seconds for which the address that won is tried first.
WINNER_SECONDS = 600.0
#: Seconds after which a peer that answers nothing is taken for dead.
DEAD_AFTER = 30
#: Seconds of silence before the first keep-alive probe, and between two of them.
PROBE_AFTER, PROBE_EVERY = 15, 5


class Dialer:
    """Connects to hosts, for all calls of one application."""

    def __init__(self) -> None:
        self.resolver = Resolver()
        #: By host and port: the socket address that won last, and until when it goes first.
        self._winners: dict[tuple[str, int], tuple[object, float]] = {}

    def dial(self, line: Line, host: str, port: int, timeout: float | None) -> socket.socket:
        """Look a host up and connect to it.

        :param timeout: seconds, for the look-up and again for connecting.
        :returns: a connected socket that has this timeout, chosen by the line.
        :raises Aborted: if the line's ``abort`` comes first.
        :raises Unreachable: if that fails, or takes too long.
        """
        line.enter(Step.LOOK_UP, host)
        found = interleaved(self.resolver.resolve(line, host, port, timeout))
        line.enter(Step.CONNECT, f"{host}:{port}")
        last, until = self._winners.get((host, port), (None, 0.0))
        if time.monotonic() < until:
            found.sort(key=lambda address: address[4] != last)
        with _Race(line, found, timeout) as race:
            sock, winner = race.run()
        self._winners[host, port] = winner[4], time.monotonic() + WINNER_SECONDS
        sock.settimeout(timeout)
        _set(sock, "TCP_USER_TIMEOUT", DEAD_AFTER * 1000)
        return sock


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """The addresses with their families taking turns, each in its own order."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for each in rounds for address in each if address is not None]


class _Race:
    """Attempts to connect, of which the first to succeed is taken. All others end with the race."""

    def __init__(self, line: Line, addresses: list[Address], timeout: float | None) -> None:
        self._line = line
        self._left = deque(addresses)
        self._timeout = math.inf if timeout is None else timeout
        self._running: dict[int, tuple[socket.socket, Address]] = {}
        self._poll = select.poll()
        self._next_at = 0.0
        self._failures: list[str] = []
        self._last: OSError | None = None

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        for sock, _address in self._running.values():
            self._line.give_up(sock)

    def run(self) -> tuple[socket.socket, Address]:
        """The socket that is connected, and its address."""
        now = time.monotonic()
        end = now + self._timeout
        while now < end:
            if self._left and now >= self._next_at:
                self._next_at = now + ATTEMPT_DELAY
                self._begin(self._left.popleft())
            if not (self._running or self._left):
                raise Unreachable("; ".join(self._failures) or "no address") from self._last
            until = min(end, self._next_at) if self._left else end
            for descriptor, _ in self._poll.poll(_milliseconds(until - time.monotonic())):
                if (won := self._look(descriptor)) is not None:
                    return won
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
        try:
            self._line.attempt(sock)
        except BaseException:
            sock.close()
            raise
        self._running[sock.fileno()] = sock, address
        self._poll.register(sock, select.POLLOUT)
        try:
            _keep_alive(sock)
            sock.setblocking(False)
            sock.connect(sockaddr)
        except BlockingIOError:
            pass
        except OSError as error:
            self._drop(sock.fileno(), error)

    def _look(self, descriptor: int) -> tuple[socket.socket, Address] | None:
        """Take an attempt that has ended, if it succeeded."""
        self._line.check()  # else it may have been shut, and not have connected
        sock, _ = self._running[descriptor]
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(descriptor, OSError(number, os.strerror(number)))
            return None
        self._line.choose(sock)
        return self._running.pop(descriptor)

    def _drop(self, descriptor: int, error: OSError) -> None:
        self._poll.unregister(descriptor)
        sock, address = self._running.pop(descriptor)
        self._line.give_up(sock)
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


def _set(sock: socket.socket, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
