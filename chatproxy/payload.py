"""What a client may send: session ids and request bodies. Bytes in, a payload out. No I/O.

The payload is DeepSeek's chat completion (https://api-docs.deepseek.com/api/create-chat-completion).
Only what this proxy needs is looked at; every other field goes on untouched, so that DeepSeek's new
fields work the day they appear.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from .errors import InvalidRequest

_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Payload = dict[str, Any]


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
    """The JSON object in a request's body.

    :raises InvalidRequest: where it is none.
    """
    try:
        payload = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise _invalid_json("The body is nested too deeply.") from None
    except ValueError:
        raise _invalid_json("The body is not valid JSON.") from None
    if not isinstance(payload, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return payload


def check(payload: Payload) -> None:
    """See that this can be sent to DeepSeek.

    :raises InvalidRequest: with one sentence, where it can't.
    """
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list with at least one message.")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest("Each of 'messages' must be an object with a 'role'.")
    if "model" in payload and not (isinstance(payload["model"], str) and payload["model"]):
        raise InvalidRequest("'model' must be a name.")


def complete(payload: Payload, model: str) -> bytes:
    """The body of the request to DeepSeek: streamed, and with a model.

    :raises InvalidRequest: where the payload is nested too deeply.
    :raises TypeError, ValueError: where it is no JSON object, which only an application can cause.
    """
    try:
        whole = {"model": model, **payload, "stream": True}
        return json.dumps(whole, allow_nan=False, separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise _invalid_json("The body is nested too deeply.") from None


def _invalid_json(sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, code="invalid_json")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
