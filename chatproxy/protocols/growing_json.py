"""JSON that grows: an object whose fields are joined to what they were, kept as JSON text.

For a text that comes in many pieces. How a value is joined to the one before it:

* A string is put behind it, unless its field is one of ``SAID_ONCE``: those are names.
* A list is put behind it. If its items have an ``index``, each is merged into the one with that.
* An object is merged field by field.
* Anything else takes its place. What is null or empty changes nothing.

What is held is bounded by a ``Room``, which several objects may share. A string or a list that
grows is one ``bytearray``, so it takes little more than its text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

#: The fields whose strings are not joined.
SAID_ONCE = frozenset({"id", "index", "name", "role", "type"})

_NOTHING: tuple[Any, ...] = (None, "", [], {})
#: How deep objects are merged; what is deeper is taken as it is.
_DEPTH = 6


class FullError(Exception):
    """There is no room for more."""


class Room:
    """How much more may be held.

    :param size: bytes of JSON text.
    :param fields: fields of all objects.
    """

    def __init__(self, size: int, fields: int) -> None:
        self._bytes = size
        self._fields = fields

    def take(self, size: int, fields: int = 0) -> None:
        """Take room for so many bytes and fields; fewer than no bytes are given back.

        :raises FullError: if there is not enough.
        """
        self._bytes -= size
        self._fields -= fields
        if self._bytes < 0 or self._fields < 0:
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
        assert isinstance(held, GrowingObject)
        for each in inner:
            held._fields.pop(each, None)

    def merge(self, fields: dict[str, Any], depth: int = _DEPTH) -> None:
        """Join the values to those before them; see the top."""
        for name, value in fields.items():
            if value in _NOTHING and name in self._fields:
                continue
            if isinstance(value, dict) and depth:
                held = self._fields.get(name)
                if not isinstance(held, GrowingObject):
                    held = self._put(name, GrowingObject(self._room))
                held.merge(value, depth - 1)
            elif isinstance(value, list) and depth and _are_indexed(value):
                self._merge_items(name, value, depth - 1)
            elif isinstance(value, list) or (isinstance(value, str) and name not in SAID_ONCE):
                self._extend(name, _json(value)[:-1])
            else:
                self._put(name, _json(value))

    def put_items(self, name: str, items: dict[int, GrowingObject]) -> None:
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

    def _merge_items(self, name: str, items: list[dict[str, Any]], depth: int) -> None:
        held = self._fields.get(name)
        if not isinstance(held, dict):
            held = self._put(name, dict[int, GrowingObject]())
        for item in items:
            index = item["index"]
            if index not in held:
                held[index] = GrowingObject(self._room)
            held[index].merge(item, depth)


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


def decoded(text: bytes) -> Any:
    """What a text in JSON says; None if it is none."""
    try:
        return _DECODER.decode(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _json(value: object) -> bytes:
    """A value as JSON text. Half a surrogate pair stays escaped: the other half may follow."""
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")
