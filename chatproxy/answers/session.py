"""StreamSession: the state of one answer: its id and owner, its flag, its phase, its outcome.

A session is in one phase at a time and ends with exactly one outcome:

    connecting ──▶ waiting ──▶ streaming        phases
        ▲  └────────┐ │ │          │
        └─ retry ───┼─┘ │          │
                    ▼   ▼          ▼
              finished, stopped, failed         outcomes

* *connecting*: no request has been sent upstream yet, or the last one is to be tried again.
* *waiting*: the request has been sent, and no event has come.
* *streaming*: at least one event has come.

The flag is a ``threading.Event``. Whoever ends the answer from this side sets it, once: a Stop, a
client that left, a timer, a shutdown. ``cancel`` sets it and runs the abort hooks, which shut the
upstream's socket and end every wait. Only the producer ends the session. If the flag is set by
then, the outcome is *stopped*, whatever error the abort caused.

An answer is *whole* when the upstream has said of every choice why it ends (``finish_reason``).
Only a count of tokens and the end of the body may still follow, and an answer without them is no
worse. ``conclude`` ends the wait for them through the same abort hooks and leaves the flag alone:
the producer then ends the session as *finished*.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple

from ..errors import Refusal, UpstreamError
from .calls import Calls
from .log import AnswerLog
from .question import Question
from .reservation import Reservation
from .trace import Trace
from .transcript import says_something
from .upstream import CONFIGURED, BillingStops
from .usage import NO_ACCOUNT

#: The id of the chat of all questions of an owner that name none. No client can name it.
UNNAMED_CHAT = "*"


class SessionKey(NamedTuple):
    """What a session is found by: the same id of two owners is two sessions.

    ``owner`` is an opaque string, "" if owners are not known; ``id`` is the client's own, "" if the
    client gave none: such a session is not found.
    """

    owner: str
    id: str


class Phase(str, Enum):
    """Where a live answer is. The values are part of the receipts and log lines."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    STREAMING = "streaming"


class Outcome(str, Enum):
    """How an answer ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class Reason(str, Enum):
    """Why an answer was stopped."""

    USER = "user"
    DISCONNECT = "disconnect"
    SHUTDOWN = "shutdown"
    DEADLINE = "deadline"
    IDLE = "idle"
    LOST = "lost"
    REPLACED = "replaced"
    BUDGET = "budget"


_NEXT = {
    Phase.CONNECTING: frozenset({Phase.WAITING}),
    Phase.WAITING: frozenset({Phase.CONNECTING, Phase.STREAMING}),
    Phase.STREAMING: frozenset[Phase](),
}


class StreamSession:
    """One answer. Safe to use from any thread.

    :param key: its owner, and the client's own id, already checked.
    :param log: takes the events of the answer.
    :param reconnect_seconds: how long a reader may take to come back after the last one has left;
        0 stops the answer as soon as it leaves.
    :param chat: the owner and the id of the chat that the answer belongs to, if its client has
        chats. While it lives it is found by that, too. It may be the session's own key.
    """

    # There may be thousands: with a dictionary of so many attributes each is three times as large.
    __slots__ = (
        *("__weakref__", "_abort_hooks", "_is_unconnected", "_lock", "account", "asked_at"),
        *("billing_stops", "bytes", "calls", "cancelled_at", "chat", "closed", "closed_at"),
        *("concluded", "cut_short", "events", "first_event_at", "flag", "has_images", "id"),
        *("is_retained", "key", "keys", "last_event_at", "left_at", "log", "model", "most_events"),
        *("outcome", "owner", "phase", "question", "question_size", "quiet_since", "reason"),
        *("reconnect_seconds", "refusal", "reservation", "started_at", "tells_account", "trace"),
        *("upstream", "upstream_model", "usage", "whole"),
    )

    def __init__(
        self,
        key: SessionKey,
        log: AnswerLog,
        reconnect_seconds: float = 0.0,
        chat: SessionKey | None = None,
    ) -> None:
        self.key = key
        self.owner, self.id = key
        self.chat = chat
        #: What it is found by while it lives.
        self.keys = tuple(sorted({each for each in (key, chat) if each and each.id}))
        #: Whether it is found by its id for a while after its end. A chat's id is free by then.
        self.is_retained = bool(self.id) and key != chat
        self.log = log
        self.reconnect_seconds = reconnect_seconds
        #: Since when nobody reads; None while somebody does.
        self.left_at: float | None = None
        #: Set once this side wants the answer to end.
        self.flag = threading.Event()
        #: Set once the upstream is closed and the session has left the registry; or by a Stop that
        #: has no upstream to wait for (``unconnected``).
        self.closed = threading.Event()
        self.phase = Phase.CONNECTING
        self.outcome: Outcome | None = None
        self.reason: Reason | None = None
        #: Why there is no answer, or no whole one.
        self.refusal: Refusal | None = None
        #: What was asked, and about how many tokens that has.
        self.question: Question | None = None
        self.question_size = 0.0
        self.has_images = False
        #: What whoever traces keeps with it; None if nobody does.
        self.trace: Trace | None = None
        #: The calls of an answer of several calls; None for one of a single call.
        self.calls: Calls | None = None
        #: The name of the upstream that was asked last, and whether it bills nothing after a close.
        self.upstream = ""
        #: When it was asked; None before, or if that is not known.
        self.asked_at: float | None = None
        self.billing_stops = BillingStops.UNKNOWN
        #: What its client calls the model, and what the upstream does; "" before that is known.
        self.model = self.upstream_model = ""
        #: The upstream's own count of tokens, the latest; None before.
        self.usage: dict[str, Any] | None = None
        #: What it came to; nothing is known before its end.
        self.account = NO_ACCOUNT
        #: Whether its readers are told that, with an event before the end.
        self.tells_account = False
        #: What it may take of its owner's budgets; None if there are none.
        self.reservation: Reservation | None = None
        #: More events than that are stopped (``Reason.BUDGET``); None for any number.
        self.most_events: int | None = None
        #: Whether the upstream has ended it at the most tokens that it may have (``length``).
        self.cut_short = False
        #: The upstream's events so far, without its ``[DONE]``.
        self.events = 0
        #: Their size in bytes.
        self.bytes = 0
        #: Whether all of the answer has come, except perhaps for its end.
        self.whole = False
        #: Whether nobody waits for its end any more.
        self.concluded = False
        #: Since when only the end is missing, the waits for readers left out; None during these.
        self.quiet_since: float | None = None
        #: Times of the monotonic clock, in seconds.
        self.started_at = self.last_event_at = time.monotonic()
        #: When the first event came; None before.
        self.first_event_at: float | None = None
        #: When the flag was set; None before.
        self.cancelled_at: float | None = None
        #: When the upstream had been closed; None before.
        self.closed_at: float | None = None
        self._lock = threading.Lock()
        self._abort_hooks: list[Callable[[], None]] = [log.release]
        self._is_unconnected = False

    def enter(self, phase: Phase) -> None:
        """Go on to the next phase, for the call alone; the present one may be entered again.

        :raises ValueError: if the table above has no such step.
        """
        if phase is self.phase:
            return
        with self._lock:
            if self.outcome or phase not in _NEXT[self.phase]:
                raise ValueError(f"{self.outcome or self.phase} -> {phase}")
            self.phase = phase

    def cancel(self, reason: Reason) -> bool:
        """Set the flag and abort the upstream. Returns without waiting for the close.

        :returns: False if the answer has ended or was cancelled before.
        """
        with self._lock:
            if self.outcome or self.flag.is_set():
                return False
            self.reason = reason
            self.cancelled_at = time.monotonic()
            self.flag.set()
            self._close_unconnected()
            hooks = list(self._abort_hooks)
        for abort in hooks:
            abort()
        return True

    @contextmanager
    def unconnected(self) -> Iterator[None]:
        """While nothing is open upstream, and something else is waited for, which may last.

        A Stop then has no close to wait for. What follows must look at the flag before it connects.
        """
        with self._lock:
            self._is_unconnected = True
            if self.flag.is_set():
                self._close_unconnected()
        try:
            yield
        finally:
            self._is_unconnected = False

    def _close_unconnected(self) -> None:
        if self._is_unconnected:
            self.closed_at = time.monotonic()
            self.closed.set()

    def take(self, events: list[bytes], *, whole: bool = False) -> None:
        """Add events to the answer. For its call alone; never blocks.

        :param events: blocks as ``sse`` has them; may be empty.
        :param whole: whether the answer is whole with them.
        """
        now = time.monotonic()
        if whole and (not self.whole or says_something(events)):
            self.quiet_since = now
        self.whole = whole  # before anybody can read the events, and leave
        if events:
            self._begin_to_stream(now)
            self.events += len(events)
            self.bytes += sum(map(len, events))
            self.log.append(events)
            if self.trace is not None:
                self.trace.take(events)
            if self.most_events is not None and self.events > self.most_events:
                self.cancel(Reason.BUDGET)

    def tell(self, events: list[bytes]) -> None:
        """Add events of our own, which are not counted; as ``take`` otherwise."""
        self._begin_to_stream(time.monotonic())
        self.log.append(events)

    def _begin_to_stream(self, now: float) -> None:
        self.last_event_at = now
        if self.first_event_at is None:
            self.first_event_at = now
            self.enter(Phase.STREAMING)

    def conclude(self) -> None:
        """End every wait of a whole answer, so that it ends now. Never blocks."""
        with self._lock:
            self.concluded = True
            hooks = list(self._abort_hooks)
        for abort in hooks:
            abort()

    def leave(self) -> None:
        """Note that the last reader has left. That stops the answer, now or after a while.

        A whole answer ends by itself: many clients leave before its last line has come.
        """
        if self.reconnect_seconds:
            self.left_at = time.monotonic()
        elif not self.whole:
            self.cancel(Reason.DISCONNECT)

    def is_abandoned(self, now: float) -> bool:
        """Whether nobody has come back in time to read."""
        left_at = self.left_at
        if left_at is None or self.log.followed:
            return False
        return now - left_at >= self.reconnect_seconds

    def on_cancel(self, abort: Callable[[], None]) -> None:
        """Have ``cancel`` call ``abort``; call it at once if the session is cancelled already.

        An abort hook must not block, must not raise, and may be called from any thread.
        """
        with self._lock:
            self._abort_hooks.append(abort)
            late = self.flag.is_set()
        if late:
            abort()

    def end(self, outcome: Outcome) -> Outcome:
        """Decide how the answer ended: *stopped* if the flag is set, else ``outcome``.

        After this the session can no longer be cancelled.
        """
        with self._lock:
            if self.outcome is None:
                self.outcome = Outcome.STOPPED if self.flag.is_set() else outcome
                self._abort_hooks.clear()
            return self.outcome

    def timed_out(self) -> UpstreamError:
        """The refusal for an upstream that has sent nothing in time."""
        sentence = f"{self.upstream or CONFIGURED} sent nothing in time."
        return UpstreamError(sentence, status=504, code="upstream_timeout")

    def forget(self) -> None:
        """Keep neither the question nor what the answer says: it may be retained for long."""
        self.question = self.log.transcript = None

    @property
    def was_refused(self) -> bool:
        """Whether there is no answer at all: it failed before its first event."""
        return self.refusal is not None and self.first_event_at is None

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started_at

    def milliseconds(self) -> int:
        """How long the answer has taken, or took."""
        end = time.monotonic() if self.closed_at is None else self.closed_at
        return round((end - self.started_at) * 1000)
