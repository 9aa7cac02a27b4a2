"""Coordinator: one thread at a time for each key, bounded waits, and what the peers' words mean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from chatproxy import signals
from chatproxy.cluster import coordinator as coordinator_module
from chatproxy.cluster.coordinator import Coordinator
from chatproxy.cluster.peers import LeaseKey, Message
from chatproxy.errors import PeersUnavailable

from .support.table import Table, TablePeers
from .support.waiting import PATIENCE, Background, at_once

A, B = ("id", "", "a"), ("id", "", "b")


def new_coordinator(table: Table | None = None, *, allow_offline: bool = False) -> Coordinator:
    return Coordinator(TablePeers(table), object(), allow_offline=allow_offline)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_module, "ASK_SECONDS", 0.1)


@pytest.fixture
def told() -> Iterator[list[tuple[str, str]]]:
    """What is said of the peers: operations and results."""
    found: list[tuple[str, str]] = []

    def note(_sender: object, operation: str, result: str) -> None:
        found.append((operation, result))

    with signals.peer_asked.connected_to(note):
        yield found


# ---- alone --------------------------------------------------------------------------------------


def test_many_threads_deal_with_one_key_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coordinator_module, "ASK_SECONDS", PATIENCE)
    coordinator = new_coordinator()
    inside: list[int] = []
    most: list[int] = []

    def deal() -> None:
        for _ in range(100):
            with coordinator.exclusive(A):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    at_once(*[deal] * 8)
    assert most == [1] * 800
    assert not coordinator.is_busy(A)


def test_keys_are_not_in_each_others_way() -> None:
    coordinator = new_coordinator()
    with coordinator.exclusive(A):
        assert coordinator.is_busy(A)
        assert not coordinator.is_busy(B)
        with coordinator.exclusive(B):
            assert coordinator.is_busy(B)
    assert not coordinator.is_busy(A)


def test_whoever_waits_goes_on_as_soon_as_the_other_is_done_and_leaves_also_if_it_fails() -> None:
    coordinator = new_coordinator()

    def enter() -> None:
        with coordinator.exclusive(A):
            raise KeyError

    with coordinator.exclusive(A):
        waiting = Background(enter)
        assert waiting.still_runs()
    with pytest.raises(KeyError):
        waiting.result()
    assert not coordinator.is_busy(A)


@pytest.mark.usefixtures("_impatient")
def test_whoever_waits_too_long_is_told_so_and_is_not_in_the_way() -> None:
    coordinator = new_coordinator()

    def enter() -> None:
        with coordinator.exclusive(A):
            pytest.fail("two are alone")

    with coordinator.exclusive(A):
        waiting = Background(enter)
        with pytest.raises(PeersUnavailable) as caught:
            waiting.result()
        assert coordinator.is_busy(A)
    assert caught.value.retry_after == 1
    with coordinator.exclusive(A):
        pass


# ---- to take ------------------------------------------------------------------------------------


def test_a_key_is_held_or_its_holder_is_named(told: list[tuple[str, str]]) -> None:
    table = Table()
    one, two = new_coordinator(table), new_coordinator(table)
    assert one.holder(A) is None
    for _ in range(2):  # a leftover of this worker counts as taken
        assert one.take(A) is None
    assert one.holder(A) is None, "only another worker is named"
    assert two.take(A) == two.holder(A) == table.holders[A]
    one.free(A)
    assert two.take(A) is None
    assert set(told) == {("take", "ok")}


def test_without_the_table_nothing_is_taken(told: list[tuple[str, str]]) -> None:
    table = Table()
    coordinator = new_coordinator(table)
    table.away = True
    for to_begin in (False, True):
        with pytest.raises(PeersUnavailable):
            coordinator.take(A, to_begin=to_begin)
    with pytest.raises(PeersUnavailable):
        coordinator.take_first(iter([A, B]))
    assert told == [("take", "unavailable")] * 3


def test_who_may_run_alone_takes_what_begins_and_nothing_else() -> None:
    """What a Stop takes must be known to all, or the start may be anywhere."""
    table = Table()
    coordinator = new_coordinator(table, allow_offline=True)
    table.away = True
    assert coordinator.take(A, to_begin=True) is None
    assert coordinator.take_first(iter([A])) == A
    with pytest.raises(PeersUnavailable):
        coordinator.take(A)


def test_of_several_keys_the_first_is_taken_that_nobody_holds() -> None:
    table = Table()
    one, two = new_coordinator(table), new_coordinator(table)
    keys: list[LeaseKey] = [("place", "ada", str(number)) for number in range(3)]
    one.take(keys[0])
    assert two.take_first(iter(keys)) == keys[1]
    # What this worker holds itself is somebody's place, too.
    assert two.take_first(iter(keys)) == keys[2]
    assert two.take_first(iter(keys)) is None
    one.free(keys[0], keys[1])
    assert two.take_first(iter(keys)) == keys[0]


# ---- to ask -------------------------------------------------------------------------------------


def asked(answer: Any) -> tuple[str, Message]:
    """What comes of an answer; of none, if it is empty."""
    table = Table()
    holder = TablePeers(table)
    holder.answer = lambda _question: answer
    if not answer:
        table.mute.add(holder.name)
    return new_coordinator(table).ask(holder.name, {"ask": "state"})


def test_a_state_comes_with_all_that_was_said(told: list[tuple[str, str]]) -> None:
    answer = {"state": "stopped", "events": 3}
    assert asked(answer) == ("stopped", answer)
    assert told == [("ask", "ok")]


@pytest.mark.parametrize(
    "answer", [{"state": None}, {"state": ["ready"]}, {"state": "of a later version"}, {"x": 1}, {}]
)
def test_an_answer_whose_state_says_nothing_is_told_as_none(
    told: list[tuple[str, str]], answer: Message
) -> None:
    with pytest.raises(PeersUnavailable):
        asked(answer)
    assert told == [("ask", "unavailable")]


def test_the_holder_has_a_limited_time_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    peers = TablePeers()
    monkeypatch.setattr(
        peers,
        "ask",
        lambda _holder, _question, seconds: given.append(seconds) or {"state": "ready"},
    )
    Coordinator(peers, object(), allow_offline=False).ask("x", {})
    assert given == [coordinator_module.ASK_SECONDS]


# ---- workers that have ended --------------------------------------------------------------------


@pytest.mark.usefixtures("_impatient")
def test_a_worker_has_ended_if_its_peers_do_not_know_it_and_not_if_it_is_only_silent() -> None:
    table = Table()
    here, there = TablePeers(table), TablePeers(table)
    there.serve(lambda _question: {"state": "ready"}, lambda _key: None)
    coordinator = Coordinator(here, object(), allow_offline=False)
    assert not coordinator.has_ended(there.name)
    table.mute.add(there.name)
    assert not coordinator.has_ended(there.name)
    table.mute.clear()
    there.serve(lambda _question: {"state": "nothing"}, lambda _key: None)
    assert coordinator.has_ended(there.name)
    del table.members[there.name]
    assert coordinator.has_ended(there.name)
