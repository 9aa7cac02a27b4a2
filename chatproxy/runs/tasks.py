"""Tasks: what a run calls in threads of its own (greenlets under gevent), and what comes of it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from ..answers.abort import AbortHandle
from .waits import Waits

_T = TypeVar("_T")

#: Tasks that have ended are let go of when there are so many.
_FEW = 16


class Task(Future[_T]):
    """What is called in a thread of its own, and what comes of it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._was_asked = False

    @property
    def is_settled(self) -> bool:
        """Whether it has ended, and somebody knows if it has raised anything."""
        return self.done() and (self._was_asked or self.cancelled() or not super().exception())

    def result(self, timeout: float | None = None) -> _T:
        """See ``Future``."""
        self._was_asked = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See ``Future``."""
        self._was_asked = True
        return super().exception(timeout)

    def ends_by(self, end: float) -> bool:
        """Wait for its end, but no longer than until then, of the monotonic clock."""
        try:
            self.exception(max(0.0, end - time.monotonic()))
        except FutureTimeout:
            return False
        except CancelledError:
            pass
        return True

    def work(self, call: Callable[[], _T]) -> None:
        """Call it, unless the future is cancelled by now."""
        if self.set_running_or_notify_cancel():
            try:
                self.set_result(call())
            except BaseException as error:
                self.set_exception(error)


class Tasks:
    """The tasks of one run. Safe to use from any thread.

    :param handle: ends the waits for them.
    :param waits: those of the application.
    :param within: makes the context in which each runs.
    """

    def __init__(
        self,
        handle: AbortHandle,
        waits: Waits,
        within: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._handle = handle
        self._waits = waits
        self._within = within
        self._look_at = _FEW
        self._lock = threading.Lock()
        #: Those that run, and those whose error nobody knows of.
        self._tasks: list[Task[Any]] = []

    def spawn(self, call: Callable[[], _T], name: str) -> Task[_T]:
        """Make a task of a call."""

        def begin() -> _T:
            self._handle.check()
            with self._within():
                return call()

        task: Task[_T] = Task(name)
        with self._lock:
            if len(self._tasks) >= self._look_at:
                self._tasks = [each for each in self._tasks if not each.is_settled]
                self._look_at = 2 * len(self._tasks) + _FEW
            self._tasks.append(task)
        try:
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(task.work, begin),
                name=f"chatproxy-{name}",
                daemon=True,
            ).start()
        except BaseException:
            task.cancel()
            raise
        return task

    def is_done(self, future: Future[Any], timeout: float | None = None) -> bool:
        """Wait for a future; whether it is done after so many seconds at the most."""
        return self._waits.is_done(future, self._handle, timeout)

    def join(self) -> None:
        """Wait for all tasks, and for those that they spawn.

        :raises BaseException: what one of them has raised, if nobody has asked it for that.
        """
        while running := self._running():
            for task in running:
                self.is_done(task)
        for task in self._tasks:
            if not task.is_settled:
                task.result()

    def left(self, end: float) -> list[str]:
        """The names of the tasks that have not ended by then, of the monotonic clock."""
        return [task.name for task in self._running() if not task.ends_by(end)]

    def _running(self) -> list[Task[Any]]:
        with self._lock:
            return [each for each in self._tasks if not each.done()]
