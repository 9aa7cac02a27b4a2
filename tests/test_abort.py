"""The handle of a call: an abort ends whatever is waited for, and nothing begins after it."""

from __future__ import annotations

import queue
import threading

import pytest

from chatproxy.answers.abort import AbortHandle
from chatproxy.errors import Aborted

from .support.waiting import PATIENCE, Background


def waiting(handle: AbortHandle) -> Background[str]:
    """Somebody who waits in a thread for what never comes, unless the handle ends the wait."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    begun = threading.Event()

    def wait() -> str:
        with handle.waiting(lambda: answers.put("ended by the handle")):
            begun.set()
            return answers.get(timeout=PATIENCE)

    thread = Background(wait)
    assert begun.wait(PATIENCE)
    return thread


def test_an_abort_ends_the_wait_by_its_own_means() -> None:
    handle = AbortHandle()
    thread = waiting(handle)
    handle.abort()
    with pytest.raises(Aborted):
        thread.result()
    assert handle.aborted


def test_an_interrupt_ends_the_wait_and_nothing_else() -> None:
    handle = AbortHandle()
    for _ in range(2):
        thread = waiting(handle)
        handle.interrupt()
        assert thread.result() == "ended by the handle"
    handle.check()
    assert not handle.aborted


def test_after_an_abort_no_wait_begins() -> None:
    handle = AbortHandle()
    handle.abort()
    with pytest.raises(Aborted), handle.waiting(lambda: None):
        pytest.fail("the wait began")
    with pytest.raises(Aborted):
        handle.attach(lambda: None)
    with pytest.raises(Aborted):
        handle.check()


def test_waits_within_each_other_are_all_ended() -> None:
    handle, ended = AbortHandle(), list[str]()
    with (
        pytest.raises(Aborted),
        handle.waiting(lambda: ended.append("outer")),
        handle.waiting(lambda: ended.append("inner")),
    ):
        handle.abort()
    assert sorted(ended) == ["inner", "outer"]


def test_a_wait_that_is_over_is_not_ended_any_more() -> None:
    handle, ended = AbortHandle(), list[str]()

    def end() -> None:
        ended.append("ended")

    with handle.waiting(end):
        pass
    handle.attach(end)
    handle.detach(end)
    handle.detach(end)
    handle.abort()
    assert ended == []


@pytest.mark.parametrize("aborted", [True, False])
def test_the_error_that_an_abort_causes_counts_as_the_abort_and_no_other(aborted: bool) -> None:
    handle = AbortHandle()

    def fail() -> None:
        if aborted:
            handle.abort()
        raise ConnectionResetError

    with pytest.raises(Aborted if aborted else ConnectionResetError), handle.waiting(lambda: None):
        fail()


def test_a_sleep_takes_its_time_and_an_abort_ends_it() -> None:
    handle = AbortHandle()
    handle.sleep(0.001)
    sleeping = Background(lambda: handle.sleep(PATIENCE * 6))
    assert sleeping.still_runs()
    handle.abort()
    with pytest.raises(Aborted):
        sleeping.result()
