"""Arbitration: how this worker takes, frees and asks about keys, one at a time for each key.

All that is done with the peers about one key happens alone within this worker. So a key that this
worker turns out to hold already, while nobody here knows why, is a leftover of its own, and counts
as taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .. import signals
from ..errors import PeersUnavailable
from .peers import Key, Message, Peers

#: Seconds in which the peers have to answer.
ASK_SECONDS = 1.9
#: Seconds between two tries for a key that means nothing at present.
_PAUSE_SECONDS = 0.005


class Arbitration:
    """This worker's dealings with its peers.

    :param sender: the sender of the signals.
    :param runs_alone: whether a session may begin while the peers can't be asked.
    """

    def __init__(self, peers: Peers, sender: object, *, runs_alone: bool) -> None:
        self._peers = peers
        self._sender = sender
        self._runs_alone = runs_alone
        self._lock = threading.Lock()
        self._busy: dict[Key, threading.Event] = {}

    @property
    def name(self) -> str:
        """What this worker is called by the others."""
        return self._peers.name

    @contextmanager
    def alone_with(self, key: Key) -> Iterator[None]:
        """Let no other thread of this worker deal with this key meanwhile.

        :raises PeersUnavailable: where another thread's dealings with it take too long.
        """
        mine = threading.Event()
        end = time.monotonic() + ASK_SECONDS
        while (other := self._enter(key, mine)) is not mine:
            if not other.wait(max(0.0, end - time.monotonic())):
                raise _unavailable()
        try:
            yield
        finally:
            with self._lock:
                del self._busy[key]
            mine.set()

    def _enter(self, key: Key, mine: threading.Event) -> threading.Event:
        with self._lock:
            return self._busy.setdefault(key, mine)

    def is_busy(self, key: Key) -> bool:
        """Whether a thread of this worker deals with this key now."""
        with self._lock:
            return key in self._busy

    @staticmethod
    def tries() -> Iterator[None]:
        """Turns for a loop that ends it by itself.

        :raises PeersUnavailable: when the time is over.
        """
        end = time.monotonic() + ASK_SECONDS
        while time.monotonic() < end:
            yield
            time.sleep(_PAUSE_SECONDS)
        raise _unavailable()

    def take(self, key: Key, *, to_begin: bool = False) -> str | None:
        """Hold a key; return None, or who holds it instead. To be called alone with the key.

        :param to_begin: for a session that is about to begin.
        :raises PeersUnavailable: where that can't be found out.
        """
        with self._told("take"):
            holder = self._peers.take(key, alone=to_begin and self._runs_alone)
        return None if holder is None or holder == self._peers.name else holder

    def take_any(self, keys: Iterator[Key]) -> Key | None:
        """Hold the first of some keys that nobody holds, not even this worker."""
        with self._told("take"):
            for key in keys:
                if self._peers.take(key, alone=self._runs_alone) is None:
                    return key
        return None

    def check(self) -> None:
        """See that a session could begin, as far as the peers are concerned.

        :raises PeersUnavailable: if none could, with the reason.
        """
        self._peers.check(alone=self._runs_alone)

    def find(self, key: Key) -> str | None:
        """The name of the other worker that holds a key, if any does.

        :raises PeersUnavailable: where that can't be found out.
        """
        holder = self._peers.holder(key)
        return None if holder == self._peers.name else holder

    def others(self) -> list[str]:
        """The names of the other workers.

        :raises PeersUnavailable: where they can't be found out.
        """
        return self._peers.others()

    def has_ended(self, worker: str) -> bool:
        """Whether another worker can't be found any more. May take as long as a question."""
        with suppress(PeersUnavailable):
            if worker not in self._peers.others():
                return True
            answer = self._peers.ask(worker, {"ask": "ready"}, ASK_SECONDS)
            return answer.get("state") == "nothing"
        return False

    def ask(self, holder: str, question: Message) -> tuple[str, Message]:
        """Ask the holder of a key; return what state it says that key is in, and all it says.

        :raises PeersUnavailable: where no answer came in time.
        """
        with self._told("ask"):
            answer = self._peers.ask(holder, question, ASK_SECONDS)
            state = answer.get("state")
            if not isinstance(state, str):
                raise _unavailable()
            return state, answer

    def free(self, *keys: Key) -> None:
        """Hold these keys no more. To be called alone with them, or by whoever took them."""
        self._peers.free(keys)

    @contextmanager
    def _told(self, operation: str) -> Iterator[None]:
        result = "unavailable"
        try:
            yield
            result = "ok"
        finally:
            signals.peer_asked.send(self._sender, operation=operation, result=result)


def _unavailable() -> PeersUnavailable:
    return PeersUnavailable("The other workers could not be asked; try again.", retry_after=1)
