"""The registry: ids that are taken once, Stops that come first, limits, and the receipt."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from chatproxy import registry as registry_module
from chatproxy.config import Settings
from chatproxy.errors import (
    ChatProxyError,
    Refusal,
    SessionActive,
    SessionCancelled,
    ShuttingDown,
    TooManySessions,
    UpstreamError,
)
from chatproxy.receipt import Receipt
from chatproxy.registry import Registry
from chatproxy.reservations import Reservations
from chatproxy.session import Outcome, Phase, Reason, StreamSession

from .servers import wait_for
from .table import Table, TablePeers

PATIENCE = 10.0
SENDER = object()
LOCAL = "http://127.0.0.1:1"


class FakeClock:
    """The clock by which a registry forgets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Moves only by hand, for the registries that are made from here on."""
    clock = FakeClock()
    monkeypatch.setattr(registry_module, "Reservations", lambda retain: Reservations(retain, clock))
    return clock


def new_registry(
    retain: float = 60.0,
    max_sessions: int = 2000,
    max_sessions_per_owner: int = 20,
    table: Table | None = None,
) -> Registry:
    settings = Settings(
        base_url=LOCAL,
        retain=retain,
        max_sessions=max_sessions,
        max_sessions_per_owner=max_sessions_per_owner,
    )
    return Registry(settings, SENDER, TablePeers(table))


def finish(
    registry: Registry, session: StreamSession, refusal: Refusal | None = None, events: int = 0
) -> None:
    """End a session as its producer does."""
    session.events, session.refusal = events, refusal
    session.end(Outcome.FAILED if refusal else Outcome.FINISHED)
    session.closed_at = time.monotonic()
    registry.discard(session)
    session.closed.set()
    registry.release(session)
    registry.told(session)


def finish_when_cancelled(registry: Registry, session: StreamSession) -> None:
    """Have the session end as soon as its flag is set, before ``cancel`` goes on."""
    session.on_cancel(lambda: finish(registry, session))


def claimable(registry: Registry, session_id: str, owner: str = "") -> bool:
    """Whether an id is free now. Where it is, this takes it and gives it back."""
    try:
        session = registry.claim(session_id, owner)
    except ChatProxyError:
        return False
    finish(registry, session, refusal=UpstreamError("No."))
    return True


def in_a_thread(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_a_claim_gives_a_live_session_with_the_clients_own_id() -> None:
    registry = new_registry()
    session = registry.claim("session_1", "ada")
    assert (session.id, session.owner) == ("session_1", "ada")
    assert registry.live() == [session]


def test_a_live_id_is_taken() -> None:
    registry = new_registry()
    registry.claim("session_1", "")
    with pytest.raises(SessionActive):
        registry.claim("session_1", "")
    assert len(registry.live()) == 1


@pytest.fixture
def _close_races() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_close_races")
def test_of_many_claims_at_once_exactly_one_gets_the_id() -> None:
    registry = new_registry()
    barrier = threading.Barrier(8)
    got: list[str] = []

    def claim_all() -> None:
        for number in range(50):
            barrier.wait(PATIENCE)
            try:
                got.append(registry.claim(f"session_{number}", "").id)
            except SessionActive:
                continue

    threads = [threading.Thread(target=claim_all, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(got) == sorted(f"session_{number}" for number in range(50))


def test_the_same_id_of_two_owners_is_two_sessions() -> None:
    registry = new_registry()
    of_ada, of_bob = registry.claim("session_1", "ada"), registry.claim("session_1", "bob")
    assert of_ada is not of_bob
    finish_when_cancelled(registry, of_ada)
    assert registry.cancel("session_1", "ada", time.monotonic())
    assert registry.live() == [of_bob]
    assert not of_bob.flag.is_set()


def test_another_owners_session_is_not_found() -> None:
    registry = new_registry()
    session = registry.claim("session_1", "ada")
    assert registry.cancel("session_1", "bob", time.monotonic()) is None
    assert not session.flag.is_set()


def test_owner_and_id_are_not_run_together() -> None:
    registry = new_registry()
    registry.claim("b:c", "a")
    assert claimable(registry, "c", "a:b")


def test_a_stop_that_comes_first_refuses_the_start() -> None:
    registry = new_registry()
    assert registry.cancel("session_1", "ada", time.monotonic()) is None
    with pytest.raises(SessionCancelled):
        registry.claim("session_1", "ada")
    assert registry.live() == []


def test_a_stop_that_comes_first_is_for_its_own_owner_and_id_alone() -> None:
    registry = new_registry()
    registry.cancel("session_1", "ada", time.monotonic())
    assert claimable(registry, "session_1", "bob")
    assert claimable(registry, "session_2", "ada")


def test_a_stop_that_comes_first_is_remembered_for_half_a_minute(clock: FakeClock) -> None:
    registry = new_registry()
    registry.cancel("session_1", "", 0.0)
    clock.now += 29.9
    assert not claimable(registry, "session_1")
    clock.now += 0.1
    assert claimable(registry, "session_1")


def test_the_stops_that_come_first_are_bounded_in_number() -> None:
    """Somebody who stops at random can't fill the memory; the least recent are forgotten."""
    registry = new_registry()
    for number in range(20_000):
        registry.cancel(f"session_{number}", "", 0.0)
    assert claimable(registry, "session_0")
    assert not claimable(registry, "session_19999")


def test_an_ended_id_stays_taken_for_as_long_as_it_is_retained(clock: FakeClock) -> None:
    registry = new_registry(retain=60.0)
    finish(registry, registry.claim("session_1", ""))
    assert registry.live() == []
    clock.now += 59.9
    with pytest.raises(SessionActive):
        registry.claim("session_1", "")
    clock.now += 0.1
    assert claimable(registry, "session_1")


def test_an_ended_session_is_not_found_by_a_stop() -> None:
    registry = new_registry()
    finish(registry, registry.claim("session_1", ""))
    assert registry.cancel("session_1", "", time.monotonic()) is None


def test_a_late_stop_does_not_refuse_the_next_answer_with_that_id(clock: FakeClock) -> None:
    registry = new_registry(retain=10.0)
    finish(registry, registry.claim("session_1", ""))
    registry.cancel("session_1", "", 0.0)
    clock.now += 10.0
    assert claimable(registry, "session_1")


def test_a_refused_session_frees_its_id() -> None:
    registry = new_registry()
    finish(registry, registry.claim("session_1", ""), refusal=UpstreamError("No."))
    assert claimable(registry, "session_1")


def test_an_answer_that_failed_after_it_began_keeps_its_id() -> None:
    registry = new_registry()
    session = registry.claim("session_1", "")
    finish(registry, session, refusal=UpstreamError("It broke off."), events=1)
    assert not claimable(registry, "session_1")


def test_the_worker_takes_no_more_sessions_than_its_limit() -> None:
    registry = new_registry(max_sessions=2)
    first = registry.claim("session_1", "ada")
    registry.claim("session_2", "bob")
    with pytest.raises(TooManySessions) as caught:
        registry.claim("session_3", "eve")
    assert "Retry-After" in caught.value.headers()
    finish(registry, first)
    assert claimable(registry, "session_3", "eve")


def test_an_owner_gets_no_more_sessions_than_the_limit() -> None:
    registry = new_registry(max_sessions_per_owner=2)
    first, _ = registry.claim("session_1", "ada"), registry.claim("session_2", "ada")
    with pytest.raises(TooManySessions) as caught:
        registry.claim("session_3", "ada")
    assert "Retry-After" in caught.value.headers()
    assert claimable(registry, "session_3", "bob")
    finish(registry, first)
    assert claimable(registry, "session_3", "ada")


def test_without_owners_there_is_no_limit_for_one() -> None:
    registry = new_registry(max_sessions_per_owner=1)
    registry.claim("session_1", "")
    assert claimable(registry, "session_2")


def test_to_discard_twice_frees_one_place_only() -> None:
    registry = new_registry(max_sessions_per_owner=2)
    first, _ = registry.claim("session_1", "ada"), registry.claim("session_2", "ada")
    finish(registry, first)
    registry.discard(first)
    registry.release(first)
    registry.claim("session_3", "ada")
    assert not claimable(registry, "session_4", "ada")


def test_a_refused_claim_leaves_no_trace() -> None:
    registry = new_registry(max_sessions_per_owner=1)
    first = registry.claim("session_1", "ada")
    assert not claimable(registry, "session_2", "ada")
    finish(registry, first)
    assert claimable(registry, "session_2", "ada")


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.CONNECTING])
def test_the_receipt_tells_what_was_stopped_and_how_fast(phase: Phase) -> None:
    registry = new_registry()
    session = registry.claim("session_1", "ada")
    session.enter(phase)
    arrived = time.monotonic()
    session.events = 42

    def close() -> None:
        session.closed_at = arrived + 0.00174
        session.closed.set()

    session.on_cancel(close)
    assert registry.cancel("session_1", "ada", arrived) == Receipt(
        session_id="session_1", phase=phase, upstream_closed=True, stop_ms=1.7, events=42
    )
    assert session.reason is Reason.USER


def test_a_stop_waits_for_the_close() -> None:
    """The receipt is given once the connection is closed, however long that takes."""
    registry = new_registry()
    session = registry.claim("session_1", "")
    receipts: list[Receipt | None] = []
    stop = in_a_thread(lambda: receipts.append(registry.cancel("session_1", "", time.monotonic())))
    assert session.flag.wait(PATIENCE)
    assert not receipts
    finish(registry, session)
    stop.join(PATIENCE)
    (receipt,) = receipts
    assert receipt is not None
    assert receipt.upstream_closed


def test_a_close_that_cannot_be_confirmed_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "CONFIRM_SECONDS", 0.02)
    registry = new_registry()
    registry.claim("session_1", "")
    receipt = registry.cancel("session_1", "", time.monotonic())
    assert receipt is not None
    assert not receipt.upstream_closed
    assert receipt.stop_ms >= 19


def test_a_close_is_confirmed_within_two_seconds_or_not_at_all() -> None:
    assert registry_module.CONFIRM_SECONDS == 2.0


def test_the_second_stop_of_a_session_finds_nothing() -> None:
    registry = new_registry()
    session = registry.claim("session_1", "")
    session.on_cancel(session.closed.set)
    assert registry.cancel("session_1", "", time.monotonic())
    assert registry.cancel("session_1", "", time.monotonic()) is None


def test_a_stopped_id_does_not_count_as_stopped_before_its_start() -> None:
    registry = new_registry()
    finish_when_cancelled(registry, registry.claim("session_1", ""))
    registry.cancel("session_1", "", time.monotonic())
    registry.cancel("session_1", "", time.monotonic())
    with pytest.raises(SessionActive):
        registry.claim("session_1", "")


def test_a_draining_registry_takes_nothing_new() -> None:
    registry = new_registry()
    registry.drain(0.0)
    assert registry.draining
    with pytest.raises(ShuttingDown) as caught:
        registry.claim("session_1", "")
    assert "Retry-After" in caught.value.headers()


def test_a_drain_lets_the_running_answers_end() -> None:
    registry = new_registry()
    session = registry.claim("session_1", "")
    draining = in_a_thread(lambda: registry.drain(PATIENCE))
    wait_for(lambda: registry.draining)
    assert draining.is_alive()
    finish(registry, session)
    draining.join(PATIENCE)
    assert session.outcome is Outcome.FINISHED


def test_a_running_answer_can_be_stopped_during_a_drain() -> None:
    registry = new_registry()
    finish_when_cancelled(registry, registry.claim("session_1", ""))
    draining = in_a_thread(lambda: registry.drain(PATIENCE))
    wait_for(lambda: registry.draining)
    assert registry.cancel("session_1", "", time.monotonic())
    draining.join(PATIENCE)
    assert not draining.is_alive()


def test_a_drain_stops_what_still_runs_after_the_grace_time() -> None:
    registry = new_registry()
    sessions = [registry.claim(f"session_{number}", "") for number in range(3)]
    for session in sessions:
        finish_when_cancelled(registry, session)
    begun = time.monotonic()
    registry.drain(0.05)
    assert time.monotonic() - begun >= 0.045
    assert {session.reason for session in sessions} == {Reason.SHUTDOWN}
    assert registry.live() == []


def test_a_drain_waits_until_the_application_has_been_told() -> None:
    registry = new_registry()
    session = registry.claim("session_1", "")
    session.end(Outcome.FINISHED)
    registry.discard(session)
    draining = in_a_thread(lambda: registry.drain(PATIENCE))
    draining.join(0.05)
    assert draining.is_alive()
    registry.told(session)
    draining.join(PATIENCE)
    assert not draining.is_alive()


def test_no_owner_can_push_out_the_early_stops_of_another() -> None:
    registry = new_registry()
    registry.cancel("session_1", "ada", time.monotonic())
    for number in range(20_000):
        registry.cancel(f"other_{number}", "mallory", time.monotonic())
    with pytest.raises(SessionCancelled):
        registry.claim("session_1", "ada")
    assert claimable(registry, "other_0", "mallory")


def test_a_drain_does_not_wait_forever_for_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "TELL_SECONDS", 0.02)
    registry = new_registry()
    stuck = registry.claim("session_1", "")
    registry.drain(0.0)
    assert stuck.reason is Reason.SHUTDOWN
