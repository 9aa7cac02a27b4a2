"""Cursor: a reader's position in a log, and which thread may write to the reader's client.

Two threads write to a client's socket, in turn: the server's own, which reads the log and writes
what it got; and, while that one waits in ``LogReader.read``, the producer's, which appends to the
log. They must never write at once, and nobody may close the socket in the middle of a write. No
lock is held during a write, so there are two marks:

* ``waits`` says whose turn it is. The log's lock guards it. The reader sets it when it has read
  everything, and takes it back when it is woken, closed, or its time is over. The producer begins
  a write only while it is set.
* ``writing`` is set, under the same lock, when a write begins, and cleared when it is done. A
  reader that has taken its turn back goes on when ``writing`` is clear. A write does not block, so
  that is at once.

What follows from that:

* A cursor that waits has been given everything: whatever comes is written for it, or wakes it.
* Outside of ``LogReader.read`` there is no write under way. The server may write and close there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol


class Sink(Protocol):
    """Takes a reader's bytes on their way to its client. One thread at a time uses it."""

    @property
    def written_at(self) -> float:
        """When something was last written, by the monotonic clock."""

    def write(self, data: bytes) -> bool:
        """Write what can be written at once; return whether that was all. ``flush`` has the rest.

        Never blocks and never raises: ``flush`` finds out that the client has gone.

        :param data: not empty.
        """

    def flush(self) -> None:
        """Write what is left, and wait as long as that takes.

        :raises OSError: if the client has gone.
        """


class Withheld(Protocol):
    """What a reader's client is told only at the end of the answer, beside the log until then."""

    @property
    def size(self) -> int:
        """About how many bytes are held; 0 when all has been given out, or dropped."""

    def pieces(self) -> Iterator[bytes]:
        """Give it out when the answer has ended; each piece is held no longer.

        :raises ConnectionError: if it was dropped in between: the client can't be told the rest.
        """

    def drop(self) -> None:
        """Hold it no longer. May be called twice, by any thread and under the log's lock."""


class Cursor:
    """What a log knows of a reader. There are many, so it is small: gevent's queues take 2 KB."""

    __slots__ = ("_wakeup", "pulses", "seen", "sink", "waits", "withheld", "writing")

    def __init__(self) -> None:
        #: The number of the last event that the reader was given.
        self.seen = 0
        #: How many keep-alives there had been by then.
        self.pulses = 0
        self.waits = False
        self.writing = False
        self.sink: Sink | None = None
        self.withheld: Withheld | None = None
        #: Nobody's lock: ``sleep`` acquires it, ``wake`` releases it.
        self._wakeup = threading.Lock()
        self._wakeup.acquire()

    def wake(self) -> None:
        """End the wait, if there is one; to be called under the log's lock."""
        if self.waits:
            self.waits = False
            if self._wakeup.locked():  # else it was woken just when its time was over
                self._wakeup.release()

    def sleep(self, timeout: float) -> bool:
        """Sleep until ``wake``, which may have come already; False after ``timeout`` seconds."""
        return self._wakeup.acquire(timeout=timeout)
