r"""Lone surrogates in JSON: hidden before msgspec sees a text, and shown again after. No I/O.

JSON can have half a surrogate pair (RFC 8259, section 8.2), for example from a program that cut a
text amid an emoji, but msgspec refuses it, also in what it leaves undecoded. So the beginning of
each escape of a surrogate, ``\ud``, is turned into a character that stands for it. Pairs of
backslashes are hidden first, since after one of them ``ud83d`` is no escape. What stands for them
are characters that Unicode keeps out of texts; a text that has one of them and such an escape is
refused.

Anybody may send a megabyte of that. So what stands for something is as long as that, which makes it
several times quicker to replace, and nothing is looked for twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import msgspec

_T = TypeVar("_T")

_PAIR, _LOWER, _UPPER = "\u0378", "\ufdd0", "\ufdd1"  # unassigned, and two noncharacters
_PAIRS = (rb"\\", _PAIR.encode())
_HIDDEN = (_PAIRS, (rb"\ud", _LOWER.encode()), (rb"\uD", _UPPER.encode()))
_DOCUMENT = msgspec.json.Decoder(msgspec.Raw)
_DECODER = json.JSONDecoder(strict=False)


def decoded(decode: Callable[[bytes], _T], text: bytes) -> tuple[_T, Callable[[bytes], bytes]]:
    """What ``decode`` makes of a JSON text, with its lone surrogates hidden if it has any.

    :returns: that, and what shows a part of the text (``msgspec.Raw``) again. It is ``bytes`` if
        nothing was hidden.
    :raises msgspec.DecodeError: if it is no JSON, or not what ``decode`` expects.
    """
    try:
        return decode(text), bytes
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if rb"\ud" not in text and rb"\uD" not in text:
            raise
        hidden, used = _hide(text)
        return decode(hidden), partial(_show, used)


def _hide(text: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A JSON text that msgspec takes, and what is hidden in it, with what stands for that.

    :raises msgspec.DecodeError: if that can't be had.
    """
    # To look for one byte takes a hundredth of the time that several take.
    if any(form[:1] in text and form in text for _, form in _HIDDEN):
        raise msgspec.DecodeError
    used = []
    for each in _HIDDEN:
        before, text = text, text.replace(*each)
        if text is not before:
            used.append(each)
        if each is _PAIRS:  # once escapes are hidden, nobody looks at what follows them
            _DOCUMENT.decode(text.replace(rb"\ud", rb"\ue").replace(rb"\uD", rb"\uE"))
    return text, used


def _show(used: Iterable[tuple[bytes, bytes]], text: bytes) -> bytes:
    text = bytes(text)
    for escape, form in used:
        text = text.replace(form, escape)
    return text


def shown_name(name: str) -> str:
    """Of a string that has been decoded, what it was before something was hidden in it."""
    if _LOWER in name or _UPPER in name:
        text = name.replace("\\", _PAIR).replace('"', r"\"")
        text = text.replace(_LOWER, r"\ud").replace(_UPPER, r"\uD")
        with suppress(ValueError):  # it has such a character of its own
            name = _DECODER.decode(f'"{text}"')
    return name.replace(_PAIR, "\\")
