"""What the WSGI server iterates: it begins late, is never silent, and ends once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from chatproxy import sse
from chatproxy.answers.cursor import Sink
from chatproxy.errors import EventsGone, Refusal
from chatproxy.protocols import native
from chatproxy.web.event_stream import EventStream

from .support.waiting import replace_sleep


class Script:
    """A reader that gives what it is told to; an error is raised."""

    def __init__(self, *items: bytes | Refusal, refusal: Refusal | None = None) -> None:
        self._items = list(items)
        self.refusal = refusal
        self.timeouts: list[float] = []
        self.closed = 0

    def read(self, timeout: float) -> bytes | None:
        self.timeouts.append(timeout)
        if self.closed or not self._items:
            return None
        item = self._items.pop(0)
        if isinstance(item, Refusal):
            raise item
        return item

    def lend(self, sink: Sink) -> None:
        raise AssertionError(sink)  # nothing was offered

    def close(self) -> None:
        self.closed += 1


class Response:
    """Notes how it began and ended. Closes its body when it is closed, as Werkzeug's does."""

    def __init__(self, events: EventStream, instead: Iterable[bytes] | None = None) -> None:
        self._events = events
        self._instead = instead
        self.begun: list[Refusal | None] = []
        self.closed = 0
        events.respond_late(self.respond, self.close)

    def respond(self, refusal: Refusal | None) -> Iterable[bytes] | None:
        self.begun.append(refusal)
        return self._instead

    def close(self) -> None:
        self._events.close()
        self.closed += 1


def test_the_response_begins_once_and_not_before_there_is_something_to_say() -> None:
    reader = Script(b"a", b"b")
    events = EventStream(reader, 15.0)
    response = Response(events)
    assert reader.timeouts == []
    assert next(events) == b"a"
    assert response.begun == [None]
    assert list(events) == [b"b"]
    assert response.begun == [None]
    assert all(14.9 < timeout <= 15.0 for timeout in reader.timeouts)


def test_an_answer_that_never_began_is_refused_with_a_body_of_its_own() -> None:
    refusal = Refusal("No.")
    events = EventStream(Script(b"event: error\n\n", refusal=refusal), 15.0)
    response = Response(events, [b"{}"])
    assert list(events) == [b"{}"]
    assert response.begun == [refusal]


def test_silence_is_a_heartbeat_and_begins_the_response() -> None:
    events = EventStream(Script(b"", b"", b"a"), 15.0)
    response = Response(events)
    assert next(events) == sse.HEARTBEAT
    assert response.begun == [None]
    assert list(events) == [sse.HEARTBEAT, b"a"]


def test_a_refusal_after_the_beginning_is_an_event_and_the_end() -> None:
    reader = Script(b"a", EventsGone("Too late."), b"b")
    events = EventStream(reader, 15.0)
    first, error = events
    assert first == b"a"
    assert error.startswith(b"event: error\ndata: ")
    assert error.endswith(b"\n\n")
    assert b"Too late." in error
    assert reader.closed


def test_what_is_there_already_is_said_first() -> None:
    for ready, first in ((b"a", b"a"), (b"", sse.HEARTBEAT)):
        reader = Script(ready, b"b")
        events = EventStream(reader, 15.0)
        events.prefetch()
        assert list(events) == [first, b"b"]
        assert reader.timeouts[0] == 0.0


class Watch:
    stops = 0

    def stop(self) -> None:
        self.stops += 1


def test_a_stream_that_is_left_gives_nothing_more_and_its_watch_is_stopped_once() -> None:
    """It has no response that begins late: an application may wrap the body."""
    left: list[str] = []
    events, watch = EventStream(Script(b"a", b"b"), 15.0, lambda: left.append("now")), Watch()
    events.watch = watch
    assert next(events) == b"a"
    events.leave()
    events.leave()
    assert left
    assert watch.stops == 1
    assert list(events) == []


def test_the_close_of_the_server_closes_the_response_once() -> None:
    reader = Script(b"a")
    events = EventStream(reader, 15.0)
    response = Response(events)
    next(events)
    events.close()
    events.close()
    assert response.closed == 1
    assert reader.closed


def test_events_that_say_nothing_to_a_client_are_silence() -> None:
    class Mute(native.NativeEncoder):
        def encode(self, data: bytes) -> bytes:
            return b""

    events = EventStream(Endless(b"a"), 0.01, encoder=Mute())
    assert next(events) == sse.HEARTBEAT
    assert next(events) == sse.HEARTBEAT


class Endless(Script):
    """A reader that gives the same all the time."""

    def __init__(self, item: bytes) -> None:
        super().__init__()
        self._item = item

    def read(self, timeout: float) -> bytes | None:
        return self._item


class AtTheEnd(native.NativeEncoder):
    """Says nothing before the end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    @property
    def withheld(self) -> Any:
        return self

    def encode(self, data: bytes) -> bytes:
        return b""

    def pieces(self) -> Iterator[bytes]:
        yield from self._pieces


def test_what_is_said_at_the_end_is_given_piece_by_piece_to_a_reader_that_stays() -> None:
    reader = Script(b"a", b"b")
    events = EventStream(reader, 15.0, encoder=AtTheEnd(b"1", b"2", b"3"))
    response = Response(events)
    assert list(events) == [b"1", b"2", b"3"]
    assert (response.begun, reader.closed) == ([None], 0)
    events.close()
    assert reader.closed


# --- encoding

EVENT = b"id: 1\ndata: " + b"x" * 1000 + b"\n\n"


class Noting(native.NativeEncoder):
    """Notes what it is given at once."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def encode(self, data: bytes) -> bytes:
        self.given.append(data)
        return data


class Lent(EventStream):
    """A stream that has been lent its client's socket."""

    def borrow(self) -> Any:
        return Written()


class Written:
    """A socket that takes everything at once."""

    written_at = 0.0

    def __init__(self) -> None:
        self.all = b""

    def write(self, data: bytes) -> bool:
        self.all += data
        return True

    def flush(self) -> None:
        pass


class Lender(Script):
    """A reader that is lent a socket."""

    sink: Any = None

    def lend(self, sink: Sink) -> None:
        self.sink = sink


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The turns that others were given."""
    found: list[float] = []
    replace_sleep(monkeypatch, found.append)
    return found


def test_much_is_encoded_in_pieces_of_whole_events_and_others_have_turns(
    turns: list[float],
) -> None:
    encoder = Noting()
    events = EventStream(Script(EVENT * 20 + sse.KEEP_ALIVE), 15.0, encoder=encoder)
    assert next(events) == EVENT * 20 + sse.KEEP_ALIVE
    assert [len(each) // len(EVENT) for each in encoder.given] == [5, 5, 5, 5, 0]
    assert len(turns) == 4


def test_what_needs_no_encoding_is_one_piece(turns: list[float]) -> None:
    assert next(EventStream(Script(EVENT * 20), 15.0)) == EVENT * 20
    assert turns == []


def test_the_producer_encodes_no_more_than_a_piece_and_the_stream_the_rest(
    turns: list[float],
) -> None:
    encoder, reader = Noting(), Lender(EVENT)
    events = Lent(reader, 15.0, encoder=encoder)
    Response(events)
    next(events)
    encoder.given.clear()
    assert reader.sink.write(EVENT)
    assert not reader.sink.write(EVENT * 20)
    assert encoder.given == [EVENT]
    reader.sink.flush()
    assert [len(each) // len(EVENT) for each in encoder.given] == [1, 5, 5, 5, 5]
    assert len(turns) == 3
    reader.sink.flush()
    assert len(encoder.given) == 5
