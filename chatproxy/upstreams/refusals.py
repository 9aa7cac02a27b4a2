"""What an upstream's refusals become: a status and its words in, an ``UpstreamError`` out. No I/O.

Its words are passed on only if the request was at fault (400, 422), or if they are all there is to
know: of an error that it reports with the status 200, within an answer or in place of one.

Statuses and advice on retrying: https://api-docs.deepseek.com/quick_start/error_codes
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Callable
from typing import Any

from ..answers.foreign_json import value_of
from ..errors import UpstreamError

#: What other words of an error tell as plainly as a status does.
_STATUS_BY_WORD = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}
_PLAIN = frozenset({400, 401, 402, 422, 429, 503})
#: The request is wrong, and its client is told what the upstream says of it.
_WRONG = frozenset({400, 422})
#: The question itself is at fault, whoever is asked.
_HOPELESS = frozenset({400, 413, 422})
_ABOUT_THE_ACCOUNT = frozenset({401, 402})
#: A ``finish_reason`` of what is not whole: OpenRouter's, and that of our own OpenAI protocol if an
#: answer was stopped, by its server's shutdown, say.
_BROKEN_OFF = ("error", "cancelled")
#: A key of which a part is blotted out already. It is looked for at the beginnings of words alone:
#: at each character of a long word it would take milliseconds.
_PART_OF_A_KEY = re.compile(r"(?<![\w-])[\w-]*\*{3,}[\w*-]*")
#: What ``Retry-After`` is if it is no date.
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")
#: What servers call a stream, and what they say if they don't know.
_MAY_BE_A_STREAM = ("text/event-stream", "text/plain", "application/octet-stream")


def refusal(status: int, message: str, retry_after: int | None, name: str) -> UpstreamError:
    """The error for a status.

    :param message: the upstream's own sentence, without a key, on one line.
    :param retry_after: seconds.
    :param name: the upstream's.
    """
    error = _kind_of(status, message, retry_after, name)
    error.elsewhere = status not in _HOPELESS
    error.reason = f"status {status}: {message}" if message else f"status {status}"
    return error


def _kind_of(status: int, message: str, retry_after: int | None, name: str) -> UpstreamError:
    if status in _WRONG:
        sentence = message or f"{name} rejected the request."
        return UpstreamError(sentence, status=status, code="upstream_rejected")
    if status == 401:
        return UpstreamError(f"{name} did not accept the key.", code="upstream_auth")
    if status == 402:
        return UpstreamError(f"The balance at {name} is used up.", code="upstream_balance")
    if status in (429, 503):
        return UpstreamError(
            f"{name} is busy; try again later.",
            status=status,
            code="upstream_busy",
            retry_after=retry_after,
        )
    return UpstreamError(f"{name} answered with status {status}.")


def message_in(body: bytes, status: int) -> str:
    """The upstream's own sentence in the body of a refusal; empty if there is none.

    To a wrong request, whose client gets it, some say it in ``message``, and FastAPI in ``detail``.
    """
    said = value_of(body)
    error = error_in(said)
    if error is None and status in _WRONG and isinstance(said, dict):
        error = said.get("message") or said.get("detail")
    return _message_of(error)


def _message_of(error: Any) -> str:
    """The sentence of an error, or of the first of some, that is one, or has one in a field."""
    first = error[0] if isinstance(error, list) and error else error
    message = first.get("message") or first.get("msg") if isinstance(first, dict) else first
    return message if isinstance(message, str) else ""


def error_in(said: object) -> Any:
    """The error that an event or a document reports, decoded from JSON; None if there is none.

    It is in ``error``, at the top or in a choice, or is all of ``{"object": "error", …}`` or of
    ``{"type": "error", …}``, or is a choice that was broken off. Gemini has a list around it.
    """
    if isinstance(said, list) and said:
        said = said[0]
    if not isinstance(said, dict):
        return None
    if said.get("error"):
        return said["error"]
    if "error" in (said.get("object"), said.get("type")):
        return said
    choices = said.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("error"):
            return choice["error"]
        if isinstance(choice, dict) and choice.get("finish_reason") in _BROKEN_OFF:
            return {**choice, "message": "The upstream has broken the answer off."}
    return None


def reported(error: Any, clean: Callable[[str], str], name: str, *, begun: bool) -> UpstreamError:
    """The error for what an upstream reports by ``error_in``.

    :param clean: makes a text one short line without a key.
    :param name: the upstream's.
    :param begun: whether the client has got a part of the answer already, and so a status.
    """
    sentence = _PART_OF_A_KEY.sub("***", clean(_message_of(error)))
    status = _status_of(error if isinstance(error, dict) else {})
    if status in _PLAIN and not begun:
        found = refusal(status, sentence, None, name)
    elif status in _ABOUT_THE_ACCOUNT:
        found = UpstreamError(refusal(status, "", None, name).message)
    else:
        found = UpstreamError(sentence or f"{name} reported an error.")
    found.reason = f"reported an error: {_PART_OF_A_KEY.sub('***', clean(_text_of(error)))}"
    return found


def _text_of(error: Any) -> str:
    try:
        return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    except RecursionError:
        return "it is nested too deeply"


def _status_of(fields: dict[str, Any]) -> int:
    for value in (fields.get("code"), fields.get("status"), fields.get("type")):
        text = str(value)
        if text in _STATUS_BY_WORD:
            return _STATUS_BY_WORD[text]
        if text.isascii() and text.isdigit() and len(text) == 3:
            return int(text)
    return 0


def compressed(coding: str, name: str) -> UpstreamError:
    """The error for an answer with a content coding that can't be taken off."""
    error = UpstreamError(f"{name}'s answer is compressed in a way that was not asked for.")
    error.reason = f"Content-Encoding {coding!r}"
    return error


def may_be_a_stream(content_type: str) -> bool:
    """Whether a body of this ``Content-Type`` may be an event stream; its content then decides.

    It may be if no other format is named. A type may be there twice, or in quotes.
    """
    parts = content_type.lower().replace(";", ",").split(",")
    named = {part.strip(" \t\"'") for part in parts if "/" in part}
    return not named or not named.isdisjoint(_MAY_BE_A_STREAM)


def seconds_of(value: str | None) -> int | None:
    """The seconds that a ``Retry-After`` header asks for (RFC 9110, section 10.2.3).

    A fraction, which some send, is rounded up.
    """
    if value is None:
        return None
    if (found := _SECONDS.fullmatch(value.strip())) is not None:
        return math.ceil(min(float(found[0]), 86_400))
    try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0, round(seconds)), 86_400)
