"""Tools: functions that a model calls, under a run, until it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import pytest

from chatproxy import Answer, Refusal, Run, sse, tools
from chatproxy.protocols import native
from chatproxy.protocols.ai_sdk import AiSdkEncoder
from chatproxy.runs.parts import MOST_TOOL_CALLS
from chatproxy.tools import MOST_RESULT_BYTES, Tool

from .support.instant import HELLO, Instant, say
from .support.waiting import PATIENCE, wait_for

Chat = Callable[..., Answer]


def call(number: int, name: str, **arguments: Any) -> dict[str, Any]:
    """A piece of a tool call, whole."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"index": number, "id": f"c{number}", "type": "function", "function": function}


def calls(*wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of an answer that asks for tools; the arguments come in two pieces."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": "Let me look. "}}]}]
    for each in wanted:
        first = {**each, "function": {**each["function"], "arguments": ""}}
        rest = {"index": each["index"], "function": {"arguments": each["function"]["arguments"]}}
        for piece in (first, rest):
            chunks.append({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})
    last = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    return [*chunks, {"choices": [last]}]


@pytest.fixture
def ask(answer: Chat, upstream: Instant) -> Callable[..., Answer]:
    """Begins an answer whose model asks for these tools once, and then says what it has got."""

    def begin(functions: list[Any], *wanted: dict[str, Any], **options: Any) -> Answer:
        upstream.says = lambda asked: calls(*wanted) if asked == "Hello" else [say(asked)]
        return answer(lambda run, payload: tools.ask(run, payload, functions, **options))

    return begin


def test_a_function_is_described_by_its_hints_and_its_docstring() -> None:
    def weather(
        run: Run,
        city: Annotated[str, msgspec.Meta(description="Its name.")],
        days: int = 1,
        unit: Literal["C", "F"] = "C",
    ) -> str:
        """The weather
        of a city.

        For programmers.
        """

    assert Tool(weather).description == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Its name."},
                    "days": {"type": "integer", "default": 1},
                    "unit": {"enum": ["C", "F"], "default": "C"},
                },
                "required": ["city"],
            },
        },
    }


def test_what_has_no_names_can_not_be_a_tool() -> None:
    async def later() -> None: ...

    for function in (print, later, partial(shout, 1), lambda x, /: x):
        with pytest.raises(TypeError, match=r"A tool must be|must name its parameters"):
            Tool(function)


def test_the_model_gets_what_its_tools_give_and_the_client_hears_of_both(
    ask: Callable[..., Answer], upstream: Instant
) -> None:
    """All are called at once, and told in the order in which they were asked for."""
    both = threading.Barrier(2, timeout=PATIENCE)

    def add(run: Run, a: int, b: int = 1) -> dict[str, int]:
        assert run.name == "run-0"
        both.wait()
        return {"sum": a + b}

    def spell(word: str) -> str:
        both.wait()
        return " ".join(word)

    got = ask([add, Tool(spell)], call(0, "spell", word="abc"), call(1, "add", a=2))
    parts = list(got)
    assert got.text == 'Let me look. {"sum":3}'
    assert got.tool_calls == []
    told = [(part.name, part.data["toolCallId"]) for part in parts if part.name]
    assert told[:2] == [("tool-call", "c0"), ("tool-call", "c1")]
    results = [part.data for part in parts if "output" in part.data]
    got_by_id = {each["toolCallId"]: each["output"] for each in results}
    assert got_by_id == {"c0": "a b c", "c1": {"sum": 3}}
    asked = upstream.asked[1]["messages"]
    assert asked[0] == HELLO["messages"][0]
    assert asked[1]["content"] == "Let me look. "
    assert [each["function"]["name"] for each in asked[1]["tool_calls"]] == ["spell", "add"]
    given = [(each["tool_call_id"], each["content"]) for each in asked[2:]]
    assert given == [("c0", "a b c"), ("c1", '{"sum":3}')]


def divide(a: int, b: int) -> float:
    return a / b


def ask_elsewhere() -> None:
    raise Refusal("Not today.")


def shout(times: int) -> str:
    return "x" * times


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (call(0, "divide", a=1, b=0), "The tool failed."),
        (call(0, "ask_elsewhere"), "Not today."),
        (call(0, "divide", a=1), "Object missing required field `b`"),
        (call(0, "divide", a=1, b="x"), "Expected `int`, got `str` - at `$.b`"),
        (call(0, "shout", times=MOST_RESULT_BYTES + 1), "The result is larger than"),
        (call(0, "none"), "There is no tool of this name."),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(
    ask: Callable[..., Answer], wanted: dict[str, Any], sentence: str
) -> None:
    got = ask([divide, shout, ask_elsewhere], wanted)
    parts = list(got)
    assert got.text.startswith(f"Let me look. Error: {sentence}")
    (error,) = [part.data["errorText"] for part in parts if part.name == "tool-result"]
    assert error.startswith(sentence)


def test_whatever_a_tool_gives_the_answer_goes_on(ask: Callable[..., Answer]) -> None:
    outputs = ["好" * 70_000, float("nan"), '"' * 200_000, {"deep": [[["x"]]]}, "\ud83d", None, 7]

    def give() -> Any:
        return outputs.pop()

    while outputs:
        got = ask([give], call(0, "give"))
        got.read()
        assert got.wait() == "finished"


def test_whatever_the_arguments_are_the_answer_goes_on(ask: Callable[..., Answer]) -> None:
    for arguments in ("", "{", "[" * 2000, '{"times": "\\ud83d"}', "x" * 300_000):
        wanted = call(0, "shout")
        wanted["function"]["arguments"] = arguments
        assert ask([shout], wanted).read().startswith("Let me look. Error: ")


def test_more_calls_than_a_model_may_make_fail_the_answer(ask: Callable[..., Answer]) -> None:
    got = ask([shout], *[call(number, "shout", times=1) for number in range(MOST_TOOL_CALLS + 1)])
    assert got.wait() == "failed"


def test_few_of_many_calls_run_at_once(ask: Callable[..., Answer]) -> None:
    running, most, all_there = [0], [0], threading.Event()

    def count() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        if running[0] >= tools.AT_ONCE:
            all_there.set()
        all_there.wait(PATIENCE)
        running[0] -= 1

    ask([count], *[call(number, "count") for number in range(3 * tools.AT_ONCE)]).read()
    assert most[0] == tools.AT_ONCE


def test_the_reasoning_goes_back_with_the_calls(answer: Chat, upstream: Instant) -> None:
    """In thinking mode DeepSeek refuses them without."""
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]}
    upstream.says = lambda asked: (
        [thought, *calls(call(0, "shout", times=1))] if asked == "Hello" else [say("x")]
    )
    answer(lambda run, payload: tools.ask(run, payload, [shout])).read()
    assert upstream.asked[1]["messages"][1]["reasoning_content"] == "Hm."


def test_a_call_without_an_id_gets_one(ask: Callable[..., Answer], upstream: Instant) -> None:
    ask([shout], {**call(0, "shout", times=1), "id": None}).read()
    assert upstream.asked[1]["messages"][2]["tool_call_id"] == "call-0-0"


def test_a_model_that_asks_again_and_again_must_answer_without(
    answer: Chat, upstream: Instant
) -> None:
    upstream.says = lambda _: calls(call(0, "shout", times=1))
    got = answer(lambda run, payload: tools.ask(run, payload, [shout], rounds=2))
    got.read()
    assert [each.get("tool_choice") for each in upstream.asked] == [None, None, "none"]
    assert got.wait() == "finished"


def test_a_stop_in_a_tool_ends_it_and_nothing_is_asked_any_more(
    ask: Callable[..., Answer], upstream: Instant
) -> None:
    begun = threading.Event()

    def wait(run: Run) -> None:
        begun.set()
        run.sleep(3600)

    got = ask([wait], call(0, "wait"), call(1, "wait"))
    assert begun.wait(PATIENCE)
    receipt = got.cancel()
    assert receipt is not None
    assert receipt.left_behind == ()
    assert got.wait() == "stopped"
    assert len(upstream.asked) == 1


def test_a_tool_that_is_stopped_does_not_stay_open_in_the_ai_sdk_s_protocol() -> None:
    encoder = AiSdkEncoder("s")
    for event in (
        native.emitted("tool-call", {"toolCallId": "c1", "toolName": "look", "input": {}}),
        native.emitted("tool-call", {"toolCallId": "c2", "toolName": "look", "input": {}}),
        native.emitted("tool-result", {"toolCallId": "c1", "output": 1}),
    ):
        encoder.encode(sse.numbered(1, event))
    said = {"sessionId": "s", "reason": "user", "phase": "streaming", "events": 0}
    told = encoder.encode(sse.numbered(4, sse.event("stopped", said)))
    assert b'"tool-output-error","toolCallId":"c2","errorText":"The answer was stopped."' in told
    assert b'"c1"' not in told


def test_a_tool_that_does_not_hear_is_left_behind(ask: Callable[..., Answer]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def deaf() -> None:
        begun.set()
        go_on.wait(PATIENCE)

    got = ask([deaf], call(0, "deaf"))
    assert begun.wait(PATIENCE)
    receipt = got.cancel()
    assert receipt is not None
    assert receipt.left_behind == ("deaf",)
    go_on.set()
    wait_for(lambda: got.outcome == "stopped")
