"""The line of one call to DeepSeek: what is open now, and how to shut it from any thread.

Ending a blocked ``requests`` call from outside by ``response.close()`` does not work: under gevent
it raises, under threads it blocks, and before the headers there is no response at all. What works
everywhere is to shut the *socket* down; the blocked reader then comes back by itself. So every
call to DeepSeek has a ``Line``: it is handed each socket before that connects, and ``abort`` shuts
them all down. From the moment that one of them is connected until the request is sent, the line
keeps a duplicate of its descriptor: that reaches the connection under any layer that is put on top
(a TLS handshake detaches the socket it was given), and can't be closed or used again by somebody
else in the meantime. From then on the socket itself will do, which knows when it is closed.

The line also knows at which step the call is: whether the upstream can have got the request, and
what to tell the operators if the step fails.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from ..errors import Aborted
from ..sockets import shut_down
from ..upstreams.transport.response import Body


class Step(str, Enum):
    """What a call does until its answer begins. The values are part of log lines."""

    LOOK_UP = "look-up"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "TLS"
    SEND = "send"
    #: The request has been written whole: from here on it may have been processed.
    ANSWER = "answer"


class Unreachable(OSError):
    """A step failed before the request could be sent. The text says why, for operators."""


class Line:
    """The way to DeepSeek of one call: what is open now, and how to shut it.

    :param on_sent: called each time that a request has been sent.
    """

    def __init__(self, on_sent: Callable[[], None]) -> None:
        self._on_sent = on_sent
        self._lock = threading.Lock()
        #: Set once this call may have no socket any more.
        self.aborted = False
        self.step = Step.LOOK_UP
        #: With whom this step is done: a host, with its port if there is one.
        self.peer = ""
        self._attempts: set[socket.socket] = set()
        self._duplicate: int | None = None
        self._socket: socket.socket | None = None
        #: The answer that came on it last, where there is one.
        self.body: Body | None = None
        self._wake: Callable[[], None] | None = None

    def abort(self) -> None:
        """Shut every socket down and end every wait, now and later. Never blocks or raises."""
        with self._lock:
            self.aborted = True
            for descriptor in self._descriptors():
                shut_down(descriptor)
            if self._wake is not None:
                self._wake()

    def check(self) -> None:
        """See that the call is still wanted.

        :raises Aborted: if ``abort`` has been called.
        """
        if self.aborted:
            raise Aborted

    def begin(self) -> None:
        """Begin a try: nothing is open, nothing has come."""
        self.body = None
        self.enter(Step.LOOK_UP, "")

    def enter(self, step: Step, peer: str) -> None:
        """Note which step begins, and with whom."""
        self.step, self.peer = step, peer

    @contextmanager
    def waiting(self, wake: Callable[[], None]) -> Iterator[None]:
        """Have ``abort`` call ``wake``, which ends a wait that has no socket.

        :raises Aborted: if ``abort`` came before or meanwhile.
        """
        with self._lock:
            self.check()
            self._wake = wake
        try:
            yield
        finally:
            with self._lock:
                self._wake = None
        self.check()

    def attempt(self, sock: socket.socket) -> None:
        """Make ``sock``, which is about to be connected, one of those that ``abort`` shuts.

        :raises Aborted: if ``abort`` came first.
        """
        with self._lock:
            self.check()
            self._attempts.add(sock)

    def give_up(self, sock: socket.socket) -> None:
        """Close a socket that was attempted."""
        with self._lock:
            self._attempts.discard(sock)
            sock.close()

    def choose(self, sock: socket.socket) -> None:
        """Go on with ``sock``, which is connected, and whatever layers are put on it.

        :raises Aborted: if ``abort`` came first.
        """
        with self._lock:
            self.check()
            self._release()
            self._duplicate = os.dup(sock.fileno())
            self._attempts.discard(sock)

    def connected(self, sock: socket.socket, peer: str) -> None:
        """Go on with one on which the request can be sent: nothing is put upon it any more.

        :param peer: who gets the request, which may be beyond a proxy.
        :raises Aborted: if ``abort`` came first.
        """
        with self._lock:
            self._release()
            self.check()
            self._socket = sock
        self.enter(Step.SEND, peer)

    def sent(self) -> None:
        """Note that the request has been written whole."""
        self.enter(Step.ANSWER, self.peer)
        self._on_sent()

    def close(self) -> None:
        """Let go of the socket."""
        with self._lock:
            self._release()

    def _descriptors(self) -> Iterator[int]:
        yield from (sock.fileno() for sock in self._attempts)
        if self._duplicate is not None:
            yield self._duplicate
        elif self._socket is not None and (descriptor := self._socket.fileno()) >= 0:
            yield descriptor

    def _release(self) -> None:
        if self._duplicate is not None:
            os.close(self._duplicate)
        self._duplicate = self._socket = None
