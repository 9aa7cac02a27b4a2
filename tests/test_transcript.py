"""What an answer says: text, reasoning and tool calls out of DeepSeek's events."""

from __future__ import annotations

import pytest

from chatproxy import sse
from chatproxy.answers.transcript import Transcript, finished_in

from .support.spoken import chunk, delta


def transcript_of(*blocks: bytes) -> Transcript:
    transcript = Transcript()
    transcript.add(blocks)
    return transcript


def test_the_text_and_the_reasoning_are_joined_each_on_its_own() -> None:
    transcript = transcript_of()
    assert (transcript.text, transcript.reasoning_text) == ("", "")
    for event in (
        delta(role="assistant", content=None, reasoning_content="Let me "),
        delta(content=None, reasoning_content="think."),
        delta(content="Hel", reasoning_content=None),
        delta(content="lo"),
    ):
        transcript.add([event])
    assert (transcript.text, transcript.reasoning_text) == ("Hello", "Let me think.")


def test_all_that_the_model_wrote_is_said_also_what_it_calls_tools_with() -> None:
    calls = [{"index": 0, "function": {"name": "search", "arguments": "{}"}}, {"index": 1}]
    said = transcript_of(
        delta(reasoning_content="Hm. "), delta(content="Yes ", tool_calls=calls)
    ).said
    assert said == "Hm. Yes search{}"


def test_what_a_service_has_a_name_of_its_own_for_is_said_too() -> None:
    """And one choice that says nothing hides no other."""
    choices = [{"delta": None}, {"delta": {"reasoning": "Hm. ", "refusal": "No."}}]
    assert transcript_of(chunk(None, choices=choices)).said == "Hm. No."


def test_no_more_than_the_limit_is_kept() -> None:
    transcript = Transcript(limit=1000)
    for _ in range(3000):
        transcript.add([delta(content="a" * 100)])
    assert len(transcript.text) == 1000


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: not json",
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
        b": a comment",
        b"event: ping\ndata: {}",
        sse.DONE,
    ],
    ids=lambda block: repr(block[:45]),
)
def test_what_looks_otherwise_is_passed_over(garbage: bytes) -> None:
    transcript = transcript_of(delta(content="a"), garbage, delta(content="b"))
    assert (transcript.text, transcript.reasoning_text) == ("ab", "")


def test_an_event_with_its_data_on_several_lines_is_understood() -> None:
    assert transcript_of(b'data: {"choices":\ndata: [{"delta": {"content": "x"}}]}').text == "x"


def test_a_choice_without_a_number_is_the_first() -> None:
    assert finished_in({"choices": [{"finish_reason": "stop"}]}) == {0}
    assert finished_in({"choices": [{"finish_reason": "stop", "index": 1}]}) == {1}
