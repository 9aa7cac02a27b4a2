"""A server that is told to stop lets the running answers end first.

A server's own handler of SIGTERM (gunicorn's, say) closes the listening socket at once, so that
no Stop could arrive any more. Therefore ours comes before it: no new answer begins, the running
ones have their grace time and can be stopped, and then the server's handler is called; or earlier,
once another worker is ready to take what comes, as when a server is reloaded: that one passes on a
Stop for what still runs here. If it is ready already, as when a worker is replaced, nobody is
refused: what comes here until the socket is closed begins here.

The handler is put in place when the application is made, or by the first answer of the process, if
servers set theirs later, as they do where the application is made before they fork. Where the
process has no handler of its own for SIGTERM, nothing is touched.

An interpreter that exits stops what still runs, so that each answer is closed and logged.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from ..cluster.local.control_socket import ControlSocket
from ..cluster.peers import PeerState
from ..cluster.registry import Registry

#: Seconds between two looks for a worker that is ready.
_LOOK_SECONDS = 0.3
#: Seconds that a server may take to close its listening socket, and its clients to hear that their
#: connections are not kept. gunicorn looks once a second.
_CLOSING_SECONDS = 2.0


class Shutdown:
    """The end of one registry's process.

    :param control_socket: where this worker is asked, and asks the others.
    :param grace: seconds that running answers may take after a SIGTERM.
    """

    def __init__(self, registry: Registry, control_socket: ControlSocket, grace: float) -> None:
        self._registry = registry
        self._control_socket = control_socket
        self._grace = grace
        self._process: int | None = None  # in which the handler is in place
        self._exits_in: int | None = None  # in which the exit is

    def listen(self) -> None:
        """Put the handlers in place, once in each process."""
        if self._process == os.getpid():
            return
        previous = signal.getsignal(signal.SIGTERM)
        if callable(previous) and _chain(self._handle, previous):
            self._process = os.getpid()
        if self._exits_in != os.getpid():
            self._exits_in = os.getpid()
            references = weakref.ref(self._registry), weakref.ref(self._control_socket)
            atexit.register(_stop_all, *references)

    def _handle(self, go_on: Callable[[], Any]) -> None:
        turn = threading.Lock()

        def go_on_once() -> None:
            if turn.acquire(blocking=False):
                go_on()

        drain, end = self._registry.drain, time.monotonic() + self._grace
        drain.leaving = True
        try:
            if self._is_replaced():
                go_on_once()
                time.sleep(min(_CLOSING_SECONDS, self._grace))
            else:
                _thread.start_new_thread(self._hand_over, (go_on_once, end))
            drain.run(max(0.0, end - time.monotonic()))
        finally:
            go_on_once()

    def _is_replaced(self) -> bool:
        """Whether another worker takes what comes."""
        if not self._control_socket.others():
            return False
        # First a pause: where the whole server is told to stop, the others are as well.
        time.sleep(_LOOK_SECONDS)
        return self._control_socket.is_anyone(PeerState.READY)

    def _hand_over(self, go_on: Callable[[], Any], end: float) -> None:
        """Go on as soon as another worker can take what comes."""
        while time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
            if self._control_socket.is_anyone(PeerState.READY):
                go_on()
                return


def _chain(handle: Callable[[Callable[[], Any]], None], previous: Callable[..., Any]) -> bool:
    def on_signal(number: int, frame: FrameType | None) -> None:
        # A signal handler must not wait, not even for the start of a threading.Thread.
        _thread.start_new_thread(handle, (lambda: previous(number, frame),))

    try:
        signal.signal(signal.SIGTERM, on_signal)
    except ValueError:
        return False  # not the main thread: the server's own handler stays
    signal.siginterrupt(signal.SIGTERM, False)
    return True


def _stop_all(registry: weakref.ref[Registry], control_socket: weakref.ref[ControlSocket]) -> None:
    for reference in (registry, control_socket):
        if (found := reference()) is not None:
            found.close()
