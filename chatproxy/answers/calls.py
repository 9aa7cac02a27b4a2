"""Calls: what an answer of several calls has begun, and what became of each; for its receipt.

A call is a question to an upstream or an HTTP request. Those that live are all known; of those that
have ended the latest are, as what each was. Whoever wants to be told of them as they happen gives a
listener. Safe to use from any thread.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from .. import signals
from .question import Question
from .trace import Trace
from .upstream import CONFIGURED
from .usage import NO_ACCOUNT, Account, UsageSource, sum_of

if TYPE_CHECKING:
    from .session import Outcome, Phase

#: How many calls that have ended are remembered, and how many calls a receipt lists.
MOST_LISTED = 100
_LONGEST_NAME = 100


class State(Protocol):
    """How far a call is. A session has these, too.

    :ivar started_at: seconds of the monotonic clock; ``closed_at`` likewise, None while its
        connection is open.
    :ivar trace: see ``signals.call_begun``.
    """

    phase: Phase
    events: int
    upstream: str
    account: Account
    started_at: float
    closed_at: float | None
    trace: Trace | None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before."""


class Calls:
    """The calls of one answer.

    :param sender: the sender of the signals: the application.
    :param trace: that of the answer.
    :param on_begin: called before a call begins, with its id and its name. It may wait, and what it
        raises keeps the call from beginning.
    :param on_end: called when it has ended, with what ``listed`` has of it. It must not block.
    """

    def __init__(
        self,
        sender: object = None,
        trace: Trace | None = None,
        on_begin: Callable[[dict[str, Any]], None] | None = None,
        on_end: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._sender = sender
        self._trace = trace
        self._on_begin = on_begin
        self._on_end = on_end
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        #: The id and the name of each.
        self._live: dict[State, tuple[int, str]] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=MOST_LISTED)
        self._left_behind: list[str] = []
        #: How many calls there have been, and what those that have ended came to.
        self.count = 0
        self.account = NO_ACCOUNT
        #: What those of the configured upstream cost, which are one bill, by currency; and how many
        #: of them have no cost, though something came.
        self.costs: dict[str, Decimal] = {}
        self.unpriced = 0

    def begin(self, name: str, call: State, question: Question | None = None) -> None:
        """Note that a call begins.

        :param question: what is asked; None for an HTTP request.
        """
        number, name = next(self._numbers), name[:_LONGEST_NAME]
        if self._on_begin is not None:
            self._on_begin({"id": number, "name": name})
        with self._lock:
            self.count += 1
            self._live[call] = number, name
        signals.call_begun.send(
            self._sender, call=call, name=name, question=question, within=self._trace
        )

    def end(self, call: State) -> None:
        """Note that a call has ended; once is enough. What it has had is not kept."""
        with self._lock:
            known = self._live.pop(call, None)
            if known is None:
                return
            self.account = sum_of((self.account, call.account))
            if call.upstream == CONFIGURED:
                self._bill(call.account)
            ended = _as_json(*known, call)
            self._ended.append(ended)
        signals.call_ended.send(self._sender, call=call)
        if self._on_end is not None:
            self._on_end(ended)

    def _bill(self, account: Account) -> None:
        if (cost := account.cost) is not None:
            self.costs[cost.currency] = self.costs.get(cost.currency, Decimal(0)) + cost.amount
        elif account.usage.source is not UsageSource.NONE:
            self.unpriced += 1

    def settle(self) -> None:
        """Keep nothing of the calls but what each was: the answer is over."""
        self._on_begin = self._on_end = None
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

        Each call has ``id``, ``name``, ``phase``, ``outcome`` (None before its end), ``events``,
        ``upstream`` (None for a request of the application's own), ``closed`` and ``ms``; and what
        it came to, if that is known.
        """
        with self._lock:
            live = [_as_json(*known, call) for call, known in self._live.items()]
            return (*self._ended, *live)[-MOST_LISTED:], tuple(self._left_behind)


def _as_json(number: int, name: str, call: State) -> dict[str, Any]:
    end = time.monotonic() if call.closed_at is None else call.closed_at
    return {
        "id": number,
        "name": name,
        "phase": call.phase,
        "outcome": call.outcome,
        "events": call.events,
        "upstream": call.upstream or None,
        "closed": call.closed_at is not None,
        "ms": round((end - call.started_at) * 1000),
        **({} if call.account is NO_ACCOUNT else call.account.as_json()),
    }
