"""Sessions of answers, without whatever makes them."""

from __future__ import annotations

from chatproxy.answers.log import AnswerLog
from chatproxy.answers.session import SessionKey, StreamSession


def new_session(
    session_id: str = "session_1", owner: str = "", *, log_bytes: int = 1 << 20, grace: float = 0.0
) -> StreamSession:
    """One that has just begun, in the registry of nobody."""
    return StreamSession(SessionKey(owner, session_id), AnswerLog(log_bytes), grace)
