"""Direct writes: events go to the client's socket without a turn of the WSGI server.

A WSGI server asks the body of a response for its next item, and writes nothing until it has one.
Meanwhile whoever has an event can write it to the socket, in the framing that the server has begun.
That spares the event a queue, a second greenlet and the server's own layers. How a byte goes from
the log to the client:

1. gunicorn calls the application, wrapped by ``lending``. If the body that comes back is a
   ``DirectBody`` and ``start_response`` was gunicorn's own, then nothing stands between the two,
   and the body is offered gunicorn's response.
2. gunicorn asks for the first item. The body calls ``start_response`` and then ``borrow``, which
   puts a ``DirectWriter`` in the place of the response's socket. The body gives the writer to its
   reader of the log, as a sink.
3. gunicorn writes the head and the first item by ``DirectWriter.sendall``, which holds the head
   back so that both leave in one segment.
4. gunicorn asks for the next item. Its greenlet sleeps in ``LogReader.read``. ``AnswerLog.append``
   calls ``DirectWriter.write``: one ``os.write`` of one chunk. No greenlet wakes.
5. If the socket takes less than that, the rest stays in the writer, and the log wakes gunicorn's
   greenlet, which flushes it at the pace of the client and then reads the log by itself. The log
   writes again when the greenlet waits again.
6. The answer ends, ``read`` returns None and the body stops. gunicorn writes the last chunk, again
   by ``sendall``, and closes the body, which gives the socket back.

What holds at all times:

* Two write to the socket in turn, never at once. The log sees to that (``answers.log``).
* What was left of one write leaves before anything else does.
* ``write`` never blocks. That the client has gone is found by ``flush``, in the server's thread.
* A socket is lent only if it does not block and has no TLS, and the body has no Content-Length.
  ``fits`` checks that gunicorn frames and counts a body as this module expects.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]


class DirectWriter:
    """Writes to a client's socket that does not block; stands in the place of gunicorn's socket.

    It is a ``Sink`` for the log, and for gunicorn it has ``sendall``.

    :param response: gunicorn's.
    """

    __slots__ = ("_descriptor", "_response", "_rest", "_socket", "written_at")

    def __init__(self, response: Any) -> None:
        self._response = response
        self._socket = response.sock
        self._descriptor: int = response.sock.fileno()
        self._rest = b""
        #: When something was last written, by the monotonic clock.
        self.written_at = time.monotonic()

    def write(self, data: bytes) -> bool:
        """See ``Sink``."""
        if not data:
            return True  # as a chunk it would end the body
        response = self._response
        response.sent += len(data)  # as gunicorn counts, for its access log
        if response.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        return self._write(data)

    def sendall(self, data: bytes) -> None:
        """Write what the server writes by itself, and wait as long as that takes.

        The head waits for the first chunk, to go with it: there is always one, if only the last.

        :raises OSError: if the client has gone.
        """
        data = self._rest + data
        if self._response.chunked and not self._response.headers_sent:
            self._rest = data
        elif not self._write(data):
            self.flush()

    def flush(self) -> None:
        """See ``Sink``."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._socket.sendall(rest)

    def give_back(self) -> None:
        """Let the response have its socket again, and not keep this alive."""
        self._response.sock = self._socket

    def _write(self, data: bytes) -> bool:
        try:
            written = os.write(self._descriptor, data)
        except OSError:  # it is full, or broken, which ``flush`` will find
            written = 0
        self.written_at = time.monotonic()
        is_all = written == len(data)
        self._rest = b"" if is_all else data[written:]
        return is_all


class DirectBody:
    """The body of a response, which may borrow the socket of gunicorn's response."""

    __slots__ = ("_offered", "_writer")

    def __init__(self) -> None:
        self._offered: Any = None
        self._writer: DirectWriter | None = None

    def offer(self, response: Any) -> None:
        """Let this body borrow the socket of gunicorn's response."""
        self._offered = response

    def borrow(self) -> DirectWriter | None:
        """Borrow the socket; to be called after ``start_response``, and once.

        :returns: None if it was not offered, or can't be written to directly.
        """
        response, self._offered = self._offered, None
        if response is None or not _can_lend(response):
            return None
        response.sock = self._writer = DirectWriter(response)
        return self._writer

    def give_back(self) -> None:
        """Give the socket back, if it was borrowed; when the server is done with the body."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.give_back()


def lending(application: WSGIApplication) -> WSGIApplication:
    """The application of a gunicorn worker, whose responses lend their sockets to their bodies."""
    from gunicorn.http.wsgi import Response  # noqa: PLC0415 - only its workers call this

    def lend(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = application(environ, start_response)
        response: Any = getattr(start_response, "__self__", None)
        if isinstance(body, DirectBody) and type(response) is Response:
            body.offer(response)  # nobody has put anything between the two
        return body

    return lend


def _can_lend(response: Any) -> bool:
    """Whether the body goes to the response's socket as it is, and that does not block."""
    sock = response.sock
    return (
        response.response_length is None
        and response.req.method != "HEAD"
        and not isinstance(sock, ssl.SSLSocket)
        and not os.get_blocking(sock.fileno())
    )


def fits(config: Any) -> bool:
    """Whether gunicorn's response is as ``DirectWriter`` expects; tried on one without a client."""
    from gunicorn.http.wsgi import Response  # noqa: PLC0415 - only its workers call this

    request = SimpleNamespace(version=(1, 1), method="GET", headers=[], should_close=lambda: False)
    before, after = bytearray(), bytearray()
    try:
        response: Any = Response(request, SimpleNamespace(sendall=before.extend), config)
        response.start_response("200 OK", [])
        fresh = (response.chunked, response.headers_sent, response.sent, response.response_length)
        response.write(b"ab")
        written = (response.headers_sent, response.sent, response.req is request)
        response.sock = SimpleNamespace(sendall=after.extend)
        response.close()
    except Exception:
        return False
    return (
        (fresh, written) == ((True, False, 0, None), (True, 2, True))
        and before.endswith(b"\r\n\r\n2\r\nab\r\n")
        and after == b"0\r\n\r\n"
    )
