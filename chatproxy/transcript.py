"""What an answer says: the text, the reasoning and the usage in DeepSeek's events.

The chunk format is that of DeepSeek's chat completions with ``stream: true``
(https://api-docs.deepseek.com/api/create-chat-completion). Chunks that look otherwise are passed
over: whatever is relayed need not be understood.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from . import sse


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
            try:
                self._take(json.loads(sse.data_of(block).decode("utf-8", "replace")))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                continue

    def _take(self, chunk: dict[str, Any]) -> None:
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if isinstance(reasoning := delta.get("reasoning_content"), str):
                self._reasoning.append(reasoning)
            if isinstance(text := delta.get("content"), str):
                self._text.append(text)
