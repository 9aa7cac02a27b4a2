"""Waiting for bytes: coroutines, and steps that are taken each time a socket has something to read.

A coroutine is a generator that yields a ``Readable`` where it has to wait. Under gevent the event
loop itself takes the steps meanwhile, and the coroutine holds no greenlet: an event costs no switch
to one and back, and a silent answer not the 8 KB of its stack. Without gevent, or where the system
has no epoll, a thread takes them, again and again, on a socket that blocks.

All sockets on which coroutines wait are one to the event loop: an epoll instance, which is readable
as long as any of them is. In each of its turns the loop takes a few steps, and then looks after
everything else, a new connection or a Stop, however many answers have something to read.
"""

from __future__ import annotations

import _thread
import contextvars
import os
import select
import socket
import ssl
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import gevent
from gevent import monkey
from greenlet import greenlet

#: Sockets that are read in one turn of the event loop.
_MOST_IN_A_TURN = 32
#: What a socket that does not block says where it has nothing.
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Readable:
    """What to wait for: ``step`` is called, now and each time that there is something to read.

    It reads from ``sock``, once, and must not wait for anything else. When it returns False the
    coroutine goes on; what it raises is raised there. Meanwhile, under gevent, ``sock`` does not
    block.
    """

    __slots__ = ("sock", "step", "wait")

    def __init__(self, sock: socket.socket, step: Callable[[], bool]) -> None:
        self.sock = sock
        self.step = step
        #: What the event loop has of it, while it is the event loop's.
        self.wait: _Wait | None = None

    def hurry(self) -> None:
        """Have the next step taken before those of others; for a socket that was shut.

        May be called by any thread, and also where nobody waits any more.
        """
        if (wait := self.wait) is not None:
            wait.hurry()


_T = TypeVar("_T")
Coroutine = Generator[Readable, None, _T]


class Coroutines:
    """Runs coroutines beside each other, and beside all else that a process does."""

    def __init__(self) -> None:
        self._poller: _Poller | None = None

    def spawn(self, coroutine: Coroutine[object]) -> None:
        """Run a coroutine beside this thread or greenlet, in a copy of the present context.

        That is the context of ``contextvars`` (PEP 567), in all that the coroutine does itself. The
        steps that it waits for are taken in another.
        """
        context = contextvars.copy_context()
        if monkey.is_module_patched("socket") and hasattr(select, "EPOLLIN"):
            arguments = coroutine, self._poller_of_this_loop(), context
            _thread.start_new_thread(context.run, (_go_on, *arguments))
        else:
            _thread.start_new_thread(context.run, (run, coroutine))

    def _poller_of_this_loop(self) -> _Poller:
        hub, process = gevent.get_hub(), os.getpid()
        if self._poller is None or (self._poller.hub, self._poller.process) != (hub, process):
            self._poller = _Poller(hub, process)
        return self._poller


def run(coroutine: Coroutine[_T]) -> _T:
    """Run a coroutine in this thread, which waits; return its value."""
    error: BaseException | None = None
    try:
        while True:
            awaited = _resume(coroutine, error)
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


def _resume(coroutine: Coroutine[object], error: BaseException | None) -> Readable:
    return next(coroutine) if error is None else coroutine.throw(error)


def _go_on(
    coroutine: Coroutine[object],
    poller: _Poller,
    context: contextvars.Context,
    error: BaseException | None = None,
) -> None:
    """Run a coroutine in this greenlet, up to where it has to wait, and leave it to the loop.

    :param context: the present context, in which the coroutine is to go on afterwards.
    """
    try:
        while True:
            wait = _Wait(coroutine, poller, context, _resume(coroutine, error))
            error = None
            try:
                if wait.step():
                    wait.begin()
                    return
            except BaseException as raised:
                error = raised
            wait.end()
    except StopIteration:
        pass
    finally:
        error = None  # it refers to this frame


class _Poller:
    """The sockets on which coroutines wait, with one watcher of gevent's event loop for all.

    :param process: the number of the present process: what a fork copies is still its parent's.
    """

    def __init__(self, hub: Any, process: int) -> None:
        self.hub = hub
        self.process = process
        self._epoll: select.epoll = monkey.get_original("select", "epoll")()
        self._waits: dict[int, _Wait] = {}
        self._watcher = hub.loop.io(self._epoll.fileno(), 1)

    def add(self, descriptor: int, wait: _Wait) -> None:
        """Have a wait look whenever there is something to read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        if not self._waits:
            self._watcher.start(self._look)
        self._waits[descriptor] = wait

    def remove(self, descriptor: int) -> None:
        """Look no more; before the socket is closed."""
        del self._waits[descriptor]
        if not self._waits:
            self._watcher.stop()
        self._epoll.unregister(descriptor)

    def _look(self) -> None:
        for descriptor, _ in self._epoll.poll(0, _MOST_IN_A_TURN):
            self._waits[descriptor].look()


class _Wait:
    """A coroutine that waits, while the event loop takes its steps."""

    __slots__ = ("_awaited", "_context", "_coroutine", "_poller", "_step", "_timeout")

    def __init__(
        self,
        coroutine: Coroutine[object],
        poller: _Poller,
        context: contextvars.Context,
        awaited: Readable,
    ) -> None:
        self._coroutine = coroutine
        self._poller = poller
        self._context = context
        self._awaited = awaited
        self._step = _whole_step(awaited)
        self._timeout = awaited.sock.gettimeout()
        awaited.sock.settimeout(0.0)

    def step(self) -> bool:
        """Take a step; return whether the wait goes on, be it that there is nothing yet."""
        try:
            return self._step()
        except _NOTHING_YET:
            return True

    def begin(self) -> None:
        """Leave it to the event loop."""
        self._poller.add(self._awaited.sock.fileno(), self)
        self._awaited.wait = self

    def hurry(self) -> None:
        """Look in the next turn of the loop, if not in this."""
        self._poller.hub.loop.run_callback_threadsafe(self.look)

    def end(self) -> None:
        """Have the socket block as it did before."""
        self._awaited.sock.settimeout(self._timeout)

    def look(self) -> None:
        """Take a step, and go on with the coroutine where the wait is over."""
        if self._awaited.wait is None:
            return  # it was in a hurry, and is over
        error: BaseException | None = None
        try:
            if self._step():
                return
        except _NOTHING_YET:
            return
        except BaseException as raised:
            error = raised
        self._awaited.wait = None
        self._poller.remove(self._awaited.sock.fileno())
        self.end()
        try:
            # At once, not in the loop's next turn, which comes late where much is going on.
            go_on = greenlet(self._context.run, self._poller.hub)
            go_on.switch(_go_on, self._coroutine, self._poller, self._context, error)
        finally:
            error = None  # it refers to this frame


def _whole_step(awaited: Readable) -> Callable[[], bool]:
    """The step; with TLS, which may have taken what the operating system does not tell of, all."""
    if type(awaited.sock) is socket.socket:
        return awaited.step

    def step() -> bool:
        while awaited.step():
            if isinstance(awaited.sock, ssl.SSLSocket) and not awaited.sock.pending():
                return True
        return False

    return step
