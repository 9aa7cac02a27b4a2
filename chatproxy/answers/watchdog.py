"""The watchdog: one thread for the timers of all answers: silence, deadline, readers who left.

It cancels as a Stop does, so no other part needs a timer of its own. It looks at every live session
now and then, wherever that waits (for a name, a connection, an event, a reader):

* A session without an event for the idle timeout is cancelled, and so is one that has lived up to
  its deadline, and one to which no reader has come back in time.
* A run may be silent: it is its calls that are looked at, each a session of its own.
* A whole answer is concluded, not cancelled, when the upstream has said no more for a moment,
  whatever else it sends.

It also sweeps what is kept for a while only. The thread lives while there is anything to look at.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable

from .. import forks
from .session import Reason, StreamSession

logger = logging.getLogger("chatproxy")

#: Seconds without another word after which a whole answer needs no ``[DONE]``. Only the count of
#: tokens may follow the ``finish_reason`` (``stream_options.include_usage``). It is ready by then,
#: and comes right behind, in the same packet or the next; a lost packet is sent again within a
#: second or two. If this were longer, a user who sees a whole answer would see it still running.
WHOLE_SECONDS = 3.0


class Watchdog:
    """Watches the sessions of one worker.

    :param idle: seconds that a session may be without an event.
    :param deadline: seconds that a session may live.
    :param live: returns the sessions that have not ended.
    :param sweeps: called at each look.
    :param is_done: whether there is nothing left to look at.
    """

    def __init__(
        self,
        idle: float,
        deadline: float,
        live: Callable[[], Iterable[StreamSession]],
        sweeps: Iterable[Callable[[], None]],
        is_done: Callable[[], bool],
    ) -> None:
        self._idle = idle
        self._whole = min(WHOLE_SECONDS, idle)
        self._deadline = deadline
        self._period = min(1.0, idle / 10, deadline / 10)
        self._live = live
        self._sweeps = list(sweeps)
        self._is_done = is_done
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._runs = False

    def start(self) -> None:
        """See to it that the thread runs; to be called after each claim and each cancel."""
        with self._lock:
            if not self._runs:
                # The thread must not keep alive an application that nobody needs any more.
                threading.Thread(
                    target=_run, args=(weakref.ref(self),), name="chatproxy-watchdog", daemon=True
                ).start()
                self._runs = True

    def _look(self) -> float | None:
        """Look once; return the seconds until the next look, or None if there is nothing left."""
        with self._lock:
            if self._is_done():
                self._runs = False
                return None
        for session in self._live():
            for each in (session, *(session.calls.live() if session.calls else ())):
                try:
                    if isinstance(each, StreamSession):  # an HTTP request has a timeout of its own
                        self.check(each, time.monotonic())
                except Exception:  # the others need the watchdog too
                    logger.exception("An answer that took too long could not be stopped")
        for sweep in self._sweeps:
            try:
                sweep()
            except Exception:
                logger.exception("What is kept for a while only could not be looked at")
        return self._period

    def check(self, session: StreamSession, now: float) -> None:
        """End a session if it has taken too long by ``now``, of the monotonic clock."""
        is_late = now - session.started_at >= self._deadline
        if session.whole:
            quiet_since = session.quiet_since
            is_quiet = quiet_since is not None and now - quiet_since >= self._whole
            if is_quiet or is_late or session.is_abandoned(now):
                session.conclude()
        elif is_late:
            session.cancel(Reason.DEADLINE)
        elif self._is_idle(session, now):
            session.cancel(Reason.IDLE)
        elif session.is_abandoned(now):
            session.cancel(Reason.DISCONNECT)

    def _is_idle(self, session: StreamSession, now: float) -> bool:
        # A run may be silent; and if the log is full, it is the readers who are waited for.
        waits = session.calls is None and not session.log.full
        return waits and now - session.last_event_at >= self._idle


def _run(reference: weakref.ref[Watchdog]) -> None:
    while (watchdog := reference()) is not None and (period := watchdog._look()) is not None:
        del watchdog
        time.sleep(period)
