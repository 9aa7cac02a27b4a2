"""Requests that are still arriving: bounded in number and in time.

Whoever sends a request slowly, or only a part of it, or nothing at all, holds a connection; so does
whoever does not take the answer. So each request has a time by which it must be whole, and if too
many are waited for one makes room: a newcomer always gets in. It is the oldest of those that let us
wait for the same as most do, so that many that send nothing push out nobody who sends or takes
slowly. A wait is ended by shutting down the receiving half of the client's socket (``SHUT_RD``):
whoever reads finds the end, wherever it reads, and an answer can still be sent.

An arrival leaves before its socket is closed, since descriptors are used again.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import BodyTimeout
from ..sockets import shut_down

#: Told what was missing ("head", "body", or that the client takes the "answer"), and why it was not
#: waited for ("timeout" or "room").
OnUnfinished = Callable[[str, str], None]

_PARTS = ("", "head", "body", "answer")


class Arrival:
    """A request, or the wait for one, on the socket behind a descriptor.

    :ivar part: what is awaited: "head" or "body"; "answer", that the client takes it; "" that
        anything of a request comes.
    :ivar ended: why it was ended: "timeout" or "room"; "" if it was not.
    """

    __slots__ = ("deadline", "descriptor", "ended", "part")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.part = self.ended = ""
        self.deadline = 0.0


class Arrivals:
    """All that arrive at one place.

    :param most: how many there may be.
    """

    def __init__(self, on_unfinished: OnUnfinished, most: int | None = None) -> None:
        self._on_unfinished = on_unfinished
        self._most = most
        self._lock = threading.Lock()
        #: By the part that is awaited, the oldest first.
        self._present: dict[str, dict[Arrival, None]] = {part: {} for part in _PARTS}

    def __len__(self) -> int:
        return sum(map(len, self._present.values()))

    def begin(self, arrival: Arrival, part: str, seconds: float) -> None:
        """Wait for ``part`` for so long; another makes room if there is none."""
        with self._lock:
            self._present[arrival.part].pop(arrival, None)
            full = self._most is not None and len(self) >= self._most
            other = self._end(self._oldest_of_most(), "room") if full else None
            arrival.part, arrival.deadline = part, time.monotonic() + seconds
            self._present[part][arrival] = None
        self._tell(other)

    def finish(self, arrival: Arrival) -> None:
        """Wait for it no longer: it is whole, or its connection is about to be closed."""
        with self._lock:
            self._present[arrival.part].pop(arrival, None)

    def sweep(self) -> None:
        """End what is late."""
        now = time.monotonic()
        with self._lock:
            present = itertools.chain.from_iterable(self._present.values())
            late = [each for each in present if each.deadline <= now]
            for each in late:
                self._end(each, "timeout")
        for each in late:
            self._tell(each)

    def _oldest_of_most(self) -> Arrival:
        part = max(_PARTS, key=lambda each: len(self._present[each]))
        return next(iter(self._present[part]))

    def _end(self, arrival: Arrival, why: str) -> Arrival:
        del self._present[arrival.part][arrival]
        arrival.ended = why
        how = socket.SHUT_RDWR if arrival.part == "answer" else socket.SHUT_RD
        shut_down(arrival.descriptor, how)
        return arrival

    def _tell(self, arrival: Arrival | None) -> None:
        if arrival is not None and arrival.part:
            self._on_unfinished(arrival.part, arrival.ended)


class BodyTimer:
    """Sees that the bodies that an application reads come within a time, under any server.

    :param seconds: how long one may take.
    """

    def __init__(self, seconds: float, on_unfinished: OnUnfinished) -> None:
        self._seconds = seconds
        self._arrivals = Arrivals(on_unfinished)
        self._lock = threading.Lock()
        self._runs = False

    @contextmanager
    def limit(self, client: Any) -> Iterator[None]:
        """Let a body be read from a client's socket for so long.

        :param client: the socket; None if the server does not tell where it is.
        :raises BodyTimeout: if it was late, whatever came of the reading.
        """
        if client is None or client.fileno() < 0:
            yield
            return
        arrival = Arrival(client.fileno())
        self._arrivals.begin(arrival, "body", self._seconds)
        self._start()
        try:
            yield
        finally:
            self._arrivals.finish(arrival)
            if arrival.ended:
                raise BodyTimeout(f"The body did not come within {self._seconds:g} seconds.")

    def _start(self) -> None:
        with self._lock:
            if not self._runs:
                threading.Thread(target=self._run, name="chatproxy-bodies", daemon=True).start()
                self._runs = True

    def _run(self) -> None:
        """Look for late ones, while there are any."""
        period = min(1.0, self._seconds / 4)
        while True:
            time.sleep(period)
            self._arrivals.sweep()
            with self._lock:
                if not self._arrivals:
                    self._runs = False
                    return
