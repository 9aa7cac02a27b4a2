"""The receipt of a Stop: as the client gets it, and as workers hand it to one another."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from ..errors import PeersUnavailable
from . import usage
from .session import Phase, StreamSession
from .upstream import BillingStops
from .usage import NO_ACCOUNT, Account


@dataclass(frozen=True)
class Receipt:
    """What a Stop did.

    ``phase`` is the phase of the answer at the Stop. ``stop_ms`` are the milliseconds from the
    arrival of the Stop to the close of the connection to the upstream, of the last one if the
    answer is a run. ``events`` is the number of the upstream's events until then. ``upstream`` is
    its name, "" if none was asked yet. ``account`` is what the answer came to by then (``usage``).
    ``calls`` are those of a run, and ``left_behind`` the names
    of its code that had not ended (``Calls.listed``). ``repeated`` is whether something else had
    stopped it before, and its close was only waited for; no client is told that.
    """

    session_id: str
    phase: Phase
    upstream_closed: bool
    stop_ms: float
    events: int
    upstream: str = ""
    billing_stops: BillingStops = BillingStops.UNKNOWN
    account: Account = NO_ACCOUNT
    calls: tuple[dict[str, Any], ...] | None = None
    left_behind: tuple[str, ...] = ()
    repeated: bool = False

    def as_json(self) -> dict[str, Any]:
        """The receipt as the client gets it."""
        fields: dict[str, Any] = {
            "sessionId": self.session_id,
            "phase": self.phase,
            "upstreamClosed": self.upstream_closed,
            "stopMs": self.stop_ms,
            "events": self.events,
            "upstream": self.upstream or None,
            "billingStops": self.billing_stops,
            **self.account.as_json(),
        }
        if self.calls is not None:
            fields |= {"calls": self.calls, "leftBehind": self.left_behind}
        return fields


def of(session: StreamSession, arrived: float, *, repeated: bool = False) -> Receipt:
    """The receipt for a Stop of this session.

    :param arrived: when the Stop came, in seconds of the monotonic clock.
    :param repeated: see ``Receipt``. Such a Stop may have come after the close.
    """
    closed_at = session.closed_at
    seconds = max(0.0, (closed_at or time.monotonic()) - arrived)
    calls, left_behind = session.calls.listed() if session.calls else (None, ())
    return Receipt(
        session_id=session.id,
        phase=session.phase,
        upstream_closed=closed_at is not None,
        stop_ms=round(seconds * 1000, 1),
        events=session.events,
        upstream=session.upstream,
        billing_stops=session.billing_stops,
        account=session.account,
        calls=calls,
        left_behind=left_behind,
        repeated=repeated,
    )


def to_send(receipt: Receipt, took_ms: float) -> dict[str, Any]:
    """The receipt as a worker hands it to the one that asked.

    :param took_ms: the milliseconds from the arrival of the question to this answer.
    """
    return {"tookMs": took_ms, "repeated": receipt.repeated, **receipt.as_json()}


def received(fields: dict[str, Any], elapsed_ms: float) -> Receipt:
    """The receipt from another worker, with ``stop_ms`` counted from the arrival of the Stop here.

    The clocks of two hosts can't be compared, so the way to the other worker and back counts in
    full: ``stop_ms`` is rather too long than too short.

    :param elapsed_ms: the milliseconds from the arrival of the Stop until now.
    :raises PeersUnavailable: if this is no receipt.
    """
    try:
        detour = max(0.0, elapsed_ms - float(fields["tookMs"]))
        return Receipt(
            session_id=str(fields["sessionId"]),
            phase=Phase(fields["phase"]),
            upstream_closed=fields["upstreamClosed"] is True,
            stop_ms=_finite(round(float(fields["stopMs"]) + detour, 1)),
            events=int(fields["events"]),
            # An older version does not send these.
            upstream=str(fields.get("upstream") or ""),
            billing_stops=BillingStops(fields.get("billingStops", BillingStops.UNKNOWN)),
            account=usage.received(fields),
            calls=None if (calls := fields.get("calls")) is None else tuple(map(dict, calls)),
            left_behind=tuple(map(str, fields.get("leftBehind", ()))),
            repeated=fields.get("repeated") is True,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        raise PeersUnavailable("Another worker's answer could not be understood.") from None


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    return number
