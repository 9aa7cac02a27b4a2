"""What a client may send: session ids, and bodies that become DeepSeek's."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy import payload
from chatproxy.errors import InvalidRequest

MESSAGES = [{"role": "user", "content": "Hello"}]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates too: JSON can write them, and they must not become something else.
    | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def refusal_of(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        payload.parse(body)
    return caught.value


@pytest.mark.parametrize(
    "session_id",
    [
        "session_1718345013123_k3j9x0ab",
        "a",
        "A.b_c:d-9",
        "7" * 128,
        "...",
        ".a",
        "a..",
        "-",
        ":",
        "http:",
    ],
)
def test_an_id_of_the_allowed_characters_passes_unchanged(session_id: str) -> None:
    assert payload.check_session_id(session_id) == session_id


@pytest.mark.parametrize(
    "session_id",
    [
        "a b",
        "a/b",
        "a\n",
        "\na",
        "a\r\nb",
        "ä",
        "٣",
        "a%",
        "a,b",
        "x" * 129,
        " ",
        "a\x00",
        ".",
        "..",
    ],
)
def test_any_other_id_is_refused(session_id: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        payload.check_session_id(session_id)
    assert (caught.value.status, caught.value.code) == (400, "invalid_session_id")
    assert caught.value.message.startswith("The session id must be ")
    assert not payload.is_session_id(session_id)


@given(st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True) | st.from_regex(r"[.:-]{1,4}\Z"))
@settings(deadline=None, derandomize=True, database=None)
def test_every_id_arrives_in_the_path_of_its_stop_as_it_is(session_id: str) -> None:
    """Clients take the segments . and .. away, and nothing else of what an id may have."""
    if payload.is_session_id(session_id):
        path = f"/api/chat/cancel/{session_id}"
        sent = requests.Request("POST", f"http://chat.example{path}").prepare().path_url
        joined = urljoin("http://chat.example/page/", path)
        assert (sent, joined) == (path, f"http://chat.example{path}")


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_id_is_refused_in_the_agreed_words(missing: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        payload.check_session_id(missing)
    assert (caught.value.message, caught.value.code) == ("Missing sessionId", "missing_session_id")


def test_a_json_object_is_parsed() -> None:
    assert payload.parse(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"\xff\xfe\xfd",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b"[" * 200_000,
        b'{"a": %s}' % (b"9" * 5000),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    refusal = refusal_of(body)
    assert (refusal.status, refusal.code) == (400, "invalid_json")
    assert refusal.message.startswith("The body is ")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1", b"true"])
def test_json_that_is_not_an_object_is_refused(body: bytes) -> None:
    refusal = refusal_of(body)
    assert refusal.code == "invalid_request"
    assert refusal.message == "The body must be a JSON object."


@given(st.binary(max_size=50))
def test_no_body_does_more_than_be_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(payload.parse(body), dict)


def test_messages_with_roles_are_enough() -> None:
    payload.check({"messages": [{"role": "user"}, {"role": "assistant", "content": None}]})


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, r"\A'messages' must"),
        ({"messages": []}, r"\A'messages' must"),
        ({"messages": "Hello"}, r"\A'messages' must"),
        ({"messages": {"role": "user"}}, r"\A'messages' must"),
        ({"messages": None}, r"\A'messages' must"),
        ({"messages": ["Hello"]}, "Each of 'messages'"),
        ({"messages": [{"content": "Hello"}]}, "Each of 'messages'"),
        ({"messages": [{"role": 1}]}, "Each of 'messages'"),
        ({"messages": [*MESSAGES, None]}, "Each of 'messages'"),
        ({"messages": MESSAGES, "model": ""}, "'model'"),
        ({"messages": MESSAGES, "model": None}, "'model'"),
        ({"messages": MESSAGES, "model": 4}, "'model'"),
    ],
)
def test_a_payload_that_cannot_be_sent_is_refused_by_the_name_of_the_field(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named) as caught:
        payload.check(wrong)
    assert caught.value.code == "invalid_request"


def test_a_payload_without_a_model_gets_the_default_one() -> None:
    assert json.loads(payload.complete({"messages": MESSAGES}, "m")) == {
        "model": "m",
        "messages": MESSAGES,
        "stream": True,
    }


def test_the_model_of_the_request_stays() -> None:
    assert json.loads(payload.complete({"model": "pro"}, "m"))["model"] == "pro"


@pytest.mark.parametrize("said", [False, None, "no", 0])
def test_an_answer_is_always_streamed(said: object) -> None:
    assert json.loads(payload.complete({"stream": said}, "m"))["stream"] is True


@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_every_other_field_goes_on_untouched(fields: dict[str, Any]) -> None:
    body = json.dumps({**fields, "model": "m", "stream": True}).encode()
    assert json.loads(payload.complete(payload.parse(body), "other")) == json.loads(body)


def test_completing_leaves_the_payload_as_it_is() -> None:
    given_payload = {"messages": MESSAGES}
    payload.complete(given_payload, "m")
    assert given_payload == {"messages": MESSAGES}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_only_an_application_can_have_put_in_is_not_blamed_on_the_client(
    value: object,
) -> None:
    with pytest.raises((TypeError, ValueError)):
        payload.complete({"messages": MESSAGES, "temperature": value}, "m")


def test_a_number_too_large_for_json_is_refused_and_not_changed() -> None:
    with pytest.raises(InvalidRequest):
        payload.complete(payload.parse(b'{"a": 1e999}'), "m")


def test_what_is_nested_too_deeply_to_be_written_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    try:
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            payload.complete({"messages": deep}, "m")
    finally:
        while deep:  # one by one: to free them at once takes a deep stack
            deep = deep.pop()
