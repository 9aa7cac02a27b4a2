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
