"""The drain: at a shutdown, no session begins, and each that runs is waited for, then stopped.

Sessions that are admitted before the drain begins may go on for its grace period, and are stopped
then. No session is admitted after that.
"""

from __future__ import annotations

import threading
import time

from .. import forks
from ..errors import ShuttingDown
from .session import Reason, StreamSession

#: Seconds in which the application may store what it wants to keep of stopped answers.
TELL_SECONDS = 4.0


class Drain:
    """The end of one worker."""

    def __init__(self) -> None:
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: Sessions whose end the application has not been told of yet.
        self._untold: set[StreamSession] = set()
        #: Whether this worker is about to end. The others no longer count on it.
        self.leaving = False
        #: Whether no new session may begin.
        self.begun = False

    def check(self) -> None:
        """Say whether a session could begin.

        :raises ShuttingDown: if the server drains.
        """
        if self.begun:
            raise ShuttingDown("The server is shutting down; try again.", retry_after=1)

    def admit(self, session: StreamSession) -> None:
        """Admit a session that is about to begin; the drain waits for it.

        :raises ShuttingDown: if the server drains.
        """
        with self._lock:
            self.check()
            self._untold.add(session)

    def told(self, session: StreamSession) -> None:
        """Note that the application knows how a session ended."""
        with self._lock:
            self._untold.discard(session)
        session.told.set()

    def run(self, grace: float) -> None:
        """Admit no session; give those that run ``grace`` seconds, then stop them.

        Returns when the application has heard of each, or ``TELL_SECONDS`` after the stops.
        """
        with self._lock:
            self.leaving = self.begun = True
        self._wait(grace)
        for session in self._admitted():
            session.cancel(Reason.SHUTDOWN)
        self._wait(TELL_SECONDS)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for session in self._admitted():
            session.told.wait(max(0.0, end - time.monotonic()))

    def _admitted(self) -> list[StreamSession]:
        with self._lock:
            return list(self._untold)
