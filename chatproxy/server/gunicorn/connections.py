"""gunicorn's connections to clients: slow heads, bodies and answers are bounded in size and time.

gunicorn hands a client's socket to its parser, and reads heads, bodies and the unread rest of
bodies from it by ``recv``. gevent's ``recv`` does not yield while there is data. So a client's
socket here is gevent's with two methods replaced, and all that is bounded is bounded in them.

How a request comes in:

1. ``Connection`` is made when the connection is accepted; it waits for anything of a request.
2. ``Client.recv`` is called for the head. ``receive`` lets others have their turn first if this
   connection has had enough of the loop (``pacing``), reads a piece, and counts it. With the first
   byte the head begins to arrive, and its time to run (``arrivals``).
3. ``begin_request``: the head is parsed. The body, if there is one, becomes a ``RequestBody``.
4. ``read_ahead`` waits for all of it before anybody works on the request, if it is no larger than
   an application of ours may take: so nothing of the application's is held while it comes, and one
   that never comes costs no more than a connection. A larger one is handed on: at once if its
   length says so, otherwise when so much has come.
5. The application reads the body, and answers. A client that does not take the answer counts as
   arriving too, so that it can be the one that makes room.
6. ``drain`` reads the rest of a body that the application left unread, if the end is near.
   Otherwise gunicorn closes the connection, after ``linger``: a reset would take the answer away
   from a client that is still sending (RFC 9112, 9.6).
7. ``end_request``: the connection waits for its next request.

Invariants:

* A ``recv`` returns after at most 64 KiB, and a connection that has run for ``pacing.SLICE`` yields
  before the next one.
* Whatever a connection waits for has a deadline or can make room for a newcomer, except while the
  application works.
* What waits of bodies that come, and of those that the application has not read yet, is bounded
  over all connections.
* An ``Arrival`` ends before its socket is closed, because descriptors are used again.
"""

from __future__ import annotations

import contextlib
import io
import math
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gevent
import gevent.socket
from gevent.event import Event
from gevent.ssl import SSLSocket
from gunicorn.http.errors import InvalidChunkSize, LimitRequestHeaders

from ... import signals
from ...errors import BodyTimeout
from ...sockets import plain_socket, shut_down
from ..arrivals import Arrival, Arrivals
from .body import PIECE, BodyMemory, RequestBody, body_of
from .pacing import LeakyBucket, Pacer

#: The largest head of a request.
MOST_HEAD_BYTES = 64 * 1024
#: How many of the largest bodies may wait in a worker for the application.
_MOST_WAITING_BODIES = 64
#: Bytes read ahead for an application that reads less at once. A request keeps this buffer, and so
#: does a stream, to its end.
_BUFFER_BYTES = 256
#: Seconds to read an unread body, and for a client to take the answer before its connection is
#: closed.
LINGER_SECONDS = 1.0
#: Seconds between two reads of what still comes meanwhile.
_LINGER_PAUSE_SECONDS = 0.01


class Guard:
    """The bounds that the connections of a worker share.

    :param timeout: seconds in which the head of a request must come, and then its body.
    :param keepalive: seconds for which a connection may wait for its next request; 0 for
        ``timeout``.
    :param most: connections that may be sending a request, or waiting to.
    :param most_body: bytes of a body that are awaited before anybody works on its request.
    """

    def __init__(self, timeout: float, keepalive: float, most: int, most_body: int) -> None:
        self.most_body = most_body
        self.memory = BodyMemory(_MOST_WAITING_BODIES * most_body)
        self.timeout = timeout
        self.keepalive = keepalive or timeout
        self.bucket = LeakyBucket()
        self.arrivals = Arrivals(_tell, most)

    @property
    def period(self) -> float:
        """Seconds between two looks for those that are late."""
        return min(0.5, self.timeout / 4, self.keepalive / 4)


def _tell(part: str, why: str) -> None:
    signals.request_unfinished.send(None, part=part, why=why)


class Connection:
    """One client's connection: what of its request is arriving, and how much of the loop it uses.

    :param descriptor: of the client's socket.
    """

    __slots__ = (
        *("_arrival", "_body", "_body_until", "_descriptor", "_guard", "_head_bytes", "_pacer"),
        "arrivals",
    )

    def __init__(self, guard: Guard, descriptor: int) -> None:
        self._guard = guard
        self._pacer = Pacer(guard.bucket, time.perf_counter())
        self._head_bytes = 0
        self._body: RequestBody | None = None
        self._body_until = math.inf
        self._descriptor = descriptor
        self._arrival = Arrival(descriptor)
        self.arrivals = guard.arrivals
        self.arrivals.begin(self._arrival, "", guard.timeout)

    def receive(self, recv: Any, size: int, *flags: int) -> bytes:
        """Read from the client by ``recv``, after others have had their turn.

        :raises ParseException: one of gunicorn's, if what comes is no honest request.
        """
        self._give_way()
        if self._arrival.ended:
            return b""  # whatever else comes: a client that sends without pause goes on to
        data: bytes = recv(min(size, self._body.piece if self._body else PIECE), *flags)
        self._count(len(data))
        return data

    def begin_request(self, request: Any) -> RequestBody | None:
        """Take over the body of a request whose head has come; None if it has none."""
        self._give_way()
        self.arrivals.finish(self._arrival)
        self._body = body = body_of(request, self._guard.memory)
        if body is None:
            return None
        request.body = io.BufferedReader(body, _BUFFER_BYTES)
        if body.is_far_from_its_end and not request.must_close:
            request.must_close = True  # the answer says so, unless all has come by then
            body.on_end = partial(setattr, request, "must_close", False)
        return body

    def read_ahead(self, request: Any, body: RequestBody) -> bool:
        """Wait for a body, or for as much as may wait here, before anybody works on the request.

        :returns: False if the connection has made room for another.
        """
        self._body_until = time.monotonic() + self._guard.timeout
        body.on_give_up = partial(self.arrivals.give_up, self._arrival, "body")
        body.read_ahead(self._guard.most_body)
        self._body_until, body.on_give_up = math.inf, None
        if self._arrival.ended == "timeout":
            request.must_close = True
            body.fail(BodyTimeout(f"The body did not come within {self._guard.timeout:g} seconds."))
        return self._arrival.ended != "room"

    def is_read_ahead(self, request: Any, body: RequestBody) -> bool:
        """Whether a body is awaited before anybody works on its request."""
        return request.method not in ("GET", "HEAD") and body.may_be_within(self._guard.most_body)

    def end_request(self) -> None:
        """Wait for the next request, now that this one is answered."""
        self._pacer.serve(time.perf_counter())
        self._body, self._body_until, self._head_bytes = None, math.inf, 0
        self.arrivals.begin(self._arrival, "", self._guard.keepalive)

    def drain(self, body: RequestBody) -> bool:
        """Read the rest of a body, if that is little; return whether it has ended."""
        if body.is_far_from_its_end:
            return False
        self._body_until = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError, ValueError):
            while not body.ended:
                body.read(body.piece)
        return not self._arrival.ended

    def linger(self) -> None:
        """Let the client take the answer before the connection is closed."""
        self.arrivals.begin(self._arrival, "", LINGER_SECONDS)
        shut_down(self._descriptor, socket.SHUT_WR)
        end = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError), plain_socket(self._descriptor) as plain:
            while (left := end - time.monotonic()) > 0:
                gevent.socket.wait_read(self._descriptor, left)
                if not plain.recv(PIECE, socket.MSG_DONTWAIT):
                    return
                gevent.sleep(_LINGER_PAUSE_SECONDS)

    @contextlib.contextmanager
    def waiting(self, *, to_send: bool) -> Iterator[None]:
        """Wait for the client to send, or to take what is sent to it; both may have to make room.

        A body counts only while somebody waits for it, and anew each time that some of it came: if
        there are too many, the silent ones go, not the slow ones. Who has to wait before it is read
        on, as it comes too fast, counts too.
        """
        if to_send:
            self.arrivals.begin(self._arrival, "answer", math.inf)
        elif self._body is not None:
            self.arrivals.begin(self._arrival, "body", self._body_until - time.monotonic())
        try:
            yield
        finally:
            self._pacer.rest(time.perf_counter())
            if to_send or self._body is not None:
                self.arrivals.finish(self._arrival)

    def close(self) -> None:
        """Wait for nothing any more; before the socket is closed."""
        self.arrivals.finish(self._arrival)

    def _give_way(self) -> None:
        pause = self._pacer.work(time.perf_counter())
        if pause is not None:
            turn = Event()
            self._arrival.on_end = turn.set
            with self.waiting(to_send=False):
                turn.wait(pause)
            self._arrival.on_end = None

    def _count(self, size: int) -> None:
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


class Client(gevent.socket.socket):
    """A client's socket."""

    connection: Connection

    def recv(self, *args: int) -> bytes:
        """Read as ``socket.recv`` does, after others have had their turn."""
        return self.connection.receive(super().recv, *args)

    def _wait(self, watcher: Any, *args: Any, **kwargs: Any) -> None:
        with self.connection.waiting(to_send=watcher is self._write_event):
            super()._wait(watcher, *args, **kwargs)


class TLSClient(Client, SSLSocket):
    """A client's socket, if gunicorn itself ends TLS: ``super()`` in ``Client`` is TLS here."""

    def __init__(self, connection: Connection, **kwargs: Any) -> None:
        self.connection = connection  # before the handshake reads from it
        try:
            super().__init__(**kwargs)
        except OSError:
            connection.close()
            self.close()
            raise


def wrap(accepted: Client, context: Any, connection: Connection) -> Client:
    """The socket of a connection; with TLS, after its handshake, if there is a ``context``.

    :raises OSError: if the handshake fails, or the client has gone already.
    """
    if context is None:
        accepted.connection = connection
        return accepted
    # As ``SSLContext.wrap_socket`` does it.
    return TLSClient(connection, sock=accepted, server_side=True, _context=context)
