"""Whoever waits for a future is woken, and leaves nothing with it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from chatproxy.answers.abort import AbortHandle
from chatproxy.errors import Aborted
from chatproxy.runs.waits import Waits

from .support.waiting import Background


class Noted(Future[Any]):
    """A future that notes what it is to call when it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        self.calls.append(fn)
        super().add_done_callback(fn)


def test_a_future_is_given_one_call_however_often_it_is_waited_for() -> None:
    waits, future = Waits(), Noted()
    for _ in range(100):
        assert not waits.is_done(future, AbortHandle(), 0)
    assert len(future.calls) == 1


@pytest.mark.parametrize("end", ["set_result", "set_exception", "cancel"])
def test_all_who_wait_are_woken_by_its_end(end: str) -> None:
    waits, future = Waits(), Future[Any]()
    assert not waits.is_done(future, AbortHandle(), 0)  # which is over by then
    waiters = [Background(partial(waits.is_done, future, AbortHandle())) for _ in range(3)]
    assert all(waiter.still_runs() for waiter in waiters)
    values = {"set_result": [1], "set_exception": [ValueError()]}
    getattr(future, end)(*values.get(end, []))
    assert all(waiter.result() for waiter in waiters)
    assert waits.is_done(future, AbortHandle(), 0)


def test_an_abort_ends_the_wait_of_its_own_handle_only() -> None:
    waits, future, handle = Waits(), Future[Any](), AbortHandle()
    aborted = Background(partial(waits.is_done, future, handle))
    other = Background(partial(waits.is_done, future, AbortHandle()))
    assert aborted.still_runs()
    handle.abort()
    with pytest.raises(Aborted):
        aborted.result()
    assert other.still_runs()
    future.set_result(None)
    assert other.result()
