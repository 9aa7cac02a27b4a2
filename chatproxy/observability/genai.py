"""What OpenTelemetry's GenAI conventions call the things that we know of an answer. No I/O.

https://github.com/open-telemetry/semantic-conventions-genai, as of November 2026, in its names of
opentelemetry-semantic-conventions 0.66b2; all of it is still "Development" there. What it has no
word for begins with ``chatproxy.``. Langfuse reads the rest
(https://langfuse.com/integrations/native/opentelemetry).

What is not known is left out, and never 0. Nothing that anybody has said is in here, but in
``input_messages``, ``output_messages`` and ``content``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..answers.foreign_json import NO_JSON
from ..answers.question import Question
from ..answers.session import UNNAMED_CHAT, Outcome, Reason, StreamSession
from ..answers.upstream import Upstream
from ..answers.usage import Account, Usage, UsageSource

#: What an attribute of a span can be.
Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]

#: The names of the convention for services, by their domains.
_PROVIDERS = {
    "deepseek.com": "deepseek",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
    "amazonaws.com": "aws.bedrock",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "googleapis.com": "gcp.gemini",
}
#: Why an answer was stopped, if nobody has wanted it: these are errors.
_ERRORS = frozenset({Reason.IDLE, Reason.DEADLINE, Reason.LOST})

#: The most characters of a name that a client or a model has chosen.
_LONGEST_NAME = 100
#: The most characters of an attribute that has what was said, if that is to be told.
MOST_CONTENT = 128 * 1024


class _Parameters(msgspec.Struct):
    """What the conventions have a name for in a question; of whatever type it is."""

    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    seed: Any = None


_FLOATS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_INTEGERS = ("max_tokens", "seed")


def encodable(text: str) -> str:
    """A text as UTF-8 can have it. With half a surrogate pair no span of its batch is sent."""
    return text.encode("utf-8", "replace").decode()


def named(text: str) -> str:
    """A name from outside, in its bounds."""
    return encodable(text[:_LONGEST_NAME])


def content(value: Any) -> str:
    """What a tool is given or gives, as JSON; of what is long the beginning."""
    try:
        return encodable(_as_json(value)[:MOST_CONTENT])
    except (TypeError, ValueError, RecursionError):  # its names are no text, or it is within itself
        return ""


def _as_json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def of_server(upstream: Upstream) -> Attributes:
    """Who is asked."""
    parts = urlsplit(upstream.base_url)
    host = parts.hostname or ""
    found = (name for domain, name in _PROVIDERS.items() if f".{host}".endswith(f".{domain}"))
    return {
        "gen_ai.provider.name": next(found, upstream.name.lower()),
        "server.address": host,
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }


def of_question(question: Question) -> Attributes:
    """What is asked for: of a run, or of a model."""
    if question.run:
        return {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": question.run,
            "langfuse.observation.type": "agent",
        }
    found: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": named(question.model),
        "gen_ai.request.stream": True,
        "langfuse.observation.type": "generation",
    }
    if question.choices > 1:
        found["gen_ai.request.choice.count"] = question.choices
    with suppress(*NO_JSON, OverflowError):
        parameters = msgspec.json.decode(question.body, type=_Parameters)
        for name in _FLOATS:
            if type(value := getattr(parameters, name)) in (int, float):
                found[f"gen_ai.request.{name}"] = float(value)
        for name in _INTEGERS:
            if type(value := getattr(parameters, name)) is int and abs(value) < 1 << 63:
                found[f"gen_ai.request.{name}"] = value
    return found


def name_of(question: Question) -> str:
    """The name of the span."""
    return f"invoke_agent {question.run}" if question.run else f"chat {named(question.model)}"


def of_session(session: StreamSession) -> Attributes:
    """Whose answer it is; a conversation is only what its client calls one."""
    found: Attributes = {}
    if session.id:
        found["chatproxy.session.id"] = session.id
    if session.owner:
        found["user.id"] = encodable(session.owner)
    if session.chat is not None and session.chat.id not in ("", UNNAMED_CHAT):
        found["gen_ai.conversation.id"] = found["session.id"] = session.chat.id
    return found


def of_end(session: StreamSession) -> Attributes:
    """How an answer, or a call of one, has ended, but for what was said."""
    found: Attributes = {"chatproxy.phase": session.phase.value, "chatproxy.events": session.events}
    if session.outcome is not None:
        found["chatproxy.outcome"] = session.outcome.value
    if session.reason is not None:
        found["chatproxy.stop.reason"] = session.reason.value
    if session.cancelled_at is not None and session.closed_at is not None:
        found["chatproxy.stop.duration"] = max(0.0, session.closed_at - session.cancelled_at)
    if error := error_of(session):
        found["error.type"] = error
    return found


def error_of(session: StreamSession) -> str:
    """The code of what failed, or the reason of a stop that nobody has wanted; "" if none did."""
    stopped = session.outcome is Outcome.STOPPED
    if stopped and session.reason not in _ERRORS:
        return ""
    if session.refusal is not None:
        return named(session.refusal.code)
    if stopped and session.reason is not None:
        return session.reason.value
    return "server_error" if session.outcome is Outcome.FAILED else ""


def of_first_event(session: StreamSession) -> Attributes:
    """When the answer began."""
    if session.first_event_at is None:
        return {}
    ago = time.monotonic() - session.first_event_at
    at = datetime.fromtimestamp(time.time() - ago, timezone.utc)
    return {
        "gen_ai.response.time_to_first_chunk": session.first_event_at - session.started_at,
        "langfuse.observation.completion_start_time": json.dumps(at.isoformat()),
    }


def of_account(account: Account) -> Attributes:
    """What it came to, as far as that is known."""
    usage, found = account.usage, Attributes()
    found["chatproxy.usage.source"] = usage.source.value
    counts = counts_of(usage)
    found.update({f"gen_ai.usage.{name}": count for name, count in counts.items()})
    if usage.spread is not None:
        found["chatproxy.usage.spread"] = usage.spread
    if counts:
        found["langfuse.observation.usage_details"] = json.dumps(_as_details(counts))
    if account.cost is not None:
        amount = float(account.cost.amount)
        found["chatproxy.cost.amount"] = amount
        found["chatproxy.cost.currency"] = account.cost.currency
        if account.cost.currency == "USD":  # Langfuse takes every amount for dollars
            found["langfuse.observation.cost_details"] = json.dumps({"total": amount})
    return found


def counts_of(usage: Usage) -> dict[str, int]:
    """The tokens that are known, by the names of the conventions."""
    if usage.source is UsageSource.NONE:
        return {}
    counts = {
        "input_tokens": usage.prompt_tokens if "prompt_tokens" in usage.tokens else None,
        "output_tokens": usage.completion_tokens if "completion_tokens" in usage.tokens else None,
        "reasoning.output_tokens": usage.reasoning_tokens or None,
        "cache_read.input_tokens": usage.cached_tokens or None,
    }
    return {name: count for name, count in counts.items() if count is not None}


def _as_details(counts: Mapping[str, int]) -> dict[str, int]:
    """The parts that add up to the whole, as Langfuse has it."""
    cached, reasoning = (
        counts.get(name, 0) for name in ("cache_read.input_tokens", "reasoning.output_tokens")
    )
    details = {
        "input": counts.get("input_tokens", 0) - cached,
        "input_cached_tokens": cached,
        "output": counts.get("output_tokens", 0) - reasoning,
        "output_reasoning_tokens": reasoning,
    }
    return {name: count for name, count in details.items() if count > 0}


def finish_reasons(
    found: Mapping[int, str], choices: int, outcome: Outcome | None
) -> Sequence[str]:
    """Why each choice ended; ``error`` in the place of one whose reason never came."""
    reasons = (found.get(index, "error") for index in range(choices))
    return tuple(found.values()) if outcome is Outcome.FINISHED else tuple(reasons)


def input_messages(body: bytes) -> str:
    """The messages of a question, as JSON; of long ones the latest."""
    try:
        messages = json.loads(body).get("messages", [])
    except (ValueError, RecursionError):
        return "[]"
    kept: list[str] = []
    left = MOST_CONTENT
    for message in reversed(messages):
        text = _as_json({"role": message.get("role"), "parts": list(_parts_of(message))})
        left -= len(text)
        if left < 0:
            break
        kept.append(text)
    return encodable(f"[{','.join(reversed(kept))}]")


def output_messages(text: str, reasoning: str, finish_reason: str) -> str:
    """An answer, as JSON; of a long one the beginning."""
    reasoning = reasoning[:MOST_CONTENT]
    said = (("reasoning", reasoning), ("text", text[: MOST_CONTENT - len(reasoning)]))
    parts = [{"type": kind, "content": each} for kind, each in said if each]
    answer = {"role": "assistant", "parts": parts, "finish_reason": finish_reason}
    return encodable(_as_json([answer]))


def _parts_of(message: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield {
            "type": "tool_call_response",
            "id": message.get("tool_call_id"),
            "response": content,
        }
    elif isinstance(content, str):
        yield {"type": "text", "content": content}
    elif isinstance(content, list):
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            yield {"type": kind, **({"content": part.get("text")} if kind == "text" else {})}
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            asked = {"name": function.get("name"), "arguments": function.get("arguments")}
            yield {"type": "tool_call", "id": call.get("id"), **asked}


def of_tool(name: str, call_id: str) -> Attributes:
    """A tool that is called."""
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": named(name),
        "gen_ai.tool.call.id": named(call_id),
        "gen_ai.tool.type": "function",
        "langfuse.observation.type": "tool",
    }
