"""What a client may send: session ids and request bodies. Bytes in, a payload out. No I/O.

The payload is DeepSeek's chat completion (https://api-docs.deepseek.com/api/create-chat-completion).
Rules:

* Only what this proxy needs is decoded. Every other field is kept as the JSON text that came and
  leaves as that text: ``1e9`` stays ``1e9``, and DeepSeek's new fields work the day they appear.
* All of it is checked to be JSON (RFC 8259) in UTF-8, nested no deeper than the parser can follow,
  at a few milliseconds a megabyte, because anybody may send a megabyte. A field costs more than
  what is in it, so their number is bounded.
* Of two fields of one name the last counts, and is the only one that goes on.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import msgspec

from ..errors import InvalidRequest

_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

#: The fields of a request: each a ``msgspec.Raw``, the JSON text that came, or a value that the
#: application has put in its place.
Payload = dict[str, Any]


class Question(NamedTuple):
    """What DeepSeek is asked: the body of the request, and how many choices its answer has."""

    body: bytes
    choices: int = 1


class _Message(msgspec.Struct, gc=False):
    role: str


class _Name(str):
    """The name of a field."""

    __slots__ = ()


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DOCUMENT = msgspec.json.Decoder(msgspec.Raw)
_MESSAGES = msgspec.json.Decoder(list[_Message])
_NAME = msgspec.json.Decoder(Annotated[str, msgspec.Meta(min_length=1)])
_COUNT = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=1)])

_FIELDS = dict[_Name, msgspec.Raw]
#: The most fields of a request. DeepSeek knows some thirty.
MOST_FIELDS = 1000

_BOM = b"\xef\xbb\xbf"
#: Half a surrogate pair can be written in JSON (RFC 8259, section 8.2), as by a program that cut a
#: text amid an emoji, and msgspec refuses it. So the escapes of surrogates are marked, and made
#: those of ordinary characters for it. Pairs of backslashes, which would blur which are escapes,
#: are hidden meanwhile. Both is done by characters that Unicode says no text has.
_MARK, _PAIR = "\U0010ffff", "\U0010fffe"
_HIDDEN = (
    (rb"\\", _PAIR.encode()),
    (rb"\ud", _MARK.encode() + rb"\ue"),
    (rb"\uD", _MARK.encode() + rb"\uE"),
)
_SHIFT = 0x1000  # between \ud… and \ue…


def is_session_id(text: str) -> bool:
    """Whether this can be a session id: 1 to 128 of ``A-Z a-z 0-9 . _ : -``.

    ``.`` and ``..`` can't: as the last segment of a path, clients take them away (RFC 3986, 5.2.4;
    the URL Standard, 4.4), so that no Stop could name them.
    """
    return _SESSION_ID.fullmatch(text) is not None and text not in (".", "..")


def check_session_id(text: str | None) -> str:
    """The session id from a request's header.

    :raises InvalidRequest: where there is none, or where it has a wrong form.
    """
    if not text:
        raise InvalidRequest("Missing sessionId", code="missing_session_id")
    if not is_session_id(text):
        raise InvalidRequest(
            "The session id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -, and not . or ..",
            code="invalid_session_id",
        )
    return text


def check_grace(text: str | None, most: float) -> float:
    """The seconds in which a reader may come back, from the header ``X-On-Disconnect``.

    :param text: ``stop``, a number of seconds, or None for ``most``.
    :param most: what the server allows.
    :raises InvalidRequest: where it is anything else.
    """
    if text is None:
        return most
    if text.strip() == "stop":
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise InvalidRequest("X-On-Disconnect must be 'stop' or a number of seconds.")
    return min(seconds, most)


def check_event_id(text: str | None) -> int:
    """The number of the last event that a reader has, from the header ``Last-Event-ID``.

    :raises InvalidRequest: where it is none.
    """
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest("Last-Event-ID must be the number of an event.")
    return int(text)


def parse(body: bytes) -> Payload:
    """The fields of the JSON object in a request's body.

    :raises InvalidRequest: if it is none.
    """
    body = body.removeprefix(_BOM)
    try:
        body.decode()  # msgspec does not look at the characters of what it leaves undecoded
        return _fields_of(body)
    except RecursionError:
        raise _invalid_json("The body is nested too deeply.") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _invalid_json("The body is not valid JSON.") from None


def _fields_of(body: bytes) -> Payload:
    try:
        return _decode_fields(body)
    except msgspec.ValidationError:
        _DOCUMENT.decode(body)  # it may be no JSON at all, which goes first
        raise
    except msgspec.DecodeError:
        if not _has_surrogates(body):
            raise
        found = _decode_fields(_hidden(body))
    return {_shown_name(name): msgspec.Raw(_shown(bytes(text))) for name, text in found.items()}


def _decode_fields(body: bytes) -> dict[str, msgspec.Raw]:
    numbers = itertools.count(1)

    def take(_type: type, name: str) -> _Name:
        if next(numbers) > MOST_FIELDS:
            raise InvalidRequest(f"The body has more than {MOST_FIELDS} fields.")
        return _Name(name)

    found: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=_FIELDS, dec_hook=take)
    return found


def _has_surrogates(text: bytes) -> bool:
    return rb"\ud" in text or rb"\uD" in text


def _hidden(text: bytes) -> bytes:
    if _MARK.encode() in text or _PAIR.encode() in text:
        raise msgspec.DecodeError
    for shown, hidden in _HIDDEN:
        text = text.replace(shown, hidden)
    return text


def _shown(text: bytes) -> bytes:
    for shown, hidden in reversed(_HIDDEN):
        text = text.replace(hidden, shown)
    return text


def _shown_name(name: str) -> str:
    first, *parts = name.replace(_PAIR, "\\").split(_MARK)
    return first + "".join(chr(ord(part[0]) - _SHIFT) + part[1:] for part in parts)


def check(payload: Payload) -> None:
    """See that this can be sent to DeepSeek.

    :raises InvalidRequest: with one sentence, if it can't.
    """
    _check_messages(_text_of(payload.get("messages")))
    try:
        if "model" in payload:
            _NAME.decode(_text_of(payload["model"]))
    except msgspec.DecodeError:
        raise InvalidRequest("'model' must be a name.") from None


def _check_messages(text: bytes) -> None:
    try:
        if _has_surrogates(text):
            text = _hidden(text)
        if _MESSAGES.decode(text):
            return
    except msgspec.DecodeError:
        if text.startswith(b"["):
            sentence = "Each of 'messages' must be an object with a 'role'."
            raise InvalidRequest(sentence) from None
    raise InvalidRequest("'messages' must be a list with at least one message.")


def change(payload: Payload, preparers: Iterable[Callable[[Payload], Payload | None]]) -> Payload:
    """The payload as the application's preparers want it.

    They get it decoded. What they leave as it was keeps its text.

    :raises InvalidRequest: if a number in it is beyond what Python can decode and write again.
    """
    try:
        decoded = {name: json.loads(_text_of(value)) for name, value in payload.items()}
        before = {name: _text_of(value) for name, value in decoded.items()}
    except RecursionError:
        raise _invalid_json("The body is nested too deeply.") from None
    except ValueError:
        raise _invalid_json("The body has a number that is too large.") from None
    for preparer in preparers:
        changed = preparer(decoded)
        decoded = decoded if changed is None else changed
    return {
        name: payload[name] if before.get(name) == _text_of(value) else value
        for name, value in decoded.items()
    }


def complete(payload: Payload, model: str) -> bytes:
    """The body of the request to DeepSeek: streamed, and with a model.

    :raises InvalidRequest: if the payload is nested too deeply.
    :raises TypeError, ValueError: if it is no JSON object, which only an application can cause.
    """
    whole = {"model": model, **payload, "stream": True}
    try:
        fields = [b"%b:%b" % (_text_of(name), _text_of(value)) for name, value in whole.items()]
    except RecursionError:
        raise _invalid_json("The body is nested too deeply.") from None
    return b"{%b}" % b",".join(fields)


def choices_of(payload: Payload) -> int:
    """How many choices the answer will have: ``n``, which is 1 if it is left out or is no number.

    A wrong ``n`` is for DeepSeek to refuse.
    """
    try:
        count: int = _COUNT.decode(_text_of(payload.get("n")))
    except msgspec.DecodeError:
        return 1
    return count


def _text_of(value: object) -> bytes:
    """A value as JSON text."""
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    return _ENCODER.encode(value).encode("ascii")


def _invalid_json(sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, code="invalid_json")
