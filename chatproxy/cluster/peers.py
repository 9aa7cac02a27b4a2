"""Peers: the interface to an application's other workers; ``local`` and ``redis`` implement it.

All that workers have to agree upon is built from three things:

* *Leases.* A key is held by one worker at most, until that worker frees it or ends. A session's id
  is such a key, whether its answer runs, has ended a while ago, or was stopped before its start; so
  is a slot within an owner's limit. Only its holder knows what a key stands for.
* *Requests* to the holder of a key, and its replies.
* *Accounts*: numbers that any worker draws from and settles with (``Accounts``). They belong to no
  worker, and are there until a time that is named when they begin.

A worker that dies holds nothing any more: at once on one host, after its lease on several.

A lease key is a tuple of strings. A request or a reply is a small dictionary that JSON can carry; a
request names its kind in ``ask``, a reply has a ``PeerState`` in ``state``. Everything here may be
called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Protocol

from ..answers.reservation import Accounts

LeaseKey = tuple[str, ...]
Message = dict[str, Any]


class PeerState(str, Enum):
    """What a worker replies first of all: the state of what it was asked about.

    The values go from worker to worker. Two versions may meet while a server is reloaded, so no
    value ever changes its meaning.
    """

    # Of an id:
    ACTIVE = "active"  #: its answer runs here, or is retained here
    CANCELLED = "cancelled"  #: its Stop came first, and is remembered here
    UNKNOWN = "nothing"  #: it stands for nothing here
    STOPPED = "stopped"  #: this very request has stopped it; the receipt is in the reply

    # Of a reader:
    READING = "reading"  #: more is to come
    OVER = "over"  #: all of the answer has been read
    GONE = "gone"  #: the events that come next are no longer held
    BEYOND = "beyond"  #: the answer has not so many events
    LEFT = "left"  #: it was let go

    # Of a worker:
    READY = "ready"  #: it takes new answers
    DRAINING = "draining"  #: it is about to end
    LISTED = "listed"  #: its sessions are in the reply


class Peers(Protocol):
    """The workers of one application. ``local`` and ``redis`` are two ways to find them."""

    @property
    def name(self) -> str:
        """The name of this worker among them."""

    @property
    def accounts(self) -> Accounts:
        """The numbers that they share."""

    def serve(
        self, handler: Callable[[Message], Message], on_lost: Callable[[LeaseKey], None]
    ) -> None:
        """Have requests to this worker answered.

        :param handler: turns a request into a reply. It is called in a thread of its own, may take
            its time, and must not raise.
        :param on_lost: called with a key that this worker held, and that another holds by now or
            may have held, because the two could not reach each other for a while.
        """

    def open(self) -> None:
        """Be reachable, before anybody asks. May be called again and again.

        :raises PeersUnavailable: if that is not possible now.
        """

    def check(self, *, allow_offline: bool = False) -> None:
        """See that a key could be taken now. Takes about a second at most.

        :param allow_offline: see ``take``.
        :raises PeersUnavailable: if none could be, with the reason.
        """

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        """Take a key, unless a worker holds it already.

        :param allow_offline: if what the workers share can't be reached, go ahead without it, and
            take the key as soon as it can be. Not every kind of peers can.
        :returns: None if this worker holds the key from now on; otherwise the name of its holder,
            which may be this worker itself.
        :raises PeersUnavailable: if that can't be found out.
        """

    def holder(self, key: LeaseKey) -> str | None:
        """The name of the worker that holds a key, if any does.

        :raises PeersUnavailable: if that can't be found out.
        """

    def others(self) -> list[str]:
        """The names of the other workers; some of them may have ended.

        :raises PeersUnavailable: if they can't be found out.
        """

    def free(self, keys: Iterable[LeaseKey]) -> None:
        """Hold these keys no longer. Never raises; what others hold stays theirs."""

    def ask(self, holder: str, request: Message, seconds: float) -> Message:
        """Send a request to a worker that ``take`` has named, and wait for its reply.

        :raises PeersUnavailable: if no reply came within ``seconds``.
        """

    def close(self) -> None:
        """Free all keys and answer no more requests; for the end of the process."""
