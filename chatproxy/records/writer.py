"""Records: every answer of one application that has ended becomes a row in a database.

Who ends an answer calls ``add``. That makes a row, puts it with those that wait, and returns: it
waits for nothing, on whatever thread it is.

A thread writes what waits, ``BATCH`` rows at a time or every ``EVERY`` seconds, and lives while
there are any. The database itself is used in a native thread. A row waits until its commit is
confirmed. If that does not come, it is sent again; the database knows it by its key, so it is not
there twice.

A database that is away delays this: the pauses grow up to ``LONGEST_PAUSE`` seconds, and up to
``most`` rows wait. A row takes 1 to 2 KB; one with a long receipt counts as several. If there are
as many, the newest are lost, not the oldest: some of the oldest may be in the database already,
with only their confirmation missing, so nobody could say how many were lost; and so what is missing
is one span of time, not several. How many were lost is logged and counted.

At the end of the process ``close`` writes what waits, in a bounded time. A process that is killed
loses what came in the last ``EVERY`` seconds. One that a fork has made begins anew: what waits is
its parent's to write.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from ..answers.session import StreamSession
from ..errors import ChatProxyError
from .asking import Asking
from .database import Database, DatabaseError, Spent, UnfitRow
from .rows import Row, row_of

logger = logging.getLogger("chatproxy")

#: How many rows are written at once.
BATCH = 500
#: Bytes of a receipt that count as a row.
_ROW_BYTES = 1000
#: How many wait at once for what an owner has spent.
_MOST_ASK = 100
#: Seconds that a row waits for others.
EVERY = 0.5
LONGEST_PAUSE = 30.0
#: Seconds that the end of a process waits for the rows that are left.
CLOSE_SECONDS = 4.0
_PAUSE_AT_THE_END = 0.2

_T = TypeVar("_T")


class Thread(Protocol):
    """Where the database is used (``server.native_threads``)."""

    def run(self, call: Callable[[], _T], /) -> _T:
        """Run a call there, and wait for what it returns."""

    def submit(self, call: Callable[[], object], /) -> None:
        """Have a call run there, without waiting for it."""

    def close(self, timeout: float | None = None) -> bool:
        """Take no more calls, and wait so many seconds for those that were taken."""


class Records:
    """The records of one application. Safe to use from any thread.

    :param database: is used in ``thread`` alone.
    :param application: the name of the application among those that share the database.
    :param most: how many rows may wait.
    :param settled: is told how many rows were "written" or "lost".
    """

    def __init__(
        self,
        database: Database,
        application: str,
        thread: Thread,
        most: int,
        settled: Callable[[str, int], object],
    ) -> None:
        self._database = database
        self._application = application
        self._thread = thread
        self._most = most
        self._settled = settled
        self._asking = Asking(database, thread.run, "The records", _MOST_ASK, _MOST_ASK)
        self._lock = threading.Lock()
        self._process: int | None = None
        self._begin_here()

    def _begin_here(self) -> None:
        """Begin with nothing, once in each process. The lock is held, or nobody else is here."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._rows: deque[Row] = deque()
        #: How many rows these count as.
        self._size = 0
        #: How many rows have been lost, and nobody has been told.
        self._lost = 0
        #: Whether the thread lives that writes.
        self._writes = False
        #: Set for that thread to go on at once, and by it when there is nothing left.
        self._hurry, self._done = threading.Event(), threading.Event()
        #: When ``close`` gives up, of the monotonic clock.
        self._end: float | None = None

    def open(self) -> None:
        """Make the tables, or bring them up to date. If the database is away, that is done later.

        :raises ConfigError: if the tables are those of a newer version.
        """
        try:
            self._thread.run(self._database.prepare)
        except DatabaseError as error:
            logger.warning("Answers can't be recorded yet, and wait: %s", error)

    def hear(self, _sender: object, session: StreamSession, **_: object) -> None:
        """Record an answer that has ended; a receiver of ``signals.stream_closed``."""
        self.add(session)

    def add(self, session: StreamSession) -> None:
        """Record an answer that has ended. Never blocks."""
        row = row_of(session, self._application)
        with self._lock:
            self._begin_here()
            had = self._size
            if had >= self._most:
                self._lost += 1
            else:
                self._rows.append(row)
                self._size += _size_of(row)
            is_a_batch = had < BATCH <= self._size
            starts = not self._writes
            if starts:
                self._writes = True
                self._done.clear()
        if is_a_batch:
            self._hurry.set()
        if starts:
            self._start()

    def spent(self, owner: str, since: datetime) -> Spent:
        """What an owner's answers that have ended since then came to, on all workers.

        Those of the last ``EVERY`` seconds may be missing, and those that wait for the database.

        :returns: the tokens, and the nano-units of each currency.
        :raises TooManySessions, DatabaseError: if the database can't be asked.
        """
        return self._asking.ask(owner, lambda it: it.spent(self._application, owner, since))

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write the rows that wait. Those that can't be written in time are lost.

        :param seconds: how long it may take.
        """
        with self._lock:
            self._begin_here()
            self._end = time.monotonic() + seconds
            starts = bool(self._rows) and not self._writes
            self._writes = self._writes or starts
            is_done = not self._writes
        self._hurry.set()
        if starts:  # it may be too late to start a thread
            self._write_all()
        elif not is_done:
            self._done.wait(seconds)
        with self._lock:
            self._give_up()
        self._tell_of_the_lost()
        with suppress(Exception):
            self._thread.submit(self._database.close)
        self._thread.close(_PAUSE_AT_THE_END)

    def _give_up(self) -> None:
        """What waits is lost. The lock is held."""
        self._lost += len(self._rows)
        self._rows, self._size = deque(), 0

    def _start(self) -> None:
        try:
            _thread.start_new_thread(self._write_all, ())
        except RuntimeError:  # no thread can be had at present; the next row, or close, tries again
            with self._lock:
                self._writes = False

    def _write_all(self) -> None:
        """Write until there is nothing left, and tell of what was lost."""
        pause = EVERY
        while True:
            self._hurry.wait(pause)
            self._hurry.clear()
            pause = self._write(pause)
            self._tell_of_the_lost()
            with self._lock:
                is_late = self._end is not None and time.monotonic() >= self._end
                if is_late:
                    self._give_up()
                if is_late or not (self._rows or self._lost):
                    self._writes = False
                    self._done.set()
                    break
        self._tell_of_the_lost()

    def _write(self, pause: float) -> float:
        """Write a batch.

        :param pause: the seconds before it.
        :returns: the seconds until the next one.
        """
        with self._lock:
            rows, batch = self._rows, _batch_of(self._rows)
            is_ending = self._end is not None
        try:
            unfit = self._thread.run(partial(self._store, batch)) if batch else []
        except Exception as error:
            reason = error if isinstance(error, ChatProxyError) else repr(error)
            waiting = len(self._rows)
            logger.warning("%d answers wait to be recorded: %s", waiting, reason)
            return _PAUSE_AT_THE_END if is_ending else min(max(pause, EVERY) * 2, LONGEST_PAUSE)
        if pause > EVERY and not is_ending:
            logger.info("Answers are recorded again.")
        with self._lock:
            if rows is not self._rows:  # they have been given up, and told of
                return 0.0
            for row in batch:
                rows.popleft()
                self._size -= _size_of(row)
            self._lost += len(unfit)
            is_full = self._size >= BATCH
        if unfit:
            logger.error("The database can't hold the record of an answer: %s", unfit[0])
        if written := len(batch) - len(unfit):
            with suppress(Exception):
                self._settled("written", written)
        return 0.0 if is_full or is_ending else EVERY

    def _tell_of_the_lost(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost:
            logger.error("%d answers were not recorded, and are lost to the records.", lost)
            with suppress(Exception):
                self._settled("lost", lost)

    # ---- in the native thread --------------------------------------------------------------------

    def _store(self, rows: list[Row]) -> list[str]:
        """Store the rows; those that can't be are left out.

        :returns: why, for each of those.
        """
        try:
            self._database.prepare()
            self._database.add(rows)
        except UnfitRow as error:
            if len(rows) == 1:
                return [str(error)]
            half = len(rows) // 2
            return self._store(rows[:half]) + self._store(rows[half:])
        return []


def _size_of(row: Row) -> int:
    """How many rows this one counts as."""
    return 1 + len(row["receipt"] or "") // _ROW_BYTES


def _batch_of(rows: Iterable[Row]) -> list[Row]:
    """The first rows, as many as are written at once."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        size += _size_of(row)
        if batch and size > BATCH:
            break
        batch.append(row)
    return batch
