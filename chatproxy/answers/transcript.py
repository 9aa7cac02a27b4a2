"""What an answer says: the text, the reasoning and the tool calls in DeepSeek's events.

The chunk format is that of DeepSeek's chat completions with ``stream: true``
(https://api-docs.deepseek.com/api/create-chat-completion). Chunks that look otherwise are passed
over: whatever is relayed need not be understood.

Most answers are never looked at. So the events are kept as they come, and are taken apart when
somebody wants to know, or when there are many of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from .. import sse

#: As many bytes of events are kept before they are taken apart, which takes half a millisecond.
_MOST_PENDING = 64 * 1024
#: How nearly every event begins.
_OBJECT = b"data: {"


def chunk_of(block: bytes) -> Any:
    """What an event says in JSON; None if it is no JSON."""
    if block.startswith(_OBJECT):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return msgspec.json.decode(block[6:])
    try:  # of several lines, or with what is no character
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
    """Collects the events of one answer.

    :param limit: the most characters to keep, of each kind; None to keep all. What comes beyond
        that is left out.
    """

    __slots__ = ("_kept", "_limit", "_pending", "_reasoning", "_size", "_text", "_tool_calls")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._kept = 0
        self._pending: list[bytes] = []
        self._size = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far."""
        self._take_all()
        return "".join(self._text)

    @property
    def reasoning_text(self) -> str:
        """The reasoning so far."""
        self._take_all()
        return "".join(self._reasoning)

    @property
    def said(self) -> str:
        """All that the model has written so far: reasoning, answer, and what it calls tools with.

        Its order is not that in which it came.
        """
        self._take_all()
        return "".join([*self._reasoning, *self._text, *self._tool_calls])

    def add(self, blocks: Iterable[bytes], size: int) -> None:
        """Take in further events, which have so many bytes."""
        self._pending += blocks
        self._size += size
        if self._size > _MOST_PENDING:
            self._take_all()

    def _take_all(self) -> None:
        pending, self._pending, self._size = self._pending, [], 0
        for block in pending:
            with suppress(LookupError, TypeError, AttributeError):
                for choice in chunk_of(block)["choices"]:
                    self._take(choice["delta"])

    def _take(self, delta: Any) -> None:
        self._keep(self._reasoning, delta.get("reasoning_content"))
        self._keep(self._text, delta.get("content"))
        for call in delta.get("tool_calls") or ():
            function = call["function"]
            self._keep(self._tool_calls, function.get("name"))
            self._keep(self._tool_calls, function.get("arguments"))

    def _keep(self, texts: list[str], text: Any) -> None:
        if isinstance(text, str) and text and (self._limit is None or self._kept < self._limit):
            texts.append(text)
            self._kept += len(text)
