"""Exchange: one HTTP request and its response, from the look-up of the name to the last byte.

It is the ``AbortHandle`` that every connection for this request is tied to before it is used, so
``abort`` shuts the connection down in every phase. It also knows the step that the request is at:
whether the upstream can have got it, and what to tell the operators if the step fails.

How the connection is shut down changes once. TLS takes the descriptor away from the socket that it
is given, and gives out a socket of its own only after its handshake. So from the moment that a
connection is made until the request can be sent on it, the exchange has a duplicate of the
descriptor. Shutting that down reaches the connection under any layer, and nobody else can close
the duplicate, so its number can't become another socket's. From then on the exchange has the
outermost socket, which knows when it is closed: a stream does not need two descriptors.

The time until the request can be sent is bounded (``limit``). Look-ups and attempts to connect have
timeouts. A handshake has not: the timeout of a socket is for one read, and a peer may send a byte
now and then for ever. So a timer shuts the duplicate down.

``connection`` finds the exchange in ``current_exchange``, as urllib3 has no argument to pass it on.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from functools import partial

from ...answers.abort import AbortFn, AbortHandle
from ...sockets import shut, shut_down
from .response import Response

#: The most bytes of a request's body that any peer takes without reading any: the first window of
#: TCP is 64 KB as a rule, of which a head and TLS take some.
TAKEN_UNREAD = 56 * 1024


class Step(str, Enum):
    """What an exchange does until its response begins. The values are part of log lines."""

    LOOK_UP = "look-up"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "TLS"
    SEND = "send"
    #: The request has been written whole. From here on the upstream may have processed it.
    ANSWER = "answer"


class Unreachable(OSError):
    """A step failed before the request could be sent. The text says why, for operators."""


class Refused(Unreachable):
    """A proxy refuses to lead to the upstream, and would do so again."""


class Exchange(AbortHandle):
    """One request and its response, with all tries that it takes.

    :param on_sent: called each time that the request has been sent.
    """

    __slots__ = (
        *("_blame", "_duplicate", "_on_sent", "_shut", "_timer", "_until", "is_large", "overdue"),
        *("peer", "response", "since", "step"),
    )

    def __init__(self, on_sent: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._on_sent = on_sent
        self.step = Step.LOOK_UP
        #: Since when it is at this step, by the monotonic clock.
        self.since = time.monotonic()
        #: The other side of this step: a host, with its port if there is one. Empty before any.
        self.peer = ""
        #: The response to the latest request. None before it begins, and if a mock of ``requests``
        #: answers.
        self.response: Response | None = None
        #: Whether the request is larger than what a peer takes without reading.
        self.is_large = False
        #: Whether a handshake was ended because it took too long.
        self.overdue = False
        self._until: float | None = None
        self._timer: threading.Timer | None = None
        self._blame: Callable[[], None] | None = None
        self._shut: AbortFn | None = None
        self._duplicate: int | None = None

    def begin(self, size: int = 0) -> None:
        """Begin a try: nothing is open, nothing has come.

        :param size: of the request's body, in bytes.
        """
        self.response = self._blame = None
        self.is_large = size > TAKEN_UNREAD
        self.enter(Step.LOOK_UP, "")

    def enter(self, step: Step, peer: str) -> None:
        """Note which step begins, and with whom."""
        self.step, self.peer, self.since = step, peer, time.monotonic()

    def limit(self, seconds: float | None) -> None:
        """From now, allow so many seconds until the request can be sent; None for any number."""
        self._until = None if seconds is None else time.monotonic() + seconds
        self.overdue = False

    def hold(self, sock: socket.socket, blame: Callable[[], None] | None = None) -> None:
        """Tie a connection to this exchange that has just been made, under whatever is put on it.

        :param blame: is called if no response comes on it; see ``fail``.
        :raises Aborted: if ``abort`` came first.
        """
        self.close()
        self._blame = blame
        self._duplicate = os.dup(sock.fileno())
        self._shut = partial(shut_down, self._duplicate)
        self.attach(self._shut)

    def shake_hands(self, step: Step, peer: str) -> None:
        """Begin a handshake on the connection that is held, such as that of TLS.

        :raises Unreachable: if there is no timer to be had to end it when it takes too long.
        """
        self.enter(step, peer)
        if self._until is None or self._timer is not None:
            return
        seconds = self._until - time.monotonic()
        self._timer = threading.Timer(seconds, self._run_out, [self._shut])
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError as error:  # no thread can be started
            raise Unreachable(str(error)) from error

    def _run_out(self, shut_held: AbortFn) -> None:
        with self._lock:
            if shut_held in self._abort_fns:
                self.overdue = True
                shut_held()

    def use(self, sock: socket.socket, peer: str) -> None:
        """Go on with a connection on which the request can be sent; nothing is put on it any more.

        :param peer: who gets the request, perhaps beyond a proxy.
        :raises Aborted: if ``abort`` came first.
        """
        shut_sock = partial(shut, sock)
        self.attach(shut_sock)
        self.close()
        self._shut = shut_sock
        self.enter(Step.SEND, peer)

    def sent(self) -> None:
        """Note that the request has been written whole."""
        self.enter(Step.ANSWER, self.peer)
        if self._on_sent is not None:
            self._on_sent()

    def answered(self) -> None:
        """Note that a response has come: the request was sent, and nobody is to blame."""
        self._blame = None
        self.sent()

    def fail(self) -> None:
        """Let go of the connection, on which no response has come, and blame whoever chose it.

        If the exchange was aborted, or the connection had been used before, nobody is to blame.
        """
        blame, self._blame = self._blame, None
        if blame is not None and not self.aborted:
            blame()
        self.close()

    def close(self) -> None:
        """Let go of the connection, which stays open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._shut is not None:
            self.detach(self._shut)
            self._shut = None
        if self._duplicate is not None:
            os.close(self._duplicate)
            self._duplicate = None


#: The exchange that the present thread (or greenlet) works on.
current_exchange: ContextVar[Exchange] = ContextVar("chatproxy_current_exchange")
