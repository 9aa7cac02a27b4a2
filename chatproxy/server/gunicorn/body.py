"""The body of a request, plain or chunked: what has come of it, and how much of that is framing.

gunicorn decodes the body (its length, or the chunked coding); the application reads it through a
``RequestBody``, piece by piece, most of the time after all of it has come. Rules:

* A read of the socket is at most a piece, so that gunicorn's parser never holds the event loop for
  long: 64 KiB, or 4 KiB in the chunked coding, every byte of which is parsed.
* A chunked body may not be mostly sizes, extensions and trailers.
* What has come and waits for the application is counted over all bodies of a worker
  (``BodyMemory``). If it is too much, the body that holds the most of those that still come is
  given up. So one that comes slowly is given up only beside many that are as large, and one that
  came in a single piece never is.
* A body that the application leaves unread is read on only if at most ``MOST_UNREAD_BYTES`` are
  missing. The length of a chunked one is not known, so it is not read on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from operator import attrgetter
from typing import Any

#: The most that is read at once: of a body, and of one in the chunked coding.
PIECE = 64 * 1024
_CHUNKED_PIECE = 4 * 1024
#: Bytes that a chunked body may have beside twice its data: sizes, extensions and trailers.
_MOST_OVERHEAD = 16 * 1024
#: Bytes of a body that are read though the application has not read them, to keep the connection.
MOST_UNREAD_BYTES = 64 * 1024


class BodyMemory:
    """Bounds what the bodies of a worker hold that waits for the application.

    :param most: in bytes; what came in a single piece may exceed it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        #: Those that hold something, and whose rest is awaited before the application is called.
        self._coming: set[RequestBody] = set()

    def hold(self, body: RequestBody, size: int) -> None:
        """Note that so much more of a body has come; give one up if that is too much."""
        self._held += size
        body.waiting += size
        if not body.ended:
            self._coming.add(body)
        if self._held > self._most and self._coming:
            max(self._coming, key=attrgetter("waiting")).give_up()

    def release(self, body: RequestBody, size: int) -> None:
        """Note that so much of a body waits no longer."""
        self._held -= size
        body.waiting -= size

    def hand_on(self, body: RequestBody) -> None:
        """Note that the rest of a body is the application's to wait for."""
        self._coming.discard(body)


class RequestBody(io.RawIOBase):
    """The body of one request.

    :param body: gunicorn's.
    :param length: its Content-Length; None in the chunked coding.
    :param memory: counts what waits here.
    """

    __slots__ = (
        *("_body", "_delivered", "_failure", "_length", "_memory", "_pieces", "ended", "on_end"),
        *("on_give_up", "piece", "received", "waiting"),
    )

    def __init__(self, body: Any, length: int | None, memory: BodyMemory) -> None:
        super().__init__()
        #: Called when all of it has come.
        self.on_end: Callable[[], None] | None = None
        #: Called if it is given up.
        self.on_give_up: Callable[[], None] | None = None
        self._body = body
        self._length = length
        self._memory = memory
        self._delivered = 0
        #: What waits, once it is read ahead; the next one last.
        self._pieces: list[memoryview] = []
        self._failure: Exception | None = None
        #: Bytes that have come and wait for the application; kept by ``memory``.
        self.waiting = 0
        #: Bytes received for it, overhead included, without those that came with the head.
        self.received = 0
        self.ended = False
        self.piece = _CHUNKED_PIECE if length is None else PIECE

    def readable(self) -> bool:
        """Return that it can be read, as ``io`` asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next piece into ``buffer``; return its size, which is 0 at the end."""
        if not self._pieces:
            data = self._next(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        piece = self._pieces.pop()
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        if size < len(piece):
            self._pieces.append(piece[size:])
        self._memory.release(self, size)
        return size

    def read_ahead(self, most: int) -> None:
        """Wait for all of it, or for ``most`` bytes; an error is raised for the reader."""
        try:
            while not self.ended and self.waiting < most:
                if data := self._next(most):  # an empty piece would be the end for the reader
                    self._pieces.append(memoryview(data))
                    self._memory.hold(self, len(data))
        except Exception as error:
            self._failure = error
        finally:
            self._pieces.reverse()
            self._memory.hand_on(self)

    def fail(self, failure: Exception) -> None:
        """Have this raised for the reader instead of the end."""
        self._failure = failure

    def give_up(self) -> None:
        """Drop what has come of it, and wait for no more, to make room for others."""
        self._failure = ConnectionAbortedError("The body has made room for others.")
        self._memory.hand_on(self)
        self.drop()
        if self.on_give_up is not None:
            self.on_give_up()

    def drop(self) -> None:
        """Forget what has come and was not read."""
        self._pieces.clear()
        self._memory.release(self, self.waiting)

    def may_be_within(self, most: int) -> bool:
        """Whether it can have ``most`` bytes or fewer, as far as is known."""
        return self._length is None or self._length <= most

    def _next(self, size: int) -> bytes:
        self._check()
        if self.ended:
            return b""
        data: bytes = self._body.read(min(size, self.piece))
        self._check()  # it may have been given up meanwhile
        self._delivered += len(data)
        if not data or self._delivered == self._length:
            self.ended = True
            if self.on_end is not None:
                self.on_end()
        return data

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

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


def body_of(request: Any, memory: BodyMemory) -> RequestBody | None:
    """The body of a request whose head gunicorn has parsed; None if it has none."""
    length = 0
    for name, value in request.headers:
        if name == "TRANSFER-ENCODING":
            return RequestBody(request.body, None, memory)
        if name == "CONTENT-LENGTH":
            length = int(value)
    return RequestBody(request.body, length, memory) if length else None
