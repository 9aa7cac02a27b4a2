"""The body of a request, plain or chunked: how much has come, and how much of that is framing.

gunicorn decodes the body (its length, or the chunked coding); the application reads it through a
``RequestBody``, piece by piece. Rules:

* A read of the socket is at most a piece, so that gunicorn's parser never holds the event loop for
  long: 64 KiB, or 4 KiB in the chunked coding, every byte of which is parsed.
* A chunked body may not be mostly sizes, extensions and trailers.
* A body that the application leaves unread is read on only if at most ``MOST_UNREAD_BYTES`` are
  missing. The length of a chunked one is not known, so it is not read on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

#: The most that is read at once: of a body, and of one in the chunked coding.
PIECE = 64 * 1024
_CHUNKED_PIECE = 4 * 1024
#: Bytes that a chunked body may have beside twice its data: sizes, extensions and trailers.
_MOST_OVERHEAD = 16 * 1024
#: Bytes of a body that are read though the application has not read them, to keep the connection.
MOST_UNREAD_BYTES = 64 * 1024


class RequestBody(io.RawIOBase):
    """The body of one request.

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
        #: Bytes received for it, overhead included, without those that came with the head.
        self.received = 0
        self.ended = False
        self.piece = _CHUNKED_PIECE if length is None else PIECE

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
        """Wait for the first ``most`` bytes, or for all; an error is raised for the reader."""
        try:
            while not self.ended and len(self._ahead) < most:
                self._ahead += self._next(most)
        except Exception as error:
            self._failure = error

    def fail(self, failure: Exception) -> None:
        """Have this raised for the reader instead of the end."""
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
        """Whether more is missing than is worth reading only to keep the connection."""
        if self._length is None:
            return not self.ended
        return self._length - self._delivered > MOST_UNREAD_BYTES

    @property
    def is_mostly_overhead(self) -> bool:
        """Whether it has too much of the chunked coding around too little data."""
        # gunicorn holds less than a piece that it has decoded and not delivered yet.
        data = self._delivered + self.piece
        return self._length is None and self.received > _MOST_OVERHEAD + 2 * data


def body_of(request: Any) -> RequestBody | None:
    """The body of a request whose head gunicorn has parsed; None if it has none."""
    length = 0
    for name, value in request.headers:
        if name == "TRANSFER-ENCODING":
            return RequestBody(request.body, None)
        if name == "CONTENT-LENGTH":
            length = int(value)
    return RequestBody(request.body, length) if length else None
