"""A chunk of a chat completion, taken apart but not decoded: its texts are the JSON that came.

So a piece of an answer can go into another JSON text as it is, without being decoded and encoded
again. Only the names and structure of what is told are looked at (DeepSeek's and OpenAI's form:
https://api-docs.deepseek.com/api/create-chat-completion). What an upstream may get wrong without
harm, such as the type of an id, is left to whoever uses it.

A chunk is an event, and so no longer than one may be. But each choice and each tool call in it
costs some microseconds, so their number is bounded too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from . import surrogates

_NULL = msgspec.Raw(b"null")


class Function(msgspec.Struct, gc=False):
    """What a tool call calls; both are the JSON of whatever they are."""

    name: msgspec.Raw = _NULL
    arguments: msgspec.Raw = _NULL


class ToolCall(msgspec.Struct, gc=False):
    """A piece of a tool call; ``id`` is the JSON of whatever it is."""

    index: int | None = 0
    id: msgspec.Raw = _NULL
    function: Function | None = None


class Delta(msgspec.Struct, gc=False):
    """A piece of an answer: its texts are the JSON of whatever they are."""

    reasoning_content: msgspec.Raw = _NULL
    content: msgspec.Raw = _NULL
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers."""

    index: int | None = 0
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """All of a chunk that is looked at; ``id``, ``created`` and ``usage`` are JSON."""

    id: msgspec.Raw = _NULL
    created: msgspec.Raw = _NULL
    choices: list[Choice] | None = None
    usage: msgspec.Raw = _NULL


_CHUNK = msgspec.json.Decoder(Chunk)

#: The most choices and tool calls of a chunk, together.
MOST_ITEMS = 1000


class TooManyError(Exception):
    """A chunk has more than ``MOST_ITEMS``."""


def parse(data: bytes) -> Chunk:
    """A chunk, also if a text in it is cut amid a surrogate pair.

    :raises: one of ``NO_JSON`` if it is none.
    :raises TooManyError: see above.
    """
    chunk, show = surrogates.decoded(_CHUNK.decode, data)
    if show is bytes and len(data) < 2 * MOST_ITEMS:  # an item takes two bytes and a comma
        return chunk
    choices = chunk.choices or ()
    if len(choices) > MOST_ITEMS:
        raise TooManyError
    deltas = [choice.delta for choice in choices if choice.delta is not None]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    if len(choices) + len(calls) > MOST_ITEMS:
        raise TooManyError
    if show is not bytes:
        functions = [call.function for call in calls if call.function is not None]
        _show_in([chunk], show, "id", "usage")
        _show_in(deltas, show, "reasoning_content", "content")
        _show_in(calls, show, "id")
        _show_in(functions, show, "name", "arguments")
    return chunk


def _show_in(
    structs: Iterable[msgspec.Struct], show: Callable[[bytes], bytes], *names: str
) -> None:
    for struct in structs:
        for name in names:
            setattr(struct, name, msgspec.Raw(show(getattr(struct, name))))


def says(text: bytes) -> bool:
    """Whether this is the JSON of a string that is not empty."""
    return len(text) > 2 and text.startswith(b'"')
