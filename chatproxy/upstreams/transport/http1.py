"""HTTP/1.1 as a client reads it (RFC 9112): heads of responses, and the chunked coding. No I/O.

Bytes go in, in whatever pieces they come; what they say comes out. ``HeadParser`` finds the head,
``Head.framing`` says where the body ends, and ``ChunkDecoder`` takes the chunked coding off it.
Rules:

* An interim response (1xx) is skipped, however many come (RFC 9110, section 15.2). A 101 is
  refused: it answers a request to change the protocol, and no such request is made.
* What could be read in two ways is refused, because bytes of the body could be taken for the next
  response: a length beside a transfer coding, lengths that differ, any coding but *chunked*
  (section 6.3).
* Nothing grows without bound. There is a limit for all heads of a response together, for a line of
  the chunked coding, and for the number of trailers.
* Header lines may end with a bare line feed, and may be folded (sections 2.2 and 5.2). Extensions
  of chunks, and trailers, are dropped (section 7.1).
"""

from __future__ import annotations

import functools
import http.client
import re
from typing import NamedTuple

#: The most bytes of all heads of one response: its own and those of its interim responses.
MOST_HEAD_BYTES = 64 * 1024
_MOST_FIELDS = 100
#: The longest line with the size of a chunk, or of a trailer, and the longest number in it.
_LINE_BYTES = 4096
_SIZE_DIGITS = 15
_MOST_TRAILERS = 100
_HEXADECIMAL = b"0123456789abcdefABCDEF"
_LINE_END = b"\r\n"

_START = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([^\r\0]*))?\r?")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_VALUE = re.compile(rb"[\r\0]")
_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = frozenset({204, 304})


class Malformed(http.client.HTTPException):
    """What came is not HTTP/1.x, or can be read in two ways. The text is one sentence."""

    #: What had been decoded and not returned yet when this was noticed.
    found = b""


class Framing(NamedTuple):
    """Where the body of a response ends (RFC 9112, section 6.3).

    :param chunked: whether the chunked coding says it.
    :param length: in bytes; None if it is chunked, or ends when the connection does.
    :param persists: whether the connection may be used again after it (section 9.3).
    """

    chunked: bool
    length: int | None
    persists: bool


class Head(NamedTuple):
    """The head of a final response.

    :param version: the minor version: 0 of HTTP/1.0, 1 of HTTP/1.1.
    :param fields: the header's names and values, in order, as they came.
    """

    version: int
    status: int
    reason: str
    fields: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """The elements of the list that all fields of this name make (RFC 9110, section 5.3).

        They are in lower case.

        :param name: in lower case.
        """
        lines = [value for field, value in self.fields if field.lower() == name]
        return [each.strip().lower() for line in lines for each in line.split(",")]

    def framing(self, *, without_body: bool = False) -> Framing:
        """Where the body ends.

        :param without_body: whether the method of the request rules a body out (section 6.3).
        :raises Malformed: if the head is wrong about it, or says two things.
        """
        codings, lengths = self.values("transfer-encoding"), self.values("content-length")
        persists = self.version > 0 and "close" not in self.values("connection")
        if without_body or self.status in _WITHOUT_BODY:
            return Framing(False, 0, persists and not (codings or lengths))
        if codings and lengths:
            raise Malformed("The response has both a length and a transfer coding.")
        if codings:
            if codings != ["chunked"]:
                raise Malformed("The response has a transfer coding that is not just chunked.")
            return Framing(True, None, persists)
        if not lengths:
            return Framing(False, None, False)
        return Framing(False, _length_of(lengths), persists)


def _length_of(said: list[str]) -> int:
    length = said[0]
    if set(said) != {length} or not (length.isascii() and length.isdigit()) or len(length) > 15:
        raise Malformed("The length of the response is not one number.")
    return int(length)


class HeadParser:
    """Finds the head of the final response to a request, after those of any interim ones."""

    def __init__(self) -> None:
        self._data = b""
        self._passed = 0  # bytes of the interim responses
        self._searched = 0  # so many bytes of the data hold no beginning of a head's end

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._data or self._passed)

    @property
    def rest(self) -> bytes:
        """What came after the head, once that is whole."""
        return self._data

    def feed(self, data: bytes) -> Head | None:
        """Take the next bytes; return the head of the final response once it is whole.

        :raises Malformed: if it is not a head of HTTP/1.x, or too long.
        """
        self._data += data
        while (end := _END_OF_HEAD.search(self._data, self._searched)) is not None:
            head, self._data = self._data[: end.start()], self._data[end.end() :]
            self._searched = 0
            self._passed += end.end()
            self._check_size(self._passed)
            line, _, lines = head.partition(b"\n")
            version, status, reason = _status_of(line)
            if status >= 200:
                return Head(version, status, reason, _fields_of(lines))
        if self._data[: len(_START)] != _START[: len(self._data)]:
            raise Malformed("What came is not a response of HTTP/1.x.")
        self._check_size(self._passed + len(self._data))
        self._searched = max(0, len(self._data) - 3)  # the end has up to 4 bytes
        return None

    @staticmethod
    def _check_size(size: int) -> None:
        if size > MOST_HEAD_BYTES:
            raise Malformed(f"The response has heads of more than {MOST_HEAD_BYTES} bytes.")


def _status_of(line: bytes) -> tuple[int, int, str]:
    if (found := _STATUS_LINE.fullmatch(line)) is None:
        raise Malformed("The response has no status line of HTTP/1.x.")
    version, status, reason = found.groups(b"")
    if int(status) == _SWITCHING_PROTOCOLS:
        raise Malformed("The response changes to a protocol that was not asked for.")
    return int(version), int(status), reason.decode("latin-1").strip()


def _fields_of(lines: bytes) -> list[tuple[str, str]]:
    if not lines:
        return []
    if b"\n " in lines or b"\n\t" in lines:
        lines = _FOLD.sub(b" ", lines)
    split = lines.split(b"\n")
    if len(split) > _MOST_FIELDS:
        raise Malformed(f"The response has more than {_MOST_FIELDS} header lines.")
    return [_field_of(line) for line in split]


def _field_of(line: bytes) -> tuple[str, str]:
    name, colon, value = line.removesuffix(b"\r").partition(b":")
    if not (colon and _NAME.fullmatch(name)) or _NOT_IN_A_VALUE.search(value):
        raise Malformed("The response has a malformed header line.")
    return name.decode("ascii"), value.strip(b" \t").decode("latin-1")


class ChunkDecoder:
    """Takes the chunked coding off a stream of bytes, whatever the pieces in which it comes."""

    __slots__ = ("_left", "_rest", "_trailers", "ended", "exceeded")

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a line that has not ended yet
        self._left = 0  # bytes of the present chunk, and of the CRLF after it, that are to come
        self._trailers = 0  # how many may still come; 0 until the last chunk has
        #: Whether all of the body has come.
        self.ended = False
        #: Whether something came after it.
        self.exceeded = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what they are without the coding.

        :raises Malformed: if this is not the chunked coding. What was decoded before is ``found``.
        """
        found: list[bytes] = []
        try:
            self._take(data, found)
        except Malformed as fault:
            fault.found = b"".join(found)
            raise
        return found[0] if len(found) == 1 else b"".join(found)

    def _take(self, data: bytes, found: list[bytes]) -> None:
        begin = 0
        if self._rest:
            data, self._rest = self._rest + data, b""
        while begin < len(data) and not self.ended:
            if self._left:
                begin = self._take_part(data, begin, found)
                continue
            end = data.find(_LINE_END, begin)
            if end < 0:
                if len(data) - begin > _LINE_BYTES + 1:  # the last may be the CR of its end
                    raise Malformed("The line before a chunk is too long.")
                self._rest = data[begin:]
                break
            line, begin = data[begin:end], end + 2
            if self._trailers:
                self._take_trailer(line)
                continue
            size = _size_of(line)
            end = begin + size
            if size and data[end : end + 2] == _LINE_END:  # nearly always the chunk is whole
                found.append(data[begin:end])
                begin = end + 2
            else:
                self._left = size and size + 2
                self._trailers = 0 if size else _MOST_TRAILERS
        self.exceeded = self.ended and begin < len(data)

    def _take_part(self, data: bytes, begin: int, found: list[bytes]) -> int:
        end = begin + self._left
        # The last two are CRLF, which may have come in part, now or before.
        end_of_piece = max(begin, end - 2)
        if piece := data[begin:end_of_piece]:
            found.append(piece)
        if not _LINE_END[-self._left :].startswith(data[end_of_piece:end]):
            raise Malformed("A chunk is longer than its size.")
        reached = min(end, len(data))
        self._left = end - reached
        return reached

    def _take_trailer(self, line: bytes) -> None:
        if len(line) > _LINE_BYTES:
            raise Malformed("A trailer is too long.")
        self.ended = not line
        self._trailers -= 1
        if not (self.ended or self._trailers):
            raise Malformed("There are too many trailers.")


@functools.lru_cache(maxsize=1024)  # the chunks of an answer are of much the same sizes
def _size_of(line: bytes) -> int:
    """The size in the line before a chunk."""
    if len(line) > _LINE_BYTES:
        raise Malformed("The line before a chunk is too long.")
    size = line.partition(b";")[0].strip()
    if not 0 < len(size) <= _SIZE_DIGITS or size.strip(_HEXADECIMAL):
        raise Malformed("A chunk has no size.")
    return int(size, 16)
