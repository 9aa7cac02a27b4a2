"""JSON that grows: an object whose fields are joined to what they were, kept as JSON text.

For a text that comes in many pieces. How a value is joined to the one before it:

* A string is put behind it, unless its field is one of ``SAID_ONCE``: those are names.
* A list is put behind it. If its items have an ``index``, each is merged into the one with that.
* An object is merged field by field.
* Anything else takes its place. What is null or empty changes nothing.

A value is not decoded: it goes from the text that came into the object as it was (``msgspec.Raw``),
and only what is merged is taken apart. So an event costs little, whatever is in it.

What is held is bounded by a ``Room``, which several objects may share, and so is how many values
are joined for one event. A string or a list that grows is one ``bytearray``, so it takes little
more than its text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from ..answers.foreign_json import NO_JSON
from . import surrogates

#: The fields whose strings are not joined.
SAID_ONCE = frozenset({"id", "index", "name", "role", "type"})

#: What an object says: the JSON of each field. Where surrogates are hidden in it, a ``Show`` goes
#: with it (``surrogates.decoded``).
Fields = Mapping[str, bytes]
Show = Callable[[bytes], bytes]

#: How deep objects are merged; what is deeper is taken as it is.
_DEPTH = 6
#: The most values that are joined for one event.
_MOST_VALUES = 2000
#: The longest text that is decoded because it has numbers that JSON does not have.
_MOST_BYTES_DECODED = 32 * 1024

_NOTHING = re.compile(rb'null|""|\[\s*\]|\{\s*\}')
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


class _Indexed(msgspec.Struct, gc=False):
    index: int


_INDEXED = msgspec.json.Decoder(list[_Indexed])


class FullError(Exception):
    """There is no room for more."""


class Room:
    """How much more may be held, and how many more values may be joined now.

    :param size: bytes of JSON text.
    :param fields: fields of all objects.
    """

    def __init__(self, size: int, fields: int) -> None:
        self._bytes = size
        self._fields = fields
        self._values = _MOST_VALUES
        #: Bytes that are taken.
        self.taken = 0

    def take(self, size: int, fields: int = 0) -> None:
        """Take room for so many bytes and fields; fewer than no bytes are given back.

        :raises FullError: if there is not enough.
        """
        self.taken += size
        self._fields -= fields
        if self.taken > self._bytes or self._fields < 0:
            raise FullError

    def begin_event(self) -> None:
        """From here on values are joined for another event."""
        self._values = _MOST_VALUES

    def join(self, values: int) -> None:
        """Join so many values.

        :raises FullError: if there are too many for one event.
        """
        self._values -= values
        if self._values < 0:
            raise FullError


class GrowingObject:
    """A JSON object that grows; raises ``FullError`` if there is no room for more.

    A field is JSON text: ``bytes``, or a ``bytearray`` if it is a string or a list that has yet to
    be closed. Or it is an object, or a list of objects by their index.
    """

    __slots__ = ("_fields", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._fields: dict[str, bytes | bytearray | GrowingObject | dict[int, GrowingObject]] = {}

    def replace(self, fields: Fields, show: Show = bytes) -> None:
        """Take the values that say something, in the place of those before them."""
        self._room.join(len(fields))
        for name, value in fields.items():
            text, held = show(value), self._fields.get(name)
            if held is None or (text != held and not _NOTHING.fullmatch(text)):
                self._put(name, text)

    def propose(self, name: str, text: bytes) -> bool:
        """Take a value if the one before it says nothing; return whether it does not."""
        says_nothing = self._fields.get(name) in (None, b"null", b'""')
        if says_nothing:
            self._put(name, text)
        return says_nothing

    def leave_out(self, name: str, inner: Iterable[str]) -> None:
        """Take fields out of the object that is the field of this name."""
        held = self._fields[name]
        assert isinstance(held, GrowingObject)
        for each in inner:
            held._fields.pop(each, None)

    def merge(self, fields: Fields, show: Show = bytes, depth: int = _DEPTH) -> None:
        """Join the values to those before them; see the top."""
        self._room.join(len(fields))
        for name, value in fields.items():
            self._join(name, bytes(value), show, depth)

    def put_items(self, name: str, items: dict[int, GrowingObject]) -> None:
        """Have a list of these objects as a field, in the order of their indexes."""
        self._fields[name] = items

    def parts(self) -> Iterator[bytes | bytearray]:
        """The JSON text, in parts."""
        before = b"{"
        for name, value in self._fields.items():
            yield b"%b%b:" % (before, json_of(name))
            yield from _parts_of(value)
            before = b","
        yield b"}" if self._fields else b"{}"

    def _join(self, name: str, text: bytes, show: Show, depth: int) -> None:
        if _NOTHING.fullmatch(text):
            if name in self._fields:
                return
            text = b"".join(text.split())
        kind = text[:1]
        if kind == b"{" and depth:
            held = self._fields.get(name)
            if not isinstance(held, GrowingObject):
                held = self._put(name, GrowingObject(self._room))
            held.merge(_fields_of(text, show), show, depth - 1)
        elif kind == b"[" and depth and (indexes := _indexes_of(text)):
            self._room.join(len(indexes))
            self._merge_items(name, zip(indexes, _ITEMS.decode(text), strict=True), show, depth)
        elif kind == b"[" or (kind == b'"' and name not in SAID_ONCE):
            self._extend(name, show(text)[:-1])
        else:
            self._put(name, show(text))

    def _put(self, name: str, value: _Value) -> _Value:
        held = self._fields.get(name)
        if held is None:
            self._room.take(len(name), fields=1)
        self._room.take(_size(value) - _size(held))
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

    def _merge_items(
        self, name: str, items: Iterable[tuple[int, bytes]], show: Show, depth: int
    ) -> None:
        held = self._fields.get(name)
        if not isinstance(held, dict):
            held = self._put(name, dict[int, GrowingObject]())
        for index, text in items:
            if index not in held:
                held[index] = GrowingObject(self._room)
            held[index].merge(_fields_of(text, show), show, depth - 1)


_Value = TypeVar("_Value", bytes, bytearray, GrowingObject, "dict[int, GrowingObject]")


def _size(value: object) -> int:
    return len(value) if isinstance(value, (bytes, bytearray)) else 0


def _parts_of(
    value: bytes | bytearray | GrowingObject | dict[int, GrowingObject],
) -> Iterator[bytes | bytearray]:
    if isinstance(value, GrowingObject):
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


# --- what came


def decoded(text: bytes) -> tuple[dict[str, bytes], Show] | None:
    """The fields of a JSON object; None if it is none."""
    text = text.decode("utf-8", "replace").encode()
    with suppress(*NO_JSON):
        fields, show = surrogates.decoded(_FIELDS.decode, text)
        return _named(fields, show), show
    with suppress(*NO_JSON):
        return _named(_FIELDS.decode(_without_nan(text)), bytes), bytes
    return None


def objects_in(text: bytes, show: Show, room: Room) -> Iterator[dict[str, bytes]]:
    """The fields of each object in a list; nothing if it is none.

    :raises FullError: if it has more items than may be joined.
    """
    items = _ITEMS.decode(text) if text[:1] == b"[" else []
    room.join(len(items))
    for each in items:
        if bytes(each)[:1] == b"{":
            yield _fields_of(each, show)


def _fields_of(text: bytes, show: Show) -> dict[str, bytes]:
    return _named(_FIELDS.decode(text), show)


def _named(fields: dict[str, Any], show: Show) -> dict[str, bytes]:
    if show is bytes:
        return fields
    return {surrogates.shown_name(name): text for name, text in fields.items()}


def _indexes_of(text: bytes) -> list[int]:
    """The indexes of the items of a list; none if not all have one."""
    with suppress(msgspec.ValidationError):
        return [each.index for each in _INDEXED.decode(text)]
    return []


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _without_nan(text: bytes) -> bytes:
    """A JSON text with null for NaN and the infinities, which are Python's own.

    :raises ValueError: if it has none, or is too long.
    """
    if len(text) > _MOST_BYTES_DECODED or not (b"NaN" in text or b"Infinity" in text):
        raise ValueError
    return json_of(_DECODER.decode(text.decode()))


def json_of(value: object) -> bytes:
    """A value as JSON text. Half a surrogate pair stays escaped: the other half may follow."""
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")
