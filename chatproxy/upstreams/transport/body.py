"""A response on its connection: off the socket in pieces, and out of its codings.

``http.client`` reads a response through a buffered file, a head line by line and a body chunk by
chunk, with four calls for each. An event of an answer is a chunk of its own, so here all that has
come is taken at once, and decoded in one go. Rules:

* What was read from the socket is here or was given out, and nowhere else. So it is known whether
  anything came after the response, and the next one on the connection can't begin with it.
* Each call of ``receive`` reads from the socket once at the most, and does a bounded amount of
  work, whatever was sent: it inflates one piece, and gives out few lines.
* What came before a fault is given out before the fault is raised, however the two were cut: an
  answer that is whole by then must not depend on that.
* Nothing waits but ``socket.recv``, and only if the socket blocks.
"""

from __future__ import annotations

import http.client
import socket
import time
import zlib

from urllib3 import HTTPHeaderDict

from .http1 import ChunkDecoder, HeadParser, Malformed

#: What is read from a socket, and inflated, at once. Chunks of a byte each fill 2 ms with that.
PIECE_BYTES = 16 * 1024
#: About as many lines are given out at once, as each may be an event.
_MOST_LINES = 500
#: Up to this size a piece can't hold too many.
_SMALL = 1024
#: How much more may come out of a compressed body than is in it, beyond the first megabyte. JSON
#: in events shrinks to a twentieth; what shrinks to a hundredth is made to keep its reader busy.
_MOST_INFLATION = 100
_INFLATED_FREELY = 1 << 20
#: Seconds that end with a turn of gevent's event loop; ``sleep(0)`` does not always.
A_TURN = 1e-6


class Inflater:
    """Takes the content coding off a stream of bytes, one bounded piece at a time.

    :param coding: gzip or deflate (RFC 9110, section 8.4.1).
    """

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._stream: zlib._Decompress | None = None
        self._rest = b""  # what has come and is not inflated
        self._came = 0
        self._made = 0
        #: Whether there may be another piece without further input.
        self.has_more = False

    @property
    def open(self) -> bool:
        """Whether something has begun and not ended."""
        return self._stream is not None and not self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, which may be none; return the next piece, which may be empty.

        :raises Malformed: if this is not the coding, or grows beyond reason.
        """
        self._came += len(data)
        data = self._rest + data
        if not (data or self.has_more):
            return b""
        if not self.open:
            self._stream = self._stream_of(data)  # in gzip there may be several, one by one
        assert self._stream is not None
        try:
            piece = self._stream.decompress(data, PIECE_BYTES)
        except zlib.error:
            raise Malformed("The body of the response can't be inflated.") from None
        self._rest = self._stream.unused_data or self._stream.unconsumed_tail
        self.has_more = bool(self._rest) or (self.open and len(piece) == PIECE_BYTES)
        self._made += len(piece)
        if self._made > _INFLATED_FREELY + _MOST_INFLATION * self._came:
            raise Malformed("The body of the response inflates beyond reason.")
        return piece

    def _stream_of(self, data: bytes) -> zlib._Decompress:
        if self._gzip:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # "deflate" is zlib's format, but is often sent without its header. In that, the lower
        # half of the first byte is 8 (RFC 1950, section 2.2), with which no block begins.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 15 == 8 else -zlib.MAX_WBITS)


class Body:
    """A response, as ``http.client`` and urllib3 expect it of their own class.

    Its attributes are those of ``http.client.HTTPResponse`` as far as they are read.

    :param method: of the request that it answers.
    """

    #: Said to ``http.client``, which must not close the connection: the pool decides.
    will_close = False

    def __init__(self, sock: socket.socket, method: str | None = None) -> None:
        self.socket = sock
        #: Bytes that were read from the socket for it.
        self.taken = 0
        self._without_body = method in ("HEAD", "CONNECT")
        self._over = b""  # what came with the head, or is left after the end
        self._held = b""  # what has come and is decoded, and is not given out
        self._fault: Malformed | None = None  # what came after what is given out
        self._decoder: ChunkDecoder | None = None
        self._left: int | None = 0  # bytes that are to come; None for all up to the end
        self._persists = False
        self._inflater: Inflater | None = None
        #: The content coding, if it is one that can't be taken off.
        self.unknown_coding = ""
        self._closed = False

    def begin(self) -> None:
        """Read the head; wait for it if the socket blocks.

        :raises http.client.RemoteDisconnected: if the connection ends before anything came.
        :raises Malformed: if what comes is no response.
        :raises OSError: if the connection breaks.
        """
        parser = HeadParser()
        while (head := parser.feed(self._more_of_the_head(parser))) is None:
            time.sleep(A_TURN)  # gevent's recv lets nobody else run while there is something
        self._over = parser.rest
        self.version, self.status, self.reason = 10 + min(head.version, 1), head.status, head.reason
        self.msg = HTTPHeaderDict(head.fields)
        chunked, self._left, self._persists = head.framing(without_body=self._without_body)
        if chunked:
            self._decoder = ChunkDecoder()
        coding = ", ".join(head.values("content-encoding"))
        if coding in ("gzip", "x-gzip", "deflate"):
            self._inflater = Inflater(coding)
        elif coding != "identity":
            self.unknown_coding = coding

    def _more_of_the_head(self, parser: HeadParser) -> bytes:
        data = self.socket.recv(PIECE_BYTES)
        if not data:
            if parser.begun:
                raise Malformed("The connection ended amid the head of a response.")
            raise http.client.RemoteDisconnected("The connection ended before a response.")
        return data

    @property
    def chunked(self) -> bool:
        """As ``http.client`` has it, for what watches that: Sentry looks at each response."""
        return self._decoder is not None

    @property
    def length(self) -> int | None:
        """Bytes that are to come; None if that is not known."""
        return None if self.chunked else self._left

    @property
    def received(self) -> bool:
        """Whether all of it has come from the socket."""
        return self._left == 0 if self._decoder is None else self._decoder.ended

    @property
    def complete(self) -> bool:
        """Whether all of it has been given out."""
        return self.received and not self.holds_some()

    def holds_some(self) -> bool:
        """Whether more of it may be had without a read from the socket."""
        return bool(
            self._held
            or self._fault
            or (self._inflater is not None and (self._inflater.has_more or self._is_cut))
            or (self._over and not self.received)
        )

    @property
    def _is_cut(self) -> bool:
        """Whether all has come, and the content coding has not ended by that."""
        return self.received and self._inflater is not None and self._inflater.open

    @property
    def reusable(self) -> bool:
        """Whether all of it has come, and nothing else, so that its connection is in order."""
        return self._persists and self.received and not self.exceeded

    @property
    def exceeded(self) -> bool:
        """Whether something came after its end, where that has come."""
        return bool(self._over) or (self._decoder is not None and self._decoder.exceeded)

    def receive(self) -> bytes:
        """The next piece, without its codings. It may be empty, also before the end.

        :raises BlockingIOError: if there is nothing yet and the socket does not block;
            ``ssl.SSLWantReadError`` with TLS.
        :raises OSError: if the connection broke.
        :raises http.client.HTTPException: if it ended too early, or is not HTTP.
        """
        if not self._held:
            piece = self._inflate() if self._inflater is not None else self.receive_coded()
            if len(piece) <= _SMALL:
                return piece
            self._held = piece
        return self._give(_portion_of(self._held))

    def decoded(self, data: bytes) -> bytes:
        """The first bytes of this without the content coding; none if that is not known."""
        if self.unknown_coding:
            return b""
        return data if self._inflater is None else self._inflater.feed(data)

    def receive_coded(self) -> bytes:
        """The same with its content coding, and in no other piece than it came."""
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

    def _give(self, count: int) -> bytes:
        piece, self._held = self._held[:count], self._held[count:]
        return piece

    # --- for urllib3, if somebody reads by way of it

    def read(self, amount: int | None = None) -> bytes:
        """So many bytes, or all, with their content coding; wait for them."""
        while not self.received and (amount is None or len(self._held) < amount):
            self._held += self.receive_coded()
            time.sleep(A_TURN)
        data = self._give(len(self._held) if amount is None else amount)
        if self.complete:
            self.close()
        return data

    def read1(self, amount: int = PIECE_BYTES) -> bytes:
        """Up to so many bytes, with their content coding; wait for the first."""
        return self.read(1) + self._give(amount - 1)

    def close(self) -> None:
        """Read no more. The connection is the pool's business."""
        self._closed = True

    def isclosed(self) -> bool:
        """Whether it was closed; then urllib3 gives the connection back."""
        return self._closed


def _portion_of(data: bytes) -> int:
    """How many bytes of these have few enough lines."""
    lines = data.count(b"\n") + data.count(b"\r")
    return len(data) if lines <= _MOST_LINES else len(data) * _MOST_LINES // lines
