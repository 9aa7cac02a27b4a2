"""The wire to a client: its socket, lent by the WSGI server while that waits for the next item.

A server asks the body of an answer for its next item, and writes nothing until it has that. So in
the meantime whoever has an event can write it to the socket as it is, in the framing that the
server has begun, and spare it the way through a queue, a second greenlet and the server's own
layers. What the socket does not take at once is left for the greenlet that the server waits in.

The server lends it only where it got the body from the application as it is (``Outlet``): whatever
stands between the two and changes or wraps the body, ends that.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Wire:
    """A client's socket that does not block, to which two write in turn: answers, and gunicorn.

    :param response: gunicorn's, which is to have this in the place of its socket.
    """

    def __init__(self, response: Any) -> None:
        self._response = response
        self._socket = response.sock
        self._descriptor = response.sock.fileno()
        self._rest = b""
        #: When something was last written, by the monotonic clock.
        self.written_at = time.monotonic()

    def write(self, data: bytes) -> bool:
        """Write at once; return whether all was taken. What was not is for ``flush``."""
        if not data:
            return True  # as a chunk it would end the body
        self._response.sent += len(data)
        if self._response.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        return self._write(data)

    def sendall(self, data: bytes) -> None:
        """Write what the server writes by itself, and wait as long as that takes.

        The head waits for the first chunk, to go with it: there is always one, if only the last.

        :raises OSError: where the client has gone.
        """
        data = self._rest + data
        if self._response.chunked and not self._response.headers_sent:
            self._rest = data
        elif not self._write(data):
            self.flush()

    def flush(self) -> None:
        """Write what is left, and wait as long as that takes.

        :raises OSError: where the client has gone.
        """
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
        self._rest = data[written:]
        return not self._rest


class Outlet:
    """The body of a response that begins when the server asks for its first item.

    A server can lend it its wire before that.

    :param begin: calls ``start_response`` and returns the items. If these have ``lend``, they may
        write to the wire.
    :param close: called by the server at the end.
    """

    def __init__(self, begin: Callable[[], Iterable[bytes]], close: Callable[[], None]) -> None:
        self._begin: Callable[[], Iterable[bytes]] | None = begin
        self._close = close
        self._items: Iterator[bytes] = iter(())
        self._response: Any = None
        self._wire: Wire | None = None

    def lend(self, response: Any) -> None:
        """Let the items write to the client while gunicorn's response waits for the next one."""
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self

    def begin(self) -> None:
        """Call ``start_response``, if that was not done yet."""
        if self._begin is not None:
            begin, self._begin = self._begin, None  # it refers to the request, which may be large
            items = begin()
            if self._response is not None and hasattr(items, "lend") and _is_free(self._response):
                self._response.sock = self._wire = Wire(self._response)
                items.lend(self._wire)
            self._items = iter(items)

    def __next__(self) -> bytes:
        self.begin()
        return next(self._items)

    def close(self) -> None:
        """Close the body, and give the socket back."""
        try:
            self._close()
        finally:
            if self._wire is not None:
                self._wire.give_back()


def lending(application: WSGIApplication) -> WSGIApplication:
    """The application of a gunicorn worker, to whose answers it lends the wires."""
    from gunicorn.http.wsgi import Response  # noqa: PLC0415 - only its workers call this

    def lend(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = application(environ, start_response)
        response: Any = getattr(start_response, "__self__", None)
        if isinstance(body, Outlet) and type(response) is Response:
            body.lend(response)  # nobody has put anything between the two
        return body

    return lend


def _is_free(response: Any) -> bool:
    """Whether its body goes as it is to its socket, which does not block."""
    sock = response.sock
    return (
        response.response_length is None
        and response.req.method != "HEAD"
        and not isinstance(sock, ssl.SSLSocket)
        and not os.get_blocking(sock.fileno())
    )


def fits(config: Any) -> bool:
    """Whether gunicorn's response is as ``Wire`` expects; tried on one that goes nowhere."""
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
