"""How many tokens a question and its answer can have at most."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.errors import InvalidRequest
from chatproxy.protocols import chat_request
from chatproxy.protocols.bounds import IMAGE_TOKENS, Bounds

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
LINK = {"type": "image_url", "image_url": {"url": "https://example.com/1.png"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "A" * 9000}}
TEXT = {"type": "text", "text": "What is this?"}


def body_of(content: Any = "Hello", **fields: Any) -> bytes:
    payload = {"messages": [{"role": "user", "content": content}], **fields}
    text = json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return chat_request.complete(chat_request.parse(text), "deepseek-flash")


def bounds(content: Any = "Hello", choices: int = 1, **fields: Any) -> Bounds:
    return Bounds(body_of(content, **fields), choices)


@given(st.text())
def test_a_prompt_is_bounded_by_the_bytes_of_its_text(text: str) -> None:
    """A tokenizer that falls back to bytes makes one token of each at the most."""
    assert bounds(text).prompt >= len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ([IMAGE], IMAGE_TOKENS),
        ([TEXT, LINK, IMAGE], 2 * IMAGE_TOKENS),
        ([SOUND], IMAGE_TOKENS + 9000),
        ([{"type": "file", "file": {"file_id": "1"}}], IMAGE_TOKENS),
        ([{"image_url": LINK["image_url"]}], IMAGE_TOKENS),
    ],
)
def test_an_image_counts_as_so_many_tokens_whatever_its_bytes(
    parts: list[Any], tokens: int
) -> None:
    assert tokens <= bounds(parts).prompt - bounds("").prompt < tokens + 300


def test_a_type_that_is_written_in_another_way_counts_no_less() -> None:
    body = body_of([LINK]).replace(b'"image_url"', rb'"im\u0061ge_url"', 1)
    assert Bounds(body, 1).prompt > IMAGE_TOKENS
    assert bounds(["no object", 5]).prompt > 0
    assert Bounds(body_of([IMAGE]).replace(b"AAAA", rb"\ud800", 1), 1).prompt > IMAGE_TOKENS


def test_tools_count_with_what_is_put_around_them() -> None:
    assert bounds(tools=[]).prompt > bounds().prompt + 1000


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 300}, 300),
        ({"max_completion_tokens": 200}, 200),
        ({"max_tokens": 300, "max_completion_tokens": 200}, 200),
        ({"max_tokens": 10**400}, 10**9),
    ],
)
def test_an_answer_is_as_long_as_its_client_says(
    fields: dict[str, Any], wanted: int | None
) -> None:
    assert bounds(**fields).completion == wanted
    assert bounds(choices=3, **fields).completion == (wanted and 3 * wanted)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, 2.0, "300", True, []])
def test_a_length_that_is_no_number_is_refused_and_a_number_of_choices(
    name: str, wrong: Any
) -> None:
    """The service might take it for none, or for the number that it looks like."""
    with pytest.raises(InvalidRequest, match=f"'{name}' must be a whole number"):
        bounds(**{name: wrong})


@pytest.mark.parametrize(
    ("fields", "limited"),
    [
        ({}, {"max_tokens": 100}),
        ({"max_tokens": None}, {"max_tokens": 100}),
        ({"max_tokens": 101}, {"max_tokens": 100}),
        ({"max_tokens": 100}, {"max_tokens": 100}),
        ({"max_tokens": 20}, {"max_tokens": 20}),
        ({"max_completion_tokens": 101}, {"max_tokens": 100, "max_completion_tokens": 100}),
        ({"max_completion_tokens": 20}, {"max_tokens": 20, "max_completion_tokens": 20}),
        (
            {"max_tokens": 500, "max_completion_tokens": 20},
            {"max_tokens": 20, "max_completion_tokens": 20},
        ),
        (
            {"max_tokens": 500, "max_completion_tokens": 200},
            {"max_tokens": 100, "max_completion_tokens": 100},
        ),
    ],
)
def test_what_is_granted_is_sent_and_every_other_byte_stays(
    fields: dict[str, Any], limited: dict[str, int]
) -> None:
    text = b'{"messages":[{"role":"user","content":"\\u00e9 \\ud800"}],"temperature":1.0e0'
    for name, value in fields.items():
        text += b',"%b": %b' % (name.encode(), json.dumps(value).encode())
    body = chat_request.complete(chat_request.parse(text + b"}"), "m")
    made = Bounds(body, 1).limited(100)
    for name, value in limited.items():
        before, after = (
            b'"%b":%b' % (name.encode(), json.dumps(each).encode())
            for each in (fields.get(name), value)
        )
        body = body.replace(b"%b," % before, b"")
        assert made.count(after) == 1
        made = made.replace(b",%b" % after, b"")
    assert made == body


def test_choices_share_what_is_granted() -> None:
    assert json.loads(bounds(choices=3).limited(100))["max_tokens"] == 33


@pytest.mark.parametrize(
    "content",
    ["x" * (1 << 20), [TEXT] * 16_000, [{}] * 24_000, [[0.1] * 49_000], "\\u00e9" * 170_000],
)
def test_a_megabyte_takes_some_milliseconds(content: Any) -> None:
    body = body_of(content)
    begun = time.thread_time()
    Bounds(body, 1).limited(10)
    assert time.thread_time() - begun < 0.1  # 5 ms, on a machine that does nothing else
