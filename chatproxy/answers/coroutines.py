"""Coroutines: code that waits for bytes without a thread or greenlet of its own.

A coroutine is a generator that yields a ``Readable`` when it has to wait. Whoever runs it calls
``Readable.step`` each time that there is something to read, and resumes the coroutine when a step
returns False, or raises in it what a step has raised. ``run`` does so in the present thread, on a
socket that blocks. ``server.event_loop`` does so for thousands at once, under gevent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

#: What a socket that does not block raises if it has nothing to read yet.
NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

#: Seconds of sleep that give gevent's event loop a turn. ``sleep(0)`` does not always do so.
A_TURN = 1e-6


class Hurried(Protocol):
    """A wait of the event loop, which can be given a turn before others."""

    def hurry(self) -> None:
        """Take the next step soon. May be called by any thread."""


class Readable:
    """What to wait for.

    :param sock: what is read. Under gevent it does not block while this is waited for.
    :param step: called now, and each time that there is something to read; returns whether the wait
        goes on. It reads from ``sock`` once, waits for nothing else, and takes a few milliseconds
        at the most. What it raises, other than ``NOTHING_YET``, is raised in the coroutine.
    :param has_more: tells after a step whether another can be taken without a read from ``sock``.
    """

    __slots__ = ("has_more", "sock", "step", "wait")

    def __init__(
        self,
        sock: socket.socket,
        step: Callable[[], bool],
        has_more: Callable[[], bool] | None = None,
    ) -> None:
        self.sock = sock
        self.step = step
        self.has_more = has_more
        #: The event loop's wait for it, while there is one.
        self.wait: Hurried | None = None

    def hurry(self) -> None:
        """Have the next step taken before those of others, because the socket was shut down.

        May be called by any thread. Nothing happens if nobody waits any more.
        """
        if (wait := self.wait) is not None:
            wait.hurry()


_T = TypeVar("_T")
Coroutine = Generator[Readable, None, _T]


def run(coroutine: Coroutine[_T]) -> _T:
    """Run a coroutine in this thread, which does the waiting; return the coroutine's value."""
    error: BaseException | None = None
    try:
        while True:
            awaited = resume(coroutine, error)
            error = None
            try:
                while awaited.step():
                    pass
            except BaseException as raised:  # it is the coroutine's
                error = raised
    except StopIteration as end:
        value: _T = end.value
        return value
    finally:
        error = None  # it refers to this frame


def resume(coroutine: Coroutine[object], error: BaseException | None) -> Readable:
    """Resume a coroutine, or raise an error in it; return what it waits for next."""
    return next(coroutine) if error is None else coroutine.throw(error)
