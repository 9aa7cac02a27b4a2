"""What an answer says: text, reasoning and usage out of DeepSeek's events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy import sse
from chatproxy.answers.transcript import Transcript, finished_in

USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def chunk(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode()


def delta(**fields: Any) -> bytes:
    return chunk(choices=[{"index": 0, "delta": fields}])


def transcript_of(*blocks: bytes) -> Transcript:
    transcript = Transcript()
    transcript.add(blocks)
    return transcript


def test_the_text_and_the_reasoning_are_joined_each_on_its_own() -> None:
    transcript = transcript_of(
        delta(role="assistant", content=None, reasoning_content="Let me "),
        delta(content=None, reasoning_content="think."),
        delta(content="Hel", reasoning_content=None),
        delta(content="lo"),
    )
    assert transcript.text == "Hello"
    assert transcript.reasoning_text == "Let me think."


def test_what_comes_later_is_added() -> None:
    transcript = transcript_of(delta(content="a"))
    transcript.add([delta(content="b")])
    assert transcript.text == "ab"


def test_the_usage_is_kept_also_where_the_chunk_has_no_choices() -> None:
    assert transcript_of(chunk(choices=[], usage=USAGE)).usage == USAGE
    assert transcript_of(chunk(usage=USAGE)).usage == USAGE


def test_a_null_usage_neither_counts_nor_hides_the_real_one() -> None:
    assert transcript_of(chunk(choices=[], usage=None)).usage is None
    assert transcript_of(chunk(choices=[], usage=USAGE), chunk(usage=None)).usage == USAGE


def test_an_answer_of_which_nothing_came_is_empty() -> None:
    transcript = transcript_of()
    assert (transcript.text, transcript.reasoning_text, transcript.usage) == ("", "", None)


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: not json",
        b"data",
        b"data: null",
        b"data: []",
        b"data: 7",
        b'data: "text"',
        b"data: {}",
        b'data: {"choices": null}',
        b'data: {"choices": 5}',
        b'data: {"choices": ["x"]}',
        b'data: {"choices": [{}]}',
        b'data: {"choices": [{"delta": null}]}',
        b'data: {"choices": [{"delta": {"content": 5}}]}',
        b'data: {"choices": [{"delta": {"content": ["x"]}}]}',
        b'data: {"usage": "much"}',
        b"data: \xff\xfe",
        b"data: " + b"[" * 200_000,
        b'data: {"n": %s}' % (b"9" * 5000),
        b": a comment",
        b"event: ping\ndata: {}",
        sse.DONE,
    ],
    ids=lambda block: repr(block[:45]),
)
def test_what_looks_otherwise_is_passed_over(garbage: bytes) -> None:
    transcript = transcript_of(delta(content="a"), garbage, delta(content="b"))
    assert (transcript.text, transcript.reasoning_text, transcript.usage) == ("ab", "", None)


@given(st.binary(max_size=60))
def test_no_bytes_do_harm(data: bytes) -> None:
    transcript_of(b"data: " + data)


def test_an_event_with_its_data_on_several_lines_is_understood() -> None:
    assert transcript_of(b'data: {"choices":\ndata: [{"delta": {"content": "x"}}]}').text == "x"


def test_bytes_that_are_not_utf_8_do_not_lose_the_text_around_them() -> None:
    block = b'data: {"choices": [{"delta": {"content": "a\xffb"}}]}'
    assert transcript_of(block).text == "a\ufffdb"


def test_a_choice_without_a_number_is_the_first() -> None:
    assert finished_in({"choices": [{"finish_reason": "stop"}]}) == {0}
    assert finished_in({"choices": [{"finish_reason": "stop", "index": 1}]}) == {1}
