"""What a stream of chat completion chunks says, read from its bytes alone."""

from __future__ import annotations

import pytest

from chatproxy import sse
from chatproxy.protocols import native
from chatproxy.upstreams.chunks import ChunkReader

from .support.spoken import STOPPED, chunk, delta

HI = delta(content="Hi")


@pytest.mark.parametrize(
    "block",
    [
        STOPPED,
        sse.event("account", {"usage": None}),
        native.emitted("tool-call", {"toolName": "rm"}),
        b"event: message\n" + HI,
        HI + b"\nevent:stopped",
        HI + b"\nevent",
    ],
)
def test_no_event_of_an_upstream_has_a_name_for_clients(block: bytes) -> None:
    """Else it could be taken for one of ours, such as the user's Stop."""
    wire = b"".join(each + b"\n\n" for each in (HI, block, HI))
    events = ChunkReader().read(wire)
    assert events == [HI, b"data: " + sse.data_of(block), HI]
    assert not any(map(native.ending_of, events))
    assert not any(map(native.emitted_in, events))


@pytest.mark.parametrize("reason", ["cancelled", "error"])
def test_an_answer_that_the_upstream_has_broken_off_has_failed(reason: str) -> None:
    """The former is said by a chatproxy upstream, when its own server is told to stop, say."""
    chunks = ChunkReader()
    last = chunk({}, finish_reason=reason, usage={"total_tokens": 3})
    assert chunks.read(b"".join(each + b"\n\n" for each in (HI, last, sse.DONE))) == [HI]
    assert chunks.error["finish_reason"] == reason
    assert not chunks.done
    assert chunks.usage == {"total_tokens": 3}


@pytest.mark.parametrize("ends", [b"", b"\n", b"\r"])
def test_the_last_event_may_lack_its_line_ends_and_nothing_else(ends: bytes) -> None:
    for size in range(1, len(HI) + 1):
        chunks = ChunkReader()
        assert chunks.read(HI + b"\n\n" + HI[:size] + ends) == [HI]
        assert chunks.end() == ([HI] if size == len(HI) else [])


def test_a_long_event_may_lack_its_line_ends_too() -> None:
    """Though it is not looked at before the end."""
    chunks, long = ChunkReader(), delta(content="x" * 100_000)
    assert chunks.read(long) == []
    assert chunks.end() == [long]


@pytest.mark.parametrize(
    "index", [b"1e400", b"-Infinity", b"NaN", b'"\xff"', b"9" * 5000, b"[" * 9000]
)
def test_a_choice_of_an_odd_number_does_not_end(index: bytes) -> None:
    odd = b'data: {"choices":[{"index":%b,"delta":{},"finish_reason":"stop"}]}' % index
    chunks = ChunkReader(2)
    assert chunks.read(odd + b"\n\n") == [odd]
    assert not chunks.whole
