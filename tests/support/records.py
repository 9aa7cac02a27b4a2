"""Answers that have ended, for the tests of records."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from chatproxy.answers.log import AnswerLog
from chatproxy.answers.session import Outcome, Phase, Reason, SessionKey, StreamSession
from chatproxy.answers.usage import Account, Cost, Saved, UsageSource, counted


def ended(
    session_id: str = "s1",
    *,
    owner: str = "ann",
    model: str = "deepseek-flash",
    stopped: bool = False,
    tokens: tuple[int, int] = (10, 20),
    source: UsageSource = UsageSource.PROVIDER,
    cost: str | None = "0.0000135",
    currency: str = "USD",
    saved: Saved | None = None,
) -> StreamSession:
    """The session of an answer that has ended."""
    session = StreamSession(SessionKey(owner, session_id), AnswerLog(1000))
    session.model, session.upstream = model, "DeepSeek"
    session.enter(Phase.WAITING)
    session.take([b"data: 1\n\n"])
    if stopped:
        session.cancel(Reason.USER)
    session.end(Outcome.FINISHED)
    session.first_event_at = session.started_at + 0.25
    session.closed_at = session.started_at + 1.5
    session.account = Account(
        counted(*tokens, source=source, spread=0.2 if source is UsageSource.ESTIMATED else None),
        None if cost is None else Cost(Decimal(cost), currency),
        saved,
    )
    return session


class Direct:
    """Runs what is for a native thread at once, in the present one."""

    def run(self, call: Any) -> Any:
        return call()

    def submit(self, call: Any) -> None:
        call()

    def close(self, timeout: float | None = None) -> bool:
        return True
