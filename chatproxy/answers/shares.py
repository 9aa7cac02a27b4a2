"""Fair shares of what is bounded: memory, threads, remembered Stops.

Every key has a size and belongs to somebody's share. When the whole is too large, the largest share
makes room, its oldest key first. So whoever fills the whole pushes out only their own keys. Finding
the largest share takes as long with many shares as with few.

``Shares`` is not safe to use from several threads at once; ``SlotPool`` is.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Generic, TypeVar

from .. import forks
from ..errors import TooManySessions

_K = TypeVar("_K", bound=Hashable)
_S = TypeVar("_S", bound=Hashable)


class Shares(Generic[_K, _S]):
    """Keys with their sizes, each in one share; by default each counts as 1."""

    def __init__(self) -> None:
        self._entries: dict[_K, tuple[_S, int]] = {}
        self._shares: dict[_S, dict[_K, None]] = {}
        self._sizes: dict[_S, int] = {}
        #: The size of all.
        self.size = 0
        # A heap of every size that a share came to have, the largest first. Sizes
        # that are out of date are skipped, and removed when they are most of the heap.
        self._largest: list[tuple[int, int, _S]] = []
        self._last: dict[_S, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[_K]:
        """All keys, the oldest first."""
        return iter(self._entries)

    def put(self, key: _K, share: _S, size: int = 1) -> None:
        """Put in a key that is not there, as the newest."""
        self._entries[key] = share, size
        self._shares.setdefault(share, {})[key] = None
        self._resize(share, size)

    def remove(self, key: _K) -> None:
        """Take a key out."""
        share, size = self._entries.pop(key)
        del self._shares[share][key]
        if not self._shares[share]:
            del self._shares[share]
        self._resize(share, -size)

    def resize(self, key: _K, size: int) -> None:
        """Give a key another size; it stays as old as it was."""
        share, before = self._entries[key]
        self._entries[key] = share, size
        self._resize(share, size - before)

    def of(self, share: _S) -> Iterator[_K]:
        """The keys of one share, the oldest first."""
        return iter(self._shares.get(share, ()))

    def size_of(self, share: _S) -> int:
        """The size of one share."""
        return self._sizes.get(share, 0)

    def largest(self) -> _S:
        """The largest share; of several, the one that has been as large for longest.

        :raises IndexError: if there is none.
        """
        while True:
            _, number, share = self._largest[0]
            if self._last.get(share) == number:
                return share
            heapq.heappop(self._largest)

    def _resize(self, share: _S, by: int) -> None:
        self.size += by
        if share not in self._shares:
            del self._sizes[share], self._last[share]
            return
        self._sizes[share] = size = self._sizes.get(share, 0) + by
        self._last[share] = number = next(self._numbers)
        heapq.heappush(self._largest, (-size, number, share))
        if len(self._largest) > 4 * len(self._last) + 64:
            self._largest = [each for each in self._largest if self._last.get(each[2]) == each[1]]
            heapq.heapify(self._largest)


class SlotPool:
    """A bounded number of slots: a server's threads, say, or the readers who came back.

    :param most: how many slots there are.
    :param most_of_one: how many of them one user may have; all of them if left out.
    """

    def __init__(self, most: int, most_of_one: int | None = None) -> None:
        self._most = most
        self._most_of_one = most if most_of_one is None else most_of_one
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._taken = Shares[object, str]()

    def take(self, user: str = "") -> Callable[[], None]:
        """Take a slot.

        :returns: how to give it back; may be called twice.
        :raises TooManySessions: if there is none left.
        """
        slot = object()
        with self._lock:
            if len(self._taken) >= self._most or self._taken.size_of(user) >= self._most_of_one:
                raise TooManySessions("Too many answers are running.", retry_after=1)
            self._taken.put(slot, user)
        return partial(self._give_back, slot)

    def _give_back(self, slot: object) -> None:
        with self._lock:
            if slot in self._taken:
                self._taken.remove(slot)
