"""Coroutines: code that waits for bytes, and whoever takes its steps meanwhile.

A coroutine is a generator that yields a ``Readable`` when it has to wait. Whoever runs it calls
``Readable.step`` each time that there is something to read, and goes on with the coroutine when a
step returns False. ``run`` does so in the present thread, on a socket that blocks;
``server.event_loop`` does so for thousands at once, under gevent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

#: What a socket that does not block says if it has nothing.
NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Hurried(Protocol):
    """A wait that can be looked at before others."""

    def hurry(self) -> None:
        """Take the next step soon. May be called by any thread."""


class Readable:
    """What to wait for: ``step`` is called, now and each time that there is something to read.

    It reads from ``sock``, once, and must not wait for anything else, nor take more than a few
    milliseconds. When it returns False the coroutine goes on; what it raises is raised there.
    Meanwhile, under gevent, ``sock`` does not block.

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
        #: What the event loop has of it, while it is the event loop's.
        self.wait: Hurried | None = None

    def hurry(self) -> None:
        """Have the next step taken before those of others; for a socket that was shut.

        May be called by any thread, and also where nobody waits any more.
        """
        if (wait := self.wait) is not None:
            wait.hurry()


_T = TypeVar("_T")
Coroutine = Generator[Readable, None, _T]


def run(coroutine: Coroutine[_T]) -> _T:
    """Run a coroutine in this thread, which waits; return its value."""
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
    """Go on with a coroutine, or raise an error in it; return what it waits for next."""
    return next(coroutine) if error is None else coroutine.throw(error)
