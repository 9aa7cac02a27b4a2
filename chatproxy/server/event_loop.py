"""The event loop: runs coroutines, thousands at once, and takes their steps when bytes come.

A coroutine is a generator that yields a ``Readable`` when it has to wait (``answers.coroutines``).
Under gevent the event loop takes the steps of its wait, and the coroutine holds no greenlet
meanwhile: an event costs no switch to a greenlet and back, and a silent answer not the 8 KB of a
stack. Without gevent, or if the system has no epoll, a thread for each coroutine takes the steps on
a socket that blocks.

How a byte gets from a socket to a step, under gevent:

1. A coroutine runs in a greenlet (``_advance``) and yields a ``Readable``. The first step is taken
   right there: what has come already needs no wait.
2. If the step needs more, the wait is left to the loop (``_Wait.start``): its socket is registered
   with an epoll instance, one for all waits, and the greenlet is free for another coroutine
   (``_GreenletPool``).
3. Bytes come. The epoll instance is itself a descriptor, which is readable as long as any of its
   sockets is. gevent's loop watches only that one, and calls ``_Poller.take_turn``.
4. ``take_turn`` asks epoll which sockets are readable, and has each wait take one step
   (``_Wait.step_in_loop``).
5. A step returns True: the wait goes on at 3. It returns False, or raises: the wait is over, and
   the coroutine goes on at 1 at once, in a greenlet of the pool, with the error raised in it if
   there is one. It does not wait for the loop's next turn, which comes late if there is much to do.

Fairness:

* In one turn of the loop at most ``_MOST_IN_A_TURN`` sockets are taken from epoll, and no step is
  begun after ``_TURN_SECONDS``. Then the loop sees to everything else, such as a new connection or
  a Stop, however many answers have something to read.
* Waits for which there was no time come first in the next turn. epoll reports readable sockets in
  rotation.
* Bytes that the operating system does not know of (decrypted, or read but not parsed) are announced
  by ``has_more``; their wait takes its next step in the next turn, not in the same one.
* ``hurry`` goes before all of that: it ends the wait for a socket that was shut.

Invariants:

* While the loop has a wait, its socket does not block. It has its timeout back before the coroutine
  goes on.
* A socket is registered exactly as long as ``Readable.wait`` is set, and no longer than until the
  coroutine goes on, which may close it: descriptors are used again.
* A step runs in the loop itself: it must not wait, nor switch to another greenlet.
* A process has an epoll instance of its own: one that a fork copies would report its parent's.
* A coroutine runs in a copy of the ``contextvars`` context in which it was spawned (PEP 567). The
  steps that it waits for run in another.
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
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import gevent
from gevent import monkey
from greenlet import getcurrent, greenlet

from ..answers.coroutines import NOTHING_YET, Coroutine, Readable, resume, run

#: Sockets that epoll reports in one turn of the event loop, at most.
_MOST_IN_A_TURN = 32
#: Seconds after which no further step is taken in a turn.
_TURN_SECONDS = 0.004
#: Greenlets that are kept for coroutines to come.
MOST_IDLE_GREENLETS = 20


class CoroutineRunner:
    """Runs coroutines beside each other, and beside all else that a process does."""

    def __init__(self) -> None:
        self._poller: _Poller | None = None

    def spawn(self, coroutine: Coroutine[object]) -> None:
        """Run a coroutine beside this thread or greenlet, in a copy of the present context."""
        context = contextvars.copy_context()
        if monkey.is_module_patched("socket") and hasattr(select, "EPOLLIN"):
            poller = self._poller_of_this_loop()
            poller.hub.loop.run_callback(poller.greenlets.run, coroutine, poller, context)
        else:
            _thread.start_new_thread(context.run, (run, coroutine))

    @staticmethod
    def retire() -> None:
        """Have this greenlet run no other coroutine.

        To be called before code of the application runs in it, which may leave a timer there that
        would go off in another answer, or values of its own.
        """
        if isinstance(current := getcurrent(), _Kept):
            current.retired = True

    def _poller_of_this_loop(self) -> _Poller:
        hub, process = gevent.get_hub(), os.getpid()
        if self._poller is None or (self._poller.hub, self._poller.process) != (hub, process):
            self._poller = _Poller(hub, process)
        return self._poller


def _advance(
    coroutine: Coroutine[object],
    poller: _Poller,
    context: contextvars.Context,
    error: BaseException | None = None,
) -> None:
    """Run a coroutine in this greenlet until it has to wait, and leave the wait to the loop.

    :param context: the present context, in which the coroutine is to go on afterwards.
    :param error: raised in the coroutine.
    """
    try:
        while True:
            wait = _Wait(coroutine, poller, context, resume(coroutine, error))
            error = None
            try:
                if wait.goes_on():
                    wait.start()
                    return
            except BaseException as raised:
                error = raised
            wait.unblock()
    except StopIteration:
        pass
    finally:
        error = None  # it refers to this frame


class _Kept(greenlet):
    """A greenlet that is kept for further coroutines, until it is retired."""

    retired = False


class _GreenletPool:
    """Greenlets in which coroutines go on, one at a time in each.

    They are kept, because a new one costs two system calls and some page faults for its frames, and
    its first log line makes a thread's object.
    """

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._idle: list[_Kept] = []
        self._closed = False

    def run(
        self,
        coroutine: Coroutine[object],
        poller: _Poller,
        context: contextvars.Context,
        error: BaseException | None = None,
    ) -> None:
        """Run a coroutine until it has to wait; called by the event loop."""
        while self._idle and self._idle[-1].dead:  # something was raised in it
            self._idle.pop()
        if not self._idle:
            # It is begun with nothing: what it is begun with, it holds as long as it lives.
            _Kept(self._serve, self._hub).switch()
        try:
            self._idle.pop().switch(coroutine, poller, context, error)
        finally:
            error = None  # it refers to this frame

    def close(self) -> None:
        """End those that are idle: each refers to this, and would keep all alive."""
        self._closed = True
        self._idle.clear()

    def _serve(self) -> None:
        # No variable holds the greenlet: its own frame would keep it alive.
        while not (self._closed or len(self._idle) >= MOST_IDLE_GREENLETS):
            self._idle.append(cast("_Kept", getcurrent()))
            coroutine, poller, context, error = self._hub.switch()
            try:
                context.run(_advance, coroutine, poller, context, error)
            except Exception:
                self._hub.handle_error(coroutine, *sys.exc_info())
            del coroutine, poller, context, error  # an idle greenlet keeps nothing alive
            if cast("_Kept", getcurrent()).retired:
                return


class _Poller:
    """The sockets for which coroutines wait, and the one watcher that gevent's loop has for all.

    :param process: the id of the present process.
    """

    def __init__(self, hub: Any, process: int) -> None:
        self.hub = hub
        self.process = process
        self._epoll: select.epoll = monkey.get_original("select", "epoll")()
        self.greenlets = _GreenletPool(hub)
        weakref.finalize(self, self.greenlets.close).atexit = False
        self._waits: dict[int, _Wait] = {}
        self._watcher = hub.loop.io(self._epoll.fileno(), 1)
        #: Descriptors whose waits take a step in the next turn, readable or not; the first first.
        self._due: deque[int] = deque()
        self._next_turn = hub.loop.timer(0.0)

    def register(self, descriptor: int, wait: _Wait) -> None:
        """Have a wait take a step whenever there is something to read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        if not self._waits:
            self._watcher.start(self._on_readable)
        self._waits[descriptor] = wait

    def unregister(self, descriptor: int) -> None:
        """End that; before the socket is closed."""
        del self._waits[descriptor]
        if not self._waits:
            self._watcher.stop()
        self._epoll.unregister(descriptor)

    def step_in_next_turn(self, descriptor: int) -> None:
        """Have a wait take a step though there may be nothing to read from its socket."""
        self._due.append(descriptor)
        if not self._next_turn.active:
            self._next_turn.start(self.take_turn)

    def _on_readable(self) -> None:
        if not self._next_turn.active:  # else the turn is about to come
            self.take_turn()

    def take_turn(self) -> None:
        """Take a step for each readable socket, until the turn is over."""
        readable = [descriptor for descriptor, _ in self._epoll.poll(0, _MOST_IN_A_TURN)]
        due = deque(dict.fromkeys([*self._due, *readable]) if self._due else readable)
        self._due.clear()
        end = time.monotonic() + _TURN_SECONDS
        try:
            while due and time.monotonic() < end:
                # What an earlier step did may have ended this wait.
                if (wait := self._waits.get(due.popleft())) is not None:
                    wait.step_in_loop()
        finally:
            while due:  # they go before those that have had a turn and want another
                self._due.appendleft(due.pop())
            if self._due:
                self._next_turn.start(self.take_turn)


class _Wait:
    """A coroutine that waits, and what takes its steps."""

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

    def goes_on(self) -> bool:
        """Take a step; return whether the wait goes on, also if nothing has come yet."""
        try:
            return self._step()
        except NOTHING_YET:
            return True

    def start(self) -> None:
        """Leave the wait to the event loop."""
        self._poller.register(self._awaited.sock.fileno(), self)
        self._awaited.wait = self
        self._step_again_if_more()

    def hurry(self) -> None:
        """Take a step in the next turn of the loop. May be called by any thread."""
        self._poller.hub.loop.run_callback_threadsafe(self.step_in_loop)

    def unblock(self) -> None:
        """Give the socket its timeout back."""
        self._awaited.sock.settimeout(self._timeout)

    def step_in_loop(self) -> None:
        """Take a step; go on with the coroutine if the wait is over."""
        if self._awaited.wait is None:
            return  # it was in a hurry, and is over
        error: BaseException | None = None
        try:
            if self._step():
                self._step_again_if_more()
                return
        except NOTHING_YET:
            return
        except BaseException as raised:
            error = raised
        self._awaited.wait = None
        self._poller.unregister(self._awaited.sock.fileno())
        self.unblock()
        try:
            self._poller.greenlets.run(self._coroutine, self._poller, self._context, error)
        finally:
            error = None  # it refers to this frame

    def _step_again_if_more(self) -> None:
        if self._has_more is not None and self._has_more():
            self._poller.step_in_next_turn(self._awaited.sock.fileno())


def _has_more(awaited: Readable) -> Callable[[], bool] | None:
    """What tells whether there are bytes that epoll does not know of; None if there never are."""
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
    return lambda: True  # TLS within TLS does not tell: it is tried until it has nothing yet
