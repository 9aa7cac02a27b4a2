"""What an answer says: the text, the reasoning and the tool calls in DeepSeek's events.

The chunk format is that of DeepSeek's chat completions with ``stream: true``
(https://api-docs.deepseek.com/api/create-chat-completion). Chunks that look otherwise are passed
over: whatever is relayed need not be understood.

Most answers are never looked at. So the log has the events as they came, and has them transcribed
when somebody wants to know, or when it forgets them (``AnswerLog.transcribed``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from .. import sse
from .foreign_json import decoded, value_of

#: What is no word of the model's, in a piece or a tool call.
_SAYS_NOTHING = frozenset({"id", "index", "role", "type"})
#: How deep a tool call is, and no deeper: calls, call, function, argument.
_DEEPEST = 4
#: How nearly every event begins.
_OBJECT = b"data: {"


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Chunk(msgspec.Struct):
    """A chunk that has only text and reasoning, as nearly every chunk does."""

    choices: list[_Choice]


_CHUNKS = msgspec.json.Decoder(_Chunk)


def chunk_of(block: bytes) -> Any:
    """What an event says in JSON; None if it is no JSON."""
    is_one_line = block.startswith(_OBJECT) and b"\n" not in block
    return value_of(block[6:] if is_one_line else sse.data_of(block))


def finished_in(chunk: Any) -> set[int]:
    """Which choices end with this chunk: those with a ``finish_reason``."""
    try:
        ended = [each for each in chunk["choices"] if each["finish_reason"]]
        return {int(each.get("index", 0)) for each in ended}
    except (ValueError, OverflowError, LookupError, TypeError, AttributeError):
        return set()


def says_something(blocks: Sequence[bytes]) -> bool:
    """Whether there is any word of the model's in these events."""
    transcript = Transcript(limit=1)
    transcript.add(blocks)
    return bool(transcript.said)


class Transcript:
    """Collects the events of one answer.

    :param limit: the most characters to keep; None to keep all. What comes beyond that is left
        out.
    """

    __slots__ = ("_kept", "_limit", "_others", "_reasoning", "_text")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._kept = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._others: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def reasoning_text(self) -> str:
        """The reasoning so far."""
        return "".join(self._reasoning)

    @property
    def said(self) -> str:
        """All that the model has written so far: also what it calls tools with, and refusals.

        Its order is not that in which it came.
        """
        return "".join([*self._reasoning, *self._text, *self._others])

    def add(self, blocks: Sequence[bytes]) -> None:
        """Take in further events, blocks as ``sse`` has them."""
        lines = b"\n".join([each.removeprefix(b"data: ") for each in blocks if each != sse.DONE])
        chunks = decoded(_CHUNKS.decode_lines, lines)
        if chunks is None:
            self._take_each(blocks)
            return
        for chunk in chunks:
            for choice in chunk.choices:
                if (delta := choice.delta) is not None:
                    self._keep(self._text, delta.content)
                    self._keep(self._reasoning, delta.reasoning_content)

    def _take_each(self, blocks: Sequence[bytes]) -> None:
        """Take in any events."""
        for block in blocks:
            chunk = chunk_of(block)
            choices = chunk.get("choices") if isinstance(chunk, dict) else None
            for choice in choices if isinstance(choices, list) else ():
                if isinstance(choice, dict):
                    self._take(choice.get("delta"))

    def _take(self, delta: Any) -> None:
        """Take what a piece says. Each service has names of its own for some of it."""
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name == "content":
                self._keep(self._text, value)
            elif name == "reasoning_content":
                self._keep(self._reasoning, value)
            elif name not in _SAYS_NOTHING:
                for text in _texts_in(value):
                    self._keep(self._others, text)

    def _keep(self, texts: list[str], text: Any) -> None:
        if isinstance(text, str) and text and (self._limit is None or self._kept < self._limit):
            texts.append(text)
            self._kept += len(text)


def _texts_in(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in what is no text, such as tool calls."""
    if isinstance(value, str):
        yield value
    elif depth < _DEEPEST and isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, each in pairs:
            if name not in _SAYS_NOTHING:
                yield from _texts_in(each, depth + 1)
