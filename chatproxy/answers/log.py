"""The answer log: the events of one answer in order, bounded in bytes, followed from any point.

Rules:

* One producer appends; any number of readers follow, each at its own pace.
* Every event has a number, counted from 1, which is its ``id`` on the wire. All readers see the
  same bytes under the same numbers. A keep-alive is not part of the answer: it only passes by.
* The log holds at most ``limit`` bytes (and what is appended at once). Beyond that it forgets the
  oldest events that every reader has had. If a reader still needs them, the producer waits in
  ``wait_for_room``, so that the upstream is slowed down to the pace of its readers.
* It waits for the one that is furthest ahead for as long as that takes, but for the others only a
  moment. Then what they need is forgotten, and they are told (``EventsGone``) and read no more: a
  reader that has stalled never stops another, and none ever gets a gap in silence. One that reads
  on in each such moment loses nothing, and slows the others down to 64 KiB a moment at worst.
* The events are held as bytes, one after the other, not as an object each: a collection of garbage
  has nothing to look at, and a long answer is freed at once.
* The lock guards them and is never held while anything waits.
"""

from __future__ import annotations

import queue
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from .. import sse
from ..errors import EventsGone

if TYPE_CHECKING:
    from ..server.direct_write import Wire

#: The most bytes that a reader is given at once, and one event more.
_WRITE_BYTES = 64 * 1024
#: Seconds for which readers are waited for that are not the furthest ahead.
_PATIENCE_SECONDS = 0.25
#: What a log and its session need beside the events; about.
_OWN_BYTES = 4000


class AnswerLog:
    """The events of one answer.

    :param limit: the most bytes to hold for readers.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._data = bytearray()
        self._first = 1  # the number of the oldest event that is still held
        self._forgotten = 0  # the bytes of all events before that
        #: Where each event ends, in bytes from the beginning of the answer.
        self._ends = array("Q")
        self._ended = False
        self._pulses = 0
        self._readers: set[LogReader] = set()
        #: Wakes the producer that waits for room; made when it first has to.
        self._room: queue.SimpleQueue[None] | None = None
        self._released = False
        #: Whether only the reader that is furthest ahead is waited for any more.
        self._impatient = False

    @property
    def last(self) -> int:
        """The number of the newest event; 0 where there is none yet."""
        return self._first + len(self._ends) - 1

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    @property
    def size(self) -> int:
        """Bytes held now."""
        return len(self._data)

    @property
    def footprint(self) -> int:
        """About how many bytes of memory the log takes."""
        return self.size + self._ends.itemsize * len(self._ends) + _OWN_BYTES

    @property
    def full(self) -> bool:
        """Whether a reader that lags keeps too much of it."""
        return len(self._data) > self._limit

    @property
    def followed(self) -> bool:
        """Whether anybody reads who can still read on."""
        with self._lock:
            return any(map(self._can_go_on, self._readers))

    @property
    def needed(self) -> bool:
        """Whether a reader has yet to read some of what is held."""
        with self._lock:
            return self._is_needed()

    def append(self, blocks: Sequence[bytes]) -> None:
        """Add events and wake those who wait for them. Never blocks."""
        with self._lock:
            for block in blocks:
                self._data += sse.numbered(self._first + len(self._ends), block)
                self._ends.append(self._forgotten + len(self._data))
            if len(self._data) > self._limit:
                self._trim()
            self._wake()

    def pulse(self) -> None:
        """Let those who are waiting now know that DeepSeek has sent a keep-alive."""
        with self._lock:
            self._pulses += 1
            self._wake()

    def end(self) -> None:
        """Say that nothing more will come."""
        with self._lock:
            self._ended = True
            self._wake()

    def wait_for_room(self) -> None:
        """Block while the log is full: until its readers read on, leave, or are left behind."""
        patience: float | None = _PATIENCE_SECONDS
        while (room := self._awaited_room()) is not None:
            try:
                room.get(timeout=patience)
            except queue.Empty:
                self._leave_behind()
                patience = None

    def release(self) -> None:
        """End every wait for room, now and later; for the abort of an answer."""
        with self._lock:
            self._released = True
            self._tell_of_room()

    def clear(self, *, although_needed: bool = False) -> bool:
        """Forget all events, to free their memory, unless a reader has yet to read some.

        :param although_needed: then too; such a reader is told that they are gone.
        :returns: whether they are forgotten.
        """
        with self._lock:
            if self._is_needed() and not although_needed:
                return False
            self._forget(len(self._ends))
            return True

    def reader(self, after: int = 0) -> LogReader:
        """Follow this log from the event after number ``after``.

        :raises EventsGone: where these events were forgotten.
        :raises ValueError: where there are not that many yet.
        """
        with self._lock:
            if after > self.last:
                raise ValueError(f"There is no event {after} yet.")
            if after < self._first - 1:
                raise self._gone(after)
            reader = LogReader(self, after, self._pulses)
            self._readers.add(reader)
            self._make_room()
            return reader

    def _gone(self, after: int) -> EventsGone:
        return EventsGone(f"The events after number {after} are no longer held.")

    def _can_go_on(self, reader: LogReader) -> bool:
        return reader.seen >= self._first - 1

    def _is_needed(self) -> bool:
        return any(self._first - 1 <= reader.seen < self.last for reader in self._readers)

    def _make_room(self) -> None:
        if len(self._data) > self._limit:
            self._trim()
            if not self.full:
                self._tell_of_room()

    def _trim(self) -> None:
        excess = len(self._data) - self._limit
        too_many = bisect_left(self._ends, self._forgotten + excess) + 1
        waited_for = max if self._impatient else min
        seen = [reader.seen for reader in self._readers if self._can_go_on(reader)]
        self._forget(min(too_many, waited_for(seen, default=self.last) + 1 - self._first))

    def _forget(self, count: int) -> None:
        if count > 0:
            end = self._ends[count - 1]
            del self._data[: end - self._forgotten]
            del self._ends[:count]
            self._first += count
            self._forgotten = end

    def _awaited_room(self) -> queue.SimpleQueue[None] | None:
        with self._lock:
            if self._released or not self.full:
                self._impatient = False
                return None
            if self._room is None:
                self._room = queue.SimpleQueue()
            return self._room

    def _leave_behind(self) -> None:
        with self._lock:
            self._impatient = True
            self._make_room()

    def _tell_of_room(self) -> None:
        if self._room is not None:
            self._room.put(None)

    def _wake(self) -> None:
        for reader in self._readers:
            if reader.waits and not reader.deliver():
                reader.waits = False
                reader.bell.put(None)


class LogReader:
    """One reader's place in an answer log. Used by one thread, but for ``close``."""

    __slots__ = ("_log", "_pulses", "bell", "closed", "seen", "waits", "wire")

    def __init__(self, log: AnswerLog, after: int, pulses: int) -> None:
        self._log = log
        self._pulses = pulses
        self.seen = after
        self.bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: Whether it waits for something to read.
        self.waits = False
        self.closed = False
        #: Where to the producer may write while this reader waits; the reader need not wake then.
        self.wire: Wire | None = None

    def read(self, timeout: float) -> bytes | None:
        """Everything that is ready, joined; wait for it up to ``timeout`` seconds.

        What is returned counts as delivered. ``b""`` means that nothing came in time, None that
        the answer has ended or the reader was closed.

        :raises OSError: where the wire broke.
        :raises EventsGone: if the next events are no longer held.
        """
        while (ready := self._take()) == b"":
            woken = self._wait(timeout)
            if self.wire is not None:
                self.wire.flush()  # also where the time was over: it may have been cut short then
            if not woken:
                break
        return ready

    def deliver(self) -> bool:
        """Write what is ready to the wire, under the log's lock; False where it must wake."""
        log = self._log
        if self.wire is None or log._ended:
            return False
        return self.wire.write(self._next() or b"") and self.seen == log.last

    def close(self) -> bool:
        """Stop reading; wakes the thread that waits in ``read``.

        :returns: whether this call did it, and none before.
        """
        log = self._log
        with log._lock:
            if self.closed:
                return False
            self.closed = True
            self.bell.put(None)
            log._readers.discard(self)
            log._make_room()
            return True

    def _wait(self, timeout: float) -> bool:
        """Wait to be woken; False after so many seconds in which nothing was written either."""
        quiet_since = time.monotonic()
        try:
            while (left := quiet_since + timeout - time.monotonic()) >= 0:
                with suppress(queue.Empty):
                    self.bell.get(timeout=left)
                    return True
                if self.wire is None:
                    break
                quiet_since = max(quiet_since, self.wire.written_at)
            return False
        finally:
            with self._log._lock:
                self.waits = False

    def _take(self) -> bytes | None:
        with self._log._lock:
            if self.closed:
                return None
            ready = self._next()
            self.waits = ready == b""
            return ready

    def _next(self) -> bytes | None:
        log = self._log
        start = self.seen + 1 - log._first
        if start < 0:
            raise log._gone(self.seen)
        if start < len(log._ends):
            return self._events(log._ends, start)
        if log._ended:
            return None
        if self._pulses != log._pulses:
            self._pulses = log._pulses
            return sse.KEEP_ALIVE
        return b""

    def _events(self, ends: array[int], start: int) -> bytes:
        log = self._log
        begin = ends[start - 1] if start else log._forgotten
        last = len(ends) - 1
        if ends[last] - begin > _WRITE_BYTES:
            last = bisect_left(ends, begin + _WRITE_BYTES, start)
        ready = bytes(log._data[begin - log._forgotten : ends[last] - log._forgotten])
        self.seen += last + 1 - start
        self._pulses = log._pulses
        log._make_room()
        return ready
