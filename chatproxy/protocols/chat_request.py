"""The body of a chat completion: the client's in, DeepSeek's out, after ``prepare``. No I/O.

The form is DeepSeek's (https://api-docs.deepseek.com/api/create-chat-completion). The way of a
body: ``parse`` splits it into its fields, ``check`` looks at those that must be there, ``change``
lets the application have its say, and ``complete`` makes the body that is sent. Rules:

* Only what this proxy needs is decoded. Every other field is kept as the JSON text that came, and
  leaves as that text: ``1e9`` stays ``1e9``, and DeepSeek's new fields work the day they appear.
* All of it is checked to be JSON (RFC 8259) in UTF-8, nested no deeper than the parser can follow.
  Anybody may send a megabyte, so that must take no more than a few milliseconds. A field costs more
  than what is in it, so their number is bounded. So is that of all values: to decode one takes many
  times as long, and as much memory, as its text, if that is short.
* Of two fields of one name the last counts, and only that one goes on.
"""

from __future__ import annotations

import itertools
import json
import marshal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from ..errors import InvalidRequest
from . import surrogates

#: The fields of a request: each a ``msgspec.Raw``, the JSON text that came, or a value that the
#: application has put in its place.
Payload = dict[str, Any]


class _Message(msgspec.Struct, gc=False):
    role: str


class _Name(str):
    """The name of a field."""

    __slots__ = ()


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
#: Refuses numbers that are too large, and is many times quicker with some floats than Python is.
_DECODER = json.JSONDecoder(parse_float=msgspec.json.Decoder(float).decode)
_DOCUMENT = msgspec.json.Decoder(msgspec.Raw)
_MESSAGES = msgspec.json.Decoder(list[_Message])
_NAME = msgspec.json.Decoder(Annotated[str, msgspec.Meta(min_length=1)])
_SWITCH = msgspec.json.Decoder(bool | None)
_COUNT = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=1)])

_FIELDS = dict[_Name, msgspec.Raw]
#: The most fields of a request. DeepSeek knows some thirty.
MOST_FIELDS = 1000
#: The most values in them, however deep: texts, numbers, lists, objects. One that is empty is two.
MOST_VALUES = 50_000

#: What each value but the first comes after, or begins with; and what is neither that nor a quote.
_SEPARATORS = b",[{"
_OTHERS = bytes(set(range(256)) - set(_SEPARATORS + b'"'))
_ESCAPES = ((rb"\\", b"__"), (rb"\"", b"__"))  # as long as what it is put for, which is quicker

_BOM = b"\xef\xbb\xbf"


def parse(body: bytes) -> Payload:
    """The fields of the JSON object that a client's body is.

    :raises InvalidRequest: if it is not one, or has too much in it.
    """
    fields = fields_of(body)
    if not _has_few_values(body):
        raise InvalidRequest(f"The body has more than {MOST_VALUES} values.")
    return fields


def fields_of(body: bytes) -> Payload:
    """As ``parse``, for a body that the application may have had its say in: of any values."""
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
        found, show = surrogates.decoded(_decode_fields, body)
    except msgspec.ValidationError:
        _DOCUMENT.decode(body)  # that it is no JSON at all is the better thing to say
        raise
    if show is bytes:
        return found
    return {surrogates.shown_name(name): msgspec.Raw(show(text)) for name, text in found.items()}


def _decode_fields(body: bytes) -> dict[str, msgspec.Raw]:
    numbers = itertools.count(1)

    def take(_type: type, name: str) -> _Name:
        if next(numbers) > MOST_FIELDS:
            raise InvalidRequest(f"The body has more than {MOST_FIELDS} fields.")
        return _Name(name)

    found: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=_FIELDS, dec_hook=take)
    return found


def _has_few_values(body: bytes) -> bool:
    if len(body) - len(body.translate(None, _SEPARATORS)) < MOST_VALUES:
        return True  # even with those that are in texts
    for escape, other in _ESCAPES:
        body = body.replace(escape, other)
    body = body.translate(None, _OTHERS)
    if body.count(b'"') > 4 * MOST_VALUES:
        return False  # each value may have a name, and each text has two quotes
    return sum(map(len, body.split(b'"')[::2])) < MOST_VALUES


def check(payload: Payload) -> None:
    """See that this can be sent to DeepSeek.

    :raises InvalidRequest: if it can't.
    """
    text = _text_of(payload.get("messages"))
    try:
        messages, _ = surrogates.decoded(_MESSAGES.decode, text)
    except msgspec.DecodeError:
        if text.startswith(b"["):
            sentence = "Each of 'messages' must be an object with a 'role'."
            raise InvalidRequest(sentence) from None
        messages = []
    if not messages:
        raise InvalidRequest("'messages' must be a list with at least one message.")
    try:
        if "model" in payload:
            _NAME.decode(_text_of(payload["model"]))
    except msgspec.DecodeError:
        raise InvalidRequest("'model' must be a name.") from None


def change(payload: Payload, preparers: Iterable[Callable[[Payload], Payload | None]]) -> Payload:
    """The payload as the application's preparers want it.

    They get it decoded. A field that they leave as it was keeps its text.

    :raises InvalidRequest: see ``decoded``.
    """
    fields = decoded(payload)
    before = {name: _fingerprint(value) for name, value in fields.items()}

    def is_unchanged(name: str, value: object) -> bool:
        known = before.get(name)
        return known is not None and known == _fingerprint(value)

    for preparer in preparers:
        changed = preparer(fields)
        fields = fields if changed is None else changed
    return {
        name: payload[name] if is_unchanged(name, value) else value
        for name, value in fields.items()
    }


def _fingerprint(value: Any) -> bytes | None:
    """What is the same for the same JSON value; None if this may be none.

    To write JSON takes ten times as long.
    """
    try:
        return marshal.dumps(value, 2)  # later versions tell how often an object is referred to
    except ValueError:
        return None


def decoded(payload: Payload) -> dict[str, Any]:
    """The payload for the application to look at.

    :raises InvalidRequest: if a number in it is beyond what Python can decode and write again.
    """
    try:
        return {name: decode(_text_of(value)) for name, value in payload.items()}
    except RecursionError:
        raise _invalid_json("The body is nested too deeply.") from None
    except ValueError:
        raise _invalid_json("The body has a number that is too large.") from None


def decode(text: bytes) -> Any:
    """The value that is this JSON, which takes a few milliseconds for what ``parse`` lets pass.

    :raises RecursionError, ValueError: see ``decoded``.
    """
    return _DECODER.decode(text.decode())


def complete(payload: Payload, model: str) -> bytes:
    """The body of the request to DeepSeek: streamed, and with a model.

    It lacks the ``stream_options``, which depend on whom is asked (``stream_options_of``).

    :raises InvalidRequest: if the payload is nested too deeply.
    :raises TypeError, ValueError: if it can't be written as JSON, because of what a preparer did.
    """
    return _joined({"model": model, **_without_options(payload), "stream": True})


def complete_for_run(payload: Payload) -> bytes:
    """The body of a question to a run: without a model, as that has named the run.

    :raises InvalidRequest, TypeError, ValueError: see ``complete``.
    """
    return _joined({k: v for k, v in payload.items() if k not in ("model", "stream")})


def _without_options(payload: Payload) -> Payload:
    return {name: value for name, value in payload.items() if name != "stream_options"}


def stream_options_of(payload: Payload) -> bytes:
    """The ``stream_options`` as JSON; b"" if there are none."""
    options = _text_of(payload.get("stream_options"))
    return b"" if options == b"null" else options


def _joined(fields: Payload) -> bytes:
    try:
        texts = [b"%b:%b" % (_text_of(name), _text_of(value)) for name, value in fields.items()]
    except RecursionError:
        raise _invalid_json("The body is nested too deeply.") from None
    return b"{%b}" % b",".join(texts)


def choices_of(payload: Payload) -> int:
    """How many choices the answer will have: ``n``, which is 1 if it is left out or is no number.

    A wrong ``n`` is for DeepSeek to refuse.
    """
    if "n" not in payload:
        return 1
    try:
        count: int = _COUNT.decode(_text_of(payload["n"]))
    except msgspec.DecodeError:
        return 1
    return count


def max_tokens_of(payload: Payload) -> int | None:
    """The most tokens that all choices of the answer may have; None if the client does not say.

    OpenAI's API has ``max_completion_tokens`` as well.
    """
    for name in ("max_completion_tokens", "max_tokens"):
        if name in payload:
            with suppress(msgspec.DecodeError):
                most: int = _COUNT.decode(_text_of(payload[name]))
                return most * choices_of(payload)
    return None


def model_of(payload: Payload) -> str:
    """The model that the client names; "" if it names none, or not by a name."""
    try:
        name: str = _NAME.decode(_text_of(payload.get("model")))
    except msgspec.DecodeError:
        return ""
    return name


def is_streamed(payload: Payload) -> bool:
    """Whether the client wants a stream, as OpenAI's API has it: no, if ``stream`` is left out.

    :raises InvalidRequest: if it does not say yes or no.
    """
    try:
        return bool(_SWITCH.decode(_text_of(payload.get("stream"))))
    except msgspec.DecodeError:
        raise InvalidRequest("'stream' must be true or false.") from None


def _text_of(value: object) -> bytes:
    """A value as JSON text."""
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    return _ENCODER.encode(value).encode("ascii")


def _invalid_json(sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, code="invalid_json")
