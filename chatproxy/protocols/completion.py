"""One ``chat.completion`` out of the chunks of an answer, for clients that want it whole.

``POST /v1/chat/completions`` without ``stream``
(https://platform.openai.com/docs/api-reference/chat/object). The upstream is asked for a stream all
the same, so that the answer can be stopped like any other. How chunks become one object:

* Of a ``delta`` the strings are joined, whatever their names, because each upstream has some of its
  own (``content``, ``reasoning_content``, ``refusal``, ``reasoning``). Those in ``_SAID_ONCE`` are
  names: the latest counts.
* Lists whose items have an ``index`` are merged by it (``tool_calls``); other lists grow, as do
  those of ``logprobs``. Objects are merged field by field.
* Of everything else the latest counts that is neither null nor empty: ``usage``,
  ``finish_reason``, ``system_fingerprint``, and whatever an upstream adds to its chunks.
* An event that is no JSON object is no part of the completion.
* The tool calls of a choice that was stopped are left out: clients carry out what they find.

What is held is bounded. Each chunk is decoded once and dropped. What it says is kept as JSON text:
a string or list that grows is one ``bytearray`` that has yet to be closed. So the memory is that of
the completion itself, at most ``MOST_BYTES`` with ``MOST_FIELDS`` fields, and at the end the parts
are only put one after the other, which takes a few milliseconds for the largest. An answer that
grows beyond that is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from .. import sse
from ..errors import Refusal, UpstreamError
from . import native
from .openai import MOST_CHOICES, failure_of

#: The most bytes of a completion. DeepSeek's longest answers have some two million, those with
#: log-probabilities some thousands for each token.
MOST_BYTES = 16 << 20
#: The most fields of all its objects. A tool call has five.
MOST_FIELDS = 4096

_NOTHING: tuple[Any, ...] = (None, "", [], {})
_TOOL_CALLS = ("tool_calls", "function_call")
_SAID_ONCE = frozenset({"id", "index", "name", "role", "type"})
#: How deep objects are merged; what is deeper is taken as it is.
_DEPTH = 6


class CompletionEncoder:
    """An ``Encoder``: nothing until the answer has ended, then all of it as one JSON object.

    ``refusal`` is set if the answer fails after it has begun: then there is no object, and the
    response can have the status of the refusal.

    :param model: the model of an answer that is stopped before its first chunk.
    :param created: when the answer was asked for, in seconds since 1970; also for that.
    :param choices: how many choices the answer has.
    """

    heartbeat = b""

    def __init__(self, model: str, created: int, choices: int = 1) -> None:
        self.refusal: Refusal | None = None
        self._room = _Room()
        self._fields = _Object(self._room)
        self._fields.replace({"id": "", "created": created, "model": model, "usage": None})
        self._expected = range(min(choices, MOST_CHOICES))
        self._choices: dict[int, _Object] = {}
        self._ended = False

    def encode(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        try:
            for event in data.split(b"\n\n"):
                if not self._ended and (whole := self._take(event)):
                    return whole
        except (_FullError, RecursionError):
            sentence = "The answer is too large to be given whole; ask for it with 'stream'."
            self.fail(UpstreamError(sentence, code="answer_too_large"))
        return b""

    def fail(self, refusal: Refusal) -> bytes:
        """See ``Encoder``."""
        self.refusal = refusal
        self._ended = True
        self._choices.clear()
        return b""

    def _take(self, event: bytes) -> bytes:
        """Take the next event; return the completion if it is the last one."""
        ending = native.ending_of(event)
        if ending is not None:
            return self.fail(failure_of(ending)) if "error" in ending else self._stopped(ending)
        if sse.is_done(event):
            return self._whole()
        chunk = _decoded(sse.data_of(event))
        if isinstance(chunk, dict):
            self._take_chunk(chunk)
        return b""

    def _take_chunk(self, chunk: dict[str, Any]) -> None:
        choices = chunk.pop("choices", None)
        chunk.pop("obfuscation", None)  # makes the chunks of OpenAI's streams equally long
        self._fields.replace(chunk)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._take_choice(choice)

    def _take_choice(self, choice: dict[str, Any]) -> None:
        index = choice.pop("index", 0)
        choice.pop("message", None)  # some upstreams repeat in it what came before
        delta = choice.pop("delta", None)
        fields = self._choice(index if isinstance(index, int) else 0)
        if isinstance(delta, dict):
            fields.merge({"message": delta})
        for name, value in choice.items():
            grows = name == "logprobs" or isinstance(value, list)
            (fields.merge if grows else fields.replace)({name: value})

    def _choice(self, index: int) -> _Object:
        if index not in self._choices:
            fields = self._choices[index] = _Object(self._room)
            fields.replace({"index": index, "finish_reason": None, "logprobs": None})
            fields.merge({"message": {"role": "assistant", "content": None}})
        return self._choices[index]

    def _stopped(self, stopped: dict[str, Any]) -> bytes:
        self._fields.propose("id", stopped["sessionId"] or "")
        self._fields.replace({"chatproxy": {"stopped": stopped}})
        for index in {*self._expected, *self._choices}:
            if self._choice(index).propose("finish_reason", "cancelled"):
                self._choice(index).leave_out("message", _TOOL_CALLS)
        return self._whole()

    def _whole(self) -> bytes:
        self._ended = True
        self._fields.replace({"object": "chat.completion"})
        self._fields.put_items("choices", self._choices)
        return b"".join(self._fields.parts())


class _FullError(Exception):
    """The completion is too large."""


class _Room:
    """How much more may be held."""

    def __init__(self) -> None:
        self._bytes = MOST_BYTES
        self._fields = MOST_FIELDS

    def take(self, size: int, fields: int = 0) -> None:
        """Take room for so many bytes and fields; fewer than no bytes are given back.

        :raises _FullError: if there is not enough.
        """
        self._bytes -= size
        self._fields -= fields
        if self._bytes < 0 or self._fields < 0:
            raise _FullError


class _Object:
    """A JSON object that grows.

    A field is JSON text: ``bytes``, or a ``bytearray`` if it is a string or a list that has yet to
    be closed. Or it is an object, or a list of objects by their index.
    """

    __slots__ = ("_fields", "_room")

    def __init__(self, room: _Room) -> None:
        self._room = room
        self._fields: dict[str, bytes | bytearray | _Object | dict[int, _Object]] = {}

    def replace(self, fields: dict[str, Any]) -> None:
        """Take the values that say something, in the place of those before them."""
        for name, value in fields.items():
            if value not in _NOTHING or name not in self._fields:
                self._put(name, _json(value))

    def propose(self, name: str, value: str) -> bool:
        """Take a value if the one before it says nothing; return whether it does not."""
        says_nothing = self._fields.get(name) in (None, b"null", b'""')
        if says_nothing:
            self._put(name, _json(value))
        return says_nothing

    def leave_out(self, name: str, inner: Iterable[str]) -> None:
        """Take fields out of the object that is the field of this name."""
        held = self._fields[name]
        assert isinstance(held, _Object)
        for each in inner:
            held._fields.pop(each, None)

    def merge(self, fields: dict[str, Any], depth: int = _DEPTH) -> None:
        """Join the values to those before them; see the top."""
        for name, value in fields.items():
            if value in _NOTHING and name in self._fields:
                continue
            if isinstance(value, dict) and depth:
                held = self._fields.get(name)
                if not isinstance(held, _Object):
                    held = self._put(name, _Object(self._room))
                held.merge(value, depth - 1)
            elif isinstance(value, list) and depth and _are_indexed(value):
                self._merge_items(name, value, depth - 1)
            elif isinstance(value, list) or (isinstance(value, str) and name not in _SAID_ONCE):
                self._extend(name, _json(value)[:-1])
            else:
                self._put(name, _json(value))

    def put_items(self, name: str, items: dict[int, _Object]) -> None:
        """Have a list of these objects as a field, in the order of their indexes."""
        self._fields[name] = items

    def parts(self) -> Iterator[bytes | bytearray]:
        """The JSON text, in parts."""
        before = b"{"
        for name, value in self._fields.items():
            yield b"%b%b:" % (before, _json(name))
            yield from _parts_of(value)
            before = b","
        yield b"}" if self._fields else b"{}"

    def _put(self, name: str, value: _Value) -> _Value:
        held = self._fields.get(name)
        self._room.take(_size(value) - _size(held), held is None)
        self._fields[name] = value
        return value

    def _extend(self, name: str, text: bytes) -> None:
        """Join a string or a list to the one before it.

        :param text: in JSON, yet to be closed.
        """
        held = self._fields.get(name)
        if not isinstance(held, bytearray) or held[:1] != text[:1]:
            self._put(name, bytearray(text))
        elif len(text) > 1:
            self._room.take(len(text))
            held += b"," if held[:1] == b"[" and len(held) > 1 else b""
            held += text[1:]

    def _merge_items(self, name: str, items: list[dict[str, Any]], depth: int) -> None:
        held = self._fields.get(name)
        if not isinstance(held, dict):
            held = self._put(name, dict[int, _Object]())
        for item in items:
            index = item["index"]
            if index not in held:
                held[index] = _Object(self._room)
            held[index].merge(item, depth)


_Value = TypeVar("_Value", bytes, bytearray, _Object, "dict[int, _Object]")


def _size(value: object) -> int:
    return len(value) if isinstance(value, (bytes, bytearray)) else 0


def _parts_of(
    value: bytes | bytearray | _Object | dict[int, _Object],
) -> Iterator[bytes | bytearray]:
    if isinstance(value, _Object):
        yield from value.parts()
    elif isinstance(value, dict):
        before = b"["
        for _, item in sorted(value.items()):
            yield before
            yield from item.parts()
            before = b","
        yield b"]" if value else b"[]"
    else:
        yield value
        if isinstance(value, bytearray):
            yield b"]" if value[:1] == b"[" else b'"'


def _are_indexed(items: list[Any]) -> bool:
    return bool(items) and all(
        isinstance(item, dict) and isinstance(item.get("index"), int) for item in items
    )


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


#: NaN and the infinities are Python's own.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _decoded(text: bytes) -> Any:
    """What a text in JSON says; None if it is none."""
    try:
        return _DECODER.decode(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _json(value: object) -> bytes:
    """A value as JSON text. Half a surrogate pair stays escaped: the other half may follow."""
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")
