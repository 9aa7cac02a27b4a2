"""The limits: slots of a worker and of an owner, counted once and given back."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.cluster.coordinator import Coordinator
from chatproxy.cluster.limits import Slot, SlotLimiter
from chatproxy.config import Settings
from chatproxy.errors import PeersUnavailable, TooManySessions

from .support.table import Table, TablePeers
from .support.waiting import at_once


def new_limiter(
    table: Table | None = None, most: int = 100, of_owner: int = 3, *, allow_offline: bool = False
) -> SlotLimiter:
    chosen = Settings(max_sessions=most, max_sessions_per_owner=of_owner)
    return SlotLimiter(
        chosen, Coordinator(TablePeers(table), object(), allow_offline=allow_offline)
    )


def refused(limiter: SlotLimiter, owner: str) -> TooManySessions:
    with pytest.raises(TooManySessions) as caught:
        limiter.take(owner)
    assert caught.value.retry_after == 1
    return caught.value


def test_a_worker_has_so_many_slots_for_all_owners_together() -> None:
    table = Table()
    limiter, another = new_limiter(table, most=3), new_limiter(table, most=1)
    slots = [limiter.take(owner) for owner in ("", "ada", "bob")]
    sentence = refused(limiter, "eve").message
    assert refused(limiter, "").message == sentence
    assert "your" not in sentence
    another.take("")
    refused(another, "")
    limiter.free(slots[0])
    limiter.take("eve")
    refused(limiter, "")


def test_a_worker_that_has_all_of_an_owners_slots_need_not_ask() -> None:
    table = Table()
    limiter = new_limiter(table)
    for _ in range(3):
        limiter.take("ada")
    table.away = True
    refused(limiter, "ada")


def test_without_owners_there_are_no_slots() -> None:
    table = Table()
    table.away = True
    limiter = new_limiter(table, of_owner=1)
    assert [limiter.take("") for _ in range(3)] == [Slot("", None)] * 3


def test_whoever_was_refused_has_taken_nothing() -> None:
    table = Table()
    one, two = new_limiter(table, most=3), new_limiter(table)
    slots = [two.take("ada") for _ in range(3)]
    for _ in range(5):
        refused(one, "ada")
    assert len(table.holders) == 3
    for _ in range(3):
        one.take("")
    refused(one, "")
    for slot in slots:
        two.free(slot)
    assert table.holders == {}


def test_where_the_others_cannot_be_asked_nothing_is_taken() -> None:
    table = Table()
    limiter = new_limiter(table, most=1, of_owner=1)
    table.away = True
    for _ in range(3):
        with pytest.raises(PeersUnavailable):
            limiter.take("ada")
    table.away = False
    limiter.free(limiter.take("ada"))
    assert table.holders == {}


def test_who_may_run_alone_is_limited_by_what_is_known_here() -> None:
    table = Table()
    limiter = new_limiter(table, allow_offline=True)
    table.away = True
    slots = [limiter.take("ada") for _ in range(3)]
    refused(limiter, "ada")
    for slot in slots:
        limiter.free(slot)
    table.away = False
    assert limiter.take("ada").key in table.holders


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab"), st.integers(0, 9))))
def test_an_owner_is_refused_exactly_when_the_limit_is_reached(
    steps: list[tuple[int, str, int]],
) -> None:
    table = Table()
    workers = new_limiter(table, of_owner=2), new_limiter(table, of_owner=2)
    taken: list[tuple[int, Slot]] = []
    for worker, owner, step in steps:
        if step < 4 and taken:
            where, slot = taken.pop(step % len(taken))
            workers[where].free(slot)
        elif sum(slot.owner == owner for _, slot in taken) < 2:
            taken.append((worker, workers[worker].take(owner)))
        else:
            assert "your" in refused(workers[worker], owner).message
        assert len(table.holders) == len(taken)


def test_of_many_at_once_no_more_get_in_than_there_are_slots() -> None:
    table = Table()
    workers = [new_limiter(table, of_owner=4) for _ in range(3)]
    lock = threading.Lock()
    counts: list[int] = []
    inside = 0

    def come_and_go(limiter: SlotLimiter) -> None:
        nonlocal inside
        for _ in range(100):
            try:
                slot = limiter.take("ada")
            except TooManySessions:
                continue
            with lock:
                inside += 1
                counts.append(inside)
            with lock:
                inside -= 1
            limiter.free(slot)

    at_once(*(partial(come_and_go, limiter) for limiter in workers * 3))
    assert 0 < max(counts) <= 4
    assert table.holders == {}
    for _ in range(4):
        workers[0].take("ada")
