"""The native protocol: an answer as server-sent events, the upstream's and a few of our own.

The ``data`` lines of the upstream's events pass through byte for byte; no name does, so that none
of its events can be taken for one of ours. Beside them (docs/architecture.md):

* ``event: stopped`` says that the answer was stopped, why and in which phase; ``[DONE]`` follows.
* ``event: error`` says why there is no whole answer.
* ``event: account`` says what a finished answer came to, if its client has asked for it.
* Events of a run's own have the name that it gives them. A line ``by: run`` tells them from all
  others: of the upstream's events no line but ``data`` is passed on. Clients skip it.

The log holds every answer in this form, so there is nothing to encode.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .. import sse
from ..answers.foreign_json import decoded
from ..answers.session import Outcome, StreamSession
from ..errors import Refusal


class NativeEncoder:
    """An ``Encoder`` that leaves the events as they are."""

    heartbeat = sse.HEARTBEAT
    refusal = None
    withheld = None

    def encode(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        return data

    def fail(self, refusal: Refusal) -> bytes:
        """See ``Encoder``. The events have no number: other readers don't see them."""
        return b"".join(event + b"\n\n" for event in failed(refusal))


#: The name of the event that tells what a finished answer came to.
ACCOUNT = "account"

#: It has no state, so one serves all.
ENCODER = NativeEncoder()

#: How many of a run's calls its ``stopped`` names, so that it is never long: the latest.
_MOST_NAMED = 20


def stopped(session: StreamSession) -> list[bytes]:
    """The events with which a stopped answer ends.

    Of a run they have the calls that the Stop has ended, as its receipt has them.
    """
    ending: dict[str, Any] = {
        "sessionId": session.id or None,
        "reason": session.reason,
        "phase": session.phase,
        "events": session.events,
        **session.account.as_json(),
    }
    if session.calls is not None:
        calls, left_behind = session.calls.listed()
        ended = [call for call in calls if call["outcome"] == Outcome.STOPPED]
        ending |= {"calls": ended[-_MOST_NAMED:], "leftBehind": left_behind[:_MOST_NAMED]}
    return [sse.event("stopped", ending), sse.DONE]


def account(session: StreamSession) -> bytes:
    """The event that tells what a finished answer came to."""
    return emitted(ACCOUNT, session.account.as_json())


def failed(refusal: Refusal) -> list[bytes]:
    """The event with which a failed answer ends."""
    return [sse.event("error", {"error": {"message": refusal.message, "code": refusal.code}})]


def emitted(name: str, data: Any) -> bytes:
    """An event of a run's own.

    :raises TypeError, ValueError: if the data can't be written as JSON.
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for escaped, kept in _LINE_ENDS:
        text = text.replace(kept, escaped)
    # Half a surrogate pair can't be sent, and not every client could decode it.
    return b"event: %b\nby: run\ndata: %b" % (name.encode("ascii"), text.encode("utf-8", "replace"))


#: What some clients take for the end of a line.
_LINE_ENDS = (("\\u0085", "\x85"), ("\\u2028", "\u2028"), ("\\u2029", "\u2029"))
#: How an event begins as a reader gives it: with comments and its number before it.
_BEGINNING = rb"(?::[^\n]*\n)*(?:id: \d+\n)?event: "
_EMITTED = re.compile(_BEGINNING + rb"([a-z][a-z0-9_-]*)\nby: run\ndata: ([^\n]*)\Z")


def emitted_in(event: bytes) -> tuple[str, bytes] | None:
    """The name and the JSON of an event of a run's own; None if it is none."""
    found = _EMITTED.match(event)
    return None if found is None else (found[1].decode("ascii"), found[2])


#: An event of ours. It is not long.
_ENDING = re.compile(_BEGINNING + rb"(?:stopped|error)\ndata: (\{[^\n]{,65535}\})\Z")
_STOPPED = frozenset({"sessionId", "reason", "phase", "events"})


def ending_of(event: bytes) -> dict[str, Any] | None:
    """The data of ``stopped`` or of ``error``, if this event is one of ours; else None.

    The first has ``reason``, the second ``error``, as ``stopped`` and ``failed`` write them.
    """
    found = _ENDING.match(event)
    if found is None:
        return None
    said = decoded(json.loads, found[1])
    if said is None:  # a caller of an application's own names its events as it likes
        return None
    error = said.get("error")
    if isinstance(error, dict) and {"message", "code"} <= error.keys():
        return dict(said)
    return dict(said) if said.keys() >= _STOPPED else None
