"""The body of DeepSeek's answer: off the socket in large pieces, out of its transfer coding.

``http.client`` reads a body chunk by chunk, with four calls to a buffered file for each. An event
of an answer is a chunk of its own, so here everything that has come is taken at once, and decoded
in one go. Nothing here waits but ``socket.recv``, and that only where the socket blocks.

The chunked coding is RFC 9112, section 7.1. Extensions of chunks and trailers are dropped.
"""

from __future__ import annotations

import functools
import http.client
import socket

_READ_BYTES = 64 * 1024
#: The longest line with the size of a chunk, or of a trailer, and the longest number in it.
_LINE_BYTES = 4096
_SIZE_DIGITS = 15
_MOST_TRAILERS = 100
_HEXADECIMAL = b"0123456789abcdefABCDEF"
_LINE_END = b"\r\n"


class ChunkDecoder:
    """Takes the chunked coding off a stream of bytes, whatever the pieces in which it comes."""

    def __init__(self) -> None:
        self._rest = b""  # of a line that has not ended yet
        self._left = 0  # bytes of the present chunk that are to come, with the CRLF after it
        self._trailers = 0  # how many may still come, once the last chunk has
        #: Whether all of the body has come.
        self.ended = False
        #: Whether something came after it.
        self.exceeded = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what they are without the coding.

        :raises http.client.HTTPException: where this is not the chunked coding.
        """
        found: list[bytes] = []
        begin = 0
        if self._rest:
            data, self._rest = self._rest + data, b""
        while begin < len(data) and not self.ended:
            if self._left:
                begin = self._take_part(data, begin, found)
                continue
            end = data.find(_LINE_END, begin)
            if end < 0:
                self._keep(data[begin:])
                break
            line, begin = data[begin:end], end + 2
            if self._trailers:
                self._take_trailer(line)
                continue
            size = _size_of(line)
            end = begin + size
            if size and data[end : end + 2] == _LINE_END:  # as nearly always: the chunk is whole
                found.append(data[begin:end])
                begin = end + 2
            else:
                self._left = size and size + 2
                self._trailers = 0 if size else _MOST_TRAILERS
        self.exceeded = self.ended and begin < len(data)
        return found[0] if len(found) == 1 else b"".join(found)

    def _take_part(self, data: bytes, begin: int, found: list[bytes]) -> int:
        end = begin + self._left
        # The last two are CRLF, which may have come in part, now or before.
        end_of_piece = max(begin, end - 2)
        if piece := data[begin:end_of_piece]:
            found.append(piece)
        if not _LINE_END[-self._left :].startswith(data[end_of_piece:end]):
            raise http.client.HTTPException("A chunk is longer than its size.")
        reached = min(end, len(data))
        self._left = end - reached
        return reached

    def _take_trailer(self, line: bytes) -> None:
        if len(line) > _LINE_BYTES:
            raise http.client.LineTooLong("trailer")
        self.ended = not line
        self._trailers -= 1
        if not (self.ended or self._trailers):
            raise http.client.HTTPException("There are too many trailers.")

    def _keep(self, rest: bytes) -> None:
        if len(rest) > _LINE_BYTES + 1:  # the one may be half of its end
            raise http.client.LineTooLong("chunk")
        self._rest = rest


@functools.lru_cache(maxsize=1024)  # the chunks of an answer are of much the same sizes
def _size_of(line: bytes) -> int:
    """The size in the line before a chunk."""
    if len(line) > _LINE_BYTES:
        raise http.client.LineTooLong("chunk")
    size = line.partition(b";")[0].strip()
    if not 0 < len(size) <= _SIZE_DIGITS or size.strip(_HEXADECIMAL):
        raise http.client.HTTPException("A chunk has no size.")
    return int(size, 16)


class Body(http.client.HTTPResponse):
    """An answer of which the head is read as usual, and the body by ``receive``."""

    def __init__(self, sock: socket.socket, method: str | None = None) -> None:
        super().__init__(sock, method=method)
        self.socket = sock
        self._decoder = ChunkDecoder()
        self._begun = False
        self._exceeded = False

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return self._decoder.ended if self.chunked else self.length == 0

    @property
    def reusable(self) -> bool:
        """Whether all of it has come, and nothing else, so that its connection is in order."""
        exceeded = self._exceeded or self._decoder.exceeded
        # What may have come with the head is looked at only where there is a body.
        return self.complete and self._begun and not exceeded

    def receive(self) -> bytes:
        """What has come, without its transfer coding; b"" where all of it has.

        :raises BlockingIOError: where there is nothing yet and the socket does not block;
            ``ssl.SSLWantReadError`` with TLS.
        :raises OSError: where the connection broke.
        :raises http.client.HTTPException: where it ended too early, or is not HTTP.
        """
        while not self.complete:
            data = self.socket.recv(_READ_BYTES) if self._begun else self._take_first()
            if not data:
                if self.chunked or self.length:
                    raise http.client.IncompleteRead(b"")
                self.length = 0
            elif piece := self._decoder.feed(data) if self.chunked else self._cut(data):
                return piece
        return b""

    def _take_first(self) -> bytes:
        """What came together with the head; that may be nothing, if the socket does not block."""
        self._begun = True
        try:
            rest: bytes = self.fp.read1(_READ_BYTES)
        finally:
            if not self.will_close:  # else it is what keeps the socket open
                self.close()  # not needed any more, and a large part of a stream's memory
        return rest or self.socket.recv(_READ_BYTES)

    def _cut(self, data: bytes) -> bytes:
        if self.length is not None:
            self._exceeded = len(data) > self.length
            data = data[: self.length]
            self.length -= len(data)
        return data
