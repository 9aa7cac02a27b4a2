"""Parts: an answer as an application reads it: each event an object, and what they say so far."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

from .. import sse
from ..answers.readers import LogReader
from ..answers.session import StreamSession
from ..answers.transcript import chunk_of
from ..errors import UpstreamError
from ..protocols import native

#: How nearly every event begins.
_CHUNK = b"data: {"

#: How many tools a model may ask for at once, and with how long arguments in all.
MOST_TOOL_CALLS = 128
MOST_TOOL_CALL_CHARACTERS = 1 << 20

_Self = TypeVar("_Self", bound="Parts")

#: Seconds after which a reader looks again whether its answer still lives.
_LOOK_SECONDS = 3600.0


class Part:
    """One event of an answer: a chunk of DeepSeek's, or an event of a run's own.

    :ivar block: the event as it came, without its number.
    :ivar name: what a run has called its own event; "" for a chunk.
    :ivar data: what it says in JSON; None if that is no JSON.
    :ivar text: the piece of the answer in it.
    :ivar reasoning: the piece of the reasoning in it.
    :ivar tool_calls: the pieces of tool calls in it, as DeepSeek has them.
    :ivar finish_reason: why the answer ends with it; None if it goes on.
    :ivar usage: the count of tokens in it; None if there is none.
    """

    __slots__ = (
        *("block", "data", "finish_reason", "is_shown", "name", "reasoning", "text", "tool_calls"),
        "usage",
    )

    def __init__(self, block: bytes) -> None:
        self.block = block
        #: Whether the client gets it already.
        self.is_shown = False
        emitted = None if block.startswith(_CHUNK) else native.emitted_in(block)
        self.name = "" if emitted is None else emitted[0]
        self.data = chunk_of(block)
        self.text = self.reasoning = ""
        self.tool_calls: list[dict[str, Any]] = []
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        if emitted is None:
            with suppress(LookupError, TypeError, AttributeError, StopIteration):
                self._look(self.data)

    @property
    def is_count(self) -> bool:
        """Whether it is nothing but the count of the tokens of its call."""
        return self.usage is not None and self.data["choices"] == []

    def _look(self, chunk: Any) -> None:
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = usage
        choice = next(each for each in chunk["choices"] if each.get("index", 0) == 0)
        if isinstance(reason := choice.get("finish_reason"), str):
            self.finish_reason = reason
        delta = choice["delta"]
        if isinstance(text := delta.get("content"), str):
            self.text = text
        if isinstance(text := delta.get("reasoning_content"), str):
            self.reasoning = text
        if calls := delta.get("tool_calls"):
            self.tool_calls = [each for each in calls if isinstance(each, dict)]


class Parts:
    """The parts of one answer, as they come, and what all of them say so far. One thread reads.

    :ivar finish_reason: why the upstream ended it; None before.
    :ivar usage: DeepSeek's count of its tokens; None before.
    """

    def __init__(self, reader: LogReader, session: StreamSession) -> None:
        self._reader = reader
        self._session = session
        self._ready: Iterator[Part] = iter(())
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _ToolCall] = {}
        self._calls_size = 0
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(self._reasoning)

    @property
    def tool_calls(self) -> list[dict[str, str]]:
        """The tool calls so far, each with ``id``, ``name`` and ``arguments``, a text of JSON."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        return [
            {"id": each.id, "name": each.name, "arguments": "".join(each.arguments)}
            for each in calls
        ]

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        while (part := next(self._ready, None)) is None:
            data = self._read()
            if data is None:
                raise StopIteration
            parts = list(_parts_in(data))
            self._arrive(parts)
            self._ready = iter(parts)
        self._take(part)
        return part

    def read(self) -> str:
        """Read the answer to its end; return its text."""
        for _ in self:
            pass
        return self.text

    def close(self) -> None:
        """Read no more."""
        self._reader.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> bytes | None:
        """The next events; None at the end.

        :raises Refusal: if it ends because there is no answer, or no whole one.
        """
        data = self._reader.read(_LOOK_SECONDS)
        if data is None and self._session.refusal is not None:
            raise copy.copy(self._session.refusal)  # each time without the frames of the others
        return data

    def _arrive(self, parts: list[Part]) -> None:
        """Do what is to be done with parts that have just come."""

    def _take(self, part: Part) -> None:
        if part.text:
            self._text.append(part.text)
        if part.reasoning:
            self._reasoning.append(part.reasoning)
        self.finish_reason = part.finish_reason or self.finish_reason
        self.usage = part.usage or self.usage
        for piece in part.tool_calls:
            self._take_tool_call(piece)

    def _take_tool_call(self, piece: dict[str, Any]) -> None:
        index, function = piece.get("index", 0), piece.get("function")
        call = self._calls.setdefault(index if isinstance(index, int) else 0, _ToolCall())
        if isinstance(piece.get("id"), str):
            call.id = piece["id"]
        if isinstance(function, dict):
            if isinstance(name := function.get("name"), str):
                call.name = name
            if isinstance(arguments := function.get("arguments"), str):
                call.arguments.append(arguments)
                self._calls_size += len(arguments)
        if len(self._calls) > MOST_TOOL_CALLS or self._calls_size > MOST_TOOL_CALL_CHARACTERS:
            raise UpstreamError("DeepSeek asked for more tools than can be called.")


class _ToolCall:
    """A tool call so far; its arguments come in pieces."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self.arguments: list[str] = []


def _parts_in(data: bytes) -> Iterator[Part]:
    """The parts in what a reader gives, but for the end of the answer."""
    for block in sse.blocks_of(data):
        if not sse.is_done(block) and native.ending_of(block) is None:
            yield Part(block)
