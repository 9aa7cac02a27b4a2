"""Counters by name: a row of shared counters for each of some names that are not known beforehand.

The row of a name is in a directory of that name, in one that all workers share, so they need not
agree on any place. Beyond the first ``MOST_NAMES`` that they have all used, what is counted counts
for ``other``: names cost memory, files and series.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

from .families import Row
from .shared_counters import SharedCounters

#: How many names have a row of their own.
MOST_NAMES = 50
OTHER = "other"
#: How the directories of names are called, whatever a name is.
_PREFIX = "by-name-"


class CountersByName:
    """Rows of numbers. Safe to use from any thread, and after a fork.

    :param folder: returns the directory that the workers share; None if there is none.
    """

    def __init__(self, folder: Callable[[], Path | None], row: Row) -> None:
        self._folder = folder
        self._row = row
        self._lock = threading.Lock()
        self._counters: dict[str, SharedCounters] = {}

    def add(self, name: str, amounts: Mapping[int, float]) -> str:
        """Add to the numbers of a name; return the name that they are counted for."""
        with self._lock:
            found = self._counters.get(name)
        if found is None:
            known = self._known()
            if name not in known and len(known) >= MOST_NAMES:
                name = OTHER
            found = self._counters_of(name)
        found.add(amounts)
        return name

    def totals(self) -> dict[str, array[float]]:
        """The sums over all workers, by name."""
        return {name: self._counters_of(name).total() for name in sorted(self._known())}

    def _counters_of(self, name: str) -> SharedCounters:
        with self._lock:
            if name not in self._counters:
                directory = partial(self._directory_of, name)
                row = self._row
                self._counters[name] = SharedCounters(directory, row.layout, row.size, row.gauges)
            return self._counters[name]

    def _directory_of(self, name: str) -> Path | None:
        folder = self._folder()
        return None if folder is None else folder / (_PREFIX + quote(name, safe=""))

    def _known(self) -> set[str]:
        """The names that any worker has used."""
        with self._lock:
            known = set(self._counters)
        with suppress(Exception):  # without a directory each worker counts by itself
            folder = self._folder()
            found = () if folder is None else folder.glob(f"{_PREFIX}*")
            known |= {unquote(each.name.removeprefix(_PREFIX)) for each in found}
        return known
