"""One completion out of the chunks of an answer: merged, stopped, failed, bounded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy import sse
from chatproxy.errors import EventsGone
from chatproxy.protocols import completion
from chatproxy.protocols.completion import CompletionEncoder

from .support.costs import cost
from .support.said import USAGE
from .support.spoken import (
    ERROR,
    STOPPED,
    chunk,
    delta,
    in_pieces,
    json_values,
    lines_of_bytes,
    numbered,
)


def encoder(choices: int = 1) -> CompletionEncoder:
    return CompletionEncoder("asked-for", 17, choices)


def whole(*blocks: bytes, choices: int = 1) -> dict[str, Any]:
    """The completion of an answer of these events, and nothing before its end."""
    one = encoder(choices)
    events = [sse.numbered(*each) for each in enumerate(blocks, 1)]
    assert not any(map(one.encode, events))
    assert one.refusal is None
    parsed: dict[str, Any] = json.loads(b"".join(one.pieces()))
    return parsed


def said_by(one: CompletionEncoder, *blocks: bytes) -> bytes:
    """What an encoder has said when the answer has ended with these events."""
    return one.encode(numbered(*blocks)) + b"".join(one.pieces())


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = whole(*(delta(**each) for each in deltas), sse.DONE)
    said: dict[str, Any] = found["choices"][0]["message"]
    return said


def test_an_answer_becomes_one_completion() -> None:
    assert whole(
        chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
        chunk({"content": None, "reasoning_content": "Hm."}),
        chunk({"content": "Hel", "reasoning_content": None}),
        chunk({"content": "lo"}, finish_reason="stop", usage=USAGE),
        sse.DONE,
    ) == {
        "id": "c1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "system_fingerprint": "fp",
        "usage": USAGE,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
    }


def test_tool_calls_are_merged_by_their_index() -> None:
    first = {"index": 0, "id": "call_1", "type": "function"}
    second = {"index": 1, "id": "call_2", "type": "function"}
    said = message(
        {"tool_calls": [{**second, "function": {"name": "b", "arguments": ""}}]},
        {"tool_calls": [{**first, "function": {"name": "a", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "", "function": {"arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 1, "id": None, "function": {"name": "", "arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "a", "arguments": "{}"}}]},
    )
    assert said["tool_calls"] == [
        {**first, "function": {"name": "a", "arguments": "{}"}},
        {**second, "function": {"name": "b", "arguments": '{"x": 1}'}},
    ]


def test_strings_of_any_name_are_joined_and_lists_grow() -> None:
    said = message({"refusal": "I ", "reasoning": "x"}, {"refusal": "can't.", "reasoning": "y"})
    assert (said["refusal"], said["reasoning"], said["content"]) == ("I can't.", "xy", None)
    said = message({"annotations": [1]}, {"annotations": []}, {"annotations": [{"a": 2}, 3]})
    assert said["annotations"] == [1, {"a": 2}, 3]


def test_log_probabilities_of_all_tokens_are_kept() -> None:
    tokens = [{"token": each, "logprob": -0.5, "top_logprobs": []} for each in "abc"]
    found = whole(
        chunk({"content": "a"}, logprobs={"content": tokens[:1], "refusal": None}),
        chunk({"content": "bc"}, logprobs={"content": tokens[1:], "refusal": None}),
        chunk({}, logprobs=None, finish_reason="stop"),
        sse.DONE,
    )
    assert found["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}


def test_what_an_upstream_adds_is_kept_as_it_was_last() -> None:
    found = whole(
        chunk({"content": "a"}, service_tier="flex", citations=["x"], stop_reason=None, id=""),
        chunk({}, service_tier=None, citations=["x", "y"], obfuscation="aj3", id="c2"),
        chunk(None, usage=USAGE, choices=[]),
        sse.DONE,
    )
    assert (found["service_tier"], found["citations"]) == ("flex", ["x", "y"])
    assert found["usage"] == USAGE
    assert "obfuscation" not in found


def test_half_a_surrogate_pair_meets_its_other_half() -> None:
    halves = [
        rb'data: {"choices":[{"delta":{"content":"%b"}}]}' % x for x in (rb"\ud83d", rb"\ude00")
    ]
    assert whole(*halves, sse.DONE)["choices"][0]["message"]["content"] == "\U0001f600"


def test_numbers_that_json_does_not_have_are_null() -> None:
    block = b'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[NaN,1e999,-2.5]}}]}'
    assert whole(block, sse.DONE)["choices"][0]["logprobs"]["content"] == [None, None, -2.5]


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"data: not json", b"data: []", b"data: {}", b"data: \xff", b"data: " + b"[" * 200_000),
        *(b'data: {"choices": 5}', b'data: {"choices": ["x"]}', b'data: {"choices": [{}]}'),
        b'data: {"choices": [{"delta": "x"}]}',
        *(b"event: ping\ndata: {}", b"event: stopped\ndata: {}", b"event: error\ndata: [1]"),
    ],
    ids=lambda block: repr(block[:40]),
)
def test_what_is_no_chunk_is_passed_over(garbage: bytes) -> None:
    found = whole(delta(content="a"), garbage, delta(content="b"), sse.DONE)
    assert found["choices"][0]["message"]["content"] == "ab"


def test_what_need_not_be_decoded_stays_as_it_came() -> None:
    number = b"9" * 5000
    blocks = [b'data: {"a": %b, "b": 1e9, "c": [1.0], "d": "\\/"}' % number, sse.DONE]
    said = said_by(encoder(), *blocks)
    assert b'"a":%b,"b":1e9,"c":[1.0],"d":"\\/"' % number in said


def test_half_of_an_emoji_is_told_wherever_it_is() -> None:
    call = rb'{"index": 0, "id": "\\ud83e", "function": {"arguments": "\ud83f \\ud83d"}}'
    blocks = [
        rb'data: {"id": "\ud83d", "choices": [{"delta": {"\ud83d": "\ud83d", "tool_calls": [%b]}}]}'
    ]
    said = whole(blocks[0] % call, sse.DONE)
    message = said["choices"][0]["message"]
    assert (said["id"], message["\ud83d"]) == ("\ud83d", "\ud83d")
    assert message["tool_calls"][0]["id"] == r"\ud83e"
    assert message["tool_calls"][0]["function"]["arguments"] == "\ud83f " + r"\ud83d"


def test_lists_and_objects_that_are_empty_are_lists_and_objects() -> None:
    blocks = [b'data: {"choices":[{"delta":{"a":[ ],"b":{ },"c":[ 1 ]}}]}'] * 2
    message = whole(*blocks, sse.DONE)["choices"][0]["message"]
    assert (message["a"], message["b"], message["c"]) == ([], {}, [1, 1])


# --- stopped, failed


def test_a_stopped_answer_is_the_text_so_far_and_says_why() -> None:
    found = whole(delta(content="Hel"), chunk({"content": "lo"}, usage=USAGE), STOPPED)
    choice = found["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "cancelled")
    assert found["usage"] == USAGE
    assert found["chatproxy"]["stopped"] == json.loads(sse.data_of(STOPPED))


def test_a_stopped_answer_has_no_tool_calls_that_a_client_would_carry_out() -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "pay", "arguments": "{}"}}
    blocks = [chunk({"content": "a", "tool_calls": [call]}, index=index) for index in (0, 1)]
    finished = chunk({}, index=1, finish_reason="tool_calls")
    cancelled, whole_one = whole(*blocks, finished, STOPPED, choices=2)["choices"]
    assert cancelled["message"] == {"role": "assistant", "content": "a"}
    assert whole_one["message"]["tool_calls"] == [call]


def test_each_choice_that_has_not_finished_is_cancelled_even_before_the_first_chunk() -> None:
    found = whole(STOPPED, choices=2)
    assert (found["id"], found["created"], found["model"]) == ("session_1", 17, "asked-for")
    assert [each["finish_reason"] for each in found["choices"]] == ["cancelled"] * 2
    found = whole(chunk({"content": "a"}, index=1, finish_reason="stop"), STOPPED, choices=2)
    assert [each["finish_reason"] for each in found["choices"]] == ["cancelled", "stop"]
    assert len(whole(STOPPED, choices=10**9)["choices"]) == 128


@pytest.mark.parametrize(
    ("code", "status"),
    [("upstream_failed", 502), ("upstream_timeout", 504), ("upstream_busy", 503)],
)
def test_an_answer_that_fails_after_it_began_is_refused(code: str, status: int) -> None:
    failed = sse.event("error", {"error": {"message": "It broke.", "code": code}})
    one = encoder()
    assert one.encode(numbered(delta(content="a"), failed)) == b""
    refusal = one.refusal
    assert refusal is not None
    assert (refusal.message, refusal.status, refusal.code) == ("It broke.", status, code)
    assert refusal.headers() == {"X-Should-Retry": "false"}
    assert one.encode(numbered(sse.DONE)) == b""


def test_a_rest_that_cannot_be_read_refuses_it() -> None:
    one = encoder()
    refusal = EventsGone("They are gone.")
    assert one.fail(refusal) == b""
    assert one.refusal is refusal


# --- bounded


def test_what_repeats_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSeek's longest answer: the envelopes of its chunks are many times what it says."""
    monkeypatch.setattr(completion, "MOST_BYTES", 1 << 18)
    one = encoder()
    data = numbered(*[chunk({"content": "word "}, usage=USAGE)] * 1000)
    for _ in range(5):
        one.encode(data)
    assert one.refusal is None
    found = json.loads(said_by(one, sse.DONE))
    assert len(found["choices"][0]["message"]["content"]) == 25_000


LARGE = "x" * 200_000


@pytest.mark.parametrize(
    "deltas",
    [
        ({"content": LARGE} for _ in range(10)),
        ({f"field{number}": LARGE} for number in range(10)),
        ({"tool_calls": [{"index": each, "id": LARGE}]} for each in range(10)),
        ({"parts": [LARGE]} for _ in range(10)),
        ({f"field{number}": None} for number in range(5000)),
        ({f"{number}{LARGE}": None} for number in range(10)),
        ({"calls": [{"index": 100 * each + i} for i in range(100)]} for each in range(50)),
    ],
    ids=["text", "fields", "items", "list", "many fields", "long names", "many items"],
)
def test_an_answer_that_grows_without_end_is_refused(
    deltas: Iterable[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "MOST_BYTES", 1 << 20)
    one = encoder()
    for each in deltas:
        one.encode(numbered(delta(**each)))
    assert one.refusal is not None
    assert (one.refusal.status, one.refusal.code) == (502, "answer_too_large")


def test_a_large_completion_is_put_together_at_once() -> None:
    made: list[CompletionEncoder] = []
    done: list[bytes] = []

    def make() -> None:
        made.append(encoder())
        for _ in range(20):
            made[-1].encode(numbered(delta(content="x" * 250_000)))

    ours = cost(lambda: done.append(said_by(made.pop(), sse.DONE)), make)
    assert len(done[0]) > 5_000_000
    assert ours < 3 * cost(lambda: json.loads(done[0]))


def large() -> CompletionEncoder:
    """Of an answer of a megabyte that has ended."""
    one = encoder()
    for _ in range(5):
        one.encode(numbered(delta(content=LARGE)))
    assert one.size >= 5 * len(LARGE)
    one.encode(numbered(sse.DONE))
    return one


def test_what_has_been_given_out_is_held_no_longer() -> None:
    one = large()
    size = one.size
    for piece in one.pieces():
        assert len(piece) <= 65536
        size -= len(piece)
        assert one.size == size
    assert size == 0


def test_what_is_dropped_amid_its_pieces_breaks_off() -> None:
    one = large()
    pieces = one.pieces()
    next(pieces)
    one.drop()
    assert one.size == 0
    with pytest.raises(BrokenPipeError):
        next(pieces)


def test_what_is_dropped_before_is_refused_and_after_is_no_matter() -> None:
    one = encoder()
    one.encode(numbered(delta(content="a")))
    one.drop()
    assert one.refusal is not None
    assert (one.size, one.refusal.code) == (0, "events_gone")
    one = encoder()
    said_by(one, sse.DONE)
    one.drop()
    assert one.refusal is None


# --- any chunks, cut anywhere; test_protocols_agree has those of one choice


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.none() | st.text(max_size=5)), max_size=8),
    st.data(),
    st.sampled_from([sse.DONE, STOPPED, ERROR]),
)
def test_any_answer_of_two_choices_in_any_pieces_says_the_same(
    answer: list[tuple[int, str | None]], data: st.DataObject, ending: bytes
) -> None:
    blocks = [chunk({"content": text}, index=index) for index, text in answer]
    one = encoder(choices=2)
    assert not any(map(one.encode, in_pieces([*blocks, ending], data)))
    if ending is ERROR:
        assert one.refusal is not None
        return
    choices = json.loads(b"".join(one.pieces()))["choices"]
    said = [(each["index"], each["message"].get("content") or "") for each in choices]
    told = range(2) if ending is STOPPED else sorted({index for index, _ in answer})
    assert said == [
        (each, "".join(text or "" for index, text in answer if index == each)) for each in told
    ]


@given(st.lists(lines_of_bytes(40), max_size=5))
def test_no_bytes_do_harm(garbage: list[bytes]) -> None:
    json.loads(said_by(encoder(), *garbage, sse.DONE))


@settings(max_examples=50)
@given(st.lists(json_values("index", "a", "b"), max_size=3))
def test_a_field_of_any_shape_gives_json_and_loses_no_text(shapes: list[Any]) -> None:
    found = whole(*(delta(content="x", other=each) for each in shapes), STOPPED)
    said = found["choices"][0]["message"]
    assert (said["content"] or "") == "x" * len(shapes)
    assert len(shapes) != 1 or said["other"] == shapes[0]
