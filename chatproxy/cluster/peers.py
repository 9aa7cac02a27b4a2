"""The other workers: who holds an id, and how they are asked.

Two things are enough for all that workers have to agree upon:

* A *table* of keys, each held by one worker at the most. An id is such a key, whether its answer
  runs, has ended a while ago, or was stopped before its start; so is a place within an owner's
  limit. What a key stands for, only its holder knows.
* *Questions* that a holder is asked, and answers to.

A worker that dies holds nothing any more: at once on one host, after its lease on many.

Keys are tuples of strings. Questions and answers are dictionaries that JSON can carry, small ones.
Everything here may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Protocol

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

    def serve(self, answer: Callable[[Message], Message], lost: Callable[[LeaseKey], None]) -> None:
        """Have questions to this worker answered by ``answer``.

        :param answer: called in a thread of its own; may take its time, and must not raise.
        :param lost: called with a key that this worker held and that another holds by now,
            because the two could not hear of each other for a while.
        """

    def open(self) -> None:
        """Be there for the others, before anybody asks. Again and again does no harm.

        :raises PeersUnavailable: if that is not possible now.
        """

    def check(self, *, allow_offline: bool = False) -> None:
        """See that a key could be taken now. Takes about a second at the most.

        :param allow_offline: see ``take``.
        :raises PeersUnavailable: if none could be, with the reason.
        """

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        """Hold a key, unless a worker holds it already.

        :param allow_offline: if the table can't be reached, go ahead, and take the key as
            soon as it can be, if these peers are able to.
        :returns: None where this worker holds it from now on, else the name of its holder, which
            may be this worker itself.
        :raises PeersUnavailable: where the table can't be reached.
        """

    def holder(self, key: LeaseKey) -> str | None:
        """The name of the worker that holds a key, if any does.

        :raises PeersUnavailable: where the table can't be reached.
        """

    def others(self) -> list[str]:
        """The names of the other workers; some of them may have ended.

        :raises PeersUnavailable: where they can't be found out.
        """

    def free(self, keys: Iterable[LeaseKey]) -> None:
        """Hold these keys no more. Never raises; keys that are held by others stay theirs."""

    def ask(self, holder: str, question: Message, seconds: float) -> Message:
        """Ask a worker that ``take`` has named, and wait for its answer.

        :raises PeersUnavailable: where no answer came within ``seconds``.
        """

    def close(self) -> None:
        """Free all, and answer no more; for the end of the process."""
