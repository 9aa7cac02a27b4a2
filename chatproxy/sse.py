"""Server-sent events: bytes in, blocks out; blocks in, bytes out. No I/O.

The format is the WHATWG HTML standard, section 9.2 (Server-sent events):

* Lines end with LF, CR or CRLF, and a CRLF may be split between two reads.
* A byte-order mark at the very start is dropped.
* A line that begins with a colon is a comment.
* An empty line ends an event. An event without a ``data`` field is no event at all. An event that
  the end of the stream cuts off is discarded; a caller that knows it to be whole feeds the line
  ends that it lacks.

A *block* is what is left of an event or a comment: its lines as they came, joined with LF, without
the empty line. ``b"data: {}"`` is an event, ``b": keep-alive"`` is a comment. Of an event the
``data`` and ``event`` lines are kept, byte for byte; ``id`` and ``retry`` belong to the connection
on which they came, and are dropped. Bytes are never decoded, so that what is not UTF-8 passes
as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .errors import UpstreamError

#: The longest event that is accepted, in bytes. DeepSeek's are below 1 KB, and those with
#: log-probabilities below 32 KB.
MAX_EVENT_BYTES = 256 * 1024

#: What DeepSeek sends as the last event of a whole answer.
DONE = b"data: [DONE]"

#: Comments of our own on the wire: DeepSeek has sent one, nothing came for a while, or the question
#: waits for its turn. A single line feed ends them: at an empty line openai-python and httpx-sse
#: would dispatch an event without data once they have seen an ``id``.
KEEP_ALIVE = b": keep-alive\n"
HEARTBEAT = b": heartbeat\n"
QUEUED = b": queued\n"

_DONE_BYTES = 64
_PENDING_BYTES = 4096
_STRAY_BYTES = 4096
_DROPPED = (b"id", b"retry")
_NOTHING = (b"", b"null")
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class Decoder:
    """Cuts a stream of bytes into blocks, whatever the pieces in which it comes."""

    __slots__ = (
        *("_after_cr", "_has_data", "_held", "_line", "_lines", "_open", "_start"),
        *("is_between_events", "names_events", "strays"),
    )

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of a line that has not ended yet
        self._open = 0  # bytes in them
        self._lines: list[bytes] = []  # the lines of an event that has not ended yet
        self._held = 0  # bytes in them
        self._has_data = False
        self._start: bytes | None = b""  # the first bytes, until it is clear if they are a BOM
        self._after_cr = False
        #: Whether all that has come has been given, and anything may follow.
        self.is_between_events = True
        #: Whether any event had a name.
        self.names_events = False
        #: The beginning of what has come and is no line of an event stream.
        self.strays = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next bytes; return the blocks that they complete, in order.

        :raises UpstreamError: if an event grows beyond ``MAX_EVENT_BYTES``.
        """
        if self.is_between_events and piece.startswith(b"data:") and piece.endswith(b"\n\n"):
            blocks = piece[:-2].split(b"\n\n")
            if (  # these are whole events of a line each, as DeepSeek sends them
                piece.count(b"\n") == 2 * len(blocks)
                and piece.count(b"\n\ndata:") == len(blocks) - 1
                and b"\r" not in piece
                and len(piece) <= MAX_EVENT_BYTES
            ):
                self._start = None
                return blocks
        blocks = self._take_lines(piece)
        self.is_between_events = not (self._line or self._lines or self._start is not None)
        return blocks

    @property
    def pending(self) -> bytes:
        """What has come of the present event; nothing if that is much.

        It may be all of it but its line ends.
        """
        if self._held + self._open > _PENDING_BYTES:
            return b""
        return b"\n".join([*self._lines, b"".join(self._line)])

    def _take_lines(self, piece: bytes) -> list[bytes]:
        if self._start is not None:
            self._start = piece = self._start + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                return []
            self._start = None
            piece = piece.removeprefix(_BOM)
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        blocks: list[bytes] = []
        *ended, rest = _split(piece)
        if ended:
            ended[0] = b"".join([*self._line, ended[0]])
            self._line.clear()
            self._open = 0
            self._after_cr = piece.endswith(b"\r")
        for line in ended:
            self._take(line, blocks)
        if rest:
            self._line.append(rest)
            self._open += len(rest)
            self._check_length()
        return blocks

    def _check_length(self) -> None:
        if self._held + self._open > MAX_EVENT_BYTES:
            raise UpstreamError(f"DeepSeek sent an event of more than {MAX_EVENT_BYTES} bytes.")

    def _take(self, line: bytes, blocks: list[bytes]) -> None:
        if not line:
            if self._has_data:
                blocks.append(b"\n".join(self._lines))
            self._lines.clear()
            self._held = 0
            self._has_data = False
        elif line.startswith(b":"):
            blocks.append(line)
        else:
            name = line.partition(b":")[0]
            if name == b"data":
                self._has_data = True
            elif name == b"event":
                self.names_events = True
            else:
                if name not in _DROPPED and len(self.strays) < _STRAY_BYTES:
                    self.strays += line[:_STRAY_BYTES] + b"\n"
                return
            self._lines.append(line)
            self._held += len(line)
            self._check_length()


def _split(piece: bytes) -> list[bytes]:
    """The lines of a piece without their ends; what follows the last end comes last."""
    return _LINE_END.split(piece) if b"\r" in piece else piece.split(b"\n")


def is_comment(block: bytes) -> bool:
    """Whether this block is a comment, such as DeepSeek's ``: keep-alive``."""
    return block.startswith(b":")


def data_of(block: bytes) -> bytes:
    """The data of an event: its ``data`` lines without their names, joined with LF."""
    lines = [line[5:] for line in block.split(b"\n") if line[:5] == b"data:" or line == b"data"]
    return b"\n".join([line.removeprefix(b" ") for line in lines])


def is_done(block: bytes) -> bool:
    """Whether this event is the one with which DeepSeek ends a whole answer."""
    return len(block) < _DONE_BYTES and data_of(block).strip() == b"[DONE]"


def is_error(block: bytes) -> bool:
    """Whether this event is named ``error``."""
    lines = [line.partition(b":") for line in block.split(b"\n")]
    return any(name == b"event" and value.strip() == b"error" for name, _, value in lines)


def without_name(block: bytes) -> bytes:
    """This event without its name: its ``data`` lines."""
    return b"\n".join([line for line in block.split(b"\n") if not line.startswith(b"event")])


def is_blank(block: bytes) -> bool:
    """Whether this event says nothing: its data is empty, white space, or ``null``."""
    return data_of(block).strip() in _NOTHING


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """A block for an event of our own, with ``data`` as JSON on one line."""
    return b"event: %b\n%b" % (name.encode("ascii"), unnamed(data))


def unnamed(data: Mapping[str, Any]) -> bytes:
    """A block for an event of our own that has no name, with ``data`` as JSON on one line."""
    return b"data: %b" % json.dumps(data, separators=(",", ":")).encode("ascii")


def numbered(number: int, block: bytes) -> bytes:
    """The bytes of an event on the wire, with its ``id``."""
    return b"id: %d\n%b\n\n" % (number, block)


def blocks_of(data: bytes) -> list[bytes]:
    """The blocks of the events in what a log gives, each ``numbered``; comments are left out."""
    blocks = []
    for event in data.split(b"\n\n"):
        while event.startswith(b":"):
            event = event.partition(b"\n")[2]  # noqa: PLW2901
        if event:
            blocks.append(event.partition(b"\n")[2])
    return blocks
