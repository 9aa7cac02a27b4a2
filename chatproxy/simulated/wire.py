"""What DeepSeek's API looks like on the wire: events, error bodies, small JSON documents.

Pure functions and values, no I/O. The shapes follow DeepSeek's API documentation
(https://api-docs.deepseek.com) and captures of its answers:

- an event is ``data: {json}`` and an empty line; a comment is ``: keep-alive`` and an empty line;
- in thinking mode (the default) ``delta.reasoning_content`` comes first, then ``delta.content``;
- the last chunk has ``finish_reason`` and ``usage``, and ``data: [DONE]`` follows it.

A chunk that carries a token is a template cut at the token, because a thousand streams in one
process cannot afford to serialise the same thirteen fields for each word.
"""

from __future__ import annotations

import json
import time
import uuid
from functools import lru_cache
from typing import Any

Json = dict[str, Any]

MODELS = ("deepseek-flash", "deepseek-v4-pro")
RETIRED_MODELS = ("deepseek-chat", "deepseek-reasoner")
MAX_TOKENS = 393_216
FINGERPRINT = "fp_simulated"

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Please log in</body></html>\n"
)

_HOLE = "\u2400token\u2400"

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "Invalid request body format."),
    401: ("authentication_error", "Authentication Fails, Your api key: ****alid is invalid"),
    402: ("unknown_error", "Insufficient Balance"),
    404: ("invalid_request_error", "Not Found"),
    405: ("invalid_request_error", "Method Not Allowed"),
    413: ("invalid_request_error", "Payload Too Large"),
    422: ("invalid_request_error", "Invalid parameters."),
    429: ("rate_limit_error", "Rate limit reached, please try again later."),
    500: ("server_error", "Internal server error, please retry after a brief wait."),
    503: ("server_error", "Service is too busy, please retry later."),
}


def compact(value: object) -> bytes:
    """``value`` as JSON without spaces, in UTF-8.

    Half a surrogate pair, which UTF-8 does not have, stays escaped; in JSON that is allowed.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")


def event(payload: object) -> bytes:
    """One server-sent event that carries ``payload`` as JSON."""
    return b"data: " + compact(payload) + b"\n\n"


def error_body(status: int, message: str | None = None) -> bytes:
    """The JSON body of a refusal with ``status``; ``message`` replaces the usual sentence."""
    kind, usual = _ERRORS.get(status, ("unknown_error", f"Simulated error {status}."))
    error = {"message": message or usual, "type": kind, "param": None}
    return compact({"error": {**error, "code": "invalid_request_error"}})


def error_event(status: int) -> bytes:
    """The event by which an answer that has begun reports an error."""
    return b"data: " + error_body(status) + b"\n\n"


def usage(prompt: int, cached: int, reasoning: int, content: int) -> Json:
    """The ``usage`` of an answer, from its counts of tokens; ``cached`` are some of ``prompt``."""
    completion = reasoning + content
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
        "prompt_cache_hit_tokens": cached,
        "prompt_cache_miss_tokens": prompt - cached,
    }


@lru_cache(maxsize=4096)
def _escaped(text: str) -> bytes:
    return compact(text)[1:-1]


class Chunks:
    """The events of one streamed answer, as bytes, all with the same id and time."""

    def __init__(self, model: str, *, thinking: bool) -> None:
        self._identity: Json = {
            "id": str(uuid.uuid4()),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }
        self._thinking = thinking
        self._content = self._template(self._content_delta(_HOLE))
        self._reasoning = self._template({"content": None, "reasoning_content": _HOLE})

    def first(self) -> bytes:
        """The chunk that opens an answer: a role and no text yet."""
        if self._thinking:
            return self._chunk({"role": "assistant", "content": None, "reasoning_content": ""})
        return self._chunk({"role": "assistant", "content": ""})

    def reasoning(self, text: str) -> bytes:
        """A chunk with one token of the thinking that precedes the answer."""
        before, after = self._reasoning
        return before + _escaped(text) + after

    def content(self, text: str) -> bytes:
        """A chunk with one token of the answer."""
        before, after = self._content
        return before + _escaped(text) + after

    def tool_call(self, piece: Json) -> bytes:
        """A chunk with a piece of a tool call."""
        return self._chunk({"tool_calls": [piece]})

    def huge(self, size: int) -> bytes:
        """A chunk with one content delta so long that the event has ``size`` bytes.

        An event has about 300 bytes besides its text; a smaller ``size`` gives an empty text.
        """
        before, after = self._content
        return before + b"x" * (size - len(before) - len(after)) + after

    def last(self, finish_reason: str, counts: Json) -> bytes:
        """The chunk that ends an answer, with ``usage`` as :func:`usage` gives it."""
        return self._chunk(self._content_delta(""), finish_reason, counts)

    def _content_delta(self, text: str) -> Json:
        delta: Json = {"content": text}
        return {**delta, "reasoning_content": None} if self._thinking else delta

    def _chunk(
        self, delta: Json, finish_reason: str | None = None, counts: Json | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**self._identity, "choices": [choice], "usage": counts})

    def _template(self, delta: Json) -> tuple[bytes, bytes]:
        before, _, after = self._chunk(delta).partition(_HOLE.encode())
        return before, after


def completion(
    model: str, content: str, reasoning: str | None, finish_reason: str, counts: Json
) -> bytes:
    """The body of an answer that is not streamed; ``reasoning`` is None in plain mode."""
    message: Json = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return compact(
        {
            "id": str(uuid.uuid4()),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [choice],
            "usage": counts,
            "system_fingerprint": FINGERPRINT,
        }
    )


def models_body() -> bytes:
    """The body of ``GET /models``."""
    rows = [{"id": name, "object": "model", "owned_by": "deepseek"} for name in MODELS]
    return compact({"object": "list", "data": rows})


def balance_body(balance: str, *, available: bool) -> bytes:
    """The body of ``GET /user/balance``, of so many dollars; DeepSeek's have two decimals."""
    info = {
        "currency": "USD",
        "total_balance": balance,
        "granted_balance": "0.00",
        "topped_up_balance": balance,
    }
    return compact({"is_available": available, "balance_infos": [info]})
