"""The event stream: what the WSGI server iterates for one client: events, heartbeats, failures.

It begins late. Only when the server asks for the first item, after Flask's teardown, does the
stream wait for something to say, and only then is ``start_response`` called: by then it is known
whether there is an answer, and one that failed gets the status of the failure. A failure after that
is an event.

An event takes microseconds to encode, and what is ready may be thousands of them. So it is done in
pieces, and others have a turn between two of them. While the stream waits, the producer writes to
the client, and can't pause: it encodes one piece at most, and leaves what is more to the stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from ..answers.coroutines import A_TURN
from ..answers.cursor import Sink
from ..answers.readers import Reader
from ..errors import Refusal
from ..protocols import native
from ..protocols.base import Encoder
from ..server.direct_write import DirectBody
from ..server.disconnect import Watch

#: Calls ``start_response``: with the status of a refusal, if there is one. Returns the body of the
#: response if it is not the stream; else None.
Respond = Callable[["Refusal | None"], "Iterable[bytes] | None"]

#: Bytes of events that are encoded at once, and one event more.
_PIECE_BYTES = 4096


class EventStream(DirectBody):
    """The body of a streamed response. One thread iterates; any thread may make it ``leave``.

    :param reader: reads the answer for the client.
    :param heartbeat: seconds of silence after which the client gets a comment.
    :param on_leave: called when the client gets no more, perhaps twice.
    :param encoder: the protocol that the client speaks.
    """

    __slots__ = (
        *("_encoder", "_first", "_heartbeat", "_instead", "_on_close", "_on_leave", "_reader"),
        *("_respond", "watch"),
    )

    def __init__(
        self,
        reader: Reader,
        heartbeat: float,
        on_leave: Callable[[], None] | None = None,
        encoder: Encoder = native.ENCODER,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._encoder = encoder
        self._heartbeat = heartbeat
        self._on_leave = on_leave
        self._first: bytes | None = None
        self._respond: Respond | None = None
        #: What comes in place of events: the body of a refusal, or what is told at the end.
        self._instead: Iterator[bytes] | None = None
        self._on_close: Callable[[], None] | None = None
        #: Tells that the client has gone; stopped when the stream is left.
        self.watch: Watch | None = None

    def prefetch(self) -> None:
        """Have something to say now, if only a comment, so that the client sees that it reads.

        :raises Refusal: if the answer can't be read from there.
        """
        ready = self._reader.read(0.0)
        self._first = (ready and self._encode(ready)) or self._encoder.heartbeat

    def respond_late(self, respond: Respond, on_close: Callable[[], None]) -> None:
        """Have ``respond`` called before the first item, and ``on_close`` by ``close``."""
        self._respond = respond
        self._on_close = on_close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._begin()
        if self._first is None and self._instead is not None:
            return next(self._instead)
        item, self._first = self._first or self._read(), None
        if item is None:
            self.leave()
            raise StopIteration
        return item

    def leave(self) -> None:
        """Stop reading, because the client has gone or needs no more. May be called twice."""
        watch, self.watch = self.watch, None  # each refers to the other
        if watch is not None:
            watch.stop()
        self._reader.close()
        if self._on_leave is not None:
            self._on_leave()

    def close(self) -> None:
        """End the response; for the WSGI server, and for the Flask response, once each."""
        on_close, self._on_close, self._respond = self._on_close, None, None
        try:
            self.leave()
            if on_close is not None:
                on_close()
        finally:
            self.give_back()

    def _begin(self) -> None:
        """Respond, unless that was done: wait for something to say, for one heartbeat at most."""
        respond, self._respond = self._respond, None  # it refers to the request, which may be large
        if respond is None:
            return
        self._first = self._first or self._read()
        instead = respond(self._reader.refusal or self._encoder.refusal)
        if instead is not None:
            self._first, self._instead = None, iter(instead)
        elif (writer := self.borrow()) is not None:
            encoder = self._encoder
            self._reader.lend(writer if _is_plain(encoder) else _EncodingSink(writer, encoder))

    def _read(self) -> bytes | None:
        """The next bytes for the client, which are some; None if no more will come."""
        item, end = b"", time.monotonic() + self._heartbeat
        while not item:
            if self._encoder.refusal is not None:
                return None
            try:
                ready = self._reader.read(max(0.0, end - time.monotonic()))
            except Refusal as refusal:
                self._reader.close()
                return self._encoder.fail(refusal)
            if ready is None:
                return self._end()
            item = self._encode(ready)
            # What has come may say nothing to this client.
            if not item and (not ready or time.monotonic() >= end):
                item, end = self._encoder.heartbeat, time.monotonic() + self._heartbeat
        return item

    def _end(self) -> bytes | None:
        """What the client is told when the answer has ended, or the first piece of it."""
        withheld = self._encoder.withheld
        if withheld is None or self._encoder.refusal is not None:
            return None
        self._instead = withheld.pieces()
        return next(self._instead, None)

    def _encode(self, ready: bytes) -> bytes:
        return ready if _is_plain(self._encoder) else b"".join(_encoded(self._encoder, ready))


def _is_plain(encoder: Encoder) -> bool:
    """Whether there is nothing to encode."""
    return encoder is native.ENCODER


def _encoded(encoder: Encoder, events: bytes) -> Iterator[bytes]:
    """What the client gets for these events, in pieces; others have a turn between two of them."""
    begin = 0
    while begin < len(events):
        if begin:
            time.sleep(A_TURN)
        end = events.find(b"\n\n", begin + _PIECE_BYTES)
        end = len(events) if end < 0 else end + 2
        yield encoder.encode(events[begin:end])
        begin = end


class _EncodingSink:
    """A sink that encodes what is written to it."""

    __slots__ = ("_encoder", "_events", "_sink")

    def __init__(self, sink: Sink, encoder: Encoder) -> None:
        self._sink = sink
        self._encoder = encoder
        #: What ``flush`` has to encode.
        self._events = b""

    @property
    def written_at(self) -> float:
        """See ``Sink``."""
        return self._sink.written_at

    def write(self, data: bytes) -> bool:
        """See ``Sink``."""
        if len(data) > _PIECE_BYTES:
            self._events = data
            return False
        encoded = self._encoder.encode(data)
        return not encoded or self._sink.write(encoded)

    def flush(self) -> None:
        """See ``Sink``."""
        events, self._events = self._events, b""
        for encoded in _encoded(self._encoder, events):
            if encoded and not self._sink.write(encoded):
                self._sink.flush()
        self._sink.flush()
