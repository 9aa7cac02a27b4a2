"""The body of a request: what of it is refused, and what of it goes to DeepSeek."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy.errors import InvalidRequest
from chatproxy.protocols import chat_request
from chatproxy.protocols.bounds import Bounds

from .support.costs import cost

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
        chat_request.parse(body)
    return caught.value


def sent(body: bytes, *preparers: Callable[[dict[str, Any]], Any]) -> bytes:
    """What of a client's body goes to DeepSeek, without the fields that are added to it."""
    fields = chat_request.parse(body)
    if preparers:
        fields = chat_request.change(fields, preparers)
    whole = chat_request.complete(fields, "m")
    assert whole.startswith(b'{"model":"m",')
    assert whole.endswith(b',"stream":true}')
    return b"{%b}" % whole[len(b'{"model":"m",') : -len(b',"stream":true}')]


TEXTS = [
    *(b"1e9", b"1E+9", b"1.10", b"-0.0", b"1e999", b"0.30000000000000000000000001"),
    *(b"12345678901234567890123456789", b"9" * 5000),
    rb'"\u00e9\/\u0000\ud83d\ude00"',
    '"é😀\x7f"'.encode(),
    rb'"half of an emoji: \ud83d"',
    rb'{"\udc00": ["\\ud83d", "\\\ud83d", "C:\\\\ud83d"]}',
    b'{"z": 1, "a": [ ], "z": 2}',
    b"[1 , 2,\t{ } ]",
    "\U0010ffff".join('""').encode(),
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
def test_a_field_that_nobody_changes_leaves_as_the_same_json_text(text: bytes) -> None:
    assert sent(b'{ "messages" : [] , "field" :%b}' % text) == b'{"messages":[],"field":%b}' % text


@pytest.mark.parametrize("text", [t for t in TEXTS if t != b"1e999" and len(t) < 5000])
def test_a_preparer_gets_values_and_what_it_leaves_alone_keeps_its_text(text: bytes) -> None:
    seen: list[Any] = []

    def add_user(fields: dict[str, Any]) -> None:
        seen.append(fields["field"])
        fields["user"] = "u"

    assert sent(b'{"field":%b,"n":1}' % text, add_user) == b'{"field":%b,"n":1,"user":"u"}' % text
    assert seen == [json.loads(text)]


def test_what_a_preparer_changes_within_a_field_is_sent() -> None:
    def double(fields: dict[str, Any]) -> dict[str, Any]:
        fields["a"][0]["b"] *= 2
        return {**fields, "c": 1}

    assert (
        sent(b'{"a":[{"b":1e2}],"c":1.0,"d":1e2}', double) == b'{"a":[{"b":200.0}],"c":1,"d":1e2}'
    )


@pytest.mark.parametrize("text", [b"1e999", b"9" * 5000])
def test_a_number_that_no_preparer_could_be_given_is_refused_if_there_is_one(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="too large"):
        chat_request.change(chat_request.parse(b'{"a": [%b]}' % text), [lambda fields: None])


def test_of_two_fields_of_one_name_the_last_is_checked_and_sent() -> None:
    body = rb'{"a": 1, "messages": [], "b": 2, "\u0061": 3}'
    assert sent(body) == b'{"a":3,"messages":[],"b":2}'


def test_a_byte_order_mark_is_no_part_of_a_body() -> None:
    assert sent(b'\xef\xbb\xbf{"a": 1}') == b'{"a":1}'


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"{'a': 1}", b"\xff\xfe\xfd", b'{"a": 1} {}', '{"a": 1}'.encode("utf-16")),
        *(b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": {"b": [01]}}'),
        *(b"[" * 200_000, b'{"a":%b}' % (b"[" * 2000 + b"]" * 2000)),
        *(b'{"a": ["\\q"]}', b'{"a": "\\ud83d", "b": "\\ud8"}', b'{"a": "\n"}'),
        *(b'{"a": ["\xff"]}', b'{"a": "\xed\xa0\x80"}'),
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


def test_the_number_of_fields_is_bounded() -> None:
    """Each is handled one by one, so a megabyte of them would hold everybody up."""
    fields = [b'"%d":0' % number for number in range(chat_request.MOST_FIELDS + 1)]
    assert len(chat_request.parse(b"{%b}" % b",".join(fields[1:]))) == chat_request.MOST_FIELDS
    refusal = refusal_of(b"{%b}" % b",".join(fields))
    assert refusal.code == "invalid_request"
    assert refusal.message == "The body has more than 1000 fields."


def number_of(value: Any) -> int:
    """How many values there are in one, and itself; one that is empty is two."""
    if not isinstance(value, (list, dict)):
        return 1
    inner = value.values() if isinstance(value, dict) else value
    return 1 + (sum(map(number_of, inner)) or 1)


@given(st.dictionaries(st.text(max_size=8), values, max_size=5), st.booleans())
def test_the_number_of_values_is_bounded(fields: dict[str, Any], escaped: bool) -> None:
    """They may take many times the memory and the time of their text."""
    body = json.dumps(fields, ensure_ascii=escaped).encode("utf-8", "backslashreplace")
    number = number_of(fields)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chat_request, "MOST_VALUES", number)
        chat_request.parse(body)
        patched.setattr(chat_request, "MOST_VALUES", number - 1)
        refusal = refusal_of(body)
    assert (refusal.status, refusal.code) == (400, "invalid_request")
    assert refusal.message == f"The body has more than {number - 1} values."


def test_a_name_may_have_half_an_emoji_and_what_stands_for_one_here() -> None:
    names = [r"\ud800", r"a\"\u005c\uDfffb", r"\\ud800", r"\ufdd0zzz"]
    body = "{" + ",".join(f'"{name}":1' for name in names) + "}"
    assert chat_request.parse(body.encode()).keys() == json.loads(body).keys()


def test_a_megabyte_of_the_smallest_texts_is_too_many() -> None:
    for text in (b'"",', b'",",'):
        body = b'{"a":[%b0]}' % (text * (MEGABYTE // len(text)))
        assert refusal_of(body).message == "The body has more than 50000 values."


@pytest.mark.parametrize("text", [b"[a, b, {c}], ", rb"\\[", rb"\"[,{", rb"\\\"[,"], ids=repr)
def test_what_is_in_a_text_is_no_value(text: bytes) -> None:
    body = b'{"a":"%b"}' % (text * (MEGABYTE // len(text)))
    assert sent(body) == body


@given(st.binary(max_size=50))
def test_no_body_does_more_than_be_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(chat_request.parse(body), dict)


def test_messages_with_roles_are_enough() -> None:
    chat_request.check({"messages": [{"role": "user"}, {"role": "assistant", "content": None}]})


@pytest.mark.parametrize("text", [rb"half an emoji: \ud83d", rb"both: \ud83d\ude00 \\ud83d"])
def test_messages_may_have_half_a_surrogate_pair(text: bytes) -> None:
    chat_request.check(
        chat_request.parse(b'{"messages": [{"role": "user", "content": "%b"}]}' % text)
    )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, r"\A'messages' must"),
        *(({"messages": each}, r"\A'messages' must") for each in ([], "Hello", MESSAGES[0], None)),
        ({"messages": ["Hello"]}, "Each of 'messages'"),
        ({"messages": [{"content": "Hello"}]}, "Each of 'messages'"),
        ({"messages": [{"role": 1}]}, "Each of 'messages'"),
        ({"messages": [*MESSAGES, None]}, "Each of 'messages'"),
        *(({"messages": MESSAGES, "model": each}, "'model'") for each in ("", None, 4)),
    ],
)
def test_a_payload_that_cannot_be_sent_is_refused_by_the_name_of_the_field(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named) as caught:
        chat_request.check(chat_request.parse(json.dumps(wrong).encode()))
    assert caught.value.code == "invalid_request"


def test_a_payload_without_a_model_gets_the_default_one_and_is_left_as_it_is() -> None:
    payload = {"messages": MESSAGES}
    assert json.loads(chat_request.complete(payload, "m")) == {
        "model": "m",
        "messages": MESSAGES,
        "stream": True,
    }
    assert payload == {"messages": MESSAGES}


def test_the_model_of_the_request_stays_and_its_answer_is_always_streamed() -> None:
    for said in (False, None, "no", 0):
        sent = json.loads(chat_request.complete({"model": "pro", "stream": said}, "m"))
        assert sent == {"model": "pro", "stream": True}


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_every_other_field_goes_on_untouched(fields: dict[str, Any]) -> None:
    body = json.dumps({**fields, "model": "m", "stream": True}).encode()
    assert json.loads(chat_request.complete(chat_request.parse(body), "other")) == json.loads(body)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_only_an_application_can_have_put_in_is_not_blamed_on_the_client(
    value: object,
) -> None:
    with pytest.raises((TypeError, ValueError)):
        chat_request.complete({"messages": MESSAGES, "temperature": value}, "m")


def test_an_answer_has_as_many_choices_as_are_asked_for() -> None:
    assert chat_request.choices_of({"n": msgspec.Raw(b"2")}) == 2
    assert chat_request.choices_of({}) == 1
    for said in (b"1", b"0", b"-1", b"null", b'"2"', b"2.5", b"{"):
        assert chat_request.choices_of({"n": msgspec.Raw(said)}) == 1


MEGABYTE = 1 << 20
LARGE = {
    "floats": b'{"a":[%b]}' % b",".join([b"1.25"] * (MEGABYTE // 5)),
    "objects": b'{"a":[%b]}' % b",".join([b"{}"] * (MEGABYTE // 3)),
    "nested lists": b'{"a":%b' % (b"[" * MEGABYTE),
    "messages": b'{"messages":[%b]}' % b",".join([b'{"role":""}'] * (MEGABYTE // 12)),
    "messages without roles": b'{"messages":[%b]}' % b",".join([b"{}"] * (MEGABYTE // 3)),
    "fields": b"{%b}" % b",".join(b'"%x":1' % number for number in range(MEGABYTE // 10)),
    "text": b'{"a":"%b"}' % ("\u00e9".encode() * (MEGABYTE // 2)),
}


@pytest.fixture(scope="module")
def of_numbers() -> float:
    """What it costs to decode a megabyte of numbers."""
    return cost(lambda: json.loads(LARGE["floats"]))


def test_a_megabyte_is_looked_through_in_a_fraction_of_the_time_to_decode_numbers(
    of_numbers: float,
) -> None:
    """Anybody may send it, and nothing else runs meanwhile."""

    def look_through(body: bytes) -> None:
        with contextlib.suppress(InvalidRequest):
            chat_request.check(chat_request.parse(body))

    costs = {name: cost(partial(look_through, body)) for name, body in LARGE.items()}
    assert {name for name in costs if costs[name] > of_numbers / 2} == set()


#: What takes longest to decode, to compare or to write.
SMALL = {
    "empty lists": b"[]",
    "nested lists": b"[[[[[[[[[]]]]]]]]]",
    "objects": b'{"":1}',
    "numbers": b"1e9",
    "long numbers": b"123456789012.3456789e99",
    "texts": b'""',
    "half emojis": rb'"\ud83d\ud83d"',
    "messages": b'{"role":""}',
    "messages with parts": b'{"role":"","content":[{},{},{},{},{}]}',
    "messages with half emojis": rb'{"role":"","content":"\ud83d"}',
}


def as_many_as_may_be(one: bytes) -> bytes:
    values = 1 + sum(map(one.count, (b",", b"[", b"{")))
    number = min(MEGABYTE // (len(one) + 1), chat_request.MOST_VALUES // values - 10)
    items = b",".join([one] * number)
    if b"role" in one:
        return b'{"messages":[%b]}' % items
    return b'{"messages":[{"role":"user"}],"a":[%b]}' % items


@pytest.mark.parametrize("name", SMALL)
def test_whatever_an_application_looks_at_no_step_takes_long(name: str, of_numbers: float) -> None:
    """Between two of them others have a turn."""
    body = as_many_as_may_be(SMALL[name])
    fields = chat_request.parse(body)
    whole = chat_request.complete(fields, "m")
    steps: list[Callable[[], object]] = [
        partial(chat_request.parse, body),
        partial(chat_request.check, fields),
        partial(chat_request.change, fields, [lambda fields: None]),
        partial(Bounds, whole, 1),
    ]
    assert max(map(cost, steps)) < of_numbers


def test_what_is_nested_too_deeply_to_be_written_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    try:
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            chat_request.complete({"messages": deep}, "m")
    finally:
        while deep:  # one by one: to free them at once takes a deep stack
            deep = deep.pop()
