"""A UI message stream as the AI SDK's client reads it, strictly: what it says, and its grammar."""

from __future__ import annotations

import json
import re
from typing import Any

#: Parts that change nothing here.
_SILENT = ("start-step", "finish-step", "abort", "message-metadata", "data-chatproxy-stopped")


def parts_of(body: bytes) -> list[Any]:
    """The data of all events, in order: objects, and ``[DONE]`` as a string."""
    events = re.sub(rb"(?m)^:.*\n", b"", body).split(b"\n\n")
    assert events.pop() == b"", "the last event is not whole"
    found = []
    for event in events:
        match = re.fullmatch(rb"(?:id: \d+\n)?data: ([^\n]+)", event)
        assert match, event
        found.append("[DONE]" if match[1] == b"[DONE]" else json.loads(match[1]))
    return found


class UiMessage:
    """Reads parts into a message, and fails where the client would, or would be misled."""

    def __init__(self, body: bytes = b"") -> None:
        self.text = ""
        self.reasoning = ""
        #: By the call's id: name, input as text, and the part that ended it.
        self.tools: dict[str, dict[str, Any]] = {}
        self.metadata: dict[str, Any] = {}
        self.types: list[str] = []
        self.id: str | None = None
        self.finish_reason: str | None = None
        self.error: str | None = None
        self.done = False
        self._open: dict[str, str] = {}
        self._begun = self._finished = False
        for part in parts_of(body):
            self.take(part)

    def take(self, part: Any) -> None:
        assert not self.done
        assert self.error is None
        if part == "[DONE]":
            assert self._finished
            self.done = True
            return
        assert not self._finished
        kind = part["type"]
        assert self._begun is (kind != "start") or kind == "error"
        self.types.append(kind)
        self.metadata = _merged(self.metadata, part.get("messageMetadata", {}))
        if kind not in _SILENT:
            getattr(self, "_" + kind.replace("-", "_"))(part)

    def _start(self, part: dict[str, Any]) -> None:
        self._begun = True
        self.id = part.get("messageId")

    def _text_start(self, part: dict[str, Any]) -> None:
        assert part["id"] not in self._open
        self._open[part["id"]] = part["type"].partition("-")[0]

    _reasoning_start = _text_start

    def _text_delta(self, part: dict[str, Any]) -> None:
        assert self._open[part["id"]] == "text"
        self.text += part["delta"]

    def _reasoning_delta(self, part: dict[str, Any]) -> None:
        assert self._open[part["id"]] == "reasoning"
        self.reasoning += part["delta"]

    def _text_end(self, part: dict[str, Any]) -> None:
        assert self._open.pop(part["id"]) == part["type"].partition("-")[0]

    _reasoning_end = _text_end

    def _tool_input_start(self, part: dict[str, Any]) -> None:
        assert part["toolCallId"] not in self.tools
        self.tools[part["toolCallId"]] = {"name": part["toolName"], "input": "", "end": None}

    def _tool_input_delta(self, part: dict[str, Any]) -> None:
        tool = self.tools[part["toolCallId"]]
        assert tool["end"] is None
        tool["input"] += part["inputTextDelta"]

    def _tool_input_available(self, part: dict[str, Any]) -> None:
        tool = self.tools[part["toolCallId"]]
        assert tool["end"] is None
        assert part["toolName"] == tool["name"]
        tool["end"] = part

    _tool_input_error = _tool_input_available

    def _error(self, part: dict[str, Any]) -> None:
        self.error = part["errorText"]
        self._assert_all_ended()

    def _finish(self, part: dict[str, Any]) -> None:
        self._finished = True
        self.finish_reason = part.get("finishReason")
        self._assert_all_ended()

    def _assert_all_ended(self) -> None:
        assert self._open == {}
        assert [name for name, tool in self.tools.items() if tool["end"] is None] == []


def _merged(into: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """As the client merges metadata."""
    both = dict(into)
    for name, value in fields.items():
        held = both.get(name)
        deep = isinstance(value, dict) and isinstance(held, dict)
        both[name] = _merged(held, value) if deep else value
    return both
