"""Rows: an answer that has ended, as plain values that no longer need its session.

A row is made while the answer ends, on whatever thread that happens. So this is quick, and looks
nothing up. Nothing that a client, an upstream or an application says can make a row that a database
refuses: texts are cut, and have no character that it can't hold; numbers have bounds that no answer
reaches. The receipt of a run can be much larger than all else. It is a JSON text, so its size is
known.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from ..answers.calls import Calls
from ..answers.session import Outcome, StreamSession
from .schema import nano_of

#: A row by the names of its columns.
Row = dict[str, Any]

_LONGEST = 200
#: More tokens than any answer has, and nano-units than any costs (a billion dollars).
_MOST_TOKENS, _MOST_NANO = 10**12, 10**18


def row_of(session: StreamSession, application: str) -> Row:
    """The row of an answer that ends now.

    :param application: the name of the application among those that share the database.
    """
    account = session.account
    usage, cost, saved = account.usage, account.cost, account.saved
    likely = (saved and saved.likely) or (None, None, None)
    at_most = saved.at_most if saved else None
    ms, first = session.milliseconds(), session.first_event_at
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    return {
        "key": os.urandom(16).hex(),
        "application": application,
        "owner": owner_in_row(session.owner),
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
        "prompt_tokens": _bounded(usage.prompt_tokens),
        "completion_tokens": _bounded(usage.completion_tokens),
        "cached_tokens": _bounded(usage.cached_tokens),
        "reasoning_tokens": _bounded(usage.reasoning_tokens),
        "cost_nano": None if cost is None else min(nano_of(cost.amount), _MOST_NANO),
        "currency": None if cost is None else cost.currency,
        "saved_at_most": _bounded(at_most),
        "saved_likely": _bounded(likely[0]),
        "saved_likely_from": _bounded(likely[1]),
        "saved_likely_to": _bounded(likely[2]),
        "receipt": _receipt_of(session),
    }


def _bounded(tokens: int | None) -> int | None:
    return None if tokens is None else min(tokens, _MOST_TOKENS)


def owner_in_row(owner: str) -> str:
    """An owner as the rows have it: if it is too long for them, or can't be stored, with a digest.

    So two owners stay two.
    """
    text = _text(owner)
    if text == owner:
        return owner
    digest = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{text[: _LONGEST - 33]}~{digest}"


def _text(value: str) -> str:
    """A text that every database takes: without NUL, and without half a surrogate pair."""
    if value.isascii() and value.isprintable():
        return value[:_LONGEST]
    sound = value[:_LONGEST].encode("utf-8", "replace").decode()
    return sound.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _billed(calls: Calls) -> Row | None:
    """What all calls of DeepSeek came to; None if there were none, or nothing is known of them."""
    nano = {currency: min(nano_of(cost), _MOST_NANO) for currency, cost in calls.costs.items()}
    return {"nano": nano, "unpriced": calls.unpriced} if nano or calls.unpriced else None


def _receipt_of(session: StreamSession) -> str | None:
    """What only a stopped answer or a run has, as a JSON text."""
    fields: Row = {}
    if session.outcome is Outcome.STOPPED:
        fields["upstreamClosed"] = session.closed_at is not None
        fields["billingStops"] = session.billing_stops.value
    if session.calls is not None:
        fields["calls"], fields["leftBehind"] = session.calls.listed()
        fields["billed"] = _billed(session.calls)
    return json.dumps(fields) if fields else None
