"""The handle of a call: an abort ends whatever is waited for, and nothing begins after it."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from chatproxy.answers.abort import AbortHandle
from chatproxy.errors import Aborted

PATIENCE = 10.0


class Waiting:
    """Somebody who waits in a thread for what never comes, unless the handle ends the wait."""

    def __init__(self, handle: AbortHandle) -> None:
        self._handle = handle
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.begun = threading.Event()
        self.ended: str | None = None
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        assert self.begun.wait(PATIENCE)

    def _wait(self) -> None:
        try:
            with self._handle.waiting(lambda: self.answers.put("ended by the handle")):
                self.begun.set()
                self.ended = self.answers.get(timeout=PATIENCE)
        except Aborted:
            self.ended = "aborted"

    def join(self) -> str | None:
        self._thread.join(PATIENCE)
        return self.ended


def test_an_abort_ends_the_wait_by_its_own_means() -> None:
    handle = AbortHandle()
    waiting = Waiting(handle)
    handle.abort()
    assert waiting.join() == "aborted"
    assert handle.aborted


def test_an_interrupt_ends_the_wait_and_nothing_else() -> None:
    handle = AbortHandle()
    for _ in range(2):
        waiting = Waiting(handle)
        handle.interrupt()
        assert waiting.join() == "ended by the handle"
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


def test_the_error_that_an_abort_causes_counts_as_the_abort() -> None:
    handle = AbortHandle()

    def fail() -> None:
        handle.abort()
        raise ConnectionResetError("the socket was shut down")

    with pytest.raises(Aborted), handle.waiting(lambda: None):
        fail()


def test_any_other_error_stays_what_it_is() -> None:
    with pytest.raises(ConnectionResetError), AbortHandle().waiting(lambda: None):
        raise ConnectionResetError("the other side did it")


def test_a_sleep_takes_its_time_and_an_abort_ends_it() -> None:
    handle = AbortHandle()
    handle.sleep(0.001)
    timer = threading.Timer(0.01, handle.abort)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(Aborted):
        handle.sleep(PATIENCE * 6)
    assert time.monotonic() - begun < PATIENCE
    timer.join()
