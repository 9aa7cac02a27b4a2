"""Shutdown: at SIGTERM the server lets the running answers end first; who hears it, in order.

The SIGTERM handler of a server (gunicorn's, for example) closes the listening socket at once, and
that of an application may end the process: no Stop could arrive after that. So ours runs before
it. It does not know what an answer is: it hears the signal, and calls what it was given.

A process has one such handler, for all its applications, which end at the same time. When it is the
turn of the handler before it, it sends the process the signal once more and lets it through: so
that one is called by the system, in the main thread, where it may raise ``SystemExit``.

SIGTERM to gunicorn's master, and with it to all workers (``systemctl stop``):

1. The worker marks itself as leaving, so that no other worker counts on it.
2. It asks for another worker that is ready. All of them are leaving, so there is none.
3. It drains: new answers are refused (503), running ones have ``grace`` seconds in which they can
   still be stopped; then they end with the reason "shutdown".
4. It lets the signal through to the server's handler, which closes the listening socket and ends
   the process.

SIGHUP to the master (reload): new workers start, and each old one gets a SIGTERM.

1. As 1 to 3 above, because the new workers are not ready yet.
2. Once one of them is, the old worker lets the signal through while its own answers still run: all
   new connections now go to the new workers, and a Stop for an old answer reaches the old worker
   from there, through its control socket.

A worker that has served ``--max-requests``, or a new one in its place (``gunicorn.rotation``): the
master sends a SIGTERM to its oldest worker when the new one is ready.

1. The old worker finds the new one ready, and lets the signal through first.
2. It drains only after ``_CLOSING_SECONDS``: what it accepted until then still begins here. Nobody
   is refused.

SIGABRT from gunicorn's master, to a worker that is silent for longer than gunicorn's ``timeout``:
the server's handler raises ``SystemExit`` amid whatever runs. Under gevent that may be a greenlet,
such as a run's, which takes it for an error of its own: the worker would go on, and accept nothing.
So it is raised in the main greenlet, which ends the process. So is the ``KeyboardInterrupt`` of
SIGINT.

At exit, whatever the reason, ``close`` is called, so that every answer is closed and logged.

Invariants:

* The server's handler hears of the signal once, also if a drain fails, and if the signal comes
  again meanwhile. What comes after that it hears at once.
* If it raises an error while answers still run, the error is raised when they have ended.
* No drain takes longer than the server lets it (``capabilities.longest_grace``).
* If the process has no Python handler for SIGTERM (it ignores the signal, or dies of it),
  nothing is installed.
* Neither the signal handler nor the exit handler keeps an application alive: both refer to it
  weakly, and an application that is garbage delays nobody's end.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

import gevent
from gevent import monkey

from .. import forks
from ..answers.drain import Drain
from ..errors import PeersUnavailable
from .capabilities import longest_grace

#: Seconds between two questions whether another worker is ready.
_ASKING_SECONDS = 0.3
#: Seconds in which a server closes its listening socket, and its clients learn that their
#: connections are not kept. gunicorn looks once a second.
_CLOSING_SECONDS = 2.0
#: Seconds in which a signal is heard that a process sends itself.
_HEARD_WITHIN = 1.0


class Shutdown:
    """Hears that one application's process is to end, and ends its answers.

    :param drain: refuses new answers, waits for the running ones, then stops them.
    :param others: lists the application's other workers, some of which may have ended.
    :param is_another_ready: asks them whether one would accept a new answer. May take a second.
    :param close: called in this order when the interpreter exits.
    :param grace: seconds in which running answers may end after a SIGTERM.
    """

    def __init__(
        self,
        drain: Drain,
        *,
        others: Callable[[], Collection[str]],
        is_another_ready: Callable[[], bool],
        close: Iterable[Callable[[], object]],
        grace: float,
    ) -> None:
        self._drain = drain
        self._others = others
        self._is_another_ready = is_another_ready
        self._close = list(close)
        self._grace = grace
        #: Set once its answers have ended; made anew when they begin to.
        self.over = threading.Event()
        self._end = 0.0
        forks.begin(self._begin)
        atexit.register(_call_if_alive, weakref.WeakMethod(self._close_all))

    def _begin(self) -> None:
        self._hears = False

    def listen(self) -> None:
        """Hear the signal from now on.

        Called when the application is made, and again by requests: a server that forks, or sets
        its own handler after that, is caught up with by the first request.
        """
        if self._hears:
            return
        if (handler := _installed()) is not None:
            handler.applications.add(self)
            self._hears = True
        if monkey.is_module_patched("threading"):
            for number in (signal.SIGABRT, signal.SIGINT):
                _raise_in_main_greenlet(number)

    def leave(self) -> float:
        """Have no other worker count on this one; return the seconds that the answers have."""
        grace = min(self._grace, longest_grace())
        self._end, self.over = time.monotonic() + grace, threading.Event()
        self._drain.leaving = True
        return grace

    def has_others(self) -> bool:
        """Whether there seem to be other workers."""
        with suppress(PeersUnavailable):
            return bool(self._others())
        return False

    def needs_nobody(self) -> bool:
        """Whether its answers have ended, or another worker accepts what comes for it."""
        with suppress(PeersUnavailable):
            return self.over.is_set() or self._is_another_ready()
        return False

    def drain(self) -> None:
        """Have its answers end."""
        try:
            self._drain.run(max(0.0, self._end - time.monotonic()))
        finally:
            self.over.set()

    def _close_all(self) -> None:
        for close in self._close:
            close()


class _Handler:
    """The handler of SIGTERM: has the applications of this process end, then lets it through.

    :param previous: the handler before it, the server's.
    :ivar applications: those that end first.
    """

    def __init__(self, previous: Callable[..., Any]) -> None:
        self._previous = previous
        forks.begin(self._begin)

    def _begin(self) -> None:
        self.applications: weakref.WeakSet[Shutdown] = weakref.WeakSet()
        self._has_begun = self._lets_through = self._over = self._heard = False
        #: Held by whoever raises the signal again.
        self._first = threading.Lock()
        #: What the handler before this one has raised.
        self._error: BaseException | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal, in the main thread."""
        applications = list(self.applications)
        if self._lets_through or not applications:
            self._let_through(number, frame)
        elif not self._has_begun:
            self._has_begun = True
            # A signal handler must not wait, not even for a threading.Thread to start.
            _thread.start_new_thread(self._end_all, (applications,))

    def _let_through(self, number: int, frame: FrameType | None) -> None:
        self._heard = True
        if self._error is None:
            try:
                self._previous(number, frame)
            except BaseException as error:
                if not self._has_begun:
                    raise
                self._error = error
        if self._error is not None and self._over:
            raise self._error

    def _end_all(self, applications: list[Shutdown]) -> None:
        """Have all end; let the signal through before, during or after that."""
        ended = threading.Event()
        try:
            grace = min([each.leave() for each in applications])
            if _are_replaced(applications):
                self._raise_again_once()
                time.sleep(min(_CLOSING_SECONDS, grace))
            else:
                _thread.start_new_thread(self._hand_over, (applications, ended))
            for each in applications:
                _thread.start_new_thread(each.drain, ())
            for each in applications:
                each.over.wait()
        finally:
            self._over = True
            ended.set()
            self._raise_again_once()
            if self._error is not None:
                self._raise_again()

    def _hand_over(self, applications: list[Shutdown], ended: threading.Event) -> None:
        """Let the signal through as soon as other workers accept what comes."""
        while not ended.wait(_ASKING_SECONDS):
            if all(each.needs_nobody() for each in applications):
                self._raise_again_once()
                return

    def _raise_again_once(self) -> None:
        if self._first.acquire(blocking=False):
            self._lets_through = True
            self._raise_again()

    def _raise_again(self) -> None:
        """Send this process the signal, as if from outside: not to a greenlet that runs now."""
        itself, self._heard = (os.getpid(), signal.SIGTERM), False
        try:
            monkey.get_original("_thread", "start_new_thread")(os.kill, itself)
        except RuntimeError:  # no more threads can be had at present
            os.kill(*itself)
        # If a signal comes just before gevent's loop waits, it is heard at the loop's next event.
        end = time.monotonic() + _HEARD_WITHIN
        while not self._heard and time.monotonic() < end:
            time.sleep(_HEARD_WITHIN / 100)


def _installed() -> _Handler | None:
    """The handler of this process, installed now if need be.

    None if there is no other that it would run before, or if this is not the main thread.
    """
    present = signal.getsignal(signal.SIGTERM)
    if isinstance(present, _Handler):
        return present
    if not callable(present):
        return None
    handler = _Handler(present)
    try:
        signal.signal(signal.SIGTERM, handler)
    except ValueError:
        return None  # the server's own handler stays
    return handler


def _are_replaced(applications: list[Shutdown]) -> bool:
    """Whether other workers already accept what comes for each of these."""
    if not all(each.has_others() for each in applications):
        return False
    # If the whole server is told to stop, the others need a moment to hear of it too.
    time.sleep(_ASKING_SECONDS)
    return all(each.needs_nobody() for each in applications)


class _EndsProcess:
    """A signal handler; what it raises in order to end the process is raised in the main greenlet.

    :param previous: the handler that it takes the place of.
    """

    def __init__(self, previous: Callable[..., Any]) -> None:
        self._previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            self._previous(number, frame)
        except (SystemExit, KeyboardInterrupt) as error:
            gevent.get_hub().parent.throw(error)  # nobody resumes the greenlet that ran


def _raise_in_main_greenlet(number: int) -> None:
    previous = signal.getsignal(number)
    if callable(previous) and not isinstance(previous, _EndsProcess):
        with suppress(ValueError):  # outside the main thread
            signal.signal(number, _EndsProcess(previous))


def _call_if_alive(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    if (found := method()) is not None:
        found()
