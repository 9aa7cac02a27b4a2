"""What an answer says: the text, the reasoning and the usage in DeepSeek's events.

The chunk format is that of DeepSeek's chat completions with ``stream: true``
(https://api-docs.deepseek.com/api/create-chat-completion). Chunks that look otherwise are passed
over: whatever is relayed need not be understood.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from .. import sse


def chunk_of(block: bytes) -> Any:
    """What an event says in JSON; None if it is no JSON."""
    try:
        return json.loads(sse.data_of(block).decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def finished_in(chunk: Any) -> set[int]:
    """Which choices end with this chunk: those with a ``finish_reason``."""
    try:
        ended = [each for each in chunk["choices"] if each["finish_reason"]]
        return {int(each.get("index", 0)) for each in ended}
    except (ValueError, LookupError, TypeError, AttributeError):
        return set()


class Transcript:
    """Collects the events of one answer."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        #: DeepSeek's ``usage`` object, once it came.
        self.usage: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def reasoning_text(self) -> str:
        """The reasoning so far."""
        return "".join(self._reasoning)

    def add(self, blocks: Iterable[bytes]) -> None:
        """Take in further events."""
        for block in blocks:
            with suppress(LookupError, TypeError, AttributeError):
                self._take(chunk_of(block))

    def _take(self, chunk: Any) -> None:
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if isinstance(reasoning := delta.get("reasoning_content"), str):
                self._reasoning.append(reasoning)
            if isinstance(text := delta.get("content"), str):
                self._text.append(text)
