"""The clients' sockets of gunicorn's gevent worker, which keep the loop to nobody.

gunicorn hands a client's socket to its parser, and reads heads, bodies and what nobody read of a
body from it by ``recv``. So the sockets here are gevent's with a ``recv`` of their own, which

* gives way to others before it reads on (``pacing``);
* bounds what a head may have of bytes, and a chunked body of bytes that are no data;
* tells when a request begins to arrive, so that it is bounded in time and number (``arrivals``).

A body that the application leaves unread is read to its end only if that is near; otherwise the
connection is closed after the answer. It is closed gently: what still comes is thrown away for a
moment, since a reset would take the answer from a client that is still sending (RFC 9112, 9.6).
"""

from __future__ import annotations

import contextlib
import io
import math
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gevent
import gevent.socket
from gevent.ssl import SSLSocket
from gunicorn.http.errors import InvalidChunkSize, LimitRequestHeaders

from ... import signals
from ...errors import BodyTimeout
from ...sockets import plain_socket, shut_down
from ..arrivals import Arrival, Arrivals
from .pacing import Pace, Toll

#: The largest head of a request.
MOST_HEAD_BYTES = 64 * 1024
#: The most that is read at once: of a body, and of one in the chunked coding, which is parsed.
_PIECE = 64 * 1024
_CHUNKED_PIECE = 4 * 1024
#: What is read ahead for an application that reads less at once. A request keeps the buffer, and so
#: a stream does to its end.
_BUFFER_BYTES = 512
#: What a chunked body may have beside twice its data: sizes, extensions and trailers.
_MOST_OVERHEAD = 16 * 1024
#: What is read of a body that the application left unread, to keep the connection.
MOST_UNREAD_BYTES = 64 * 1024
#: Seconds for that, and for a client to take the answer before its connection is closed.
_LINGER_SECONDS = 1.0
#: Seconds between two looks at what still comes.
_LINGER_PAUSE_SECONDS = 0.01


class Body(io.RawIOBase):
    """The body of a request, which knows how much of it has come.

    :param body: gunicorn's.
    :param length: its Content-Length; None in the chunked coding.
    """

    #: Called when all of it has come.
    on_end: Callable[[], None] | None = None

    def __init__(self, body: Any, length: int | None) -> None:
        super().__init__()
        self._body = body
        self._length = length
        self._delivered = 0
        self._ahead = b""
        self._failure: Exception | None = None
        #: Bytes that came for it, without those that came with its head.
        self.received = 0
        self.ended = False
        self.piece = _CHUNKED_PIECE if length is None else _PIECE

    def readable(self) -> bool:
        """Return that it can be read, as ``io`` asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next piece into ``buffer``; return its size, which is 0 at the end."""
        data = self._ahead[: len(buffer)] or self._next(len(buffer))
        self._ahead = self._ahead[len(data) :]
        buffer[: len(data)] = data
        return len(data)

    def read_ahead(self, most: int) -> None:
        """Wait for the first ``most`` bytes, or for all; what goes wrong is told to the reader."""
        try:
            while not self.ended and len(self._ahead) < most:
                self._ahead += self._next(most)
        except Exception as error:
            self._failure = error

    def fail(self, failure: Exception) -> None:
        """Have the reader find this in the place of the end."""
        self._failure = failure

    def _next(self, size: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self.ended:
            return b""
        data: bytes = self._body.read(min(size, self.piece))
        self._delivered += len(data)
        if not data or self._delivered == self._length:
            self.ended = True
            if self.on_end is not None:
                self.on_end()
        return data

    @property
    def is_far_from_its_end(self) -> bool:
        """Whether more is missing than is worth reading for nobody."""
        if self._length is None:
            return not self.ended
        return self._length - self._delivered > MOST_UNREAD_BYTES

    @property
    def is_mostly_overhead(self) -> bool:
        """Whether there is too much of the chunked coding around too little data."""
        # What gunicorn has decoded and not delivered yet is less than a piece.
        data = self._delivered + self.piece
        return self._length is None and self.received > _MOST_OVERHEAD + 2 * data


class Connection:
    """One client: what of its request is arriving, and how much of the loop it takes."""

    def __init__(self, guard: Guard, descriptor: int) -> None:
        self._guard = guard
        self._loop = gevent.get_hub().loop
        self._pace = Pace(guard.toll, time.perf_counter())
        self._head_bytes = 0
        self._body: Body | None = None
        self._body_until = math.inf
        self._descriptor = descriptor
        self._arrival = Arrival(descriptor)
        self.arrivals = guard.arrivals
        self.arrivals.begin(self._arrival, "", guard.timeout)

    def receive(self, recv: Any, size: int, *flags: int) -> bytes:
        """Read from the client by ``recv``, after others have had their turn."""
        self._give_way()
        turn = self._loop.iteration
        data: bytes = recv(min(size, self._body.piece if self._body else _PIECE), *flags)
        if self._loop.iteration != turn:
            self._pace.rest(time.perf_counter())
        self._count(len(data))
        return data

    def begin_request(self, request: Any) -> Body | None:
        """Take over the body of a request whose head has come; None if it has none."""
        self._give_way()
        self.arrivals.finish(self._arrival)
        self._body = body = _body_of(request)
        if body is None:
            return None
        request.body = io.BufferedReader(body, _BUFFER_BYTES)
        if body.is_far_from_its_end and not request.must_close:
            request.must_close = True  # says so in the answer, unless all has come by then
            body.on_end = partial(setattr, request, "must_close", False)
        return body

    def read_ahead(self, request: Any, body: Body) -> bool:
        """Wait for a body, or for its beginning, before anybody works on the request.

        :returns: False if the connection has made room for another.
        """
        self._body_until = time.monotonic() + self._guard.timeout
        body.read_ahead(MOST_UNREAD_BYTES)
        self._body_until = math.inf
        if self._arrival.ended == "timeout":
            request.must_close = True
            body.fail(BodyTimeout(f"The body did not come within {self._guard.timeout:g} seconds."))
        return self._arrival.ended != "room"

    def end_request(self) -> None:
        """Wait for the next request, now that this one is answered."""
        self._pace.serve(time.perf_counter())
        self._body, self._body_until, self._head_bytes = None, math.inf, 0
        self.arrivals.begin(self._arrival, "", self._guard.keepalive)

    def drain(self, body: Body) -> bool:
        """Read what is left of a body, if that is little; return whether it has ended."""
        if body.is_far_from_its_end:
            return False
        self._body_until = time.monotonic() + _LINGER_SECONDS
        with contextlib.suppress(OSError, ValueError):
            while not body.ended:
                body.read(body.piece)
        return not self._arrival.ended

    def linger(self) -> None:
        """Let the client take the answer before the connection is closed."""
        self.arrivals.begin(self._arrival, "", _LINGER_SECONDS)
        shut_down(self._descriptor, socket.SHUT_WR)
        end = time.monotonic() + _LINGER_SECONDS
        with contextlib.suppress(OSError), plain_socket(self._descriptor) as plain:
            while (left := end - time.monotonic()) > 0:
                gevent.socket.wait_read(self._descriptor, left)
                if not plain.recv(_PIECE, socket.MSG_DONTWAIT):
                    return
                gevent.sleep(_LINGER_PAUSE_SECONDS)

    @contextlib.contextmanager
    def waiting(self, *, to_send: bool) -> Iterator[None]:
        """Wait for the client to send, or to take what is sent to it; that may make room too.

        A body counts only while somebody waits for it, and anew each time that some of it came: of
        those that are too many it is not the slow that go, but the silent.
        """
        if to_send:
            self.arrivals.begin(self._arrival, "answer", math.inf)
        elif self._body is not None:
            self.arrivals.begin(self._arrival, "body", self._body_until - time.monotonic())
        try:
            yield
        finally:
            if to_send or self._body is not None:
                self.arrivals.finish(self._arrival)

    def leave(self) -> None:
        """End all waiting for it; its socket is about to be closed."""
        self.arrivals.finish(self._arrival)

    def _give_way(self) -> None:
        pause = self._pace.work(time.perf_counter())
        if pause is not None:
            gevent.sleep(pause)
            self._pace.rest(time.perf_counter())

    def _count(self, size: int) -> None:
        """:raises ParseException: one of gunicorn's, if this is no honest request."""
        if self._body is not None:
            self._body.received += size
            if self._body.is_mostly_overhead:
                raise InvalidChunkSize(b"(too much that is not data)")
            return
        if not self._head_bytes and size:
            self.arrivals.begin(self._arrival, "head", self._guard.timeout)
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES:
            raise LimitRequestHeaders(f"the head is larger than {MOST_HEAD_BYTES} bytes")


def _body_of(request: Any) -> Body | None:
    length = 0
    for name, value in request.headers:
        if name == "TRANSFER-ENCODING":
            return Body(request.body, None)
        if name == "CONTENT-LENGTH":
            length = int(value)
    return Body(request.body, length) if length else None


class Client(gevent.socket.socket):
    """A client's socket."""

    connection: Connection

    def recv(self, *args: int) -> bytes:
        """Read as ``socket.recv`` does, after others have had their turn."""
        return self.connection.receive(super().recv, *args)

    def _wait(self, watcher: Any, *args: Any, **kwargs: Any) -> None:
        with self.connection.waiting(to_send=watcher is self._write_event):
            super()._wait(watcher, *args, **kwargs)


class TLSClient(SSLSocket):
    """A client's socket, if gunicorn itself ends TLS."""

    connection: Connection

    def recv(self, *args: int) -> bytes:
        """Read as ``socket.recv`` does, after others have had their turn."""
        return self.connection.receive(super().recv, *args)

    def _wait(self, watcher: Any, *args: Any, **kwargs: Any) -> None:
        with self.connection.waiting(to_send=watcher is self._write_event):
            super()._wait(watcher, *args, **kwargs)


class Guard:
    """What the connections of a worker share.

    :param timeout: seconds in which the head of a request must come.
    :param keepalive: seconds for which a connection may wait for its next request.
    :param most: connections that may be sending a request, or waiting to.
    """

    def __init__(self, timeout: float, keepalive: float, most: int) -> None:
        self.timeout = timeout
        self.keepalive = keepalive or timeout
        self.toll = Toll()
        self.arrivals = Arrivals(_tell, most)

    @property
    def period(self) -> float:
        """Seconds between two looks for those that are late."""
        return min(0.5, self.timeout / 4, self.keepalive / 4)


def _tell(part: str, why: str) -> None:
    signals.request_unfinished.send(None, part=part, why=why)


def dress(accepted: Client, context: Any, connection: Connection) -> Any:
    """The socket of a connection, with TLS if there is a ``context``, before its handshake."""
    client: Any = accepted
    if context is not None:
        context.sslsocket_class = TLSClient
        client = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    client.connection = connection
    return client
