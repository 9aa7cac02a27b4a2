"""Rotation (``max_requests``): a worker is replaced while the server goes on serving.

gunicorn would have the worker refuse from then on, and start another when it has ended. Here it is
the other way round:

1. The worker takes the lock of the rotation, and asks its master for one worker more (SIGTTIN).
2. When that one is ready, it asks for one fewer (SIGTTOU).
3. The master tells its oldest worker to stop (SIGTERM), which drains as on any SIGTERM (see
   ``server.shutdown``). With one worker that is this one; with several, each goes in its turn.

One worker at a time does so, until the master has told the one that goes. The master counts
signals, and two pending signals of a kind become one: if two workers asked at once, there could be
one worker too many from then on.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Callable

#: Seconds in which a master has told its oldest worker to stop.
_TELLING_SECONDS = 1.0


class Rotation:
    """What the workers of a master share for this: a file, opened before they are forked.

    It is as long as the number of workers that have begun so far, and locked by the one that is
    being replaced. The lock ends with its process (fcntl(2), "record locking").
    """

    def __init__(self) -> None:
        self._file, path = tempfile.mkstemp()
        os.unlink(path)

    def note_ready(self) -> None:
        """Note that this worker has begun to serve."""
        os.write(self._file, b".")

    def replace(self, master: int, may_wait: Callable[[], bool]) -> bool:
        """Have a worker of this master replaced; wait until the new one is ready.

        :param master: its process id.
        :param may_wait: waits for a moment; returns False if this worker was told to stop.
        :returns: False if another worker is doing so; try again later.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            before = self._begun
            os.kill(master, signal.SIGTTIN)
            while self._begun == before:
                if not may_wait():
                    return True
            os.kill(master, signal.SIGTTOU)
            end = time.monotonic() + _TELLING_SECONDS
            while time.monotonic() < end and may_wait():
                pass
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return True

    @property
    def _begun(self) -> int:
        return os.fstat(self._file).st_size
