r"""Lone surrogates in JSON: hidden before msgspec sees a text, and shown again after. No I/O.

JSON can have half a surrogate pair (RFC 8259, section 8.2), for example from a program that cut a
text amid an emoji, but msgspec refuses it, also in what it leaves undecoded. So each escape of a
surrogate is marked and turned into that of an ordinary character. Pairs of backslashes are hidden
first, since after one of them ``ud83d`` is no escape. Mark and pair are noncharacters, which
Unicode keeps out of texts. A text that has one of them and such an escape is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

_T = TypeVar("_T")

_MARK, _PAIR = "\U0010ffff", "\U0010fffe"
_HIDDEN = (
    (rb"\\", _PAIR.encode()),
    (rb"\ud", _MARK.encode() + rb"\ue"),
    (rb"\uD", _MARK.encode() + rb"\uE"),
)
_SHIFT = 0x1000  # between \ud… and \ue…


def decoded(decode: Callable[[bytes], _T], text: bytes) -> tuple[_T, Callable[[bytes], bytes]]:
    """What ``decode`` makes of a JSON text, with its lone surrogates hidden if it has any.

    :returns: that, and what shows a part of the text again: ``shown``, or ``bytes`` if nothing was
        hidden.
    :raises msgspec.DecodeError: if it is no JSON, or not what ``decode`` expects.
    """
    try:
        return decode(text), bytes
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not are_in(text):
            raise
        return decode(hidden(text)), shown


def are_in(text: bytes) -> bool:
    """Whether a JSON text may have escapes of surrogates, in pairs or alone."""
    return rb"\ud" in text or rb"\uD" in text


def hidden(text: bytes) -> bytes:
    """A JSON text that msgspec takes.

    :raises msgspec.DecodeError: if that can't be had.
    """
    if _MARK.encode() in text or _PAIR.encode() in text:
        raise msgspec.DecodeError
    for shown_form, hidden_form in _HIDDEN:
        text = text.replace(shown_form, hidden_form)
    return text


def shown(text: bytes) -> bytes:
    """What ``hidden`` was given; or, of a part of what it returned, the part that was given."""
    for shown_form, hidden_form in reversed(_HIDDEN):
        text = text.replace(hidden_form, shown_form)
    return text


def shown_name(name: str) -> str:
    """The same for a string that has been decoded."""
    first, *parts = name.replace(_PAIR, "\\").split(_MARK)
    return first + "".join(chr(ord(part[0]) - _SHIFT) + part[1:] for part in parts)
