"""Waiting for bytes: coroutines, and steps that are taken each time a socket has something to read.

A coroutine is a generator that yields a ``Readable`` where it has to wait. Under gevent the event
loop itself takes the steps meanwhile, and the coroutine holds no greenlet: an event costs no switch
to one and back, and a silent answer not the 8 KB of its stack. Without gevent, or where the system
has no epoll, a thread takes them, again and again, on a socket that blocks.

All sockets on which coroutines wait are one to the event loop: an epoll instance, which is readable
as long as any of them is. In each of its turns the loop takes a few steps, for a few milliseconds,
and then looks after everything else, a new connection or a Stop, however many answers have
something to read, and whatever that is. Those that had no time come first in the next turn.
"""

from __future__ import annotations

import _thread
import contextvars
import os
import select
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey
from greenlet import getcurrent, greenlet

from ..answers.coroutines import NOTHING_YET, Coroutine, Readable, resume, run

#: Sockets that are read in one turn of the event loop.
_MOST_IN_A_TURN = 32
#: Seconds after which no further step is taken in a turn.
_TURN_SECONDS = 0.004
#: Greenlets that are kept for the next coroutines.
_MOST_IDLE = 20


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
            poller = self._poller_of_this_loop()
            poller.hub.loop.run_callback(poller.runners.run, coroutine, poller, context)
        else:
            _thread.start_new_thread(context.run, (run, coroutine))

    def _poller_of_this_loop(self) -> _Poller:
        hub, process = gevent.get_hub(), os.getpid()
        if self._poller is None or (self._poller.hub, self._poller.process) != (hub, process):
            self._poller = _Poller(hub, process)
        return self._poller


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
            wait = _Wait(coroutine, poller, context, resume(coroutine, error))
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


class _Runners:
    """Greenlets in which coroutines go on, kept for others: to make one takes the system's memory.

    (Two calls to the system and some page faults, for the frames of its functions.)
    """

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._idle: list[greenlet] = []

    def run(
        self,
        coroutine: Coroutine[object],
        poller: _Poller,
        context: contextvars.Context,
        error: BaseException | None = None,
    ) -> None:
        """Run a coroutine up to where it has to wait; called by the event loop."""
        try:
            runner = self._idle.pop() if self._idle else greenlet(self._serve, self._hub)
            runner.switch(coroutine, poller, context, error)
        finally:
            error = None  # it refers to this frame

    def _serve(self, *told: Any) -> None:
        while True:
            coroutine, poller, context, error = told
            del told
            try:
                context.run(_go_on, coroutine, poller, context, error)
            except Exception:
                self._hub.handle_error(coroutine, *sys.exc_info())
            del coroutine, poller, context, error
            if len(self._idle) >= _MOST_IDLE:
                return
            self._idle.append(getcurrent())
            told = self._hub.switch()


class _Poller:
    """The sockets on which coroutines wait, with one watcher of gevent's event loop for all.

    :param process: the number of the present process: what a fork copies is still its parent's.
    """

    def __init__(self, hub: Any, process: int) -> None:
        self.hub = hub
        self.process = process
        self._epoll: select.epoll = monkey.get_original("select", "epoll")()
        self.runners = _Runners(hub)
        self._waits: dict[int, _Wait] = {}
        self._watcher = hub.loop.io(self._epoll.fileno(), 1)
        #: Those that are due whatever epoll says, in their order; and what has the loop see to it.
        self._due: deque[int] = deque()
        self._soon = hub.loop.timer(0.0)

    def add(self, descriptor: int, wait: _Wait) -> None:
        """Have a wait look whenever there is something to read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        if not self._waits:
            self._watcher.start(self._be_told)
        self._waits[descriptor] = wait

    def remove(self, descriptor: int) -> None:
        """Look no more; before the socket is closed."""
        del self._waits[descriptor]
        if not self._waits:
            self._watcher.stop()
        self._epoll.unregister(descriptor)

    def go_on(self, descriptor: int) -> None:
        """Have a wait look in the next turn, though there may be nothing on its socket."""
        self._due.append(descriptor)
        if not self._soon.active:
            self._soon.start(self._look)

    def _be_told(self) -> None:
        if not self._soon.active:  # else it is about to look
            self._look()

    def _look(self) -> None:
        readable = [descriptor for descriptor, _ in self._epoll.poll(0, _MOST_IN_A_TURN)]
        due = deque(dict.fromkeys([*self._due, *readable]) if self._due else readable)
        self._due.clear()
        end = time.monotonic() + _TURN_SECONDS
        try:
            while due and time.monotonic() < end:
                # What an earlier one did may have ended its wait.
                if (wait := self._waits.get(due.popleft())) is not None:
                    wait.look()
        finally:
            while due:  # they go before those that have had a turn and want another
                self._due.appendleft(due.pop())
            if self._due:
                self._soon.start(self._look)


class _Wait:
    """A coroutine that waits, while the event loop takes its steps."""

    __slots__ = ("_awaited", "_context", "_coroutine", "_has_more", "_poller", "_step", "_timeout")

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
        self._step = awaited.step
        self._has_more = _has_more(awaited)
        self._timeout = awaited.sock.gettimeout()
        awaited.sock.settimeout(0.0)

    def step(self) -> bool:
        """Take a step; return whether the wait goes on, be it that there is nothing yet."""
        try:
            return self._step()
        except NOTHING_YET:
            return True

    def begin(self) -> None:
        """Leave it to the event loop."""
        self._poller.add(self._awaited.sock.fileno(), self)
        self._awaited.wait = self
        self._go_on_soon()

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
                self._go_on_soon()
                return
        except NOTHING_YET:
            return
        except BaseException as raised:
            error = raised
        self._awaited.wait = None
        self._poller.remove(self._awaited.sock.fileno())
        self.end()
        try:
            # At once, not in the loop's next turn, which comes late where much is going on.
            self._poller.runners.run(self._coroutine, self._poller, self._context, error)
        finally:
            error = None  # it refers to this frame

    def _go_on_soon(self) -> None:
        if self._has_more is not None and self._has_more():
            self._poller.go_on(self._awaited.sock.fileno())


def _has_more(awaited: Readable) -> Callable[[], bool] | None:
    """What tells whether there is more than the operating system tells of; None if never."""
    in_tls = _more_in_tls(awaited.sock)
    held = awaited.has_more
    if in_tls is None or held is None:
        return in_tls or held
    both = (in_tls, held)
    return lambda: any(more() for more in both)


def _more_in_tls(sock: socket.socket) -> Callable[[], bool] | None:
    if type(sock) is socket.socket:
        return None
    if isinstance(sock, ssl.SSLSocket):
        return lambda: sock.pending() > 0
    return lambda: True  # TLS within TLS does not tell, before it says that it has nothing yet
