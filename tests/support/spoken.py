"""What protocols are given to encode: events as the log has them, whole, in any pieces."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from chatproxy import sse

#: How an answer ends that was stopped after two events, or that failed.
STOPPED = sse.event(
    "stopped", {"sessionId": "session_1", "reason": "user", "phase": "streaming", "events": 2}
)
ERROR = sse.event("error", {"error": {"message": "It broke.", "code": "upstream_failed"}})

_IDENTITY = {
    "id": "c1",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "m",
    "system_fingerprint": "fp",
}
_OF_A_CHOICE = ("logprobs", "finish_reason", "stop_reason", "index")


def chunk(delta: dict[str, Any] | None, **fields: Any) -> bytes:
    """A chunk with one choice, as a block; ``fields`` are of the choice or of the chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    choice |= {name: fields.pop(name) for name in _OF_A_CHOICE if name in fields}
    body = {**_IDENTITY, "choices": [choice], "usage": None, **fields}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode()


def delta(**fields: Any) -> bytes:
    """A chunk whose first choice has this delta."""
    return chunk(fields)


def numbered(*blocks: bytes) -> bytes:
    """These blocks as the log has them."""
    return b"".join(sse.numbered(*each) for each in enumerate(blocks, 1))


def in_pieces(blocks: list[bytes], data: st.DataObject) -> list[bytes]:
    """These blocks as a reader may give them: some at once, comments between them."""
    pieces = [b""]
    for number, block in enumerate(blocks, 1):
        between = data.draw(st.sampled_from(["", "cut", "keep-alive", "heartbeat"]))
        if between == "cut":
            pieces.append(b"")
        elif between:
            pieces.append(sse.KEEP_ALIVE if between == "keep-alive" else sse.HEARTBEAT)
        pieces[-1] += sse.numbered(number, block)
    return pieces


def json_values(*names: str, leaves: int = 8) -> st.SearchStrategy[Any]:
    """Any small values of JSON, whose objects have these names."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=4)
        ),
        max_leaves=leaves,
    )


def lines_of_bytes(most: int) -> st.SearchStrategy[bytes]:
    """Events with one line of data, of any bytes."""
    return st.binary(max_size=most).map(lambda data: b"data: " + data.replace(b"\n", b""))


def _whole_of(item: bytes, around: bytes = b'{"choices":[%b]}') -> bytes:
    """An event as large as one may be: a list of many items that are alike, in a chunk."""
    number = (sse.MAX_EVENT_BYTES - 100) // (len(item) + 1)
    return b"data: " + around % b",".join([item] * number)


def _said(text: bytes) -> bytes:
    """A chunk with a text that is JSON, as large as one may be."""
    said = text * ((sse.MAX_EVENT_BYTES - 100) // len(text))
    return rb'data: {"choices":[{"delta":{"content":"\ud83d%b"}}]}' % said


_CALLS = b'{"choices":[{"delta":{"tool_calls":[%b]}}]}'

#: The most that an event may be of whatever costs much.
HOSTILE = {
    "text": _said(b"x"),
    "escapes": _said(rb"\n"),
    "backslashes": _said(rb"\\"),
    "halves of emojis": _said(rb"\ud83d"),
    "escaped backslashes": _said(rb"\\ud83d"),
    "choices": _whole_of(b"{}"),
    "choices that are none": _whole_of(b"1"),
    "choices that finish": _whole_of(b'{"finish_reason":"stop"}'),
    "choices that speak": _whole_of(b'{"delta":{"content":"x"}}'),
    "calls": _whole_of(b"{}", _CALLS),
    "calls of one index": _whole_of(b'{"index":0}', _CALLS),
    "calls with names": _whole_of(b'{"function":{"name":"f"}}', _CALLS),
    "calls with arguments": _whole_of(b'{"function":{"arguments":"x"}}', _CALLS),
    "numbers": _whole_of(b"1.5", b'{"choices":[{"delta":{"parts":[%b]}}]}'),
    "numbers that are none": _whole_of(b"NaN", b'{"choices":[{"logprobs":[%b]}]}'),
    "fields": b'data: {"choices":[{"delta":{%b}}]}'
    % b",".join(b'"%05d":1' % number for number in range(26_000)),
    "nesting": b'data: {"choices":[{"delta":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}",
    "lines": b"\n".join([b"data:"] * 43_000),
    "a name": b"event: stopped\n" + _whole_of(b"1"),
}

#: What an event may cost: what json needs to decode one that is as long, of numbers.
NUMBERS = sse.data_of(HOSTILE["numbers"])
