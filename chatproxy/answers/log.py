"""The answer log: the events of one answer, bounded in bytes (back-pressure), followed by readers.

How an event reaches a client:

1. ``append`` numbers the event and stores its bytes. For each reader that waits and has a *sink*
   (its client's socket, if the server lends it), it takes what comes next: the reader's cursor
   moves on. All of this happens under the lock.
2. After the lock is released, ``append`` writes to the sinks what it took for them. A sink never
   blocks. If it takes everything, the reader's thread sleeps on: an event wakes nobody.
   (``cursor`` has the rules by which two threads use one sink in turn.)
3. Otherwise ``append`` wakes the reader's thread. The thread flushes the sink, for as long as the
   client takes, and reads the log by itself until nothing is left. A reader without a sink is
   always woken.

What holds at all times:

* One producer appends, from one thread at a time; any number of readers follow, each at its own
  pace. (A run is a producer of several threads, which take turns.)
* Every event has a number, counted from 1, which is its ``id`` on the wire. All readers get the
  same bytes under the same numbers, in order, without a gap. A keep-alive is no part of the answer:
  it reaches those who wait when it comes.
* The log holds at most ``limit`` bytes (and what is appended at once). Beyond that it forgets the
  oldest events that every reader has had. If it has a transcript, they are transcribed then. If a
  reader still needs them, the producer waits in ``wait_for_room``, which slows the upstream down to
  the pace of the readers.
* The producer waits for the reader that is furthest ahead for as long as that takes, but for the
  others only a moment. Then the log forgets what they need, and they are told (``EventsGone``) and
  read no more: a stalled reader never stops another, and no reader ever gets a gap in silence. One
  that reads on in each such moment loses nothing, and slows the others down to 64 KiB a moment at
  worst.
* The events are held as bytes, one after the other, not as an object each: the garbage collector
  has nothing to look at, and a long answer is freed at once.
* The lock guards memory. Nothing waits, reads or writes a socket while it is held.
"""

from __future__ import annotations

import queue
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence

from .. import sse
from ..errors import EventsGone, Refusal
from .coroutines import A_TURN
from .cursor import Cursor, Sink
from .transcript import Transcript

#: The most bytes that a reader is given at once, or that are transcribed at once, and one event
#: more. To transcribe them takes less than a millisecond.
_WRITE_BYTES = 64 * 1024
#: How many seconds the producer waits for readers that are not the furthest ahead.
PATIENCE_SECONDS = 0.25
#: About what a log and its session need beside the events.
_OWN_BYTES = 4000


class AnswerLog:
    """The events of one answer.

    :param limit: the most bytes to hold for readers.
    """

    __slots__ = (
        *("_data", "_ended", "_ends", "_first", "_forgotten", "_impatient", "_limit", "_lock"),
        *("_comment", "_cursors", "_pulses", "_refusal", "_released", "_transcribed", "_waiting"),
        "transcript",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._data = bytearray()
        self._first = 1  # the number of the oldest event that is still held
        self._forgotten = 0  # the bytes of all events before that
        #: Where each event ends, in bytes from the beginning of the answer.
        self._ends = array("Q")
        self._ended = False
        self._refusal: Refusal | None = None
        self._pulses = 0
        self._comment = sse.KEEP_ALIVE  # the latest
        self._cursors: list[Cursor] = []
        #: Wake the producer's threads that wait for room.
        self._waiting: list[queue.SimpleQueue[None]] = []
        self._released = False
        #: Whether the producer no longer waits for any but the reader that is furthest ahead.
        self._impatient = False
        #: Takes what is forgotten; None if nobody wants to know what the answer says.
        self.transcript: Transcript | None = None
        self._transcribed = 0  # the number of the last event that the transcript has

    @property
    def last(self) -> int:
        """The number of the newest event; 0 if there is none yet."""
        return self._first + len(self._ends) - 1

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    @property
    def refusal(self) -> Refusal | None:
        """Why there is no answer; None if there is one, or if it may still begin."""
        return self._refusal

    @property
    def size(self) -> int:
        """Bytes held now."""
        return len(self._data)

    @property
    def footprint(self) -> int:
        """About how many bytes of memory the log takes, with what is withheld from its readers."""
        return self.size + self._ends.itemsize * len(self._ends) + self.withheld + _OWN_BYTES

    @property
    def withheld(self) -> int:
        """Bytes that readers hold beside the log until their clients have been told."""
        with self._lock:
            return sum(map(_withheld_from, self._cursors))

    @property
    def full(self) -> bool:
        """Whether a reader that lags keeps too much of it."""
        return len(self._data) > self._limit

    @property
    def followed(self) -> bool:
        """Whether anybody reads who can still read on."""
        with self._lock:
            return any(map(self._can_go_on, self._cursors))

    @property
    def needed(self) -> bool:
        """Whether a reader, or its client, has yet to be given some of what is held."""
        with self._lock:
            return self._is_needed()

    # --- for the producer

    def append(self, blocks: Sequence[bytes]) -> None:
        """Add events, and give them to the readers that wait. Never blocks."""
        if not blocks:
            return
        with self._lock:
            number = self._first + len(self._ends)
            end = self._forgotten + len(self._data)
            events = []
            for block in blocks:
                event = sse.numbered(number, block)
                number += 1
                end += len(event)
                self._ends.append(end)
                events.append(event)
            data = b"".join(events)
            self._data += data
            given = self._give(data)
            if len(self._data) > self._limit:
                self._make_room()
        self._write(data, given)

    def pulse(self, comment: bytes = sse.KEEP_ALIVE) -> None:
        """Give a comment to the readers that wait: the upstream's keep-alive, say. Never blocks."""
        with self._lock:
            self._pulses += 1
            self._comment = comment
            given = self._give(comment)
        self._write(comment, given)

    def end(self, blocks: Sequence[bytes] = (), refusal: Refusal | None = None) -> None:
        """Add the last events, and say that nothing more will come. Once is enough. Never blocks.

        :param refusal: why there is no answer, if it ends before it has begun. Whoever gets one of
            the last events can see it.
        """
        if not self._ended:
            self._refusal = refusal
            self.append(blocks)
            with self._lock:
                self._ended = True
                self._give(b"")

    def wait_for_room(self) -> None:
        """Block while the log is full: until its readers read on, leave, or are left behind."""
        patience: float | None = PATIENCE_SECONDS
        while (wakeup := self._wakeup_if_full()) is not None:
            try:
                wakeup.get(timeout=patience)
            except queue.Empty:
                self.leave_behind()
                patience = None

    def leave_behind(self) -> None:
        """Keep no more for readers that lag, while the log is full; only for the furthest one."""
        with self._lock:
            self._impatient = True
            self._make_room()

    def release(self) -> None:
        """End every wait for room, now and later; for the abort of an answer."""
        with self._lock:
            self._released = True
            self._tell_of_room()

    def clear(self, *, although_needed: bool = False) -> bool:
        """Forget all events, to free their memory, unless a reader has yet to read some.

        :param although_needed: forget them even then; such a reader is told that they are gone.
        :returns: whether they are forgotten.
        """
        with self._lock:
            if self._is_needed() and not although_needed:
                return False
            self._forget(len(self._ends))
            for cursor in self._cursors:
                if cursor.withheld is not None:
                    cursor.withheld.drop()
            return True

    # --- for whoever wants to know what the answer says

    def transcribed(self) -> Transcript | None:
        """The transcript, with all that has come so far. Others have their turns meanwhile."""
        more = True
        while more:
            with self._lock:
                end = self._end_of_piece(self._transcribed + 1 - self._first)
                self._transcribe(end)
                more = self.transcript is not None and end < len(self._ends)
            if more:
                time.sleep(A_TURN)
        return self.transcript

    # --- for a reader

    def join(self, cursor: Cursor, after: int) -> None:
        """Follow this log from the event after number ``after``.

        :raises EventsGone: if these events were forgotten.
        :raises ValueError: if there are not that many yet.
        """
        with self._lock:
            if after > self.last:
                raise ValueError(f"There is no event {after} yet.")
            if after < self._first - 1:
                raise self._gone(after)
            cursor.seen, cursor.pulses = after, self._pulses
            self._cursors.append(cursor)
            self._make_room()

    def take(self, cursor: Cursor) -> bytes | None:
        """Take what comes next, joined. If there is nothing yet, the cursor waits from now on.

        :returns: ``b""`` if there is nothing yet; None if the answer has ended or the reader left.
        :raises EventsGone: if the next events are no longer held.
        """
        with self._lock:
            if cursor not in self._cursors:
                return None
            ready = self._next(cursor)
            cursor.waits = ready == b""
            self._make_room()
            return ready

    def recall(self, cursor: Cursor) -> None:
        """End a reader's wait, by its own thread."""
        with self._lock:
            cursor.waits = False

    def leave(self, cursor: Cursor) -> bool:
        """Let a reader go, and wake its thread.

        :returns: whether this call did it, and none before.
        """
        with self._lock:
            if cursor not in self._cursors:
                return False
            self._cursors.remove(cursor)
            if cursor.withheld is not None:
                cursor.withheld.drop()
            self._make_room()
            cursor.wake()
            return True

    # --- under the lock

    def _give(self, data: bytes) -> list[tuple[Cursor, Sink]]:
        """Give what has just come to the readers that wait; they have had all before it.

        :returns: the cursors and sinks to write it to. Readers without a sink are woken to read by
            themselves; so are all readers if it is more than ``_WRITE_BYTES``, or the end.
        """
        given = []
        for cursor in self._cursors:
            if cursor.waits:
                sink = cursor.sink
                if sink is None or not 0 < len(data) <= _WRITE_BYTES:
                    cursor.wake()
                    continue
                cursor.writing = True
                cursor.seen = self._first + len(self._ends) - 1
                cursor.pulses = self._pulses
                given.append((cursor, sink))
        return given

    def _next(self, cursor: Cursor) -> bytes | None:
        ends = self._ends
        start = cursor.seen + 1 - self._first
        if start < 0:
            raise self._gone(cursor.seen)
        if start == len(ends):
            if self._ended:
                return None
            if cursor.pulses == self._pulses:
                return b""
            cursor.pulses = self._pulses
            return self._comment
        end = self._end_of_piece(start)
        cursor.seen += end - start
        cursor.pulses = self._pulses
        return self._events(start, end)

    def _end_of_piece(self, start: int) -> int:
        """Where a piece ends that begins with this one of the events that are held."""
        ends = self._ends
        limit = self._begin_of(start) + _WRITE_BYTES
        is_all = not ends or ends[-1] <= limit
        return len(ends) if is_all else bisect_left(ends, limit, start) + 1

    def _begin_of(self, index: int) -> int:
        return self._ends[index - 1] if index else self._forgotten

    def _events(self, start: int, end: int) -> bytes:
        """Some of the events that are held."""
        begin = self._begin_of(start) - self._forgotten
        return bytes(self._data[begin : self._begin_of(end) - self._forgotten])

    def _transcribe(self, end: int) -> None:
        """Transcribe so many of the events that are held, unless they are already."""
        start = self._transcribed + 1 - self._first
        if self.transcript is not None and start < end:
            self.transcript.add(sse.blocks_of(self._events(start, end)))
            self._transcribed += end - start

    def _gone(self, after: int) -> EventsGone:
        return EventsGone(f"The events after number {after} are no longer held.")

    def _can_go_on(self, cursor: Cursor) -> bool:
        return cursor.seen >= self._first - 1

    def _is_needed(self) -> bool:
        return any(
            self._first - 1 <= cursor.seen < self.last or _withheld_from(cursor)
            for cursor in self._cursors
        )

    def _make_room(self) -> None:
        excess = len(self._data) - self._limit
        if excess <= 0:
            return
        too_many = bisect_left(self._ends, self._forgotten + excess) + 1
        waited_for = max if self._impatient else min
        seen = [cursor.seen for cursor in self._cursors if self._can_go_on(cursor)]
        self._forget(min(too_many, waited_for(seen, default=self.last) + 1 - self._first))
        if not self.full:
            self._tell_of_room()

    def _forget(self, count: int) -> None:
        if count > 0:
            self._transcribe(count)
            end = self._ends[count - 1]
            del self._data[: end - self._forgotten]
            del self._ends[:count]
            self._first += count
            self._forgotten = end

    def _tell_of_room(self) -> None:
        while self._waiting:
            self._waiting.pop().put(None)

    # --- outside the lock

    def _write(self, data: bytes, given: list[tuple[Cursor, Sink]]) -> None:
        try:
            for cursor, sink in given:
                is_all = sink.write(data)
                cursor.writing = False
                if not is_all:
                    with self._lock:
                        cursor.wake()
        except BaseException:  # the answer fails, and no reader may wait for this write forever
            for cursor, _ in given:
                cursor.writing = False
            raise

    def _wakeup_if_full(self) -> queue.SimpleQueue[None] | None:
        with self._lock:
            if self._released or not self.full:
                self._impatient = False
                return None
            wakeup: queue.SimpleQueue[None] = queue.SimpleQueue()
            self._waiting.append(wakeup)
            return wakeup


def _withheld_from(cursor: Cursor) -> int:
    return 0 if cursor.withheld is None else cursor.withheld.size
