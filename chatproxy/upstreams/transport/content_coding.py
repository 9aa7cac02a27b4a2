"""Content codings of a body (gzip, deflate), taken off one bounded piece at a time. No I/O.

None is asked for, as a compressed stream arrives in lumps; but some send one all the same.
"""

from __future__ import annotations

import zlib

from .http1 import Malformed

#: The most bytes that are inflated at once, and that are read from a socket at once. Chunks of a
#: byte each fill 2 ms with that.
PIECE_BYTES = 16 * 1024
#: How much more may come out of a compressed body than is in it, beyond the first megabyte. JSON
#: in events shrinks to a twentieth. What shrinks to a hundredth is made to keep its reader busy.
_MOST_INFLATION = 100
_INFLATED_FREELY = 1 << 20


class Inflater:
    """Takes gzip or deflate off a stream of bytes.

    :param coding: gzip or deflate (RFC 9110, section 8.4.1).
    """

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._stream: zlib._Decompress | None = None
        self._rest = b""  # has come and is not inflated yet
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
            self._stream = self._stream_of(data)  # gzip may have several, one after the other
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
