"""The clock: one thread that stops the answers that take too long.

It is one more canceller, as a Stop is: a session that has had no event for the idle timeout, that
has lived up to its deadline, or that nobody has read for its grace, is cancelled, wherever it is:
resolving, connecting, silent, waiting for its reader. So no other part needs a timer for these. An
answer that is whole is not stopped but concluded, once DeepSeek is silent for a moment. The clock
also forgets what has been kept for long enough. The thread lives while there is anything of this,
and no longer.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref

from ..cluster.registry import Registry
from ..cluster.remote_readers import RemoteReaders
from ..config import Settings
from .session import Reason, StreamSession

logger = logging.getLogger("chatproxy")

#: Seconds of silence after which a whole answer needs no ``[DONE]``. What may follow the
#: ``finish_reason`` is the count of tokens (``stream_options.include_usage``), and that is ready by
#: then: it comes right behind, in the same packet or the next. A lost packet is sent again within
#: a second or two. Longer than this, and a user who sees a whole answer sees it still running.
WHOLE_SECONDS = 3.0


class Clock:
    """Watches the live sessions of one registry, and the visits of readers on other workers."""

    def __init__(
        self, settings: Settings, registry: Registry, remote_readers: RemoteReaders
    ) -> None:
        self._idle = settings.idle_timeout
        self._whole = min(WHOLE_SECONDS, self._idle)
        self._deadline = settings.deadline
        self._period = min(1.0, self._idle / 10, self._deadline / 10)
        self._registry = registry
        self._remote_readers = remote_readers
        self._lock = threading.Lock()
        self._runs = False

    def start(self) -> None:
        """See to it that the clock runs; to be called after each claim and cancel."""
        with self._lock:
            if not self._runs:
                # The thread must not keep alive an application that nobody needs any more.
                threading.Thread(
                    target=_run, args=(weakref.ref(self),), name="chatproxy-clock", daemon=True
                ).start()
                self._runs = True

    def _tick(self) -> float | None:
        """Look once; return the seconds until the next look, or None if there is nothing left."""
        with self._lock:
            if self._registry.idle and not self._remote_readers:
                self._runs = False
                return None
        for session in self._registry.live():
            try:
                self._check(session, time.monotonic())
            except Exception:  # the clock is there for all the others too
                logger.exception("An answer that took too long could not be stopped")
        self._registry.sweep()
        self._remote_readers.sweep()
        return self._period

    def _check(self, session: StreamSession, now: float) -> None:
        is_late = now - session.started_at >= self._deadline
        if session.whole:
            quiet_since = session.quiet_since
            is_quiet = quiet_since is not None and now - quiet_since >= self._whole
            if is_quiet or is_late or session.is_abandoned(now):
                session.conclude()
        elif is_late:
            session.cancel(Reason.DEADLINE)
        elif now - session.last_event_at >= self._idle:
            session.cancel(Reason.IDLE)
        elif session.is_abandoned(now):
            session.cancel(Reason.DISCONNECT)


def _run(reference: weakref.ref[Clock]) -> None:
    while (clock := reference()) is not None and (period := clock._tick()) is not None:
        del clock
        time.sleep(period)
