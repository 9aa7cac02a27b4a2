"""The receipt on its way from one worker to another, and whatever else may arrive instead."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy.answers import receipt as receipts
from chatproxy.answers.receipt import Receipt, received, to_send
from chatproxy.answers.session import Phase
from chatproxy.answers.upstream import BillingStops
from chatproxy.answers.usage import Account, Saved, UsageSource, counted
from chatproxy.errors import PeersUnavailable

from .support.sessions import new_session

ACCOUNT = Account(counted(5, 160, UsageSource.ESTIMATED, 0.2), None, Saved(7840))
RECEIPT = Receipt(
    "session_1", Phase.STREAMING, True, 12.3, 42, "azure-eu", BillingStops.YES, ACCOUNT
)

#: The fields that every version sends.
OLDER = ("tookMs", "sessionId", "phase", "upstreamClosed", "stopMs", "events")


def over_the_wire(fields: dict[str, Any]) -> dict[str, Any]:
    arrived: dict[str, Any] = json.loads(json.dumps(fields))
    return arrived


def test_a_client_gets_all_of_it() -> None:
    assert over_the_wire(RECEIPT.as_json()) == {
        "sessionId": "session_1",
        "phase": "streaming",
        "upstreamClosed": True,
        "stopMs": 12.3,
        "events": 42,
        "upstream": "azure-eu",
        "billingStops": "yes",
        "usage": {"prompt_tokens": 5, "completion_tokens": 160, "total_tokens": 165},
        "usageSource": "estimated",
        "usageSpread": 0.2,
        "cost": None,
        "savedAtMost": 7840,
    }


@pytest.mark.parametrize(("arrived", "stop"), [(99.9958, 4.2), (100.5, 0.0)])
def test_a_stop_took_from_its_arrival_to_the_close(arrived: float, stop: float) -> None:
    """One that is repeated may come after the close."""
    session = new_session()
    session.closed_at = 100.0
    assert receipts.of(session, arrived).stop_ms == stop


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("closed", [True, False])
def test_a_receipt_arrives_as_it_was_sent(phase: Phase, closed: bool) -> None:
    receipt = Receipt("a:b", phase, closed, 0.4, 0)
    assert received(over_the_wire(to_send(receipt, 1.0)), 1.0) == receipt


@pytest.mark.parametrize(("elapsed", "stop"), [(35.0, 32.3), (10.0, 12.3)])
def test_the_way_there_and_back_counts_and_never_makes_a_stop_shorter(
    elapsed: float, stop: float
) -> None:
    """Of 35 ms, 20 were not spent at the other worker."""
    receipt = received(over_the_wire(to_send(RECEIPT, took_ms=15.0)), elapsed_ms=elapsed)
    assert receipt.stop_ms == stop


@pytest.mark.parametrize("closed", [None, 0, 1, "true", [], "missing"])
def test_a_close_is_confirmed_by_true_and_by_nothing_else(closed: object) -> None:
    fields = {**to_send(RECEIPT, 1.0), "upstreamClosed": closed}
    assert received(fields, 1.0).upstream_closed is False


def test_that_something_else_had_stopped_it_is_told_to_workers_alone() -> None:
    receipt = replace(RECEIPT, repeated=True)
    assert received(over_the_wire(to_send(receipt, 12.3)), 12.3) == receipt
    assert receipt.as_json() == RECEIPT.as_json()


def test_an_older_worker_says_neither_which_upstream_it_was_nor_who_stopped_it_before() -> None:
    fields = {name: value for name, value in to_send(RECEIPT, 1.0).items() if name in OLDER}
    found = received(fields, 1.0)
    assert (found.upstream, found.billing_stops) == ("", BillingStops.UNKNOWN)
    assert not found.repeated


@pytest.mark.parametrize("missing", OLDER)
def test_every_field_is_needed(missing: str) -> None:
    fields = to_send(RECEIPT, 1.0)
    del fields[missing]
    with pytest.raises(PeersUnavailable):
        received(fields, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("events", math.inf),
        ("events", math.nan),
        ("events", "many"),
        ("stopMs", math.inf),
        ("stopMs", math.nan),
        ("stopMs", 10**400),
        ("stopMs", [1]),
        ("tookMs", -math.inf),
        ("tookMs", 10**400),
        ("tookMs", None),
        ("phase", "finished"),
        ("phase", ["streaming"]),
        ("phase", None),
        ("billingStops", "perhaps"),
        ("billingStops", ["yes"]),
    ],
)
def test_a_value_that_is_none_makes_no_receipt(name: str, value: object) -> None:
    with pytest.raises(PeersUnavailable):
        received({**to_send(RECEIPT, 1.0), name: value}, 1.0)


WILD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["streaming", "1", "1e999", "nan"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "sessionId": WILD,
            "phase": st.sampled_from(["streaming", "waiting"]) | WILD,
            "upstreamClosed": WILD,
            "stopMs": st.floats() | WILD,
            "events": st.integers() | st.floats() | WILD,
            "tookMs": st.floats() | WILD,
            "upstream": WILD,
            "billingStops": st.sampled_from(["yes", "no"]) | WILD,
        },
    ),
    elapsed=st.floats(0, 1e6),
)
def test_whatever_arrives_is_a_receipt_for_a_client_or_is_refused(
    fields: dict[str, Any], elapsed: float
) -> None:
    try:
        receipt = received(fields, elapsed)
    except PeersUnavailable:
        return
    json.dumps(receipt.as_json(), allow_nan=False)
    assert isinstance(receipt.events, int)
