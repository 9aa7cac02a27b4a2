"""A response on its connection: read from the socket in pieces, and freed of its codings.

``http.client`` reads a response through a buffered file, a head line by line and a body chunk by
chunk, with four calls for each. Here an event of an answer is a chunk of its own, so all that has
come is taken at once, and decoded in one go. The way of a byte:

    socket ─▶ _over ─▶ transfer coding ─▶ content coding ─▶ _held ─▶ receive()
              (came with   (http1)        (content_coding)   (more lines than
              the head)                                      fit into one piece)

``receive_coded`` goes as far as the transfer coding, ``receive`` all the way. ``begin`` reads the
head, ``read_head`` a part of it.

* What was read from the socket is in this object or was given out. So it is known whether anything
  came after the response, and the next response on the connection can't begin with it.
* Each call of ``receive`` reads from the socket once at the most, and does a bounded amount of
  work, whatever was sent: it inflates one piece, and gives out few lines.
* What came before a fault is given out before the fault is raised, no matter how the two were cut:
  whether an answer is whole by then must not depend on that.
* Nothing waits but ``socket.recv``, and only if the socket blocks.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable

from urllib3 import HTTPHeaderDict

from ...answers.coroutines import A_TURN
from .content_coding import PIECE_BYTES, Inflater
from .http1 import ChunkDecoder, HeadParser, Malformed

#: About so many lines are given out at once, since each may be an event.
_MOST_LINES = 500
#: A piece of this size can't hold too many lines.
_SMALL = 1024


class Response:
    """A response, with the attributes of urllib3's that are read before a body is.

    :param method: of the request that it answers.
    """

    __slots__ = (
        *("_decoder", "_fault", "_held", "_inflater", "_left", "_over", "_parser", "_persists"),
        *("_without_body", "begun", "give_back", "headers", "reason", "socket", "status", "taken"),
        *("unknown_coding", "version"),
    )

    #: 10 for HTTP/1.0, 11 for HTTP/1.1.
    version: int
    status: int
    reason: str
    headers: HTTPHeaderDict

    def __init__(self, sock: socket.socket, method: str | None = None) -> None:
        self.socket = sock
        #: How many bytes of the body have been read from the socket.
        self.taken = 0
        #: Whether the head has come, and so ``status`` and ``headers`` are there.
        self.begun = False
        self._without_body = method in ("HEAD", "CONNECT")
        self._parser = HeadParser()
        self._over = b""  # not decoded: it came with the head, or after the end
        self._held = b""  # decoded, and not given out yet
        self._fault: Malformed | None = None  # to be raised when the rest has been given out
        self._decoder: ChunkDecoder | None = None
        self._left: int | None = 0  # bytes that are to come; None for all until the close
        self._persists = False
        self._inflater: Inflater | None = None
        #: The content coding, if it is one that can't be taken off.
        self.unknown_coding = ""
        #: Gives the connection back to its pool; None if it has none, or has been given back.
        self.give_back: Callable[[], None] | None = None

    def begin(self) -> None:
        """Wait for the head, on a socket that blocks. Errors are as in ``read_head``."""
        while not (self.begun or self.read_head()):
            time.sleep(A_TURN)  # gevent's recv lets nobody else run while there is something

    def read_head(self) -> bool:
        """Read from the socket once; return whether the head has come.

        :raises BlockingIOError: as in ``receive``.
        :raises http.client.RemoteDisconnected: if the connection ends before anything came.
        :raises Malformed: if what comes is no response.
        :raises OSError: if the connection breaks.
        """
        parser = self._parser
        head = parser.feed(self._more_of_the_head(parser))
        if head is None:
            return False
        self.begun = True
        del self._parser  # the stream may last for long
        self._over = parser.rest
        self.version, self.status, self.reason = 10 + min(head.version, 1), head.status, head.reason
        self.headers = HTTPHeaderDict(head.fields)
        chunked, self._left, self._persists = head.framing(without_body=self._without_body)
        if chunked:
            self._decoder = ChunkDecoder()
        coding = ", ".join(head.values("content-encoding"))
        if coding in ("gzip", "x-gzip", "deflate"):
            self._inflater = Inflater(coding)
        elif coding != "identity":
            self.unknown_coding = coding
        return True

    def _more_of_the_head(self, parser: HeadParser) -> bytes:
        data = self.socket.recv(PIECE_BYTES)
        if not data:
            if parser.begun:
                raise Malformed("The connection ended amid the head of a response.")
            raise http.client.RemoteDisconnected("The connection ended before a response.")
        return data

    @property
    def received(self) -> bool:
        """Whether all of it has come from the socket."""
        return self._left == 0 if self._decoder is None else self._decoder.ended

    @property
    def complete(self) -> bool:
        """Whether all of it has been given out."""
        return self.received and not self.holds_some()

    def holds_some(self) -> bool:
        """Whether ``receive`` can give more without a read from the socket."""
        return bool(
            self._held
            or self._fault
            or (self._inflater is not None and (self._inflater.has_more or self._is_cut))
            or (self._over and not self.received)
        )

    @property
    def _is_cut(self) -> bool:
        """Whether all has come, and the content coding has not ended with it."""
        return self.received and self._inflater is not None and self._inflater.open

    @property
    def reusable(self) -> bool:
        """Whether its connection may be used again: all of it has come, and nothing else."""
        return self._persists and self.received and not self.exceeded

    @property
    def exceeded(self) -> bool:
        """Whether something came after it; to be asked once all of it is ``received``."""
        return bool(self._over) or (self._decoder is not None and self._decoder.exceeded)

    def receive(self) -> bytes:
        """The next piece, without its codings. It may be empty before the end, too.

        :raises BlockingIOError: if nothing has come and the socket does not block; with TLS it is
            ``ssl.SSLWantReadError``.
        :raises OSError: if the connection broke.
        :raises http.client.HTTPException: if it ended too early, or is not HTTP.
        """
        if not self._held:
            piece = self._inflate() if self._inflater is not None else self.receive_coded()
            if len(piece) <= _SMALL:
                return piece
            self._held = piece
        count = _portion_of(self._held)
        piece, self._held = self._held[:count], self._held[count:]
        return piece

    def decoded(self, data: bytes) -> bytes:
        """The first bytes of this body without their content coding; none if that is unknown."""
        if self.unknown_coding:
            return b""
        return data if self._inflater is None else self._inflater.feed(data)

    def receive_coded(self) -> bytes:
        """The next piece, as it came but for the transfer coding. Errors are as in ``receive``."""
        if self._fault is not None:
            raise self._fault
        if self.received:
            return b""
        data, self._over = self._over, b""
        if not data:
            data = self.socket.recv(PIECE_BYTES)
        self.taken += len(data)
        if not data:
            if self._decoder is not None or self._left:
                raise http.client.IncompleteRead(b"", self._left)
            self._left = 0
        elif self._decoder is not None:
            data = self._decode(self._decoder, data)
        elif self._left is not None:
            self._over = data[self._left :]
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _decode(self, decoder: ChunkDecoder, data: bytes) -> bytes:
        try:
            return decoder.feed(data)
        except Malformed as fault:
            if not fault.found:
                raise
            self._fault = fault
            return fault.found

    def _inflate(self) -> bytes:
        inflater = self._inflater
        assert inflater is not None
        piece = inflater.feed(b"" if inflater.has_more else self.receive_coded())
        if self._is_cut and not (piece or inflater.has_more):
            raise http.client.IncompleteRead(b"")
        return piece

    def close(self) -> None:
        """Give the connection back to its pool, which decides what becomes of it."""
        give_back, self.give_back = self.give_back, None  # it refers to this response
        if give_back is not None:
            give_back()


def _portion_of(data: bytes) -> int:
    """How many of these bytes have few enough lines."""
    lines = data.count(b"\n") + data.count(b"\r")
    return len(data) if lines <= _MOST_LINES else len(data) * _MOST_LINES // lines
