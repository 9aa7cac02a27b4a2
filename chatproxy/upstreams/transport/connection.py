"""A connection to an upstream: made, used for a request, and kept for another or closed.

The classes are urllib3's, which put TLS and tunnels on a connection. How they connect, and how they
send a request and read a response, is here. This is the way of a connection, from top to bottom:

1. ``pool`` takes one that was kept, if ``is_connected`` finds it still good, or a new object.
2. A new one connects (``connect``): ``dialer`` finds an address that answers. If there is an
   HTTP proxy, ``_tunnel`` asks it for a tunnel; then urllib3 puts TLS on the socket. Meanwhile the
   exchange holds a duplicate of the descriptor, and sees to it that all this takes no longer than
   the connection's timeout.
3. ``ask`` ties the socket to the exchange (``use``) and sends the request (``_write``). From then
   on the connection has no timeout: the watchdog ends what takes too long, in the same way as a
   Stop.
4. ``ask`` reads the head of the response. Its owner reads the body from the socket (``response``).
   A refusal that comes while the request is written ends the writing.
5. ``Response.close`` gives the connection back. That ends in ``release``, which lets go of the
   exchange, and keeps the connection or closes it.

Steps 1 to 5 are all taken by the coroutine that owns the exchange. Others may only abort it, which
shuts the socket down and closes nothing. In the pool nobody touches a connection: ``idle`` takes
those out that are too many before it closes them.

A peer that is gone without a word is noticed by what it does not acknowledge (``set_patience``). A
server that is busy with another question, and reads nothing meanwhile, would be taken for such a
peer, if the request is larger than its window. So a large request (``Exchange.is_large``) is sent
on a new connection, whose peer was there just now, and waits for as long as the watchdog lets it.

A connection that is used again could give one user what was sent for another. So these hold:

* A connection is kept only if the response to its last request was read to its end, nothing came
  after it, and it was not aborted (``release``).
* A connection that was kept is used only if nothing has come since (``is_connected``), also while
  the next request was made (``ask``). It is kept for ``KEPT_SECONDS`` at the most.
* Whatever else there is on it, and whoever gives it back, it is closed.
* A connection on which a request was not written whole is not kept.
* No byte of a request is sent once the exchange is aborted.
* A connection that is closed is tied to no exchange: its descriptor may be another's by then.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress

from urllib3.connection import HTTPConnection, HTTPSConnection

from ...answers.coroutines import NOTHING_YET
from ...sockets import plain_socket
from .dialer import Dialer, set_patience
from .exchange import Exchange, Refused, Step, Unreachable, current_exchange
from .http1 import Malformed
from .idle import IdleConnections
from .response import Response

#: For how many seconds a connection is kept without a request. As a rule servers close one after a
#: minute, and what lies between may forget it without a word. A request that is sent just then may
#: be lost, and must not be sent again. Another connection costs a few round trips.
KEPT_SECONDS = 30.0
#: Statuses by which a proxy says what another request can't help: it knows nobody of this name, or
#: leads nobody there.
_REFUSED_FOR_GOOD = frozenset({400, 401, 403, 405, 407})


class AbortableConnection(HTTPConnection):
    """A connection that the exchange which uses it can abort, in every phase."""

    #: What connects it, and who counts it while it is idle; its pool sets these.
    dialer: Dialer
    idle: IdleConnections
    #: The exchange that uses it now.
    exchange: Exchange | None = None
    #: What came in response to the latest request, from its head on.
    response: Response | None = None
    #: Whether the latest request was written whole.
    _whole = False
    #: Since when it has been kept without a request, by the monotonic clock; None before.
    _kept_since: float | None = None

    @property
    def _seconds(self) -> float | None:
        return self.timeout if isinstance(self.timeout, (int, float)) else None

    def connect(self) -> None:
        """Connect, with all that this takes until a request can be sent."""
        exchange = current_exchange.get()
        exchange.limit(self._seconds)
        try:
            super().connect()
        finally:  # on a socket that was shut, ``ssl`` makes no handshake, and does not say so
            if exchange.overdue:
                raise Unreachable(f"timed out after {self._seconds:g} s")

    def _new_conn(self) -> socket.socket:
        """Connect to the upstream, or to the HTTP proxy before it; urllib3 goes on from there."""
        exchange = current_exchange.get()
        host = self._dns_host.strip("[]")
        sock = self.dialer.dial(exchange, host, self.port, self._seconds)
        if isinstance(self, HTTPSConnection):
            exchange.shake_hands(Step.TLS, f"{self.host}:{self.port}")
        return sock

    def set_tunnel(
        self,
        host: str,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
        scheme: str = "http",
    ) -> None:
        """Have ``connect`` ask a proxy for a tunnel to this address."""
        super().set_tunnel(host, port=port, headers=headers, scheme=scheme)
        self._tunnel_authority = f"{host}:{port}"
        self._tunnel_fields = {"Host": self._tunnel_authority, **(headers or {})}

    def _tunnel(self) -> None:
        """Ask for it (RFC 9110, section 9.3.6)."""
        exchange = current_exchange.get()
        exchange.shake_hands(Step.PROXY, f"{self.host}:{self.port}")
        lines = [f"{name}: {value}" for name, value in self._tunnel_fields.items()]
        request = [f"CONNECT {self._tunnel_authority} HTTP/1.1", *lines, "", ""]
        self.sock.sendall("\r\n".join(request).encode("latin-1"))
        response = Response(self.sock, method="CONNECT")
        response.begin()
        if not 200 <= response.status < 300:
            self.close()
            kind = Refused if response.status in _REFUSED_FOR_GOOD else Unreachable
            raise kind(f"Tunnel connection failed: {response.status} {response.reason}")
        if response.exceeded:
            raise Malformed("Something came through a tunnel before anything was asked for.")
        exchange.shake_hands(Step.TLS, self._tunnel_authority)

    @property
    def is_kept(self) -> bool:
        """Whether it is kept for another request."""
        return self._kept_since is not None

    @property
    def is_connected(self) -> bool:
        """Whether it may be used again, to be asked by who has taken it out of its pool.

        The pool closes it if not.
        """
        self.idle.take(self)
        if self._kept_since is None or time.monotonic() - self._kept_since > KEPT_SECONDS:
            return False
        return _is_quiet(self.sock)

    def release(self) -> None:
        """Let go of the exchange; close the connection unless another may use it."""
        exchange, response = self.exchange, self.response
        self.exchange = self.response = None
        if exchange is not None:
            exchange.close()
        aborted = exchange is None or exchange.aborted
        reusable = response is not None and response.reusable and self._whole
        if reusable and not aborted and self._is_at_rest():
            self._kept_since = time.monotonic()
            if exchange is not None and exchange.is_large and self.sock is not None:
                set_patience(self.sock.fileno(), patient=False)
        else:
            self.close()

    def _is_at_rest(self) -> bool:
        """Whether nothing comes after the response, as far as can be told.

        By Nagle's algorithm the other side may hold back what it has written since, until what came
        before is acknowledged. By default that waits for the next request, and what was held back
        would come as the response to it. So it is acknowledged now.
        """
        if self.sock is not None and (descriptor := self.sock.fileno()) >= 0:
            # The option is Linux's, and TCP's.
            with suppress(OSError, AttributeError), plain_socket(descriptor) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return _is_quiet(self.sock)

    def close(self) -> None:
        """Close the connection; it can be connected again."""
        if self.exchange is not None:
            self.exchange.close()
        self._kept_since = None
        super().close()

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Response:
        """Connect if need be, send a request, and wait for the head of its response.

        :raises Aborted: if the exchange is aborted; no byte is sent from then on.
        """
        exchange = current_exchange.get()
        if self.sock is None:
            self.connect()
        host, port = self._tunnel_host or self.host, self._tunnel_port or self.port
        exchange.use(self.sock, f"{host}:{port}")
        self.exchange = exchange
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")
        if self._kept_since is not None and not _is_quiet(self.sock):
            raise Unreachable("something came that was not asked for")
        response = self.response = exchange.response = Response(self.sock, method)
        self._whole = False
        if exchange.is_large:
            set_patience(self.sock.fileno(), patient=True)
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered all the same
            self._whole = self._write(head + (body or b""), response)
        self.sock.settimeout(None)
        if self._whole:
            exchange.sent()
        response.begin()
        return response

    def _write(self, request: bytes, response: Response) -> bool:
        """Write a request, and read what comes meanwhile; return whether it was written whole.

        It is not if there is an answer that is no success: whoever refuses a request need not read
        it. An interim response, or the head of an answer, changes nothing.

        Errors are as in ``Response.read_head``.
        """
        sock, left, either = self.sock, memoryview(request), select.POLLIN | select.POLLOUT
        if not isinstance(sock, socket.socket):  # TLS within TLS, which has to block
            sock.settimeout(None)
            sock.sendall(request)
            return True
        sock.settimeout(0.0)
        while True:
            awaited = select.POLLOUT if response.begun else either
            try:
                left = left[sock.send(left) :]
            except ssl.SSLWantReadError:
                awaited = select.POLLIN
            except NOTHING_YET:
                pass
            if not left:
                return True
            poll = select.poll()
            poll.register(sock, awaited)
            poll.poll()
            with suppress(*NOTHING_YET):
                if not response.begun and response.read_head() and response.status >= 300:
                    return False


class AbortableTLSConnection(AbortableConnection, HTTPSConnection):
    """The same with TLS."""


def _is_quiet(sock: socket.socket | None) -> bool:
    """Whether a connection is open and nothing has come. If something has, it must be closed.

    A byte is read, not looked at, because only so TLS tells what it holds, such as a goodbye.
    """
    if sock is None:
        return False
    timeout = sock.gettimeout()
    try:
        sock.settimeout(0.0)
        sock.recv(1)
    except NOTHING_YET:
        sock.settimeout(timeout)
        return True
    except (OSError, ValueError):  # it is closed, or TLS on it has ended
        pass
    return False
