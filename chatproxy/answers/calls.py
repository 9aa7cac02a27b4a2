"""Calls: what an answer of several calls has begun, and what became of each; for its receipt.

A call is a question to an upstream or an HTTP request. Those that live are all known; of those that
have ended the latest are, as what each was. Safe to use from any thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from .usage import NO_ACCOUNT, Account, sum_of

if TYPE_CHECKING:
    from .session import Phase

#: How many calls that have ended are remembered, and how many calls a receipt lists.
MOST_LISTED = 100


_LONGEST_NAME = 100


class State(Protocol):
    """How far a call is. A session has these, too.

    :ivar started_at: seconds of the monotonic clock; ``closed_at`` likewise, None while its
        connection is open.
    """

    phase: Phase
    events: int
    upstream: str
    account: Account
    started_at: float
    closed_at: float | None


class Calls:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[State, str] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=MOST_LISTED)
        self._left_behind: list[str] = []
        #: How many calls there have been, and what those that have ended came to.
        self.count = 0
        self.account = NO_ACCOUNT

    def begin(self, name: str, call: State) -> None:
        """Note that a call begins."""
        with self._lock:
            self.count += 1
            self._live[call] = name[:_LONGEST_NAME]

    def end(self, call: State) -> None:
        """Note that a call has ended; once is enough. What it has had is not kept."""
        with self._lock:
            name = self._live.pop(call, None)
            if name is not None:
                self.account = sum_of((self.account, call.account))
                self._ended.append(_as_json(name, call))

    def settle(self) -> None:
        """Keep nothing of the calls but what each was: the answer is over."""
        for call in self.live():
            self.end(call)

    def leave_behind(self, name: str) -> None:
        """Note that code has not ended in time, and that the answer ends without it."""
        with self._lock:
            if len(self._left_behind) < MOST_LISTED:
                self._left_behind.append(name[:_LONGEST_NAME])

    def live(self) -> list[State]:
        """The calls that have not ended."""
        with self._lock:
            return list(self._live)

    def listed(self) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
        """For a receipt: the latest calls, and the names of what was left behind.

        Each call has ``name``, ``phase``, ``events``, ``upstream`` (None for a request of the
        application's own), ``closed`` and ``ms``; and what it came to, if that is known.
        """
        with self._lock:
            live = [_as_json(name, call) for call, name in self._live.items()]
            return (*self._ended, *live)[-MOST_LISTED:], tuple(self._left_behind)


def _as_json(name: str, call: State) -> dict[str, Any]:
    end = time.monotonic() if call.closed_at is None else call.closed_at
    return {
        "name": name,
        "phase": call.phase,
        "events": call.events,
        "upstream": call.upstream or None,
        "closed": call.closed_at is not None,
        "ms": round((end - call.started_at) * 1000),
        **({} if call.account is NO_ACCOUNT else call.account.as_json()),
    }
