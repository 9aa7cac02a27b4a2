"""Shutdown: at SIGTERM the server lets the running answers end first; who hears it, in order.

A server's own SIGTERM handler (gunicorn's, for example) closes the listening socket at once, and
then no Stop could arrive. So ours runs before it. It does not know what an answer is: it hears the
signal, and calls what it was given.

SIGTERM to gunicorn's master, and with it to all workers (``systemctl stop``):

1. The worker marks itself as leaving, so that no other worker counts on it.
2. It asks for another worker that is ready. All of them are leaving, so there is none.
3. It drains: new answers are refused (503), running ones have ``grace`` seconds in which they can
   still be stopped; then they end with the reason "shutdown".
4. It calls the server's handler, which closes the listening socket and ends the process.

SIGHUP to the master (reload): new workers start, and each old one gets a SIGTERM.

1. As 1 to 3 above, because the new workers are not ready yet.
2. Once one of them is, the old worker calls the server's handler while its own answers still run:
   all new connections now go to the new workers, and a Stop for an old answer reaches the old
   worker from there, through its control socket.

A worker that has served ``--max-requests``, or a new one in its place (``gunicorn.rotation``): the
master sends a SIGTERM to its oldest worker when the new one is ready.

1. The old worker finds the new one ready, and calls the server's handler first.
2. It drains only after ``_CLOSING_SECONDS``: what it accepted until then still begins here. Nobody
   is refused.

SIGABRT from gunicorn's master, to a worker that is silent for longer than gunicorn's ``timeout``:
the server's handler raises ``SystemExit`` amid whatever runs. Under gevent that may be a greenlet,
such as a run's, which takes it for an error of its own: the worker would go on, and accept nothing.
So it is raised in the main greenlet, which ends the process. So is the ``KeyboardInterrupt`` of
SIGINT.

At exit, whatever the reason, ``close`` is called, so that every answer is closed and logged.

Invariants:

* The server's handler is called exactly once for each signal, also if the drain fails.
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
from functools import partial
from types import FrameType
from typing import Any

import gevent
from gevent import monkey

from ..answers.drain import Drain
from ..errors import PeersUnavailable

#: Seconds between two questions whether another worker is ready.
_ASKING_SECONDS = 0.3
#: Seconds in which a server closes its listening socket, and its clients learn that their
#: connections are not kept. gunicorn looks once a second.
_CLOSING_SECONDS = 2.0


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
        #: The processes in which the signal handler and the exit handler are installed.
        self._hears_in: int | None = None
        self._exits_in: int | None = None

    def listen(self) -> None:
        """Install the handlers, once in each process.

        Called when the application is made, and again by requests: a server that forks, or sets
        its own handler after that, is caught up with by the first request.
        """
        process = os.getpid()
        if self._hears_in == process:
            return
        previous = signal.getsignal(signal.SIGTERM)
        if callable(previous) and _run_before(weakref.WeakMethod(self._end), previous):
            self._hears_in = process
        if monkey.is_module_patched("threading"):
            for number in (signal.SIGABRT, signal.SIGINT):
                _raise_in_main_greenlet(number)
        if self._exits_in != process:
            self._exits_in = process
            atexit.register(_call_if_alive, weakref.WeakMethod(self._close_all))

    def _end(self, call_server: Callable[[], Any]) -> None:
        """Drain; call the server's handler before, during or after that.

        It runs in a thread (or greenlet) of its own.
        """
        first = threading.Lock()

        def call_server_once() -> None:
            if first.acquire(blocking=False):
                call_server()

        end = time.monotonic() + self._grace
        self._drain.leaving = True
        try:
            if self._is_replaced():
                call_server_once()
                time.sleep(min(_CLOSING_SECONDS, self._grace))
            else:
                _thread.start_new_thread(self._hand_over, (call_server_once, end))
            self._drain.run(max(0.0, end - time.monotonic()))
        finally:
            call_server_once()

    def _is_replaced(self) -> bool:
        """Whether another worker already accepts what comes."""
        with suppress(PeersUnavailable):
            if self._others():
                # If the whole server is told to stop, the others need a moment to hear of it too.
                time.sleep(_ASKING_SECONDS)
                return self._is_another_ready()
        return False

    def _hand_over(self, call_server: Callable[[], Any], end: float) -> None:
        """Call the server's handler as soon as another worker accepts what comes."""
        while time.monotonic() < end:
            time.sleep(_ASKING_SECONDS)
            with suppress(PeersUnavailable):
                if self._is_another_ready():
                    call_server()
                    return

    def _close_all(self) -> None:
        for close in self._close:
            close()


def _run_before(end: weakref.WeakMethod[Callable[..., None]], previous: Callable[..., Any]) -> bool:
    """Install a handler that has ``end`` call the previous one; False outside the main thread."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        call_server = partial(previous, number, frame)
        if (run := end()) is None:
            call_server()
        else:
            # A signal handler must not wait, not even for a threading.Thread to start.
            _thread.start_new_thread(run, (call_server,))

    try:
        signal.signal(signal.SIGTERM, on_signal)
    except ValueError:
        return False  # the server's own handler stays
    signal.siginterrupt(signal.SIGTERM, False)
    return True


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
