"""What a request to ``/chat/completions`` asks for, checked as DeepSeek checks it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .scenario import Scenario, WrongScenario
from .script import Script, script
from .wire import MAX_TOKENS, MODELS, RETIRED_MODELS, Json


class Refused(Exception):
    """The request is answered with an error status and this message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Order:
    """A request that passed all checks, with what will be said and how."""

    model: str
    stream: bool
    thinking: bool
    prompt_tokens: int
    cached_tokens: int
    scenario: Scenario
    script: Script


def payload_of(body: bytes) -> Json:
    """The JSON object in a request's body. Raises :class:`Refused` (400)."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"Failed to parse the request body as JSON: {error}") from None
    if not isinstance(payload, dict):
        raise Refused(400, "Failed to deserialize the JSON body: an object is needed")
    return payload


def tag_of(payload: Json) -> str | None:
    """The scenario's tag, also of a scenario that will be refused."""
    simulate = payload.get("simulate")
    tag = simulate.get("tag") if isinstance(simulate, dict) else None
    return tag[:200] if isinstance(tag, str) else None


def order_of(payload: Json) -> Order:
    """What the payload asks for.

    Raises :class:`Refused`: 400 for a bad model, scenario or form, 422 for a parameter out of
    range.
    """
    scenario = _scenario(payload)
    model = _model(payload)
    prompt_tokens = _prompt_tokens(payload)
    stream = _stream(payload)
    thinking = _thinking(payload)
    said = script(
        scenario,
        thinking=thinking,
        max_tokens=_max_tokens(payload),
        calls_tools=stream and _may_call_tools(payload),
    )
    cached = min(scenario.cached_tokens, prompt_tokens)
    return Order(model, stream, thinking, prompt_tokens, cached, scenario, said)


def _scenario(payload: Json) -> Scenario:
    try:
        return Scenario.parse(payload.get("simulate"))
    except WrongScenario as error:
        raise Refused(400, str(error)) from None


def _model(payload: Json) -> str:
    model = payload.get("model")
    if isinstance(model, str) and model in MODELS:
        return model
    if model in RETIRED_MODELS:
        raise Refused(400, f"Model {model} was retired; use one of {', '.join(MODELS)}")
    raise Refused(400, "Model Not Exist")


def _prompt_tokens(payload: Json) -> int:
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages: a list with at least one message is needed")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Refused(400, "messages: every message needs a role")
    # About four characters make a token.
    return sum(4 + len(str(message.get("content") or "")) // 4 for message in messages)


def _stream(payload: Json) -> bool:
    stream = payload.get("stream") or False
    if not isinstance(stream, bool):
        raise Refused(422, "stream: true or false is needed")
    if payload.get("stream_options") and not stream:
        raise Refused(400, "stream_options should be set along with stream = true")
    return stream


def _thinking(payload: Json) -> bool:
    thinking = payload.get("thinking")
    if thinking is None:
        return True
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "disabled"):
        raise Refused(422, 'thinking: a type is needed, "enabled" or "disabled"')
    return bool(kind == "enabled")


def _may_call_tools(payload: Json) -> bool:
    """Whether tools are offered, and none has been called yet."""
    has_called = any(message["role"] == "tool" for message in payload["messages"])
    return bool(payload.get("tools")) and payload.get("tool_choice") != "none" and not has_called


def _max_tokens(payload: Json) -> int | None:
    most = payload.get("max_tokens")
    if most is None:
        return None
    if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MAX_TOKENS:
        raise Refused(422, f"max_tokens: a whole number from 1 to {MAX_TOKENS} is needed")
    return most
