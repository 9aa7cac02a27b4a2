"""A question of the AI SDK: which chat completion it becomes, and what of it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.errors import InvalidRequest
from chatproxy.protocols import chat_request, ui_messages
from chatproxy.protocols.headers import TAKEN

from .support.costs import cost

USER = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
DENIED = "Tool call execution denied."


def body(messages: Any, **fields: Any) -> bytes:
    """What the client sends."""
    own = {"id": "chat_1", "trigger": "submit-message", "messages": messages}
    return json.dumps({**own, **fields}).encode()


def sent(text: bytes) -> dict[str, Any]:
    """What of a body goes to DeepSeek."""
    payload, _ = ui_messages.payload_of(chat_request.parse(text))
    chat_request.check(payload)
    decoded: dict[str, Any] = json.loads(chat_request.complete(payload, "m"))
    return {**decoded, "stream_options": json.loads(chat_request.stream_options_of(payload))}


def converted(*messages: dict[str, Any]) -> Any:
    return sent(body(list(messages)))["messages"]


def message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "m1", "role": role, "parts": list(parts)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "state": "done"}


def tool(state: str, **fields: Any) -> dict[str, Any]:
    part = {"type": "tool-weather", "toolCallId": "call_1", "input": {"city": "Rom"}}
    return {**part, "state": state, **fields}


def answered(result: str) -> list[dict[str, Any]]:
    """The messages for a call of ``tool`` with this result."""
    function = {"name": "weather", "arguments": '{"city": "Rom"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


def refusal_of(text: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        sent(text)
    return caught.value


def test_a_question_is_a_chat_completion_that_tells_its_usage() -> None:
    assert sent(body([USER], messageId="m1", model="deepseek-v4-pro")) == {
        "model": "deepseek-v4-pro",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_other_fields_go_on_as_the_text_that_came() -> None:
    text = body([USER])[:-1] + b', "temperature": 1e0, "tools": [ {"a" :1} ], "max_tokens": 5}'
    payload, _ = ui_messages.payload_of(chat_request.parse(text))
    whole = chat_request.complete(payload, "m")
    assert b'"temperature":1e0,"tools":[ {"a" :1} ],"max_tokens":5' in whole


def test_stream_options_of_the_client_are_left_alone() -> None:
    assert sent(body([USER], stream_options={"a": 1}))["stream_options"] == {"a": 1}


def test_the_texts_of_a_message_are_joined() -> None:
    for role in ("system", "user"):
        said = message(role, text("Hel"), {"type": "data-x", "data": 1}, text('lo "you"\n😀'))
        assert converted(said) == [{"role": role, "content": 'Hello "you"\n😀'}]


def test_files_are_images_in_their_place() -> None:
    data = "data:image/png;base64,iVBORw0KGgo="
    (sent,) = converted(
        message(
            "user",
            {"type": "file", "mediaType": "image/png", "url": data, "filename": "a.png"},
            text("What is this?"),
            {"type": "file", "mediaType": "image", "url": "https://example.org/b"},
        )
    )
    assert sent["content"] == [
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/b"}},
    ]


def test_reasoning_sources_and_data_of_an_answer_are_left_out() -> None:
    said = message(
        "assistant",
        {"type": "step-start"},
        {"type": "reasoning", "text": "Hm", "state": "done"},
        text("Hello"),
        {"type": "source-url", "sourceId": "1", "url": "https://example.org"},
        {"type": "data-x", "data": {}},
        {"type": "file", "mediaType": "image/png", "url": "data:,"},
    )
    assert converted(USER, said)[1:] == [{"role": "assistant", "content": "Hello"}]


def test_an_answer_of_which_nothing_is_left_is_left_out() -> None:
    stopped = message("assistant", {"type": "step-start"}, {"type": "reasoning", "text": "Hm"})
    assert converted(USER, stopped, USER) == [{"role": "user", "content": "Hello"}] * 2


@pytest.mark.parametrize(
    ("part", "result"),
    [
        (tool("output-available", output="18 °C"), "18 °C"),
        (tool("output-available", output={"t": [18, "\n"]}), '{"t": [18, "\\n"]}'),
        (tool("output-available"), "null"),
        (tool("output-error", errorText="No city."), "No city."),
        (tool("output-denied", approval={"approved": False, "reason": "No!"}), "No!"),
        (tool("output-denied"), DENIED),
        (tool("approval-responded", approval={"id": "a", "approved": False}), DENIED),
        (tool("output-available", output="x", type="dynamic-tool", toolName="weather"), "x"),
    ],
)
def test_a_tool_s_part_is_its_call_and_its_result(part: dict[str, Any], result: str) -> None:
    assert converted(USER, message("assistant", part))[1:] == answered(result)


@pytest.mark.parametrize(
    "part",
    [
        tool("input-streaming"),
        tool("input-available"),
        tool("approval-requested", approval={"id": "a"}),
        tool("approval-responded", approval={"id": "a", "approved": True}),
        tool("output-available", output="x", preliminary=True),
    ],
)
def test_a_call_without_a_result_is_left_out(part: dict[str, Any]) -> None:
    said = converted(USER, message("assistant", text("Let me see."), part))
    assert said[1:] == [{"role": "assistant", "content": "Let me see."}]


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [({"input": None}, "{}"), ({"input": None, "rawInput": '{"a'}, '"{\\"a"'), ({"input": 5}, "5")],
)
def test_the_arguments_of_a_call_are_json(fields: dict[str, Any], arguments: str) -> None:
    part = tool("output-error", errorText="x", **fields)
    call = converted(USER, message("assistant", part))[1]["tool_calls"][0]
    assert call["function"]["arguments"] == arguments


def test_each_step_of_an_answer_is_a_message_with_its_results_after_it() -> None:
    step = {"type": "step-start"}
    steering = {"type": "steering-message", "id": "s", "parts": [text("Hurry")]}
    first, second = tool("output-available", output="1"), tool("output-available", output="2")
    parts = (step, text("a"), first, second, step, text("b"), steering, text("c"))
    said = message("assistant", *parts)
    call, result = answered("1")
    assert converted(USER, said)[1:] == [
        {"role": "assistant", "content": "a", "tool_calls": call["tool_calls"] * 2},
        result,
        {**result, "content": "2"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "Hurry"},
        {"role": "assistant", "content": "c"},
    ]


@pytest.mark.parametrize(
    ("messages", "fields", "continues"),
    [
        ([USER], {}, False),
        ([USER, message("assistant")], {}, True),
        ([USER, message("assistant")], {"messageId": None}, True),
        ([{**USER, "id": "m0"}, message("assistant")], {"messageId": "m0"}, False),
        ([message("assistant"), {**USER, "id": "m2"}], {"messageId": "m1"}, True),
        ([USER], {"messageId": "gone", "trigger": "regenerate-message"}, False),
    ],
)
def test_an_answer_continues_the_assistant_s_message_that_is_answered(
    messages: list[dict[str, Any]], fields: dict[str, Any], continues: bool
) -> None:
    fields = chat_request.parse(body(messages, **fields))
    assert ui_messages.payload_of(fields)[1] is continues


# --- what is refused


def test_messages_that_are_none_are_refused() -> None:
    sentence = "'messages' must be a list with at least one message."
    assert refusal_of(b'{"id": "chat_1"}').message == sentence
    for messages in (None, "x", 5, {}, []):
        assert refusal_of(body(messages)).message == sentence


@pytest.mark.parametrize(
    "wrong",
    [
        *(5, {"parts": []}, {"role": "user"}, {"role": "user", "content": "Hello"}),
        *({"role": "user", "parts": [each]} for each in (5, {"text": "Hello"}, {"type": 5})),
    ],
)
def test_a_message_of_another_form_is_refused(wrong: Any) -> None:
    sentence = "Each of 'messages' must have a 'role', and 'parts' that have a 'type'."
    assert refusal_of(body([USER, wrong])).message == sentence


IDLESS = tool("output-available", toolCallId=5)
NAMELESS = tool("output-available", type="dynamic-tool")
FAILED = tool("output-error")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (message("tool"), "The 'role' of a message must be system, user or assistant."),
        (message("user", {"type": "text"}), "A part of the type 'text' must have a 'text'."),
        (
            message("user", {"type": "file", "mediaType": "application/pdf", "url": "data:,"}),
            "A file in a message must be an image.",
        ),
        (
            message("user", {"type": "file", "mediaType": "image/png"}),
            "A file in a message must have a 'url'.",
        ),
        (message("assistant", NAMELESS), "A tool's part must have a 'toolName'."),
        (message("assistant", IDLESS), "A tool's part must have a 'toolCallId'."),
        (message("assistant", FAILED), "A tool's error must have an 'errorText'."),
    ],
)
def test_what_can_not_be_used_is_refused_with_its_name(
    wrong: dict[str, Any], sentence: str
) -> None:
    refusal = refusal_of(body([USER, wrong]))
    assert (refusal.message, refusal.status, refusal.code) == (sentence, 400, "invalid_request")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        *((each, "invalid_session_id") for each in ("a/b", "..", "x" * 129)),
        *((each, "invalid_request") for each in (5, ["a"], *TAKEN)),
    ],
)
def test_an_id_that_can_not_be_a_chat_s_is_refused(wrong: Any, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ui_messages.chat_id_of(chat_request.parse(body([USER], id=wrong)))
    assert caught.value.code == code


def test_a_question_may_have_a_chat() -> None:
    assert ui_messages.chat_id_of(chat_request.parse(body([USER]))) == "chat_1"
    for fields in (b"{}", b'{"id": null}', b'{"id": ""}'):
        assert ui_messages.chat_id_of(chat_request.parse(fields)) == ""


def test_messages_are_read_as_deep_as_a_body_may_be_nested() -> None:
    """What is nested deeper has been refused before."""
    for depth in range(100, 2000, 10):
        parts = b'[{"type":"a","parts":' * depth + b"[]" + b"}]" * depth
        try:
            fields = chat_request.parse(b'{"messages":[{"role":"user","parts":%b}]}' % parts)
        except InvalidRequest:
            break
        ui_messages.payload_of(fields)
    assert 100 < depth < 1990


# --- any texts


@given(
    st.lists(st.text(st.characters(), max_size=6), max_size=4),
    st.recursive(st.text(st.characters(), max_size=4), lambda inner: st.lists(inner, max_size=2)),
)
def test_any_text_arrives_as_it_was(texts: list[str], output: Any) -> None:
    """Also half of an emoji, which JSON can write."""
    part = tool("output-available", output=output, input=output)
    user, call, result = converted(message("user", *map(text, texts)), message("assistant", part))
    assert _units(user["content"]) == _units("".join(texts))
    arguments = call["tool_calls"][0]["function"]["arguments"]
    assert _units(json.loads(arguments)) == _units(output)
    said = result["content"] if isinstance(output, str) else json.loads(result["content"])
    assert _units(said) == _units(output)


def _units(value: Any) -> str:
    """A value by its UTF-16, in which two halves of an emoji are one."""
    return json.dumps(value)


# --- what it costs


SMALLEST = [
    b'[{"role":"","parts":[%b]}]' % b",".join([b'{"type":""}'] * 20_000),
    b"[%b]" % b",".join([b'{"role":"","parts":[]}'] * 12_000),
    b'[{"role":"user","parts":[{%b}]}]' % b",".join([b'"type":""'] * 40_000),
]


@pytest.mark.parametrize("messages", SMALLEST, ids=lambda text: repr(text[:30]))
def test_many_of_the_smallest_parts_are_refused_quickly(messages: bytes) -> None:
    whole = b'{"messages": %b}' % messages
    assert refusal_of(whole).message == "The messages have more than 4000 parts."
    assert cost(lambda: refusal_of(whole)) < 3 * cost(lambda: json.loads(whole))


def test_a_megabyte_of_text_is_converted_quickly() -> None:
    whole = body([message("user", text("a" * 1_000_000))])
    assert len(sent(whole)["messages"][0]["content"]) == 1_000_000
    assert cost(lambda: sent(whole)) < 50 * cost(lambda: json.loads(whole))


@pytest.mark.parametrize("said", [rb"\\", rb"\ud83d", rb"\\ud83d", rb"\ud83d\\"])
def test_a_megabyte_with_half_an_emoji_is_converted_quickly(said: bytes) -> None:
    """Between two steps others have a turn."""
    part = rb'{"type":"text","text":"\ud83d%b"}' % (said * (1_000_000 // len(said)))
    whole = b'{"messages":[{"role":"user","parts":[%b]}]}' % part
    fields = chat_request.parse(whole)
    payload, _ = ui_messages.payload_of(fields)
    steps: list[Callable[[], object]] = [
        lambda: chat_request.parse(whole),
        lambda: ui_messages.payload_of(fields),
        lambda: chat_request.check(payload),
    ]
    assert max(map(cost, steps)) < 8 * cost(lambda: json.loads(whole))
