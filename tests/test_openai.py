"""OpenAI's protocol: chunks as they come, the ends of answers, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy import sse
from chatproxy.errors import (
    BodyTooLarge,
    InvalidRequest,
    Refusal,
    SessionActive,
    ShuttingDown,
    TooManySessions,
    Unauthorized,
    UpstreamError,
)
from chatproxy.protocols import openai
from chatproxy.protocols.openai import ChunkEncoder

from .support.costs import cost
from .support.said import USAGE
from .support.spoken import ERROR, STOPPED, chunk, delta, in_pieces, lines_of_bytes, numbered


def encoder(choices: int = 1) -> ChunkEncoder:
    return ChunkEncoder("asked-for", 17, choices)


def said(data: bytes) -> list[Any]:
    """What the events in these bytes say, [DONE] as None."""
    events = [block for block in sse.Decoder().feed(data) if not sse.is_comment(block)]
    return [None if sse.is_done(each) else json.loads(sse.data_of(each)) for each in events]


def last_chunk(*blocks: bytes, choices: int = 1) -> dict[str, Any]:
    """The chunk with which an answer ends that was stopped after these events."""
    *before, last, done = said(encoder(choices).encode(numbered(*blocks, STOPPED, sse.DONE)))
    assert len(before) == len(blocks)
    assert done is None
    found: dict[str, Any] = last
    return found


def test_what_the_upstream_sends_is_passed_on_as_the_same_object() -> None:
    data = numbered(delta(content="a"), b"data: \xff, no JSON", sse.DONE) + sse.KEEP_ALIVE
    assert encoder().encode(data) is data


def test_a_named_event_of_the_upstream_passes_byte_for_byte() -> None:
    named = [b"event: ping\ndata: {}", b"event: stopped\ndata: {}", b"event: error\ndata: [1"]
    data = sse.HEARTBEAT + numbered(delta(content="a"), *named, sse.DONE) + sse.KEEP_ALIVE
    assert encoder().encode(data) == data


def test_a_stopped_answer_ends_with_a_whole_chunk() -> None:
    assert last_chunk(delta(content="a"), delta(content="b")) == {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "m",
        "system_fingerprint": "fp",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "cancelled"}],
        "chatproxy": {"stopped": json.loads(sse.data_of(STOPPED))},
    }


def test_it_has_the_usage_of_the_chunk_before_it_which_nothing_else_hides() -> None:
    last = last_chunk(chunk({}, usage=USAGE), b"data: []", b"event: ping\ndata: {}")
    assert (last["id"], last["usage"]) == ("c1", USAGE)
    one = encoder()
    one.encode(numbered(delta(content="a")))
    one.encode(sse.KEEP_ALIVE)
    assert said(one.encode(numbered(STOPPED)))[0]["id"] == "c1"


def test_it_is_made_without_a_chunk_before_it_too() -> None:
    last = last_chunk()
    assert (last["id"], last["created"], last["model"]) == ("session_1", 17, "asked-for")


def test_each_choice_that_has_not_finished_is_cancelled() -> None:
    """One of them at least, and not too many."""
    ends = [chunk({}, index=index, finish_reason="stop") for index in (1, 0)]
    last = last_chunk(ends[0], delta(content="a"), choices=3)
    assert [each["index"] for each in last["choices"]] == [0, 2]
    assert [each["index"] for each in last_chunk(*ends, choices=2)["choices"]] == [0]
    assert len(last_chunk(choices=10**9)["choices"]) == 128


def test_a_failed_answer_ends_with_an_error_and_no_name() -> None:
    data = encoder().encode(numbered(delta(content="a"), ERROR))
    assert b"event:" not in data
    assert said(data)[-1] == {
        "error": {
            "message": "It broke.",
            "type": "server_error",
            "param": None,
            "code": "upstream_failed",
        }
    }


def test_a_rest_that_cannot_be_read_is_such_an_error() -> None:
    refusal = Refusal("They are gone.", status=410, code="events_gone")
    assert said(encoder().fail(refusal)) == [openai.error_of(refusal)]


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (SessionActive("x"), "invalid_request_error"),
        (BodyTooLarge("x"), "invalid_request_error"),
        (TooManySessions("x"), "rate_limit_error"),
        (Refusal("x", status=403), "permission_error"),
        (ShuttingDown("x"), "server_error"),
        (UpstreamError("x"), "server_error"),
    ],
)
def test_a_refusal_has_the_shape_of_openai(refusal: Refusal, kind: str) -> None:
    error = {"message": "x", "type": kind, "param": None, "code": refusal.code}
    assert openai.error_of(refusal) == {"error": error}


blocks_of_an_answer = st.lists(
    st.text(max_size=5).map(lambda text: delta(content=text))
    | st.sampled_from([b"event: a\ndata: {}", b"data: x", b"event: error\ndata: {}"])
    | lines_of_bytes(9),
    max_size=6,
)


@settings(max_examples=50)
@given(blocks_of_an_answer, st.data(), st.sampled_from([1, 2]))
def test_any_events_in_any_pieces_pass_byte_for_byte(
    blocks: list[bytes], data: st.DataObject, choices: int
) -> None:
    one = encoder(choices)
    for piece in in_pieces([*blocks, sse.DONE], data):
        assert one.encode(piece) == piece


@settings(max_examples=50)
@given(blocks_of_an_answer, st.data(), st.sampled_from([STOPPED, ERROR]))
def test_any_answer_in_any_pieces_ends_in_one_way(
    blocks: list[bytes], data: st.DataObject, ending: bytes
) -> None:
    one = encoder()
    found = b"".join(map(one.encode, in_pieces([*blocks, ending], data)))
    (last,) = sse.Decoder().feed(found)[-1:]
    expected = {"chatproxy"} if ending is STOPPED else {"error"}
    assert json.loads(sse.data_of(last)).keys() >= expected
    assert b"\nid: %d\n" % (len(blocks) + 1) in b"\n" + found


def test_the_largest_chunk_before_a_stop_does_not_hold_the_loop() -> None:
    block = delta(parts=list(range(45_000)))
    one = encoder()
    one.encode(numbered(block))
    ours = cost(lambda: one.encode(numbered(STOPPED)))
    assert ours < 5 * cost(lambda: json.loads(sse.data_of(block)))
