"""Parts: an answer as an application reads it: each event an object, and what they say so far."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from .. import sse
from ..answers.readers import Reader
from ..answers.transcript import chunk_of
from ..protocols import native

_Self = TypeVar("_Self", bound="Parts")

#: Seconds after which a reader looks again whether its answer still lives.
_LOOK_SECONDS = 3600.0


class Part:
    """One event of an answer: a chunk of DeepSeek's, or an event of a run's own.

    :ivar block: the event as it came, without its number.
    :ivar data: what it says in JSON; None if that is no JSON.
    """

    __slots__ = ("block", "data", "is_shown")

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.data: Any = chunk_of(block)
        #: Whether the client gets it already.
        self.is_shown = False

    @property
    def name(self) -> str:
        """What a run has called its own event; "" for a chunk."""
        emitted = native.emitted_in(self.block)
        return "" if emitted is None else emitted[0]

    @property
    def text(self) -> str:
        """The piece of the answer in it."""
        return self._said("content")

    @property
    def reasoning(self) -> str:
        """The piece of the reasoning in it."""
        return self._said("reasoning_content")

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The pieces of tool calls in it, as DeepSeek has them."""
        found = self._delta().get("tool_calls")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ends with it; None if it goes on."""
        found = self._choice().get("finish_reason")
        return found if isinstance(found, str) else None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The count of tokens in it."""
        found = self.data.get("usage") if isinstance(self.data, dict) else None
        return found if isinstance(found, dict) else None

    def _said(self, field: str) -> str:
        found = self._delta().get(field)
        return found if isinstance(found, str) else ""

    def _delta(self) -> dict[str, Any]:
        found = self._choice().get("delta")
        return found if isinstance(found, dict) else {}

    def _choice(self) -> dict[str, Any]:
        choices = self.data.get("choices") if isinstance(self.data, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        return first if isinstance(first, dict) else {}


class Parts:
    """The parts of one answer, as they come, and what all of them say so far. One thread reads.

    :ivar finish_reason: why the upstream ended it; None before.
    :ivar usage: DeepSeek's count of its tokens; None before.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ready: Iterator[Part] = iter(())
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
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
        return [self._calls[index] for index in sorted(self._calls)]

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        while (part := next(self._ready, None)) is None:
            data = self._read()
            if data is None:
                raise StopIteration
            self._ready = _parts_in(data)
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
        """The next events; None at the end."""
        return self._reader.read(_LOOK_SECONDS)

    def _take(self, part: Part) -> None:
        self._text.append(part.text)
        self._reasoning.append(part.reasoning)
        self.finish_reason = part.finish_reason or self.finish_reason
        self.usage = part.usage or self.usage
        for piece in part.tool_calls:
            self._take_tool_call(piece)

    def _take_tool_call(self, piece: dict[str, Any]) -> None:
        index = piece.get("index", 0)
        function = piece.get("function")
        call = self._calls.setdefault(
            index if isinstance(index, int) else 0, {"id": "", "name": "", "arguments": ""}
        )
        if isinstance(piece.get("id"), str):
            call["id"] = piece["id"]
        if isinstance(function, dict):
            if isinstance(function.get("name"), str):
                call["name"] = function["name"]
            if isinstance(function.get("arguments"), str):
                call["arguments"] += function["arguments"]


def _parts_in(data: bytes) -> Iterator[Part]:
    """The parts in what a reader gives, but for the end of the answer."""
    for event in data.split(b"\n\n"):
        while event.startswith(b":"):
            event = event.partition(b"\n")[2]  # noqa: PLW2901
        block = event.partition(b"\n")[2]  # without its number
        if block and not sse.is_done(block) and native.ending_of(event) is None:
            yield Part(block)


def text_block(text: str, model: str, created: int) -> bytes:
    """A chunk of our own that says a piece of text."""
    return _chunk({"content": text}, None, model, created)


def finish_block(model: str, created: int) -> bytes:
    """A chunk of our own that says that the answer is whole."""
    return _chunk({}, "stop", model, created)


def _chunk(delta: dict[str, str], finish_reason: str | None, model: str, created: int) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {
        "id": f"{model}-{created}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [choice],
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode("ascii")
