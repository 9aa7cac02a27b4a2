"""Whatever DeepSeek sends, each protocol says the same of it, however it is cut."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy import sse
from chatproxy.answers.transcript import chunk_of
from chatproxy.protocols.ai_sdk import AiSdkEncoder
from chatproxy.protocols.base import Encoder
from chatproxy.protocols.completion import CompletionEncoder
from chatproxy.protocols.native import NativeEncoder
from chatproxy.protocols.openai import ChunkEncoder

from .support.costs import cost
from .support.said import Said, answers
from .support.spoken import HOSTILE, NUMBERS, delta, in_pieces, numbered
from .support.ui_stream import UiMessage

#: As the AI SDK names them.
FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content-filter": "content_filter",
    "tool-calls": "tool_calls",
    "error": "insufficient_system_resource",
}


def encoded(encoder: Encoder, *pieces: bytes) -> bytes:
    """What a client gets for these events, to the end."""
    body = b"".join(map(encoder.encode, pieces))
    return body if encoder.withheld is None else body + b"".join(encoder.withheld.pieces())


def said_in_chunks(body: bytes) -> Said:
    """What a client of chat completions reads in a stream."""
    said = Said()
    blocks = sse.Decoder().feed(body)
    assert sse.is_done(blocks[-1])
    calls: dict[int, dict[str, str]] = {}
    for chunk in (chunk_of(block) for block in blocks[:-1] if not sse.is_comment(block)):
        said.usage = chunk["usage"] or said.usage
        for choice in chunk["choices"]:
            said.finish_reason = choice["finish_reason"] or said.finish_reason
            delta = choice["delta"]
            said.text += delta.get("content") or ""
            said.reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                known = calls.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
                known["id"] += call.get("id") or ""
                known["name"] += call["function"].get("name") or ""
                known["arguments"] += call["function"]["arguments"]
    said.calls = {call["id"]: (call["name"], call["arguments"]) for call in calls.values()}
    return said


def said_at_once(body: bytes) -> Said:
    """What a client of chat completions reads in one object."""
    completion = json.loads(body)
    (choice,) = completion["choices"]
    message = choice["message"]
    return Said(
        message["content"] or "",
        message.get("reasoning_content") or "",
        {
            call["id"]: (call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        },
        choice["finish_reason"],
        completion["usage"],
    )


def said_in_parts(body: bytes) -> Said:
    """What the AI SDK's client reads."""
    message = UiMessage(body)
    assert message.done
    return Said(
        message.text,
        message.reasoning,
        {call_id: (tool["name"], tool["input"]) for call_id, tool in message.tools.items()},
        FINISH_REASONS[str(message.finish_reason)],
        message.metadata.get("usage", {}).get("raw"),
    )


PROTOCOLS: dict[str, tuple[Callable[[], Encoder], Callable[[bytes], Said]]] = {
    "native": (NativeEncoder, said_in_chunks),
    "openai, streamed": (lambda: ChunkEncoder("m", 17), said_in_chunks),
    "openai, whole": (lambda: CompletionEncoder("m", 17), said_at_once),
    "ai_sdk": (lambda: AiSdkEncoder("session_1"), said_in_parts),
}


#: Those that look at more than the first bytes of an event.
LOOKING: dict[str, Callable[[], Encoder]] = {
    "openai, streamed, of two choices": lambda: ChunkEncoder("m", 17, 2),
    "openai, whole": lambda: CompletionEncoder("m", 17),
    "ai_sdk": lambda: AiSdkEncoder("session_1"),
}


@pytest.mark.parametrize("event", HOSTILE)
def test_no_event_takes_longer_than_json_needs_for_numbers(event: str) -> None:
    """An event holds the loop while it is encoded, and an upstream may send any."""
    data, bound = numbered(HOSTILE[event]), cost(lambda: json.loads(NUMBERS))
    for make in LOOKING.values():
        assert cost(lambda make=make: make().encode(data)) < bound


@pytest.mark.parametrize("field", ["index", "finish_reason"])
@pytest.mark.parametrize("value", [b'"\xff"', b"1e400", b"Infinity", b"9" * 5000, b"[" * 900])
def test_an_event_that_no_decoder_takes_is_passed_over(field: str, value: bytes) -> None:
    odd = b'data: {"choices":[{"delta":{"content":"a"},"%b":%b}]}' % (field.encode(), value)
    for make in LOOKING.values():
        encoder = make()
        body = encoded(encoder, numbered(odd, delta(content="b"), sse.DONE))
        assert b'b"' in body
        assert encoder.refusal is None


@settings(max_examples=60)
@given(answers(), st.data())
def test_an_answer_says_the_same_in_each_protocol(
    answer: tuple[list[bytes], Said], data: st.DataObject
) -> None:
    blocks, said = answer
    pieces = in_pieces(blocks, data)
    assert {name: read(encoded(make(), *pieces)) for name, (make, read) in PROTOCOLS.items()} == (
        dict.fromkeys(PROTOCOLS, said)
    )
