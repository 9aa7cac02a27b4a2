"""The headers of a request, checked: the ids in them, ``X-On-Disconnect``. No I/O.

X-Session-Id      the id of the answer, which the client has made
X-Chat-Id         the id of the chat that it belongs to, likewise
X-On-Disconnect   how long the answer goes on without a reader
Last-Event-ID     after which event to read on (the HTML Standard, 9.2.4)
"""

from __future__ import annotations

import math
import re

from ..errors import InvalidRequest

#: What can't be a chat's id, because ``<prefix>/<chat id>/…`` would be another route of this name.
TAKEN = ("stream", "cancel", "runs", "conversations")

_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def is_session_id(text: str) -> bool:
    """Whether this can be a session id: 1 to 128 of ``A-Z a-z 0-9 . _ : -``.

    ``.`` and ``..`` can't: as the last segment of a path, clients take them away (RFC 3986, 5.2.4;
    the URL Standard, 4.4), so no Stop could name them.
    """
    return _SESSION_ID.fullmatch(text) is not None and text not in (".", "..")


def check_session_id(text: str | None) -> str:
    """The session id that ``X-Session-Id`` gives.

    :raises InvalidRequest: if there is none, or it has the wrong form.
    """
    if not text:
        raise InvalidRequest("Missing sessionId", code="missing_session_id")
    if not is_session_id(text):
        raise InvalidRequest(
            "The session id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -, and not . or ..",
            code="invalid_session_id",
        )
    return text


def check_chat_id(text: str | None) -> str:
    """The id of a chat that ``X-Chat-Id`` gives, which looks like a session id; "" for none.

    :raises InvalidRequest: if it has the wrong form, or is a route's.
    """
    if text and not is_session_id(text):
        raise InvalidRequest("X-Chat-Id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -.")
    return check_not_taken(text or "")


def check_not_taken(chat_id: str) -> str:
    """The id of a chat, if its Stop and its reading have an address.

    :raises InvalidRequest: if they would be another route's.
    """
    if chat_id in TAKEN:
        raise InvalidRequest(f"The id of a chat can't be {chat_id}, which is a route.")
    return chat_id


def check_reconnect_seconds(text: str | None, most: float) -> float:
    """The seconds for which an answer waits for a reader to come back, from ``X-On-Disconnect``.

    :param text: ``stop``, which is 0 s; a number of seconds; or None for ``most``.
    :param most: what the server allows.
    :raises InvalidRequest: if it is anything else.
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
    """The number of the last event that a reader has, from ``Last-Event-ID``; 0 if it has none.

    :raises InvalidRequest: if it is not the number of an event.
    """
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest("Last-Event-ID must be the number of an event.")
    return int(text)
