"""Access: seats of a worker and places of an owner, counted once and given back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy.cluster.coordinator import Arbitration
from chatproxy.cluster.limits import Access, Seat
from chatproxy.config import Settings
from chatproxy.errors import PeersUnavailable, TooManySessions

from .support.table import Table, TablePeers
from .support.waiting import PATIENCE


def new_access(
    table: Table | None = None, most: int = 100, of_owner: int = 3, *, runs_alone: bool = False
) -> Access:
    chosen = Settings(max_sessions=most, max_sessions_per_owner=of_owner)
    return Access(chosen, Arbitration(TablePeers(table), object(), runs_alone=runs_alone))


def refused(access: Access, owner: str) -> TooManySessions:
    with pytest.raises(TooManySessions) as caught:
        access.enter(owner)
    assert caught.value.retry_after == 1
    return caught.value


def test_a_worker_has_so_many_seats_for_all_owners_together() -> None:
    access = new_access(most=3)
    seats = [access.enter(owner) for owner in ("", "ada", "bob")]
    sentence = refused(access, "eve").message
    assert refused(access, "").message == sentence
    assert "your" not in sentence
    access.leave(seats[0])
    access.enter("eve")
    refused(access, "")


def test_the_seats_of_one_worker_are_not_those_of_another() -> None:
    table = Table()
    for access in (new_access(table, most=1), new_access(table, most=1)):
        access.enter("")
        refused(access, "")


def test_an_owner_has_so_many_places_on_all_workers_together() -> None:
    table = Table()
    one, two = new_access(table), new_access(table)
    seats = [one.enter("ada"), two.enter("ada"), two.enter("ada")]
    assert len({seat.place for seat in seats}) == 3
    for access in (one, two):
        assert "your" in refused(access, "ada").message
        access.leave(access.enter("bob"))
    one.leave(seats[0])
    two.enter("ada")
    refused(one, "ada")


def test_a_worker_that_has_all_of_an_owners_places_need_not_ask() -> None:
    table = Table()
    access = new_access(table)
    for _ in range(3):
        access.enter("ada")
    table.away = True
    refused(access, "ada")


def test_without_owners_there_are_no_places() -> None:
    table = Table()
    table.away = True
    access = new_access(table, of_owner=1)
    assert [access.enter("") for _ in range(3)] == [Seat("", None)] * 3


def test_the_places_of_a_worker_that_has_died_are_free() -> None:
    table = Table()
    access, dead = new_access(table), TablePeers(table)
    for number in range(3):
        dead.take(("place", "ada", str(number)))
    refused(access, "ada")
    dead.close()
    for _ in range(3):
        access.enter("ada")


def test_whoever_was_refused_has_taken_nothing() -> None:
    table = Table()
    one, two = new_access(table, most=3), new_access(table)
    seats = [two.enter("ada") for _ in range(3)]
    for _ in range(5):
        refused(one, "ada")
    assert len(table.holders) == 3
    for _ in range(3):
        one.enter("")
    refused(one, "")
    for seat in seats:
        two.leave(seat)
    assert table.holders == {}


def test_where_the_others_cannot_be_asked_nothing_is_taken() -> None:
    table = Table()
    access = new_access(table, most=1, of_owner=1)
    table.away = True
    for _ in range(3):
        with pytest.raises(PeersUnavailable):
            access.enter("ada")
    table.away = False
    access.leave(access.enter("ada"))
    assert table.holders == {}


def test_who_may_run_alone_is_limited_by_what_is_known_here() -> None:
    table = Table()
    access = new_access(table, runs_alone=True)
    table.away = True
    seats = [access.enter("ada") for _ in range(3)]
    refused(access, "ada")
    for seat in seats:
        access.leave(seat)
    table.away = False
    assert access.enter("ada").place in table.holders


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=5), unique=True, max_size=6))
def test_owners_of_any_name_are_not_in_each_others_way(owners: list[str]) -> None:
    table = Table()
    access = new_access(table, of_owner=2)
    seats = [access.enter(owner) for owner in owners for _ in range(2)]
    for owner in filter(None, owners):
        refused(access, owner)
    for seat in seats:
        access.leave(seat)
    assert table.holders == {}


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab"), st.integers(0, 9))))
def test_an_owner_is_refused_exactly_when_the_limit_is_reached(
    steps: list[tuple[int, str, int]],
) -> None:
    table = Table()
    workers = new_access(table, of_owner=2), new_access(table, of_owner=2)
    seated: list[tuple[int, Seat]] = []
    for worker, owner, step in steps:
        if step < 4 and seated:
            where, seat = seated.pop(step % len(seated))
            workers[where].leave(seat)
        elif sum(seat.owner == owner for _, seat in seated) < 2:
            seated.append((worker, workers[worker].enter(owner)))
        else:
            refused(workers[worker], owner)
        assert len(table.holders) == len(seated)


def test_of_many_at_once_no_more_get_in_than_there_are_places() -> None:
    table = Table()
    workers = [new_access(table, of_owner=4) for _ in range(3)]
    lock = threading.Lock()
    counts: list[int] = []
    inside = 0

    def come_and_go(access: Access) -> None:
        nonlocal inside
        for _ in range(100):
            try:
                seat = access.enter("ada")
            except TooManySessions:
                continue
            with lock:
                inside += 1
                counts.append(inside)
            with lock:
                inside -= 1
            access.leave(seat)

    run_together([lambda access=access: come_and_go(access) for access in workers * 3])
    assert 0 < max(counts) <= 4
    assert table.holders == {}
    for _ in range(4):
        workers[0].enter("ada")


def run_together(functions: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
