"""Asking: how those who wait for what it says use a database that may be away.

A database is used by one thread, one call at a time. If each call takes a second to fail, the tenth
that waits would fail after ten. So:

* No call is begun that has waited longer than ``PATIENCE``.
* After a failure no call is begun for ``PAUSE`` seconds: all fail at once, those that wait, too.
* A bounded number waits, and of one owner's a smaller one.
* Whatever keeps a call from being answered is a ``DatabaseError``.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ..answers.shares import SlotPool
from ..errors import ConfigError
from .database import Database, DatabaseError, UnfitRow

logger = logging.getLogger("chatproxy")

#: Seconds after which a call that waits is not begun any more.
PATIENCE = 5.0
#: Seconds after a failure in which no call is begun.
PAUSE = 2.0

_T = TypeVar("_T")


class Asking:
    """A database, for those who wait for what it says. Safe to use from any thread.

    :param database: is used by what ``run`` runs alone.
    :param run: runs a call in a thread that may wait, and waits for what comes of it.
    :param what: what is kept there, for the log: "The records".
    :param most: how many calls wait at once; ``most_of_one``: how many of one owner's.
    """

    def __init__(
        self,
        database: Database,
        run: Callable[[Callable[[], Any]], Any],
        what: str,
        most: int,
        most_of_one: int,
    ) -> None:
        self._database = database
        self._run = run
        self._what = what
        self._bounds = most, most_of_one
        self._process: int | None = None
        self._is_away = False
        self._failed_at = float("-inf")

    def ask(self, owner: str, call: Callable[[Database], _T]) -> _T:
        """What a call returns.

        :raises TooManySessions: if too many wait already.
        :raises DatabaseError: if the database can't be used.
        """
        self._check(asked := time.monotonic())

        def answer() -> _T:
            self._check(asked)
            return self._answer(call)

        free = self._slots_here().take(owner)
        try:
            found: _T = self._run(answer)
        except (queue.Full, RuntimeError):
            raise DatabaseError("no more calls can be made") from None
        finally:
            free()
        return found

    def _slots_here(self) -> SlotPool:
        """The slots of this process; those who have some of its parent's are not here."""
        if self._process != os.getpid():
            self._slots = SlotPool(*self._bounds)
            self._process = os.getpid()
        return self._slots

    def _check(self, asked: float) -> None:
        now = time.monotonic()
        if now - asked > PATIENCE:
            raise DatabaseError("it takes too long")
        if now - self._failed_at < PAUSE:
            raise DatabaseError("it has failed a moment ago")

    def _answer(self, call: Callable[[Database], _T]) -> _T:
        try:
            self._database.prepare()
            found = call(self._database)
        except UnfitRow:  # the fault of one
            raise
        except (ConfigError, DatabaseError) as error:
            if not self._is_away:
                logger.warning("%s can't be reached: %s", self._what, error)
            self._is_away = True
            self._failed_at = time.monotonic()
            raise DatabaseError(str(error)) from None
        if self._is_away:
            logger.warning("%s can be reached again", self._what)
        self._is_away = False
        return found
