"""Arrivals: requests that have not come whole yet are bounded in number and in time.

A client that sends a request slowly, or only a part of it, or nothing, holds a connection. So does
one that does not take its answer.

1. ``begin``: a connection begins to wait, for anything of a request, a head, a body, or its client
   to take the answer. The wait has a deadline.
2. If there are ``most`` waits already, one is ended to make room: a newcomer always gets in. It is
   the oldest wait for the part that most of them wait for. So a thousand connections that send
   nothing push out each other, and nobody who sends or takes slowly. If as many wait for two parts,
   it is the older wait, so that a client which has just come can send what it came for.
3. ``sweep``, called now and then, ends what is past its deadline.
4. A wait is ended by shutting down the receiving half of the client's socket: whoever reads finds
   the end, wherever it reads, and a refusal can still be sent. If it is the answer that is not
   taken, both halves are shut down. Who waits elsewhere is called (``on_end``).
5. ``give_up`` ends one wait to make room where waits are not all that counts: the bodies of a
   gunicorn worker also take memory (``server.gunicorn.body``).
6. ``finish``: what was awaited has come, or the connection is about to be closed.

Invariants:

* An arrival finishes before its socket is closed, because descriptors are used again. A socket is
  shut down with the lock held, so that it can't be finished and closed meanwhile.
* Signals are sent outside the lock, and none for a connection that sent nothing of a request.

``BodyTimer`` gives bodies a deadline under any server. Heads and numbers are bounded only under
gunicorn, by ``server.gunicorn``.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import forks
from ..errors import BodyTimeout
from ..sockets import shut_down

#: Called with what was missing ("head", "body", or that the client takes the "answer"), and why it
#: is not waited for ("timeout" or "room").
OnUnfinished = Callable[[str, str], None]

_PARTS = ("", "head", "body", "answer")


class Arrival:
    """What a connection waits for.

    :param descriptor: of the client's socket.
    :ivar part: "head" or "body"; "answer" for the client to take it; "" for anything of a request.
    :ivar ended: why the wait was ended: "timeout" or "room"; "" if it was not.
    :ivar on_end: called when the wait is ended, for who does not wait at the socket.
    """

    __slots__ = ("begun", "deadline", "descriptor", "ended", "on_end", "part")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.on_end: Callable[[], None] | None = None
        self.part = self.ended = ""
        self.begun = self.deadline = 0.0


class Arrivals:
    """All that arrive at one server, or in one application.

    :param most: how many there may be; any number if left out.
    """

    def __init__(self, on_unfinished: OnUnfinished, most: int | None = None) -> None:
        self._on_unfinished = on_unfinished
        self._most = most
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: By the part that they wait for, the oldest first.
        self._present: dict[str, dict[Arrival, None]] = {part: {} for part in _PARTS}

    def __len__(self) -> int:
        return sum(map(len, self._present.values()))

    def begin(self, arrival: Arrival, part: str, seconds: float) -> None:
        """Wait for ``part``; end another wait if there are too many."""
        with self._lock:
            self._present[arrival.part].pop(arrival, None)
            full = self._most is not None and len(self) >= self._most
            other = self._end(self._oldest_of_most(), "room") if full else None
            arrival.part, arrival.begun = part, time.monotonic()
            arrival.deadline = arrival.begun + seconds
            self._present[part][arrival] = None
        self._tell(other)

    def finish(self, arrival: Arrival) -> None:
        """Wait no longer: it has come, or its connection is about to be closed."""
        with self._lock:
            self._present[arrival.part].pop(arrival, None)

    def give_up(self, arrival: Arrival, part: str) -> None:
        """End the wait for ``part`` to make room; it may pause amid data."""
        with self._lock:
            self._present[arrival.part].pop(arrival, None)
            arrival.part = part
            self._shut(arrival, "room")
        self._tell(arrival)

    def sweep(self) -> None:
        """End what is past its deadline."""
        now = time.monotonic()
        with self._lock:
            present = itertools.chain.from_iterable(self._present.values())
            late = [each for each in present if each.deadline <= now]
            for each in late:
                self._end(each, "timeout")
        for each in late:
            self._tell(each)

    def _oldest_of_most(self) -> Arrival:
        most = max(map(len, self._present.values()))
        oldest = (next(iter(each)) for each in self._present.values() if len(each) == most)
        return min(oldest, key=lambda each: each.begun)

    def _end(self, arrival: Arrival, why: str) -> Arrival:
        del self._present[arrival.part][arrival]
        return self._shut(arrival, why)

    @staticmethod
    def _shut(arrival: Arrival, why: str) -> Arrival:
        arrival.ended = why
        how = socket.SHUT_RDWR if arrival.part == "answer" else socket.SHUT_RD
        shut_down(arrival.descriptor, how)
        if arrival.on_end is not None:
            arrival.on_end()
        return arrival

    def _tell(self, arrival: Arrival | None) -> None:
        if arrival is not None and arrival.part:
            self._on_unfinished(arrival.part, arrival.ended)


class BodyTimer:
    """Bounds the time in which a body comes that an application reads, under any server.

    :param seconds: how long one may take.
    """

    def __init__(self, seconds: float, on_unfinished: OnUnfinished) -> None:
        self._seconds = seconds
        self._arrivals = Arrivals(on_unfinished)
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._runs = False

    @contextmanager
    def limit(self, client: Any) -> Iterator[None]:
        """Bound the time of the reading within this context.

        :param client: the client's socket; None if the server does not tell where it is.
        :raises BodyTimeout: if the body was late, whatever came of the reading.
        """
        if client is None or client.fileno() < 0:
            yield
            return
        arrival = Arrival(client.fileno())
        self._arrivals.begin(arrival, "body", self._seconds)
        try:
            self._start()
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
        """Sweep, while any are arriving."""
        period = min(1.0, self._seconds / 4)
        while True:
            time.sleep(period)
            self._arrivals.sweep()
            with self._lock:
                if not self._arrivals:
                    self._runs = False
                    return
