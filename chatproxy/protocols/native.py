"""The native protocol: an answer as server-sent events, the upstream's and a few of our own.

The upstream's events pass through byte for byte. Beside them (docs/architecture.md):

* ``event: stopped`` says that the answer was stopped, why and in which phase; ``[DONE]`` follows.
* ``event: error`` says why there is no whole answer.
"""

from __future__ import annotations

from .. import sse
from ..answers.session import StreamSession
from ..errors import Refusal


def stopped(session: StreamSession) -> list[bytes]:
    """The events with which a stopped answer ends."""
    ending = {
        "sessionId": session.id,
        "reason": session.reason,
        "phase": session.phase,
        "events": session.events,
    }
    return [sse.event("stopped", ending), sse.DONE]


def failed(refusal: Refusal) -> list[bytes]:
    """The event with which a failed answer ends."""
    return [sse.event("error", {"error": {"message": refusal.message, "code": refusal.code}})]
