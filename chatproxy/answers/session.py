"""StreamSession: one answer, from its claim to its end.

A session is in one phase at a time and ends with exactly one outcome:

    connecting ──▶ waiting ──▶ streaming        phases
        ▲  └────────┐ │ │          │
        └─ retry ───┼─┘ │          │
                    ▼   ▼          ▼
              finished, stopped, failed         outcomes

* *connecting*: no request has been sent to DeepSeek yet, or the last one is to be tried again.
* *waiting*: the request has been sent, and no event has come.
* *streaming*: at least one event has come.

The flag is a ``threading.Event`` that is set once, by whoever ends the answer from this side: a
Stop, a client that left, a timer, a shutdown. ``cancel`` sets it and runs the abort hooks, which
shut the upstream's socket and end every wait. The producer ends the session, and nobody else;
where the flag is set by then, the outcome is *stopped*, whatever error came of the abort.

An answer is *whole* once DeepSeek has said of all of it why it ends (``finish_reason``). What may
follow is a count of tokens and the end of the body; if these don't come, the answer is no worse.
``conclude`` ends the wait for them by the same abort hooks, with the flag left alone: the producer
then ends the session as *finished*.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ..errors import Refusal
from .log import AnswerLog
from .transcript import Transcript


class SessionKey(NamedTuple):
    """What a session is found by: the same id of two owners is two sessions.

    ``owner`` is an opaque string, "" if owners are not known; ``id`` is the client's own.
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


_NEXT = {
    Phase.CONNECTING: frozenset({Phase.WAITING}),
    Phase.WAITING: frozenset({Phase.CONNECTING, Phase.STREAMING}),
    Phase.STREAMING: frozenset[Phase](),
}


class StreamSession:
    """One answer. Safe to use from any thread.

    :param key: its owner, and the client's own id, already checked.
    :param log: where the events of the answer go.
    :param grace: seconds in which a reader may come back when the last one has left; 0 stops the
        answer then.
    """

    def __init__(self, key: SessionKey, log: AnswerLog, grace: float = 0.0) -> None:
        self.key = key
        self.owner, self.id = key
        self.log = log
        self.grace = grace
        #: Since when nobody reads, where that has not stopped it.
        self.left_at: float | None = None
        #: Set once this side wants the answer to end.
        self.flag = threading.Event()
        #: Set once the upstream is closed and the session has left the registry.
        self.closed = threading.Event()
        #: Set once the application has been told how it ended.
        self.told = threading.Event()
        self.phase = Phase.CONNECTING
        self.outcome: Outcome | None = None
        self.reason: Reason | None = None
        #: Why there is no answer, or no whole one: what went wrong at DeepSeek.
        self.refusal: Refusal | None = None
        #: What the answer says, where somebody wants to know.
        self.transcript: Transcript | None = None
        #: DeepSeek's events so far, without its ``[DONE]``.
        self.events = 0
        #: Their size in bytes.
        self.bytes = 0
        #: Whether all of the answer has come, and at most its end has not.
        self.whole = False
        #: Whether its end is not waited for any more.
        self.concluded = False
        #: Since when only its end is waited for; None while readers are waited for.
        self.quiet_since: float | None = None
        #: Times of the monotonic clock, in seconds.
        self.started_at = self.last_event_at = time.monotonic()
        #: When the first event came; None before.
        self.first_event_at: float | None = None
        #: When the upstream had been closed; None before.
        self.closed_at: float | None = None
        self._lock = threading.Lock()
        self._abort_hooks: list[Callable[[], None]] = [log.release]

    def enter(self, phase: Phase) -> None:
        """Go on to the next phase; entering the present one again changes nothing.

        :raises ValueError: where the table above has no such step.
        """
        with self._lock:
            if phase is self.phase:
                return
            if self.outcome or phase not in _NEXT[self.phase]:
                raise ValueError(f"{self.outcome or self.phase} -> {phase}")
            self.phase = phase

    def cancel(self, reason: Reason) -> bool:
        """Set the flag and abort the upstream. Returns without waiting for the close.

        :returns: False where the answer has ended or was cancelled before.
        """
        with self._lock:
            if self.outcome or self.flag.is_set():
                return False
            self.reason = reason
            self.flag.set()
            hooks = list(self._abort_hooks)
        for abort in hooks:
            abort()
        return True

    def conclude(self) -> None:
        """End every wait of an answer that is whole, so that it ends now. Never blocks."""
        with self._lock:
            self.concluded = True
            hooks = list(self._abort_hooks)
        for abort in hooks:
            abort()

    def leave(self) -> None:
        """Note that the last reader has left: that ends the answer, now or after the grace.

        One that is whole ends by itself: many clients leave before its last line has come.
        """
        if self.grace:
            self.left_at = time.monotonic()
        elif not self.whole:
            self.cancel(Reason.DISCONNECT)

    def is_abandoned(self, now: float) -> bool:
        """Whether nobody has read for longer than the grace."""
        left_at = self.left_at
        return left_at is not None and not self.log.followed and now - left_at >= self.grace

    def on_cancel(self, abort: Callable[[], None]) -> None:
        """Have ``abort`` called by ``cancel``; at once, where that has happened already.

        An abort hook must not block, must not raise, and may be called from any thread.
        """
        with self._lock:
            self._abort_hooks.append(abort)
            late = self.flag.is_set()
        if late:
            abort()

    def end(self, outcome: Outcome) -> Outcome:
        """Decide how the answer ended: *stopped* where the flag is set, else ``outcome``.

        After this the session can no longer be cancelled.
        """
        with self._lock:
            if self.outcome is None:
                self.outcome = Outcome.STOPPED if self.flag.is_set() else outcome
                self._abort_hooks.clear()
            return self.outcome

    @property
    def was_refused(self) -> bool:
        """Whether there is no answer at all: it failed before its first event."""
        return self.refusal is not None and not self.events

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started_at

    def milliseconds(self) -> int:
        """How long the answer has taken, or took."""
        end = time.monotonic() if self.closed_at is None else self.closed_at
        return round((end - self.started_at) * 1000)
