"""Limits of upstreams: how many calls run at once, whose turn is next, and every end of a wait."""

from __future__ import annotations

import random
import threading
from functools import partial

import pytest

from chatproxy.answers.abort import AbortHandle
from chatproxy.errors import Aborted
from chatproxy.upstreams.limits import CallLimits

from .support.waiting import PATIENCE, Background, wait_for


@pytest.fixture
def limits() -> CallLimits:
    return CallLimits()


def waiting(
    limits: CallLimits, handle: AbortHandle | None = None, most: int = 1
) -> Background[bool]:
    """One more that waits for the place "a", which as many may have."""
    before = limits.waiting("a")
    started = Background(lambda: limits.wait("a", most, handle or AbortHandle(), PATIENCE))
    wait_for(lambda: limits.waiting("a") > before)
    return started


def test_each_place_has_its_limit_and_is_forgotten_when_nobody_uses_it(limits: CallLimits) -> None:
    assert [limits.take("a", 2) for _ in range(3)] == [True, True, False]
    assert limits.take("b", 2)
    for key in ("a", "a", "b"):
        limits.free(key)
    assert limits.take("a", 1)
    limits.free("a")
    assert limits.in_use == 0


def test_places_are_given_in_the_order_of_arrival_and_to_nobody_who_comes_later(
    limits: CallLimits,
) -> None:
    assert limits.take("a", 2)
    assert limits.take("a", 2)
    first, second = waiting(limits, most=2), waiting(limits, most=2)
    assert not limits.take("a", 3)  # others wait
    limits.free("a")
    assert first.result()
    assert second.still_runs()
    limits.free("a")
    assert second.result()


def test_a_wait_that_nobody_ends_is_over_with_its_time(limits: CallLimits) -> None:
    assert limits.take("a", 1)
    assert not limits.wait("a", 1, AbortHandle(), 0.01)
    limits.free("a")
    assert limits.in_use == 0


def test_an_abort_ends_the_wait_and_the_turn_goes_to_the_next(limits: CallLimits) -> None:
    handle = AbortHandle()
    assert limits.take("a", 1)
    first = waiting(limits, handle)
    handle.abort()
    with pytest.raises(Aborted):
        first.result()
    limits.free("a")
    assert limits.take("a", 1)


def test_a_turn_that_comes_with_the_abort_is_not_lost(limits: CallLimits) -> None:
    """The handle is aborted when the wait has been given its turn and has not come back yet."""
    handle = AbortHandle()

    class Turn(threading.Event):
        def wait(self, _timeout: float | None = None) -> bool:
            limits.free("a")
            handle.abort()
            return True

    assert limits.take("a", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Event", Turn)
        with pytest.raises(Aborted):
            limits.wait("a", 1, handle, PATIENCE)
    assert limits.in_use == 0


def test_as_many_may_wait_as_may_run(limits: CallLimits) -> None:
    assert limits.take("a", 1)
    first = waiting(limits)
    assert not limits.wait("a", 1, AbortHandle(), PATIENCE)  # at once
    limits.free("a")
    assert first.result()


@pytest.mark.usefixtures("_close_races")
def test_whatever_the_order_no_more_run_than_may_and_no_place_is_lost(limits: CallLimits) -> None:
    running, most_running, lock = 0, 0, threading.Lock()

    def call(seed: int) -> None:
        nonlocal running, most_running
        chance = random.Random(seed)
        handle = AbortHandle()
        timer = threading.Timer(chance.random() * 0.02, handle.abort)
        if chance.random() < 0.3:
            timer.start()
        try:
            seconds = chance.choice([0.001, PATIENCE])
            if limits.take("a", 3) or limits.wait("a", 3, handle, seconds):
                with lock:
                    running += 1
                    most_running = max(most_running, running)
                threading.Event().wait(chance.random() * 0.002)
                with lock:
                    running -= 1
                limits.free("a")
        except Aborted:
            pass
        finally:
            timer.cancel()

    for each in [Background(partial(call, seed)) for seed in range(60)]:
        each.result()
    assert 0 < most_running <= 3
    assert limits.in_use == 0
