"""Shared counters: each worker adds to its own, and every worker can sum over all.

A worker keeps its numbers in a file, in a directory that all share. Rules:

* A file belongs to the worker that holds its lock, which the kernel releases however the worker
  dies. What the worker counted outlives it; what it had at the moment (its gauges) does not.
* A new worker takes over the file of a dead one, if there is any, and counts on in it. So no count
  goes backwards, and files don't accumulate when workers restart.
* Without a directory the numbers are those of this process alone, until there is one. A file that
  was removed, alone or with its directory, is made again.
* The lock is held while the row is written, so that no older row replaces a newer one. That is one
  ``pwrite`` of less than a kilobyte, into the page cache.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import math
import os
import threading
import time
from array import array
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("chatproxy")

#: Seconds between two checks that the file is still there.
_LOOK_SECONDS = 1.0

StrPath = str | os.PathLike[str]
#: Where the files are: a path, a function that returns it in each process, or nowhere.
Directory = StrPath | Callable[[], StrPath | None] | None


class SharedCounters:
    """A row of numbers. Safe to use from any thread, and after a fork.

    :param directory: where the workers' files are.
    :param layout: identifies what each place means; files of another layout are left alone.
    :param size: how many numbers there are.
    :param gauges: the places of numbers that end with their worker.
    """

    def __init__(
        self, directory: Directory, layout: str, size: int, gauges: Collection[int]
    ) -> None:
        self._directory = directory
        self._layout = layout
        self._size = size
        self._gauges = gauges
        self._lock = threading.Lock()
        self._process: int | None = None
        self._numbers = self._zeros()
        self._path: Path | None = None
        self._file: int | None = None
        self._next_look = 0.0
        self._warned = False

    def add(self, amounts: Mapping[int, float]) -> None:
        """Add to the numbers at some places; all workers see it at once."""
        with self._lock:
            self._begin()
            for place, amount in amounts.items():
                self._numbers[place] += amount
            self._write()

    def total(self) -> array[float]:
        """The sums over all workers, the same whichever of them is asked."""
        with self._lock:
            self._next_look = 0.0
            self._begin()
            rows, own = [self._numbers[:]], self._path
        for path in own.parent.glob(f"{self._layout}-*") if own else ():
            if path != own:
                rows.append(self._read(path))
        # Exact: else a sum in another order may be a little less, and a scraper takes a counter
        # that goes backwards for one that began anew.
        return array("d", map(math.fsum, zip(*rows, strict=True)))

    def _begin(self) -> None:
        """Make sure that this process has a file of its own; its parent keeps the parent's."""
        is_new = self._process != os.getpid()
        if not is_new and not self._is_lost():
            return
        if self._file is not None:
            os.close(self._file)  # a parent's is still open, and locked
        counted = self._zeros() if is_new else self._numbers
        self._process = os.getpid()
        self._numbers, self._path, self._file = self._zeros(), None, None
        try:
            self._claim()
        except Exception as error:  # no answer fails because it can't be counted
            if not self._warned:
                logger.warning(
                    "The metrics of this worker are not in the sums of the others: %s", error
                )
            self._warned = True
        for place, number in enumerate(counted):
            self._numbers[place] += number
        self._write()

    def _is_lost(self) -> bool:
        """Whether this process has no file, or no longer has it."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _LOOK_SECONDS
        if self._path is None or self._file is None:
            return True
        try:
            return not os.path.samestat(self._path.lstat(), os.fstat(self._file))
        except OSError:
            return True

    def _claim(self) -> None:
        """Take over the first file that no living worker has, or make one."""
        folder = self._directory() if callable(self._directory) else self._directory
        if not folder:
            return
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in itertools.count():
            path = Path(folder, f"{self._layout}-{number}")
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if _lock(file, fcntl.LOCK_EX):
                    self._take_over(path, file)
                    return
            finally:
                if self._file != file:
                    os.close(file)

    def _take_over(self, path: Path, file: int) -> None:
        numbers = self._from_bytes(os.pread(file, 8 * self._size, 0))
        self._drop_gauges(numbers)
        os.pwrite(file, numbers, 0)
        self._numbers, self._path, self._file = numbers, path, file

    def _write(self) -> None:
        if self._file is not None:
            os.pwrite(self._file, self._numbers, 0)

    def _read(self, path: Path) -> array[float]:
        with suppress(FileNotFoundError), path.open("rb") as file:
            # If we get the lock, its worker is dead; and none takes the file over while we read.
            dead = _lock(file.fileno(), fcntl.LOCK_SH)
            numbers = self._from_bytes(file.read())
            if dead:
                self._drop_gauges(numbers)
            return numbers
        return self._zeros()

    def _zeros(self) -> array[float]:
        return array("d", bytes(8 * self._size))

    def _from_bytes(self, data: bytes) -> array[float]:
        """The numbers in a file, which is empty if its worker has only just made it."""
        return array("d", data) if len(data) == 8 * self._size else self._zeros()

    def _drop_gauges(self, numbers: array[float]) -> None:
        for place in self._gauges:
            numbers[place] = 0.0


def _lock(file: int, kind: int) -> bool:
    """Lock a file; False if somebody else has locked it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
