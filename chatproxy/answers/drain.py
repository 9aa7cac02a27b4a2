"""The drain: at a shutdown, no session begins, and each that runs is waited for, then stopped.

Sessions that are admitted before the drain begins may go on for its grace period, and are stopped
then. No session is admitted after that.
"""

from __future__ import annotations

import threading

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
        #: Notified, in a drain, when the application has been told of an end.
        self._changed = threading.Condition(threading.Lock())
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
        with self._changed:
            self.check()
            self._untold.add(session)

    def told(self, session: StreamSession) -> None:
        """Note that the application knows how a session ended."""
        with self._changed:
            self._untold.discard(session)
            if self.begun:
                self._changed.notify_all()

    def run(self, grace: float) -> None:
        """Admit no session; give those that run ``grace`` seconds, then stop them.

        Returns when the application has heard of each, or ``TELL_SECONDS`` after the stops.
        """
        with self._changed:
            self.leaving = self.begun = True
            self._wait(grace)
            untold = list(self._untold)
        for session in untold:
            session.cancel(Reason.SHUTDOWN)
        with self._changed:
            self._wait(TELL_SECONDS)

    def _wait(self, seconds: float) -> None:
        self._changed.wait_for(lambda: not self._untold, seconds)
