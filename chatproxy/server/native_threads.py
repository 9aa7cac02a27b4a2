"""NativeThread: one thread of the system's for what would block all others, such as a database.

Under gevent a call that waits in C, or in a file, holds up every greenlet. So it runs in a native
thread, and only the greenlet that wants its result waits. Without gevent it is a thread like any
other, and only the thread that wants the result waits.

Rules:

* The calls run one at a time, in their order. What belongs to them (an engine, a connection, and
  the locks in these, which gevent may have patched) is used by this thread alone.
* A call may wait, but not for a greenlet or thread that waits for this thread.
* At most ``places`` calls wait their turn; one more is refused. (Threads that ask at the same
  moment may exceed it, by one each.)
* The thread begins with the first call, in each process anew: a fork has no threads.
* After ``close`` no call is taken. Those that were taken still run, then the thread ends. It ends
  also when this is garbage.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import gevent
from gevent import monkey

logger = logging.getLogger("chatproxy")

#: How many calls may wait their turn.
PLACES = 1000

_T = TypeVar("_T")
#: What a call returned, and what it raised.
_Result = tuple[Any, BaseException | None]
#: A call, and what is told its result, in the native thread. None ends the thread.
_Job = tuple[Callable[[], Any], Callable[[_Result], None]] | None


class NativeThread:
    """A thread that runs calls one after the other. Safe to use from any thread.

    :param name: what the thread does, for the log.
    :param places: how many calls may wait their turn.
    """

    def __init__(self, name: str, places: int = PLACES) -> None:
        self._name = name
        self._places = places
        self._lock = threading.Lock()
        self._process: int | None = None
        self._is_closed = False
        self._jobs: queue.SimpleQueue[_Job] = _native_queue()

    @property
    def waiting(self) -> int:
        """How many calls wait their turn."""
        return self._jobs.qsize()

    def run(self, call: Callable[[], _T]) -> _T:
        """Run a call, and wait for what it returns.

        :raises queue.Full: if too many wait already.
        :raises RuntimeError: if this is closed, or the thread can't be started.
        """
        return cast(_T, _result_of(self._begin(call), None))

    def submit(self, call: Callable[[], object]) -> None:
        """Have a call run, without waiting for it. If it fails, that is logged.

        :raises queue.Full: if too many wait already.
        :raises RuntimeError: if this is closed, or the thread can't be started.
        """
        self._put(call, self._log_failure)

    def close(self, timeout: float | None = None) -> bool:
        """Take no more calls, and wait for those that were taken.

        :param timeout: seconds; None for as long as it takes.
        :returns: whether all have run. Those that have not still run, while the process lives.
        """
        with self._lock:
            if self._is_closed or self._process != os.getpid():
                self._is_closed = True
                return True
            self._is_closed = True
            results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
            self._jobs.put((lambda: None, _from_native(results.put)))
            self._jobs.put(None)
        try:
            _result_of(results, timeout)
        except queue.Empty:
            return False
        return True

    def _begin(self, call: Callable[[], Any]) -> queue.SimpleQueue[_Result]:
        results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        self._put(call, results.put)
        return results

    def _put(self, call: Callable[[], Any], tell: Callable[[_Result], Any]) -> None:
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"The thread for {self._name} is closed.")
            if self._process != os.getpid():
                self._jobs = _native_queue()
                monkey.get_original("_thread", "start_new_thread")(_work, (self._jobs,))
                weakref.finalize(self, self._jobs.put, None).atexit = False
                self._process = os.getpid()
            if self.waiting >= self._places:
                raise queue.Full
            self._jobs.put((call, _from_native(tell)))  # last, as it leaves a watcher in the loop

    def _log_failure(self, result: _Result) -> None:
        if (error := result[1]) is not None:
            logger.error("%s failed", self._name, exc_info=error)


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    """Run what comes, in the native thread. Nothing here may wait for another one's lock."""
    while (job := jobs.get()) is not None:
        call, tell = job
        try:
            result: _Result = call(), None
        except BaseException as error:
            result = None, error
        with suppress(Exception):  # the loop of whoever wanted it has ended
            tell(result)
        del job, call, tell, result  # whatever they hold is not kept until the next one


def _result_of(results: queue.SimpleQueue[_Result], timeout: float | None) -> Any:
    returned, error = results.get(timeout=timeout)
    if error is None:
        return returned
    try:
        raise error
    finally:
        del error  # it refers to this frame


def _native_queue() -> queue.SimpleQueue[_Job]:
    """A queue for two native threads; one of gevent's is for greenlets."""
    native = monkey.get_original("queue", "SimpleQueue")
    return cast("queue.SimpleQueue[_Job]", native())


def _from_native(tell: Callable[[_Result], Any]) -> Callable[[_Result], None]:
    """What calls ``tell`` from the native thread: under gevent a greenlet of the present thread."""
    if not monkey.is_module_patched("queue"):
        return tell
    # As gevent's own thread pool has it: what else comes from another thread does not keep a loop
    # alive in which nothing else is left to happen.
    watcher = gevent.get_hub().loop.async_()
    results: list[_Result] = []

    def arrived() -> None:
        watcher.stop()
        watcher.close()
        gevent.spawn(tell, results.pop())

    def send(result: _Result) -> None:
        results.append(result)
        watcher.send()

    watcher.start(arrived)
    return send
