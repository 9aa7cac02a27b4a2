"""A chunk of a chat completion, taken apart but not decoded: its texts are the JSON that came.

So a piece of an answer can go into another JSON text as it is, without being decoded and encoded
again. Only the names and structure of what is told are looked at (DeepSeek's and OpenAI's form:
https://api-docs.deepseek.com/api/create-chat-completion). What an upstream may get wrong without
harm, such as the type of an id, is left to whoever uses it.
"""

from __future__ import annotations

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

#: What a text may fail with that an upstream has sent as JSON.
NO_JSON = (msgspec.DecodeError, RecursionError)


def parse(data: bytes) -> Chunk:
    """A chunk, also if a text in it is cut amid a surrogate pair.

    :raises msgspec.DecodeError: if it is none.
    """
    try:
        return _CHUNK.decode(data)
    except msgspec.DecodeError:
        if not surrogates.are_in(data):
            raise
    chunk = _CHUNK.decode(surrogates.hidden(data))
    _show(chunk, "id", "usage")
    for choice in chunk.choices or ():
        if choice.delta is not None:
            _show(choice.delta, "reasoning_content", "content")
            for call in choice.delta.tool_calls or ():
                _show(call, "id")
                if call.function is not None:
                    _show(call.function, "name", "arguments")
    return chunk


def _show(struct: msgspec.Struct, *names: str) -> None:
    for name in names:
        setattr(struct, name, msgspec.Raw(surrogates.shown(bytes(getattr(struct, name)))))


def says(text: bytes) -> bool:
    """Whether this is the JSON of a string that is not empty."""
    return len(text) > 2 and text.startswith(b'"')
