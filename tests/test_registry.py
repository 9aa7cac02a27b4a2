"""The registry: ids that are taken once, Stops that come first, limits, and the receipt."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatproxy import signals
from chatproxy.answers import drain
from chatproxy.answers.receipt import Receipt
from chatproxy.answers.session import Outcome, Phase, Reason, SessionKey, StreamSession
from chatproxy.cluster import coordinator as coordinator_module
from chatproxy.cluster import registry as registry_module
from chatproxy.cluster.local.control_socket import ControlSocket
from chatproxy.cluster.local.peers import LocalPeers
from chatproxy.cluster.local.run_dir import RunDir
from chatproxy.cluster.peers import LeaseKey, PeerState
from chatproxy.cluster.registry import Registry
from chatproxy.cluster.rpc import RpcDispatcher
from chatproxy.cluster.session_table import SessionTable
from chatproxy.config import Settings
from chatproxy.errors import (
    ChatProxyError,
    PeersUnavailable,
    Refusal,
    SessionActive,
    SessionCancelled,
    ShuttingDown,
    TooManySessions,
    UpstreamError,
)

from .support.another import Another
from .support.table import Table, TablePeers, service_of, sit_down
from .support.waiting import PATIENCE, Background, HandClock, at_once, wait_for

SENDER = object()
LOCAL = "http://127.0.0.1:1"
#: An id, of an owner and of nobody.
KEY, NOBODYS = SessionKey("ada", "session_1"), SessionKey("", "session_1")
OTHER, THIRD = SessionKey("ada", "session_2"), SessionKey("ada", "session_3")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    """Moves only by hand, for the registries that are made from here on."""
    clock = HandClock()
    monkeypatch.setattr(
        registry_module, "SessionTable", lambda *limits: SessionTable(*limits, clock)
    )
    return clock


#: By which each registry of these tests finds the others.
PEERS: WeakKeyDictionary[Registry, TablePeers] = WeakKeyDictionary()


def new_registry(table: Table | None = None, **limits: Any) -> Registry:
    peers = TablePeers(table)
    registry = sit_down(Registry(Settings(base_url=LOCAL, **limits), SENDER, peers), peers)
    PEERS[registry] = peers
    return registry


def new_registries(count: int, **limits: Any) -> list[Registry]:
    """Workers at one table."""
    table = Table()
    return [new_registry(table, **limits) for _ in range(count)]


def peers_of(registry: Registry) -> TablePeers:
    return PEERS[registry]


def table_of(registry: Registry) -> Table:
    return peers_of(registry).table


def finish(
    registry: Registry, session: StreamSession, refusal: Refusal | None = None, events: int = 0
) -> None:
    """End a session as its producer does."""
    session.events, session.refusal = events, refusal
    session.first_event_at = time.monotonic() if events else None
    session.end(Outcome.FAILED if refusal else Outcome.FINISHED)
    session.closed_at = time.monotonic()
    registry.discard(session)
    session.closed.set()
    registry.release(session)
    registry.drain.told(session)


def finish_when_cancelled(registry: Registry, session: StreamSession) -> None:
    """Have the session end as soon as its flag is set, before ``cancel`` goes on."""
    session.on_cancel(lambda: finish(registry, session))


def cancel(registry: Registry, key: SessionKey = KEY) -> Receipt | None:
    """A Stop that arrives now."""
    return registry.cancel(key, time.monotonic())


def claimable(registry: Registry, key: SessionKey = KEY) -> bool:
    """Whether an id is free now. Where it is, this takes it and gives it back."""
    try:
        session = registry.claim(key)
    except ChatProxyError:
        return False
    finish(registry, session, refusal=UpstreamError("No."))
    return True


def test_under_gevent_a_sweep_of_many_leaves_all_else_its_turn() -> None:
    script = """
from gevent import monkey
monkey.patch_all()
import time
import gevent
from chatproxy.answers.session import SessionKey
from chatproxy.cluster import early_stops
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from tests.support.table import TablePeers
early_stops.EARLY_STOP_SECONDS = 0.0
registry = Registry(Settings(), object(), TablePeers())
for number in range(200):
    registry.cancel(SessionKey("", str(number)), 0.0)
sweep, turns = gevent.spawn(registry.sweep), 0
while not sweep.ready():
    turns += 1
    time.sleep(0)
assert turns > 100
assert registry.idle
"""
    assert Another(script).rest() == ""


# ---- what an id stands for ----------------------------------------------------------------------


def end(registry: Registry, refusal: Refusal | None = None, events: int = 0) -> None:
    finish(registry, registry.claim(KEY), refusal, events)


def stop_twice(registry: Registry) -> None:
    finish_when_cancelled(registry, registry.claim(KEY))
    assert cancel(registry)
    assert cancel(registry) is None


#: How an id comes to stand for something, the refusal of a start with it, and for how long.
MEANINGS: dict[str, tuple[Callable[[Registry], object], type[ChatProxyError] | None, float]] = {
    "live": (lambda registry: registry.claim(KEY), SessionActive, math.inf),
    "finished": (end, SessionActive, 60.0),
    "failed after an event": (partial(end, refusal=Refusal("No."), events=1), SessionActive, 60.0),
    "stopped": (stop_twice, SessionActive, 60.0),
    "refused": (partial(end, refusal=Refusal("No.")), None, 0.0),
    "stopped before its start": (cancel, SessionCancelled, 30.0),
}


@pytest.mark.parametrize("asked", ["the same worker", "another worker"])
@pytest.mark.parametrize("meaning", MEANINGS)
def test_what_an_id_stands_for_refuses_a_start_on_every_worker_for_a_while(
    clock: HandClock, meaning: str, asked: str
) -> None:
    begin, refusal, seconds = MEANINGS[meaning]
    here, there = new_registries(2, retain=60.0)
    begin(here)
    live = here.live()
    assert [session.key for session in live] == [KEY] * (meaning == "live")
    asked_one = here if asked == "the same worker" else there
    if refusal:
        clock.now += min(seconds, 1000.0) - 0.1
        with pytest.raises(refusal):
            asked_one.claim(KEY)
        assert claimable(asked_one, OTHER)
        assert claimable(asked_one, SessionKey("bob", KEY.id))
        clock.now += 0.1
    assert here.live() == live
    assert claimable(asked_one) == (meaning != "live")


@pytest.mark.parametrize("asked", ["the same worker", "another worker"])
@pytest.mark.parametrize("key", [KEY, SessionKey("ada", "session_2")], ids=["its id", "another id"])
def test_a_chat_is_free_for_its_next_question_as_soon_as_its_answer_has_ended(
    asked: str, key: SessionKey
) -> None:
    """The client knows of the end before the upstream is closed."""
    here, there = new_registries(2)
    session = here.claim(key, chat=KEY)
    session.end(Outcome.FINISHED)
    asker = here if asked == "the same worker" else there
    asker.check_claim(KEY, KEY)
    claiming = Background(lambda: asker.claim(KEY, chat=KEY))
    assert claiming.still_runs()
    finish(here, session)
    assert claiming.result().outcome is None


@pytest.mark.parametrize("asked", ["the same worker", "another worker"])
@pytest.mark.parametrize("meaning", ["finished", "failed after an event", "stopped"])
def test_a_stop_for_what_has_ended_finds_nothing_and_refuses_no_later_start(
    clock: HandClock, meaning: str, asked: str
) -> None:
    here, there = new_registries(2, retain=60.0)
    MEANINGS[meaning][0](here)
    clock.now += 50.0
    assert cancel(here if asked == "the same worker" else there) is None
    clock.now += 10.0
    assert claimable(there)


def test_a_sweep_frees_no_id_that_another_answer_has_by_then(clock: HandClock) -> None:
    here, there = new_registries(2, retain=60.0)
    end(here)
    clock.now += 60.0
    here.claim(KEY)
    here.sweep()
    assert not claimable(there)


def test_a_second_stop_that_comes_first_keeps_the_first_alive_wherever_it_lands(
    clock: HandClock,
) -> None:
    one, two = new_registries(2)
    for registry in (one, two, one, two):
        assert cancel(registry) is None
        clock.now += 20
    assert not claimable(two)
    clock.now += 10
    assert claimable(two)


# ---- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "owner"), [({"max_sessions": 2}, "bob"), ({"max_sessions_per_owner": 2}, "ada")]
)
def test_the_limit_of_the_worker_or_the_owner_refuses_a_start_until_one_ends(
    limits: dict[str, int], owner: str
) -> None:
    registry = new_registry(**limits)
    first, _ = registry.claim(KEY), registry.claim(SessionKey(owner, "session_2"))
    for _ in range(2):  # who is refused leaves no trace
        with pytest.raises(TooManySessions) as caught:
            registry.claim(THIRD)
        assert "Retry-After" in caught.value.headers()
    assert claimable(registry, SessionKey("eve", "session_3")) == (owner == "ada")
    finish(registry, first)
    registry.discard(first)  # a second time, which frees no other place
    registry.release(first)
    registry.claim(THIRD)
    assert not claimable(registry, SessionKey("ada", "session_4"))


# ---- the receipt --------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.CONNECTING])
def test_the_receipt_tells_what_was_stopped_and_how_fast(phase: Phase) -> None:
    registry = new_registry()
    session = registry.claim(KEY)
    session.enter(phase)
    arrived = time.monotonic()
    session.events = 42

    def close() -> None:
        session.closed_at = arrived + 0.00174
        session.closed.set()

    session.on_cancel(close)
    assert registry.cancel(KEY, arrived) == Receipt(
        session_id="session_1", phase=phase, upstream_closed=True, stop_ms=1.7, events=42
    )
    assert session.reason is Reason.USER
    assert cancel(registry) is None


def test_a_stop_waits_for_the_close() -> None:
    """The receipt is given once the connection is closed, however long that takes."""
    registry = new_registry()
    session = registry.claim(KEY)
    stop = Background(lambda: cancel(registry))
    assert session.flag.wait(PATIENCE)
    assert stop.still_runs()
    finish(registry, session)
    receipt = stop.result()
    assert receipt is not None
    assert receipt.upstream_closed


@pytest.mark.parametrize("by", [0, 1], ids=["self", "peer"])
@pytest.mark.parametrize("reason", [Reason.USER, Reason.DISCONNECT])
def test_a_stop_is_not_told_that_nothing_runs_before_the_close(by: int, reason: Reason) -> None:
    """Something else is stopping it, and has the receipt."""
    registries = new_registries(2)
    session = registries[0].claim(KEY)
    session.cancel(reason)
    stop = Background(lambda: cancel(registries[by]))
    assert stop.still_runs()
    finish(registries[0], session, events=1)
    assert stop.result() is None
    assert session.reason is reason


def test_who_stops_all_waits_for_those_that_are_being_stopped_already() -> None:
    registry = new_registry()
    session = registry.claim(KEY)
    assert session.cancel(Reason.IDLE)
    (receipt,) = registry.cancel_all(KEY.owner, 0.02)
    assert not receipt.upstream_closed
    assert receipt.repeated
    stopped = Background(lambda: registry.cancel_all(KEY.owner))
    assert stopped.still_runs()
    finish(registry, session)
    assert stopped.result() == []


@pytest.mark.parametrize(
    ("by", "constant"), [(0, "CONFIRM_SECONDS"), (1, "PEER_CONFIRM_SECONDS")], ids=["self", "peer"]
)
def test_a_close_that_cannot_be_confirmed_is_not_claimed(
    monkeypatch: pytest.MonkeyPatch, by: int, constant: str
) -> None:
    monkeypatch.setattr(registry_module, constant, 0.02)
    registries = new_registries(2)
    session = registries[0].claim(KEY)
    for repeated in (False, True):
        receipt = cancel(registries[by])
        assert receipt is not None
        assert not receipt.upstream_closed
        assert receipt.stop_ms >= 19
        assert receipt.repeated is repeated
    session.closed_at = time.monotonic() - 1
    late = cancel(registries[by])
    assert late is not None
    assert 0 <= late.stop_ms < PATIENCE * 1000


def test_a_close_is_confirmed_within_two_seconds_and_by_a_peer_before_it_is_given_up() -> None:
    assert registry_module.CONFIRM_SECONDS == 2.0
    assert registry_module.PEER_CONFIRM_SECONDS + 0.2 <= coordinator_module.ASK_SECONDS < 2


def test_a_stop_on_another_worker_brings_the_receipt_back() -> None:
    one, two = new_registries(2)
    session = one.claim(KEY)
    session.enter(Phase.WAITING)
    session.enter(Phase.STREAMING)
    session.on_cancel(lambda: finish(one, session, events=42))
    receipt = two.cancel(KEY, time.monotonic() - 2.5)
    assert receipt is not None
    assert (receipt.session_id, receipt.phase, receipt.events) == ("session_1", "streaming", 42)
    assert receipt.upstream_closed
    assert 2500 <= receipt.stop_ms < 2500 + PATIENCE * 1000  # since it arrived, there
    assert session.reason is Reason.USER
    assert cancel(two) is None


# ---- a drain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["by itself", "by a Stop"])
def test_a_drain_lets_the_running_answers_end(end: str) -> None:
    registry = new_registry()
    session = registry.claim(KEY)
    finish_when_cancelled(registry, session)
    draining = Background(lambda: registry.drain.run(PATIENCE))
    wait_for(lambda: registry.drain.begun)
    assert draining.is_alive()
    assert finish(registry, session) is None if end == "by itself" else cancel(registry)
    draining.result()
    assert session.outcome is (Outcome.FINISHED if end == "by itself" else Outcome.STOPPED)


def test_a_drain_stops_what_still_runs_after_the_grace_time_and_takes_nothing_new() -> None:
    registry = new_registry()
    sessions = [registry.claim(SessionKey("", f"session_{number}")) for number in range(3)]
    for session in sessions:
        finish_when_cancelled(registry, session)
    begun = time.monotonic()
    registry.drain.run(0.05)
    assert time.monotonic() - begun >= 0.045
    assert {session.reason for session in sessions} == {Reason.SHUTDOWN}
    assert registry.live() == []
    with pytest.raises(ShuttingDown) as caught:
        registry.claim(KEY)
    assert "Retry-After" in caught.value.headers()


def test_a_drain_waits_until_the_application_has_been_told() -> None:
    registry = new_registry()
    session = registry.claim(KEY)
    session.end(Outcome.FINISHED)
    registry.discard(session)
    draining = Background(lambda: registry.drain.run(PATIENCE))
    assert draining.still_runs()
    registry.drain.told(session)
    draining.result()


# ---- several workers ----------------------------------------------------------------------------


def test_what_another_worker_has_taken_is_lost_here_and_not_stopped_by_its_user() -> None:
    """The two could not hear of each other for a while: no Stop would reach this one."""
    registry = new_registry()
    lost, kept = registry.claim(KEY), registry.claim(OTHER)
    for name in ("place ada session_2", "id bob session_2", "id ada session_3", "id ada session_1"):
        registry.lose(tuple(name.split()))
    assert lost.reason is Reason.LOST
    assert kept.reason is None


@pytest.mark.parametrize("meaning", ["live", "finished", "stopped", "stopped before its start"])
def test_a_stop_for_an_id_that_was_lost_reaches_the_worker_that_has_it_now(meaning: str) -> None:
    """It is neither told that there is no such session, nor stops the one that was lost."""
    here, there = new_registries(2)
    MEANINGS[meaning][0](here)
    for lost in here.live():
        finish_when_cancelled(here, lost)
    table_of(here).holders.clear()  # as if a lease had run out
    session = there.claim(KEY)
    finish_when_cancelled(there, session)
    here.lose(("id", *KEY))
    assert here.idle
    assert cancel(here)
    assert session.reason is Reason.USER


@pytest.mark.parametrize("begins", ["before", "meanwhile"])
def test_a_start_that_a_drain_refuses_leaves_nothing_at_the_table(
    monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    one, two = new_registries(2, max_sessions_per_owner=2)
    one.claim(KEY)
    before = dict(table_of(one).holders)
    take = two.coordinator.take

    def take_as_the_drain_begins(key: LeaseKey, *, to_begin: bool = False) -> str | None:
        two.drain.begun = True
        return take(key, to_begin=to_begin)

    monkeypatch.setattr(two.coordinator, "take", take_as_the_drain_begins)
    two.drain.begun = begins == "before"
    with pytest.raises(ShuttingDown):
        two.claim(THIRD)
    assert table_of(one).holders == before


@pytest.mark.parametrize("key", [KEY, NOBODYS])
def test_a_claim_that_fails_half_way_costs_neither_id_nor_place(
    monkeypatch: pytest.MonkeyPatch, key: SessionKey
) -> None:
    def fail(_limit: int) -> NoReturn:
        raise MemoryError

    one, two = new_registries(2, max_sessions=1, max_sessions_per_owner=1)
    monkeypatch.setattr(registry_module, "AnswerLog", fail)
    for _ in range(3):
        with pytest.raises(MemoryError):
            one.claim(key)
    monkeypatch.undo()
    assert claimable(two, key)
    assert claimable(one, key)
    assert table_of(one).holders == {}


@pytest.mark.parametrize("steps", ["discard release", "release discard", "discard discard release"])
def test_in_any_order_a_session_gives_back_what_it_had(steps: str) -> None:
    one, two = new_registries(2, max_sessions=1, max_sessions_per_owner=1)
    session = one.claim(KEY)
    session.refusal = UpstreamError("No.")
    session.end(Outcome.FAILED)
    for step in steps.split():
        getattr(one, step)(session)
    assert claimable(two)
    assert claimable(one)


@pytest.mark.parametrize("by", [0, 1], ids=["this worker", "another worker"])
def test_a_leftover_of_a_worker_is_in_the_way_of_no_start_and_no_stop(by: int) -> None:
    registries = new_registries(2)
    peers_of(registries[by]).take(("id", *KEY))
    peers_of(registries[by]).take(("id", *OTHER))
    assert claimable(registries[0])
    assert cancel(registries[0], OTHER) is None
    assert not claimable(registries[1], OTHER)
    assert table_of(registries[0]).holders == {("id", *OTHER): peers_of(registries[0]).name}


def test_to_close_stops_all_and_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for no close that does not come."""
    monkeypatch.setattr(drain, "TELL_SECONDS", 0.02)
    one, two = new_registries(2)
    session = one.claim(KEY)
    cancel(one, OTHER)
    two.claim(THIRD)
    one.close()
    assert session.reason is Reason.SHUTDOWN
    assert set(table_of(two).holders.values()) == {peers_of(two).name}


# ---- where the others cannot be asked -----------------------------------------------------------


def test_a_holder_that_does_not_answer_makes_starts_and_stops_unavailable() -> None:
    one, two = new_registries(2)
    session = one.claim(KEY)
    table_of(one).mute.add(peers_of(one).name)
    before = dict(table_of(one).holders)
    for _ in range(2):
        with pytest.raises(PeersUnavailable):
            cancel(two)
        with pytest.raises(PeersUnavailable):
            two.claim(KEY)
    assert table_of(one).holders == before
    assert not session.flag.is_set()
    finish_when_cancelled(one, session)
    assert cancel(one)


def test_a_key_that_never_gets_a_meaning_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coordinator_module, "ASK_SECONDS", 0.1)
    one, two = new_registries(2)
    peers_of(one).take(("id", "ada", "session_1"))
    peers_of(one).answer = lambda _question: {"state": "nothing"}
    for attempt in (two.claim, lambda key: two.cancel(key, time.monotonic())):
        begun = time.monotonic()
        with pytest.raises(PeersUnavailable):
            attempt(KEY)
        assert 0.1 <= time.monotonic() - begun < PATIENCE / 2
    assert list(table_of(one).holders) == [("id", "ada", "session_1")]


def test_an_answer_of_no_sense_is_no_receipt_and_no_404() -> None:
    one, two = new_registries(2)
    one.claim(KEY)
    said = {"state": "stopped", "tookMs": 1, "stopMs": "x", "events": 1, "phase": "waiting"}
    peers_of(one).answer = lambda _question: said
    with pytest.raises(PeersUnavailable):
        cancel(two)


def test_without_the_table_nothing_begins_and_only_what_is_known_here_is_stopped() -> None:
    one, two = new_registries(2)
    session = one.claim(KEY)
    cancel(one, OTHER)
    finish_when_cancelled(one, session)
    table_of(one).away = True
    for owner in ("", "ada"):
        with pytest.raises(PeersUnavailable):
            one.claim(SessionKey(owner, "session_3"))
    with pytest.raises(PeersUnavailable):
        cancel(one, THIRD)
    with pytest.raises(PeersUnavailable):
        cancel(two)
    assert cancel(one)
    assert cancel(one, OTHER) is None
    table_of(one).away = False
    # A Stop that was answered with a 503 is not remembered.
    assert claimable(two, THIRD)


def test_where_it_is_allowed_sessions_begin_without_the_table() -> None:
    registry = new_registry(without_peers="run")
    table_of(registry).away = True
    session = registry.claim(KEY)
    assert not claimable(registry)
    finish_when_cancelled(registry, session)
    assert cancel(registry)
    with pytest.raises(PeersUnavailable):
        cancel(registry, OTHER)


@pytest.mark.parametrize(
    ("session_id", "told"),
    [
        ("here", ("stopped", "self")),
        ("there", ("stopped", "peer")),
        ("unknown", ("not_found", "peer")),
        ("mute", ("unavailable", "peer")),
    ],
)
def test_of_each_stop_it_is_told_how_it_went(session_id: str, told: tuple[str, str]) -> None:
    one, two, three = new_registries(3)
    finish_when_cancelled(one, one.claim(SessionKey("", "here")))
    finish_when_cancelled(two, two.claim(SessionKey("", "there")))
    three.claim(SessionKey("", "mute"))
    table_of(one).mute.add(peers_of(three).name)
    found: list[tuple[str, str]] = []

    def note(_sender: object, result: str, by: str, seconds: float | None) -> None:
        assert (seconds is not None) == (result == "stopped")
        found.append((result, by))

    with signals.cancel_answered.connected_to(note), suppress(PeersUnavailable):
        one.cancel(SessionKey("", session_id), time.monotonic())
    assert found == [told]


QUESTIONS = st.dictionaries(
    st.sampled_from(["ask", "owner", "id", "x"]),
    st.recursive(
        st.none()
        | st.integers()
        | st.floats()
        | st.text(st.characters(exclude_categories=()), max_size=5)
        | st.sampled_from(["cancel", "state", "ready", "ada", "session_1"]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=3,
    ),
)


@settings(max_examples=50)
@given(QUESTIONS)
def test_any_question_has_an_answer(question: dict[str, object]) -> None:
    registry = new_registry()
    session = registry.claim(KEY)
    finish_when_cancelled(registry, session)
    dispatcher = RpcDispatcher(registry, service_of(registry).remote_readers)
    answer = dispatcher.dispatch(question)
    assert isinstance(json.loads(json.dumps(answer))["state"], str)
    meant = (question.get("ask"), question.get("owner"), question.get("id"))
    assert session.flag.is_set() == (meant == ("cancel", "ada", "session_1"))


# ---- a Stop and a start at the same moment ------------------------------------------------------


class HesitantPeers(TablePeers):
    """A worker that takes an id and is then held up, until it is told to go on."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.taken = threading.Event()
        self.go_on = threading.Event()

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        holder = super().take(key, allow_offline=allow_offline)
        if key[0] == "id":
            self.taken.set()
            assert self.go_on.wait(PATIENCE)
        return holder


@pytest.fixture
def hesitant() -> tuple[Registry, HesitantPeers, Registry]:
    """A worker that hesitates, and another one that does not."""
    table = Table()
    peers = HesitantPeers(table)
    registry = sit_down(Registry(Settings(base_url=LOCAL), SENDER, peers), peers)
    return registry, peers, new_registry(table)


def test_a_stop_that_meets_a_start_half_way_stops_what_comes_of_it(
    hesitant: tuple[Registry, HesitantPeers, Registry],
) -> None:
    one, peers, two = hesitant
    start = Background(lambda: finish_when_cancelled(one, one.claim(KEY)))
    assert peers.taken.wait(PATIENCE)
    stop = Background(lambda: cancel(two))
    assert stop.still_runs()
    asked = time.monotonic()
    assert peers.answer({"ask": "state", "owner": "ada", "id": "session_1"}) == {"state": "nothing"}
    # Whoever asks is not kept waiting, because two workers may ask each other.
    assert time.monotonic() - asked < 1.5
    peers.go_on.set()
    receipt = stop.result()
    start.result()
    assert receipt is not None
    assert receipt.upstream_closed
    assert one.live() == []


def test_a_start_that_meets_a_stop_half_way_is_refused(
    hesitant: tuple[Registry, HesitantPeers, Registry],
) -> None:
    one, peers, two = hesitant
    stop = Background(lambda: cancel(one))
    assert peers.taken.wait(PATIENCE)
    start = Background(lambda: two.claim(KEY))
    assert start.still_runs()
    peers.go_on.set()
    with pytest.raises(SessionCancelled):
        start.result()
    assert stop.result() is None


def meet_at_table(_: object) -> Callable[[], tuple[Registry, Callable[[], None]]]:
    table = Table()
    return lambda: (new_registry(table=table), lambda: None)


def meet_in_directory(folder: Path) -> Callable[[], tuple[Registry, Callable[[], None]]]:
    def make() -> tuple[Registry, Callable[[], None]]:
        control_socket = ControlSocket(RunDir(str(folder / "run")))
        chosen = Settings(base_url=LOCAL, max_sessions_per_owner=1000)
        peers = LocalPeers(control_socket, "app")
        return sit_down(Registry(chosen, SENDER, peers), peers), control_socket.close

    return make


@pytest.fixture(params=[meet_at_table, meet_in_directory])
def workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Registry]]:
    """Three workers, at a table of the tests', and in a real run directory."""
    make = request.param(tmp_path_factory.mktemp("d"))
    made = [make() for _ in range(3)]
    yield [registry for registry, _ in made]
    for _, close in made:
        close()


class TableWithAGap(SessionTable):
    """Has something happen after it is first asked what an id stands for."""

    happens: Callable[[], object] | None = None

    def state(self, key: SessionKey) -> PeerState:
        found = super().state(key)
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return found


def test_a_stop_that_asks_while_its_session_begins_is_not_told_that_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, begun = Table(), list[StreamSession]()
    sessions = TableWithAGap(60.0, 60.0, 1 << 20, 1 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(registry_module, "SessionTable", lambda *_limits: sessions)
        here = new_registry(table)
    there = new_registry(table)
    table.holders[("id", *KEY)] = peers_of(here).name

    def begin() -> None:
        monkeypatch.setattr(here.coordinator, "take", lambda *_args, **_options: None)
        begun.append(here.claim(KEY))
        finish_when_cancelled(here, begun[0])

    monkeypatch.setattr(here.coordinator, "is_busy", lambda _key: True)
    sessions.happens = begin
    receipt = cancel(there)
    assert begun[0].flag.is_set()
    assert receipt is not None
    assert receipt.upstream_closed


#: On which workers an id is started and stopped, all at once.
MEETINGS = {
    "one stop": ([0], [1]),
    "one worker": ([0, 0], [0]),
    "two stops": ([0], [1, 2]),
    "two starts": ([0, 1], [2]),
    "all": ([0, 1, 2], [0, 1, 2]),
}


@pytest.mark.usefixtures("_close_races")
@pytest.mark.parametrize("meeting", MEETINGS)
def test_no_stop_is_lost_in_a_race_with_its_start(workers: list[Registry], meeting: str) -> None:
    """Afterwards nothing runs that a Stop was for, and at most one Stop has the receipt."""
    starters, stoppers = MEETINGS[meeting]
    barrier = threading.Barrier(len(starters) + len(stoppers))
    count = 40
    started: list[StreamSession] = []
    receipts: list[Receipt] = []

    def start_all(registry: Registry) -> None:
        for number in range(count):
            barrier.wait(PATIENCE)
            try:
                session = registry.claim(SessionKey("", f"session_{number}"))
            except (SessionCancelled, SessionActive):
                continue
            started.append(session)
            finish_when_cancelled(registry, session)

    def stop_all(registry: Registry) -> None:
        for number in range(count):
            barrier.wait(PATIENCE)
            receipt = cancel(registry, SessionKey("", f"session_{number}"))
            if receipt is not None:
                receipts.append(receipt)

    at_once(
        *(partial(start_all, workers[number]) for number in starters),
        *(partial(stop_all, workers[number]) for number in stoppers),
    )
    assert [session.id for session in started if not session.flag.is_set()] == []
    assert sorted(session.id for session in started) == sorted(r.session_id for r in receipts)
    assert len({session.id for session in started}) == len(started)


# ---- any order of events ------------------------------------------------------------------------

EARLY = 30.0
RETAINED = 60.0
MOST_OF_OWNER = 2
WORKERS = st.integers(0, 2)
KEYS = st.builds(SessionKey, st.sampled_from(["", "ada", "bob"]), st.sampled_from("abc"))


class Meaning(NamedTuple):
    """What an id stands for, in which worker, and until when."""

    state: str
    worker: int
    until: float
    session: StreamSession | None = None


class AnyOrder(RuleBasedStateMachine):
    """Starts, Stops, ends, time and deaths on three workers, against a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = HandClock()
        self.patch.setattr(
            registry_module, "SessionTable", lambda *limits: SessionTable(*limits, self.clock)
        )
        self.table = Table()
        self.workers = [self.new_worker() for _ in range(3)]
        self.known: dict[SessionKey, Meaning] = {}

    def new_worker(self) -> Registry:
        return new_registry(self.table, retain=RETAINED, max_sessions_per_owner=MOST_OF_OWNER)

    def live(self) -> list[Meaning]:
        return [meaning for meaning in self.known.values() if meaning.session is not None]

    def end(self, key: SessionKey) -> None:
        """Note that a session has ended."""
        self.known[key] = Meaning("ended", self.known[key].worker, self.clock.now + RETAINED)

    def refusals(self, worker: int, key: SessionKey) -> set[type[ChatProxyError]]:
        """Why a start may be refused; it must not be where there is no reason."""
        reasons: set[type[ChatProxyError]] = set()
        meaning = self.known.get(key)
        if meaning is not None:
            reasons.add(SessionCancelled if meaning.state == "cancelled" else SessionActive)
            if meaning.worker == worker:
                return reasons
        if key[0] and sum(each.session.owner == key[0] for each in self.live()) >= MOST_OF_OWNER:
            reasons.add(TooManySessions)
        return reasons

    @rule(worker=WORKERS, key=KEYS)
    def start(self, worker: int, key: SessionKey) -> None:
        reasons = self.refusals(worker, key)
        registry = self.workers[worker]
        if reasons:
            with pytest.raises(tuple(reasons)):
                registry.claim(key)
            return
        session = registry.claim(key)
        finish_when_cancelled(registry, session)
        self.known[key] = Meaning("live", worker, math.inf, session)

    @rule(worker=WORKERS, key=KEYS)
    def stop(self, worker: int, key: SessionKey) -> None:
        receipt = self.workers[worker].cancel(key, time.monotonic())
        meaning = self.known.get(key)
        if meaning is None or meaning.state == "cancelled":
            by = worker if meaning is None else meaning.worker
            self.known[key] = Meaning("cancelled", by, self.clock.now + EARLY)
        if meaning is None or meaning.session is None:
            assert receipt is None
            return
        assert receipt is not None
        assert (receipt.session_id, receipt.upstream_closed) == (key.id, True)
        assert meaning.session.outcome is Outcome.STOPPED
        self.end(key)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), refused=st.booleans())
    def come_to_an_end(self, data: st.DataObject, refused: bool) -> None:
        meaning = data.draw(st.sampled_from(self.live()))
        assert meaning.session is not None
        key = meaning.session.key
        refusal = UpstreamError("No.") if refused else None
        finish(self.workers[meaning.worker], meaning.session, refusal)
        self.end(key)
        if refused:
            del self.known[key]

    @rule(worker=WORKERS, key=KEYS)
    def start_without_the_table(self, worker: int, key: SessionKey) -> None:
        self.table.away = True
        with pytest.raises((PeersUnavailable, *self.refusals(worker, key))):
            self.workers[worker].claim(key)
        self.table.away = False

    @rule(worker=WORKERS, key=KEYS)
    def stop_without_the_table(self, worker: int, key: SessionKey) -> None:
        meaning = self.known.get(key)
        self.table.away = True
        if meaning is not None and meaning.worker == worker:
            self.stop(worker, key)
        else:
            with pytest.raises(PeersUnavailable):
                self.workers[worker].cancel(key, time.monotonic())
        self.table.away = False

    @rule(seconds=st.sampled_from([0.5, 10.0, EARLY, RETAINED]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.known = {k: each for k, each in self.known.items() if each.until > self.clock.now}

    @rule(worker=WORKERS)
    def sweep(self, worker: int) -> None:
        self.workers[worker].sweep()

    @rule(worker=WORKERS)
    def kill(self, worker: int) -> None:
        dead = peers_of(self.workers[worker])
        dead.close()
        del self.table.members[dead.name]
        self.workers[worker] = self.new_worker()
        self.known = {k: each for k, each in self.known.items() if each.worker != worker}

    @invariant()
    def each_id_is_held_by_its_worker(self) -> None:
        for key, meaning in self.known.items():
            assert self.table.holders[("id", *key)] == peers_of(self.workers[meaning.worker]).name

    @invariant()
    def each_owners_session_has_one_place(self) -> None:
        places = sorted(key[1] for key in self.table.holders if key[0] == "place")
        owners = [each.session.owner for each in self.live() if each.session is not None]
        assert places == sorted(filter(None, owners))

    @invariant()
    def what_lives_is_what_should(self) -> None:
        live = {session for registry in self.workers for session in registry.live()}
        assert live == {each.session for each in self.live()}

    def teardown(self) -> None:
        for meaning in self.live():
            assert meaning.session is not None
            finish(self.workers[meaning.worker], meaning.session)
        self.clock.now += 2 * RETAINED
        for registry in self.workers:
            registry.sweep()
            assert registry.idle
        self.patch.undo()
        assert self.table.holders == {}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=50, stateful_step_count=40
)
