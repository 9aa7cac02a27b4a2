"""Rows: an answer that has ended, as plain values that no longer need its session.

A row is made while the answer ends, on whatever thread that happens. So this is quick, and looks
nothing up. Nothing that a client, an upstream or an application says can make a row that a database
refuses: texts are cut, and have no character that it can't hold; numbers stay within their columns.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from ..answers.session import Outcome, StreamSession
from .schema import nano_of

#: A row by the names of its columns.
Row = dict[str, Any]

_LONGEST = 200
_LARGEST = (1 << 63) - 1


def row_of(session: StreamSession, application: str) -> Row:
    """The row of an answer that ends now.

    :param application: the name of the application among those that share the database.
    """
    account = session.account
    usage, cost, saved = account.usage, account.cost, account.saved
    likely = (saved and saved.likely) or (None, None, None)
    ms, first = session.milliseconds(), session.first_event_at
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    return {
        "key": os.urandom(16).hex(),
        "application": application,
        "owner": _text(session.owner),
        "session_id": _text(session.id),
        "model": _text(session.model),
        "upstream": _text(session.upstream),
        "started_at": now - timedelta(milliseconds=ms),
        "ended_at": now,
        "first_event_ms": None if first is None else round((first - session.started_at) * 1000),
        "duration_ms": ms,
        "phase": session.phase.value,
        "outcome": session.outcome.value if session.outcome else Outcome.FAILED.value,
        "reason": session.reason.value if session.reason else None,
        "refusal": session.refusal.code[:50] if session.refusal else None,
        "events": session.events,
        "usage_source": usage.source.value,
        "usage_spread": usage.spread,
        "prompt_tokens": min(usage.prompt_tokens, _LARGEST),
        "completion_tokens": min(usage.completion_tokens, _LARGEST),
        "cached_tokens": min(usage.cached_tokens, _LARGEST),
        "reasoning_tokens": min(usage.reasoning_tokens, _LARGEST),
        "cost_nano": None if cost is None else min(nano_of(cost.amount), _LARGEST),
        "currency": None if cost is None else cost.currency,
        "saved_at_most": saved and saved.at_most and min(saved.at_most, _LARGEST),
        "saved_likely": likely[0],
        "saved_likely_from": likely[1],
        "saved_likely_to": likely[2],
        "receipt": _receipt_of(session),
    }


def _text(value: str) -> str:
    """A text that every database takes: without NUL, and without half a surrogate pair."""
    if value.isascii() and value.isprintable():
        return value[:_LONGEST]
    sound = value[:_LONGEST].encode("utf-8", "replace").decode()
    return sound.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _receipt_of(session: StreamSession) -> Row | None:
    """What only a stopped answer or a run has."""
    fields: Row = {}
    if session.outcome is Outcome.STOPPED:
        fields["upstreamClosed"] = session.closed_at is not None
        fields["billingStops"] = session.billing_stops.value
    if session.calls is not None:
        fields["calls"], fields["leftBehind"] = session.calls.listed()
    return fields or None
