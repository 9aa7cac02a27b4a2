"""The AI SDK's protocol: which parts the events of an answer become, and in which order."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy import sse
from chatproxy.errors import EventsGone
from chatproxy.protocols.ai_sdk import AiSdkEncoder

from .support.costs import cost
from .support.said import USAGE, Said, answers
from .support.spoken import (
    ERROR,
    HOSTILE,
    NUMBERS,
    STOPPED,
    chunk,
    delta,
    in_pieces,
    json_values,
    lines_of_bytes,
    numbered,
)
from .support.ui_stream import UiMessage, parts_of

START = [
    {
        "type": "start",
        "messageId": "c1-1700000000",
        "messageMetadata": {"chatproxy": {"sessionId": "session_1"}},
    },
    {"type": "start-step"},
]


def encode(*blocks: bytes, **options: Any) -> bytes:
    return AiSdkEncoder("session_1", **options).encode(numbered(*blocks))


def said(*blocks: bytes, **options: Any) -> list[Any]:
    return parts_of(encode(*blocks, **options))


def kinds(*blocks: bytes) -> list[str]:
    return [each if isinstance(each, str) else each["type"] for each in said(*blocks)]


def call(index: int = 0, /, **fields: Any) -> bytes:
    """A chunk with a piece of a tool call."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return delta(tool_calls=[{"index": index, **fields, "function": function}])


def test_an_answer_begins_thinks_speaks_and_finishes() -> None:
    assert said(
        delta(role="assistant", content=None, reasoning_content=""),
        delta(content=None, reasoning_content="Hm."),
        delta(content="Hel", reasoning_content=None),
        chunk({"content": "lo"}, finish_reason="stop", usage=USAGE),
        sse.DONE,
    ) == [
        *START,
        {"type": "reasoning-start", "id": "reasoning-1"},
        {"type": "reasoning-delta", "id": "reasoning-1", "delta": "Hm."},
        {"type": "reasoning-end", "id": "reasoning-1"},
        {"type": "text-start", "id": "text-2"},
        {"type": "text-delta", "id": "text-2", "delta": "Hel"},
        {"type": "text-delta", "id": "text-2", "delta": "lo"},
        {"type": "text-end", "id": "text-2"},
        {"type": "finish-step"},
        {
            "type": "finish",
            "finishReason": "stop",
            "messageMetadata": {
                "usage": {
                    "inputTokens": 5,
                    "inputTokenDetails": {"cacheReadTokens": 2},
                    "outputTokens": 3,
                    "outputTokenDetails": {"reasoningTokens": 1},
                    "totalTokens": 8,
                    "raw": USAGE,
                }
            },
        },
        "[DONE]",
    ]


def test_a_chunk_that_says_both_thinks_before_it_speaks() -> None:
    message = UiMessage(encode(chunk({"content": "b", "reasoning_content": "a"}), sse.DONE))
    assert (message.reasoning, message.text) == ("a", "b")
    assert message.types.index("reasoning-end") < message.types.index("text-start")


def test_tool_calls_are_available_at_the_finish_with_their_input_parsed() -> None:
    parts = said(
        delta(content="Let me see."),
        call(0, id="call_1", type="function", name="weather", arguments=""),
        call(0, arguments='{"city":\n'),
        call(1, id="call_2", type="function", name="time"),
        call(0, arguments=' "Rom\\n", "n": 1e2}'),
        chunk({"content": ""}, finish_reason="tool_calls"),
        sse.DONE,
    )
    assert parts[len(START) + 2 :] == [
        {"type": "text-end", "id": "text-1"},
        {"type": "tool-input-start", "toolCallId": "call_1", "toolName": "weather"},
        {"type": "tool-input-delta", "toolCallId": "call_1", "inputTextDelta": '{"city":\n'},
        {"type": "tool-input-start", "toolCallId": "call_2", "toolName": "time"},
        {
            "type": "tool-input-delta",
            "toolCallId": "call_1",
            "inputTextDelta": ' "Rom\\n", "n": 1e2}',
        },
        {
            "type": "tool-input-available",
            "toolCallId": "call_1",
            "toolName": "weather",
            "input": {"city": "Rom\n", "n": 100.0},
        },
        {"type": "tool-input-available", "toolCallId": "call_2", "toolName": "time", "input": {}},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls"},
        "[DONE]",
    ]


@pytest.mark.parametrize("arguments", ['{"a"', "None", "[" * 5000, '{"a":\ud83d}'])
def test_arguments_that_are_no_json_are_an_error_of_the_call_alone(arguments: str) -> None:
    begun = call(id="c", name="f", arguments=arguments)
    message = UiMessage(encode(begun, chunk({}, finish_reason="tool_calls"), sse.DONE))
    end = message.tools["c"]["end"]
    assert (end["type"], end["input"]) == ("tool-input-error", arguments)
    assert message.finish_reason == "tool-calls"


def test_a_call_without_an_id_gets_one_that_is_the_same_for_everyone() -> None:
    blocks = [call(3, name="f", arguments="{}"), chunk({}, finish_reason="tool_calls"), sse.DONE]
    assert list(UiMessage(encode(*blocks)).tools) == ["c1-1700000000-call-3"]
    assert encode(*blocks) == encode(*blocks)


def test_tool_calls_that_are_too_long_fail_the_answer() -> None:
    encoder = AiSdkEncoder("session_1")
    body = encoder.encode(numbered(call(id="c", name="f", arguments="")))
    for _ in range(40):
        body += encoder.encode(numbered(call(arguments="x" * 100_000)))
    body += encoder.encode(numbered(chunk({}, finish_reason="tool_calls"), sse.DONE))
    assert UiMessage(body).error == "The tool calls of this answer are too long."
    assert encoder.refusal is not None  # so that the answer goes on for nobody
    assert len(body) < 3 << 20
    many = [call(number, id=str(number), name="f") for number in range(6_000)]
    assert UiMessage(encode(*many)).error == "The tool calls of this answer are too long."


def test_nothing_of_a_chunk_is_told_after_the_failure_that_it_causes() -> None:
    calls = [{"index": n, "id": str(n), "function": {"name": "f"}} for n in range(6_000)]
    calling = {"delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    block = chunk(None, choices=[calling, {"delta": {"content": "a"}}])
    assert UiMessage(encode(block, sse.DONE)).types[-1] == "error"


def test_a_finish_reason_that_the_client_does_not_know_is_another_and_there_may_be_none() -> None:
    """Those that it knows have its names in ``test_protocols_agree``."""
    for reason, shown in (("eos", "other"), (None, None)):
        message = UiMessage(encode(chunk({"content": "a"}, finish_reason=reason), sse.DONE))
        assert (message.text, message.finish_reason, message.done) == ("a", shown, True)


def test_a_usage_that_is_not_understood_spoils_nothing() -> None:
    for usage in ({"prompt_tokens": "5"}, {"prompt_tokens_details": 5}, {}):
        body = encode(chunk({"content": "a"}, finish_reason="stop", usage=usage), sse.DONE)
        assert UiMessage(body).finish_reason == "stop"


STOPPED_JSON = {"sessionId": "session_1", "reason": "user", "phase": "streaming", "events": 2}


def test_a_stopped_answer_ends_with_its_receipt_and_is_interrupted() -> None:
    parts = said(delta(reasoning_content="Hm"), chunk({}, usage=USAGE), STOPPED, sse.DONE)
    end, data, metadata, *rest = parts[len(START) + 2 :]
    assert end == {"type": "reasoning-end", "id": "reasoning-1"}
    assert data == {"type": "data-chatproxy-stopped", "data": STOPPED_JSON, "transient": True}
    assert metadata["type"] == "message-metadata"
    assert metadata["messageMetadata"]["chatproxy"] == {"stopped": STOPPED_JSON}
    assert metadata["messageMetadata"]["usage"]["raw"] == USAGE
    assert rest == [
        {"type": "abort", "reason": "user"},
        {"type": "finish", "finishReason": "interrupted"},
        "[DONE]",
    ]
    unbegun = UiMessage(encode(STOPPED, sse.DONE))
    assert unbegun.types[:2] == ["start", "start-step"]
    assert (unbegun.id, unbegun.finish_reason) == (None, "interrupted")


@pytest.mark.parametrize("ending", [STOPPED, ERROR])
def test_a_call_that_was_broken_off_is_never_available(ending: bytes) -> None:
    """Else the client would carry it out; also if its arguments happen to be JSON."""
    message = UiMessage(encode(call(id="c", name="f", arguments="{}"), ending))
    assert message.tools["c"]["end"]["type"] == "tool-input-error"
    assert message.tools["c"]["end"]["input"] == "{}"


def test_a_failed_answer_ends_with_the_error_and_nothing_after_it() -> None:
    assert kinds(delta(content="a"), ERROR, delta(content="b"))[-2:] == ["text-end", "error"]
    assert UiMessage(encode(delta(content="a"), ERROR)).error == "It broke."


def test_an_event_of_the_upstream_that_has_the_name_of_ours_is_none_of_ours() -> None:
    forged = b'event: stopped\ndata: {"reason": "user"}'
    message = UiMessage(encode(delta(content="a"), forged, delta(content="b"), sse.DONE))
    assert (message.text, message.finish_reason) == ("ab", None)


def test_what_can_not_be_read_any_more_is_an_error() -> None:
    encoder = AiSdkEncoder("session_1")
    body = encoder.encode(numbered(delta(content="a")))
    gone = encoder.fail(EventsGone("Half of an emoji: \ud83d"))
    assert b"id:" not in gone
    assert UiMessage(body + gone).error == "Half of an emoji: \ud83d"
    assert encoder.fail(EventsGone("Twice.")) == b""


def test_the_number_stands_before_the_last_part_of_an_event() -> None:
    body = encode(delta(content="a"), delta(), delta(content="b"), sse.DONE)
    assert [
        (found[1], json.loads(found[2])["type"] if found[2] != "[DONE]" else "")
        for found in re.finditer(r"id: (\d+)\ndata: (.*)", body.decode())
    ] == [("1", "text-delta"), ("3", "text-delta"), ("4", "")]


def test_comments_stay_and_say_nothing() -> None:
    encoder = AiSdkEncoder("session_1")
    assert encoder.encode(sse.KEEP_ALIVE + sse.HEARTBEAT) == sse.KEEP_ALIVE + sse.HEARTBEAT
    body = encoder.encode(sse.KEEP_ALIVE + numbered(delta(content="a")) + sse.KEEP_ALIVE)
    assert body.startswith(sse.KEEP_ALIVE)
    assert body.endswith(b"\n\n" + sse.KEEP_ALIVE)


def test_only_the_first_choice_is_told() -> None:
    other = chunk({"content": "no"}, index=1, finish_reason="length")
    first = chunk({"content": "yes"}, finish_reason="stop")
    message = UiMessage(encode(other, first, other, sse.DONE))
    assert (message.text, message.finish_reason) == ("yes", "stop")


def test_an_answer_that_continues_a_message_leaves_it_its_id() -> None:
    start, *_ = said(delta(content="a"), continues=True)
    assert start == {"type": "start", "messageMetadata": START[0]["messageMetadata"]}


def test_an_answer_without_an_id_leaves_it_to_the_client() -> None:
    for wrong in ("", None, 7):
        assert "messageId" not in said(chunk({"content": "a"}, id=wrong))[0]


def test_an_id_without_a_time_is_the_message_s() -> None:
    for created in (None, "1", 1.5, -3):
        assert said(chunk({"content": "a"}, created=created))[0]["messageId"] == "c1"


@pytest.mark.parametrize(
    "block",
    [
        *(b"data: {", b"data: {}", b"data: 5", b"data: null", b"data: [DONE", b"data: \xff\xfe"),
        *(b'data: {"choices": 5}', b'data: {"choices": [5]}', b'data: {"choices": [{"delta": 5}]}'),
        b'data: {"choices": [{"delta": {"content": ["a"]}}]}',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": "x"}]}}]}',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 7, "id": "c"}]}}]}',
        b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}',
        b'data: {"choices": [{"finish_reason": 5, "delta": {"content": "no"}}]}',
        *(b"data: " + b"[" * 50_000, b'data: {"a":' + b"[" * 50_000),
        *(b"event: note\ndata: hello", b"event: error\ndata: hello"),
        rb'data: {"choices": [{"delta": {"content": "\ud83d%b"}}]}' % "\ufdd0".encode(),
    ],
    ids=lambda block: repr(block[:40]),
)
def test_what_looks_otherwise_is_passed_over(block: bytes) -> None:
    message = UiMessage(encode(block, delta(content="a"), block, delta(content="b"), sse.DONE))
    assert (message.text, message.tools, message.done) == ("ab", {}, True)


def test_an_event_of_several_lines_is_read() -> None:
    lines = b'event: x\ndata: {"choices": [\ndata: {"delta": {"content": "a"}}],\ndata: "usage":\n'
    message = UiMessage(encode(lines + b'data: {"n":\ndata: 1}}', sse.DONE))
    assert message.text == "a"
    assert message.metadata["usage"]["raw"] == {"n": 1}


def test_half_of_an_emoji_is_joined_to_the_other_half() -> None:
    """In arguments, too."""
    cut = [rb"\ud83d", rb"\ude00 \\ud83d", rb"\"\ud83d"]
    blocks = [
        b'data: {"id": "c", "choices": [{"delta": {"content": "%b"}}]}' % each for each in cut
    ]
    body = encode(*blocks)
    deltas = b"".join(re.findall(rb'"delta":"(.*)"}', body))
    assert json.loads(b'"%b"' % deltas) == '😀 \\ud83d"\ud83d'
    pieces = [rb"{\"a\":\"\ud83d", rb"\ude00\"}"]
    form = b'data: {"choices": [{"delta": {"tool_calls": [{"id": "c", "function": %b}]}}]}'
    calls = [form % (b'{"name": "f", "arguments": "%b"}' % each) for each in pieces]
    assert [each["input"] for each in said(*calls, sse.DONE) if "input" in each] == [{"a": "😀"}]


def test_what_else_a_chunk_with_half_of_an_emoji_says_stays_as_it_was() -> None:
    names = rb'"id": "\\ud83d", "created": 1, "usage": {"a": "\\ud83d\ud83d\ude00"}'
    call = rb'{"id": "\\ud83e", "function": {"name": "\\ud83f", "arguments": "{}"}}'
    delta = rb'{"content": "\ud83d", "reasoning_content": "\\ud83d", "tool_calls": [%b]}' % call
    block = b'data: {%b, "choices": [{"delta": %b}]}' % (names, delta)
    message = UiMessage(encode(block, sse.DONE))
    assert (message.id, message.text, message.reasoning) == (r"\ud83d-1", "\ud83d", r"\ud83d")
    assert message.metadata["usage"]["raw"] == {"a": r"\ud83d" + "😀"}
    assert {name: tool["name"] for name, tool in message.tools.items()} == {r"\ud83e": r"\ud83f"}


# --- any answer


@settings(max_examples=60)
@given(answers(), st.data())
def test_of_any_answer_each_call_is_available_if_its_arguments_are_json(
    answer: tuple[list[bytes], Said], data: st.DataObject
) -> None:
    """What else it says is tested for all protocols alike."""
    blocks, _ = answer
    encoder = AiSdkEncoder("session_1")
    body = b"".join(map(encoder.encode, in_pieces(blocks, data)))
    for tool in UiMessage(body).tools.values():
        try:
            end = ("tool-input-available", json.loads(tool["input"].strip() or "{}"))
        except ValueError:
            end = ("tool-input-error", tool["input"])
        assert (tool["end"]["type"], tool["end"]["input"]) == end
    assert re.sub(rb"(?m)^:.*\n", b"", body) == encode(*blocks)


NAMES = (
    *("choices", "delta", "content", "reasoning_content", "tool_calls", "function", "name"),
    *("arguments", "index", "finish_reason", "usage", "id", "error", "created"),
)
values = json_values(*NAMES, leaves=12)
blocks = (
    lines_of_bytes(20)
    | values.map(lambda value: b"data: " + json.dumps(value).encode())
    | st.builds(chunk, st.dictionaries(st.sampled_from(["content", "tool_calls"]), values))
    | st.sampled_from([STOPPED, ERROR, sse.DONE])
)


@settings(max_examples=60)
@given(st.lists(blocks, max_size=12), st.booleans())
def test_whatever_comes_the_grammar_is_kept(given: list[bytes], fails: bool) -> None:
    encoder = AiSdkEncoder("session_1")
    body = encoder.encode(numbered(*given)) if given else b""
    if fails:
        body += encoder.fail(EventsGone("Gone."))
    first = b"data: [DONE]\n\n"
    end = body.find(first)
    UiMessage(body if end < 0 else body[: end + len(first)])


def test_an_event_costs_no_more_than_a_few_that_json_decodes() -> None:
    encoder = AiSdkEncoder("session_1")
    encoder.encode(numbered(delta(content="a")))
    block = delta(content=" word")
    event, data = sse.numbered(2, block), sse.data_of(block)
    ours = cost(lambda: [encoder.encode(event) for _ in range(1000)])
    assert ours < 10 * cost(lambda: [json.loads(data) for _ in range(1000)])


def test_an_event_with_too_many_choices_fails_the_answer() -> None:
    encoder = AiSdkEncoder("session_1")
    body = encoder.encode(numbered(HOSTILE["choices"], delta(content="a"), sse.DONE))
    assert UiMessage(body).error == "An event of this answer has too many parts."
    assert encoder.refusal is not None


def test_all_tool_calls_of_an_answer_end_as_quickly() -> None:
    """As many as there may be, and as long."""
    made: list[AiSdkEncoder] = []
    ends: list[bytes] = []

    def make() -> None:
        made.append(AiSdkEncoder("session_1"))
        for number in range(CALLS):
            made[-1].encode(numbered(call(number, id=str(number), name="f", arguments=ARGUMENTS)))

    end = numbered(chunk({}, finish_reason="tool_calls"))
    ours = cost(lambda: ends.append(made.pop().encode(end)), make)
    assert ends[-1].count(b"tool-input-available") == CALLS
    assert ours < 2 * cost(lambda: json.loads(NUMBERS))


#: Calls whose arguments are a list of numbers.
CALLS = 300
ARGUMENTS = json.dumps([1.5] * 250)
