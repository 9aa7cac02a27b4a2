"""A native thread: what blocks it holds up nobody else, under gevent and under plain threads."""

from __future__ import annotations

import logging
import queue
import sqlite3
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import monkey

from chatproxy.server.native_threads import NativeThread

from .support.another import in_a_child, under_gevent
from .support.waiting import MOMENT, PATIENCE, Background, wait_for


class Gate:
    """What a call waits at in C, so that gevent can't switch away from it."""

    def __init__(self) -> None:
        self._lock = monkey.get_original("_thread", "allocate_lock")()
        self._lock.acquire()
        self.reached = False

    def wait(self) -> str:
        self.reached = True
        self._lock.acquire()
        return "open"

    def open(self) -> None:
        self._lock.release()


def held(thread: NativeThread) -> tuple[Gate, Background[str]]:
    """A thread whose present call waits at a gate."""
    gate = Gate()
    waiting = Background(lambda: thread.run(gate.wait))
    wait_for(lambda: gate.reached)
    return gate, waiting


def others_go_on() -> None:
    gate, waiting = held(NativeThread("test"))
    assert Background(lambda: "gone on").result() == "gone on"
    assert waiting.still_runs()
    gate.open()
    assert waiting.result() == "open"


def an_error_is_raised_where_the_result_is_awaited() -> None:
    def fail() -> None:
        raise LookupError("nothing")

    thread = NativeThread("test")
    with pytest.raises(LookupError, match="nothing"):
        thread.run(fail)
    thread.submit(fail)
    assert thread.run(lambda: "goes on") == "goes on"


def one_thread_runs_them_in_their_order() -> None:
    thread, ran = NativeThread("test"), list[Any]()
    database = thread.run(lambda: sqlite3.connect(":memory:"))  # refuses any other thread
    for number in range(50):
        thread.submit(lambda number=number: ran.append(number))  # type: ignore[misc]  # a default
    assert thread.run(lambda: database.execute("SELECT 7").fetchone()) == (7,)
    assert ran == list(range(50))
    thread.run(database.close)


def too_many_are_refused() -> None:
    thread = NativeThread("test", places=2)
    gate, waiting = held(thread)
    thread.submit(int)
    thread.submit(int)
    for ask in (thread.run, thread.submit):
        with pytest.raises(queue.Full):
            ask(int)
    gate.open()
    waiting.result()
    assert thread.run(lambda: 1) == 1


def close_waits_for_what_was_taken() -> None:
    thread, ran = NativeThread("test"), list[str]()
    gate, waiting = held(thread)
    thread.submit(lambda: ran.append("taken"))
    assert not thread.close(MOMENT)
    with pytest.raises(RuntimeError, match="thread for test is closed"):
        thread.run(int)
    gate.open()
    wait_for(lambda: ran == ["taken"])
    assert waiting.result() == "open"

    idle = NativeThread("test")
    idle.submit(lambda: ran.append("at the close"))
    assert idle.close(PATIENCE)
    assert ran[-1] == "at the close"
    assert NativeThread("never used").close()


def a_fork_has_a_thread_of_its_own() -> None:
    thread = NativeThread("test")
    thread.run(int)

    def claim() -> None:
        assert thread.run(lambda: 7) == 7

    in_a_child(claim)


CLAIMS = [
    others_go_on,
    an_error_is_raised_where_the_result_is_awaited,
    one_thread_runs_them_in_their_order,
    too_many_are_refused,
    close_waits_for_what_was_taken,
    a_fork_has_a_thread_of_its_own,
]


def calls_that_are_refused_leave_nothing_in_the_loop() -> None:
    loop, thread = gevent.get_hub().loop, NativeThread("test", places=1)
    gate, waiting = held(thread)
    thread.submit(int)
    before = loop.activecnt

    def refused(error: type[Exception]) -> None:
        for ask in (thread.run, thread.submit) * 50:
            with pytest.raises(error):
                ask(int)

    refused(queue.Full)
    thread.close(0)  # whose own watcher stays, as that of a call that was taken
    refused(RuntimeError)
    assert loop.activecnt == before + 1
    gate.open()
    waiting.result()


def greenlets_run_while_a_database_is_used_through_sqlalchemy() -> None:
    thread, turns = NativeThread("test"), list[int]()

    def count() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0.001)

    def use() -> Any:
        import sqlalchemy

        numbers = "SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000000"
        query = f"WITH RECURSIVE n(x) AS ({numbers}) SELECT max(x) FROM n"
        with sqlalchemy.create_engine("sqlite://").begin() as connection:
            return connection.execute(sqlalchemy.text(query)).scalar()

    counting = gevent.spawn(count)
    assert thread.run(use) == 1_000_000
    assert len(turns) > 10
    counting.kill()
    assert thread.close(PATIENCE)


def all_of_it() -> None:
    logging.disable()
    # It counts what is in the loop, whoever has put it there.
    calls_that_are_refused_leave_nothing_in_the_loop()
    for claim in (*CLAIMS, greenlets_run_while_a_database_is_used_through_sqlalchemy):
        claim()


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of the fork, from 3.12 on
def test_with_plain_threads(claim: Callable[[], None]) -> None:
    claim()


def test_all_of_it_under_gevent() -> None:
    under_gevent(all_of_it)


def test_a_call_that_nobody_waits_for_is_logged_if_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread = NativeThread("the test")
    thread.submit(lambda: 1 / 0)
    thread.close()
    assert "the test failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
