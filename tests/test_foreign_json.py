"""What a peer has sent as JSON: decoded, or found to be none, without an error."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy import sse
from chatproxy.answers.foreign_json import decoded, value_of

from .support.costs import cost


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b' {"a": [1, 1.5, null]} ', {"a": [1, 1.5, None]}),
        (b"\xef\xbb\xbf[1]", [1]),
        ('{"a": "é"}'.encode("utf-16"), {"a": "é"}),
        (b'"a\xffb"', "a\ufffdb"),
        (rb'"\ud83d"', "\ud83d"),
        (b"[-Infinity, 1e400]", [float("-inf"), float("inf")]),
    ],
)
def test_what_is_json_to_somebody_is_decoded(text: bytes, value: Any) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"<html>", b"\xff", b"[" * 200_000, b'{"a":' * 200_000, b"9" * 5000, b"[1]["],
)
def test_what_is_none_is_no_error(text: bytes) -> None:
    """Nor is it too deep for the stack, or a number too long for Python."""
    assert value_of(text) is None
    assert decoded(msgspec.json.Decoder(list[str]).decode, text) is None


def test_a_text_of_another_shape_or_not_in_utf_8_is_not_what_was_expected() -> None:
    decode = msgspec.json.Decoder(list[str]).decode
    assert decoded(decode, b'["a"]') == ["a"]
    assert decoded(decode, b"[1]") is None
    assert decoded(decode, b'["\xff"]') is None


@pytest.mark.parametrize("digits", [1, 20, 100, 760])
def test_numbers_take_no_longer_than_json_needs_for_them(digits: int) -> None:
    """As those do for msgspec that have more digits than a float."""
    number = b"0.%be-300," % (b"3" * digits)
    text = b"[%b1]" % (number * (sse.MAX_EVENT_BYTES // len(number)))
    assert cost(lambda: value_of(text)) < 2.5 * cost(lambda: json.loads(text))


@given(st.binary(max_size=60))
def test_no_bytes_do_harm(text: bytes) -> None:
    value_of(text)
