"""The drain: the end of a worker, which waits until the application knows how each answer ended.

Whoever is admitted before it begins is waited for, and stopped when the time is over. Nobody is
admitted after that.
"""

from __future__ import annotations

import threading
import time

from ..errors import ShuttingDown
from .session import Reason, StreamSession

#: Seconds that a drain waits, after its stops, for the application to keep what it wants to keep.
TELL_SECONDS = 4.0


class Drain:
    """The end of one worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Sessions whose end the application has not been told of yet.
        self._untold: set[StreamSession] = set()
        #: Whether this worker is about to end: the others need not count on it.
        self.leaving = False
        #: Whether no new session may begin.
        self.begun = False

    def check(self) -> None:
        """Say whether a session could begin.

        :raises ShuttingDown: where the server drains.
        """
        if self.begun:
            raise ShuttingDown("The server is shutting down; try again.", retry_after=1)

    def admit(self, session: StreamSession) -> None:
        """Let a session begin, which will be waited for.

        :raises ShuttingDown: where the server drains.
        """
        with self._lock:
            self.check()
            self._untold.add(session)

    def told(self, session: StreamSession) -> None:
        """Note that the application knows how a session ended; nothing more will come of it."""
        with self._lock:
            self._untold.discard(session)
        session.told.set()

    def run(self, grace: float) -> None:
        """Admit nobody any more; give the others ``grace`` seconds, then stop them.

        Returns when the application has been told of each, or a little later without that.
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
