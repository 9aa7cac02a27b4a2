"""What the GenAI conventions call the things that are known of an answer."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from chatproxy.answers.log import AnswerLog
from chatproxy.answers.question import Question
from chatproxy.answers.session import UNNAMED_CHAT, Outcome, SessionKey, StreamSession
from chatproxy.answers.upstream import Upstream
from chatproxy.answers.usage import Account, Cost, Usage, UsageSource, counted
from chatproxy.observability import genai


@pytest.mark.parametrize(
    ("url", "provider", "port"),
    [
        ("https://api.deepseek.com", "deepseek", 443),
        ("https://chat.openai.azure.com/openai", "azure.ai.openai", 443),
        ("https://api.openai.com/v1", "openai", 443),
        ("https://notopenai.com/v1", "my-vllm", 443),
        ("http://127.0.0.1:8000/v1", "my-vllm", 8000),
    ],
)
def test_a_provider_is_known_by_its_host_else_by_the_operators_name(
    url: str, provider: str, port: int
) -> None:
    found = genai.of_server(Upstream(url, name="My-vLLM"))
    assert (found["gen_ai.provider.name"], found["server.port"]) == (provider, port)


def test_what_is_asked_for_is_told_if_it_is_of_its_type() -> None:
    asked = {"max_tokens": 10, "temperature": 0, "top_p": "1", "seed": 1 << 70, "messages": []}
    found = genai.of_question(Question(json.dumps(asked).encode(), 2, "m" * 1000))
    assert {name: value for name, value in found.items() if name.startswith("gen_ai.request")} == {
        "gen_ai.request.model": "m" * 100,
        "gen_ai.request.stream": True,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 10,
        "gen_ai.request.temperature": 0.0,
    }
    for odd in (b"{", b'{"temperature": 1%b}' % (b"0" * 400)):
        assert genai.of_question(Question(odd))["gen_ai.operation.name"] == "chat"


PROVIDER = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "prompt_cache_hit_tokens": 64,
    "completion_tokens_details": {"reasoning_tokens": 20},
}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (Usage(), {}),
        (Usage(UsageSource.PROVIDER, {"completion_tokens": 3}), {"output_tokens": 3}),
        (counted(5, 0), {"input_tokens": 5, "output_tokens": 0}),
        (
            Usage(UsageSource.PROVIDER, PROVIDER),
            {
                "input_tokens": 100,
                "output_tokens": 30,
                "reasoning.output_tokens": 20,
                "cache_read.input_tokens": 64,
            },
        ),
    ],
)
def test_tokens_that_are_not_known_are_left_out(usage: Usage, counts: dict[str, int]) -> None:
    found = genai.of_account(Account(usage))
    told = {name: value for name, value in found.items() if name.startswith("gen_ai")}
    assert told == {f"gen_ai.usage.{name}": count for name, count in counts.items()}
    assert found["chatproxy.usage.source"] == usage.source.value


@pytest.mark.parametrize(("currency", "told"), [("USD", {"total": 0.5}), ("CNY", None)])
def test_what_langfuse_adds_up_is_each_token_once_and_only_dollars(
    currency: str, told: object
) -> None:
    usage = Usage(UsageSource.PROVIDER, PROVIDER)
    found = genai.of_account(Account(usage, Cost(Decimal("0.5"), currency)))
    assert (found["chatproxy.cost.amount"], found["chatproxy.cost.currency"]) == (0.5, currency)
    cost = found.get("langfuse.observation.cost_details")
    assert (cost and json.loads(str(cost))) == told
    details = json.loads(str(found["langfuse.observation.usage_details"]))
    cached, reasoning = {"input_cached_tokens": 64}, {"output_reasoning_tokens": 20}
    assert details == {"input": 36, **cached, "output": 10, **reasoning}


@pytest.mark.parametrize(
    ("chat", "found"),
    [
        (None, None),
        (SessionKey("ada", "chat_7"), "chat_7"),
        (SessionKey("ada", UNNAMED_CHAT), None),
    ],
)
def test_only_a_chat_that_its_client_has_named_is_a_conversation(
    chat: SessionKey | None, found: str | None
) -> None:
    session = StreamSession(SessionKey("ada", ""), AnswerLog(1), chat=chat)
    of_session = genai.of_session(session)
    assert [of_session.get(f"{name}.id") for name in ("gen_ai.conversation", "session")] == [
        *(found, found)
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"city": "北京", "at": None}, '{"city": "北京", "at": null}'),
        ([Decimal("0.5")], '["0.5"]'),
        ("\ud800", '"?"'),
        ({("no", "name"): 1}, ""),
        ("x" * genai.MOST_CONTENT, '"' + "x" * (genai.MOST_CONTENT - 1)),
    ],
)
def test_what_a_tool_is_given_is_told_as_json(value: object, told: str) -> None:
    assert genai.content(value) == told


@pytest.mark.parametrize(
    ("reasons", "outcome", "expected"),
    [
        ({0: "stop"}, Outcome.FINISHED, ("stop",)),
        ({}, Outcome.FINISHED, ()),
        ({1: "length"}, Outcome.STOPPED, ("error", "length")),
        ({}, Outcome.FAILED, ("error", "error")),
    ],
)
def test_error_is_in_the_place_of_a_reason_that_never_came(
    reasons: dict[int, str], outcome: Outcome, expected: tuple[str, ...]
) -> None:
    assert genai.finish_reasons(reasons, 2, outcome) == expected


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"role": "user", "content": "Hi"}, [{"type": "text", "content": "Hi"}]),
        (
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url"}, 1]},
            [{"type": "text", "content": "Hi"}, {"type": "image_url"}, {"type": None}],
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            [{"type": "tool_call_response", "id": "c1", "response": "sunny"}],
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}, 1],
            },
            [{"type": "tool_call", "id": "c1", "name": "f", "arguments": "{}"}],
        ),
        ({"role": "user", "content": 1, "tool_calls": 2}, []),
    ],
)
def test_messages_are_told_in_their_parts(
    message: dict[str, Any], parts: list[dict[str, Any]]
) -> None:
    body = json.dumps({"messages": [message]}).encode()
    assert json.loads(genai.input_messages(body))[0]["parts"] == parts


def test_of_a_long_answer_the_beginning_and_of_a_long_conversation_the_latest_is_told() -> None:
    half = genai.MOST_CONTENT // 2
    found = json.loads(genai.output_messages("北" * genai.MOST_CONTENT, "京" * half, "length"))
    assert [len(each["content"]) for each in found[0]["parts"]] == [half, half]
    messages = [{"role": "user", "content": f"{number:03}" * 10_000} for number in range(10)]
    told = genai.input_messages(json.dumps({"messages": messages}).encode())
    assert len(told) < 200_000
    latest = [each["parts"][0]["content"][:3] for each in json.loads(told)]
    assert latest == ["006", "007", "008", "009"]
