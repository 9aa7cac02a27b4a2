"""The coordinator: how this worker takes, frees and asks about lease keys.

Workers agree by two operations: to take a key, which one of them wins, and to ask its holder. The
coordinator makes these safe to use from many threads of one worker:

* **One thread at a time deals with a key** (``exclusive``). If this worker turns out to hold a key
  already, and nothing here says what for, then nobody is just taking it either: it is left over
  from an earlier attempt, and counts as taken.
* **A reply never waits for a key.** Two workers may ask each other about one key, each in the midst
  of its own dealings with it. Whoever replies only looks whether the key is busy (``is_busy``).
* **Every wait ends within ``ASK_SECONDS``**, which is less than the two seconds that a Stop may
  take: for another thread, for a key that stands for nothing at present, for a reply.
* The signal ``peer_asked`` tells of each operation, and whether it went well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .. import forks, signals
from ..errors import PeersUnavailable
from .peers import LeaseKey, Message, Peers, PeerState

#: Seconds in which the peers have to reply.
ASK_SECONDS = 1.9
#: Seconds between two attempts at a key that stands for nothing at present.
_PAUSE_SECONDS = 0.005


class Coordinator:
    """This worker's dealings with its peers.

    :param sender: the sender of the signals.
    :param allow_offline: whether a session may begin while the peers can't be asked.
    """

    def __init__(self, peers: Peers, sender: object, *, allow_offline: bool) -> None:
        self._peers = peers
        self._sender = sender
        self._allow_offline = allow_offline
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: The keys that a thread deals with; each event is set when that thread is done.
        self._busy: dict[LeaseKey, threading.Event] = {}

    @property
    def name(self) -> str:
        """The name of this worker among its peers."""
        return self._peers.name

    @contextmanager
    def exclusive(self, key: LeaseKey) -> Iterator[None]:
        """Keep all other threads of this worker from dealing with a key.

        :raises PeersUnavailable: if another thread deals with it for too long.
        """
        done = threading.Event()
        end = time.monotonic() + ASK_SECONDS
        while (first := self._enter(key, done)) is not done:
            if not first.wait(max(0.0, end - time.monotonic())):
                raise _unavailable()
        try:
            yield
        finally:
            with self._lock:
                del self._busy[key]
            done.set()

    def _enter(self, key: LeaseKey, done: threading.Event) -> threading.Event:
        with self._lock:
            return self._busy.setdefault(key, done)

    def is_busy(self, key: LeaseKey) -> bool:
        """Whether a thread of this worker deals with a key now."""
        with self._lock:
            return key in self._busy

    @staticmethod
    def attempts() -> Iterator[None]:
        """Turns for a loop that leaves by itself, with a pause between any two.

        :raises PeersUnavailable: when the time is over.
        """
        end = time.monotonic() + ASK_SECONDS
        while time.monotonic() < end:
            yield
            time.sleep(_PAUSE_SECONDS)
        raise _unavailable()

    def take(self, key: LeaseKey, *, to_begin: bool = False) -> str | None:
        """Take a key. To be called with the key to oneself (``exclusive``).

        :param to_begin: whether a session is about to begin with it.
        :returns: None if this worker holds it now, otherwise the name of the worker that does.
        :raises PeersUnavailable: if that can't be found out.
        """
        with self._reported("take"):
            holder = self._peers.take(key, allow_offline=to_begin and self._allow_offline)
        return None if holder is None or holder == self._peers.name else holder

    def take_first(self, keys: Iterator[LeaseKey]) -> LeaseKey | None:
        """Take the first of some keys that nobody holds, not even this worker.

        :raises PeersUnavailable: if that can't be found out.
        """
        with self._reported("take"):
            for key in keys:
                if self._peers.take(key, allow_offline=self._allow_offline) is None:
                    return key
        return None

    def free(self, *keys: LeaseKey) -> None:
        """Hold these keys no longer. To be called with each to oneself, or by whoever took it."""
        self._peers.free(keys)

    def check(self) -> None:
        """See that a session could begin, as far as the peers are concerned.

        :raises PeersUnavailable: if none could, with the reason.
        """
        self._peers.check(allow_offline=self._allow_offline)

    def holder(self, key: LeaseKey) -> str | None:
        """The name of the other worker that holds a key, if any does.

        :raises PeersUnavailable: if that can't be found out.
        """
        holder = self._peers.holder(key)
        return None if holder == self._peers.name else holder

    def others(self) -> list[str]:
        """The names of the other workers.

        :raises PeersUnavailable: if they can't be found out.
        """
        return self._peers.others()

    def has_ended(self, worker: str) -> bool:
        """Whether another worker can't be found any more. May take as long as a request."""
        with suppress(PeersUnavailable):
            if worker not in self._peers.others():
                return True
            reply = self._peers.ask(worker, {"ask": "ready"}, ASK_SECONDS)
            return reply.get("state") == PeerState.UNKNOWN
        return False

    def ask(self, holder: str, request: Message) -> tuple[PeerState, Message]:
        """Send a request to the holder of a key; return the state in its reply, and all of it.

        :raises PeersUnavailable: if no reply came in time, or one that can't be understood.
        """
        with self._reported("ask"):
            reply = self._peers.ask(holder, request, ASK_SECONDS)
            try:
                return PeerState(reply.get("state")), reply
            except ValueError:
                raise _unavailable() from None

    @contextmanager
    def _reported(self, operation: str) -> Iterator[None]:
        result = "unavailable"
        try:
            yield
            result = "ok"
        finally:
            signals.peer_asked.send(self._sender, operation=operation, result=result)


def _unavailable() -> PeersUnavailable:
    return PeersUnavailable("The other workers could not be asked; try again.", retry_after=1)
