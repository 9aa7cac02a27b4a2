"""What a client is sent: the items of a response, read from an answer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .. import sse
from ..answers.readers import Reading
from ..errors import Refusal
from ..protocols import native
from ..server.disconnect import Watch

if TYPE_CHECKING:
    from ..server.direct_write import Wire


class Follower:
    """What a client is sent: an iterable of bytes for a WSGI server, which closes it.

    :param reading: the client's way through the answer.
    :param heartbeat: seconds of silence after which the client gets a comment.
    :param on_close: called when it is closed, perhaps twice.
    """

    def __init__(
        self, reading: Reading, heartbeat: float, on_close: Callable[[], None] | None = None
    ) -> None:
        self._reading = reading
        self._heartbeat = heartbeat
        self._first: bytes | None = None
        self._on_close = on_close
        self.watch: Watch | None = None

    def begin(self) -> None:
        """Wait until there is something to say, for one heartbeat at the most.

        :raises Refusal: where the answer failed before there was.
        """
        if self._first is None:
            self._first = self._read()
        if self._reading.refusal is not None:
            raise copy.copy(self._reading.refusal)

    def begin_at_once(self) -> None:
        """Have something to say now, so that the client sees that it reads."""
        self._first = self._reading.read(0.0) or sse.HEARTBEAT

    def lend(self, wire: Wire) -> None:
        """Have events written to the client while the server waits for the next item."""
        self._reading.lend(wire)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        ready, self._first = self._first or self._read(), None
        if ready is None:
            self.close()
            raise StopIteration
        return ready

    def close(self) -> None:
        """Stop following.

        Called by the WSGI server at the end, and by the watch when the client has gone, from
        another thread.
        """
        watch, self.watch = self.watch, None  # each refers to the other
        if watch is not None:
            watch.stop()
        self._reading.close()
        if self._on_close is not None:
            self._on_close()

    def _read(self) -> bytes | None:
        try:
            ready = self._reading.read(self._heartbeat)
        except Refusal as refusal:
            self._reading.close()
            # It has no number: other readers don't see it.
            return b"".join(event + b"\n\n" for event in native.failed(refusal))
        return sse.HEARTBEAT if ready == b"" else ready
