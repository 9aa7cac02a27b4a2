"""Foreign JSON: what a peer has sent, decoded, or found to be none, whatever it is. No I/O.

A text may be no JSON, not UTF-8, or nested too deeply; each decoder has errors of its own for that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")
_S = TypeVar("_S", str, bytes)

#: All that a decoder raises for a text that it can't decode.
NO_JSON = (ValueError, msgspec.MsgspecError, RecursionError)

#: The longest text that msgspec decodes first. It is quick, but takes ten times as long as ``json``
#: for fractions of more digits than a float has: 60 ms for an event of them.
_MOST_BYTES = 16 * 1024


def decoded(decode: Callable[[_S], _T], text: _S) -> _T | None:
    """What ``decode`` makes of a text; None if that is no JSON, or not what it expects."""
    try:
        return decode(text)
    except NO_JSON:
        return None


def value_of(text: bytes) -> Any:
    """What a text says in JSON; None if it is none.

    It may have a byte-order mark, or be in UTF-16 or UTF-32; what is no character is replaced.
    """
    found = decoded(msgspec.json.decode, text) if len(text) <= _MOST_BYTES else None
    if found is None:  # or it has what is no character, half a surrogate pair, or NaN
        found = decoded(json.loads, text_of(text))
    return found


def text_of(data: bytes) -> str:
    """The characters that may be JSON, in whichever Unicode encoding; see ``value_of``."""
    return data.decode(json.detect_encoding(data), "replace")
