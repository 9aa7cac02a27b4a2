"""The watchdog: it stops the answers that take too long, and lives no longer than they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from threading import Event

import pytest

from chatproxy.answers.session import Outcome, Reason, SessionKey, StreamSession
from chatproxy.answers.watchdog import Watchdog
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import UpstreamError

from .support.table import TablePeers
from .support.waiting import PATIENCE, wait_for

LONG = 1000.0


class Watched:
    """A registry with a watchdog."""

    def __init__(self, idle: float, deadline: float) -> None:
        settings = Settings(base_url="http://127.0.0.1:1", idle_timeout=idle, deadline=deadline)
        self.others = set(threading.enumerate())
        self.registry = Registry(settings, self, TablePeers())
        self.watchdog = Watchdog(
            idle,
            deadline,
            self.registry.live,
            [self.registry.sweep],
            lambda: self.registry.idle,
        )

    def claim(self, session_id: str) -> StreamSession:
        return self.registry.claim(SessionKey("", session_id))

    def begin(self, session_id: str = "session_1") -> StreamSession:
        session = self.claim(session_id)
        self.watchdog.start()
        return session

    def end(self, session: StreamSession) -> None:
        session.end(Outcome.FINISHED)
        session.refusal = UpstreamError("Refused, so that its id is not reserved.")
        self.registry.discard(session)
        self.registry.release(session)

    def end_all(self) -> None:
        for session in self.registry.live():
            self.end(session)

    def threads(self) -> set[threading.Thread]:
        new = set(threading.enumerate()) - self.others
        return {thread for thread in new if thread.name == "chatproxy-watchdog"}


@pytest.fixture
def watched() -> Iterator[Watched]:
    """With an idle timeout of 50 ms."""
    yield from _watched(idle=0.05, deadline=LONG)


@pytest.fixture
def watched_to_a_deadline() -> Iterator[Watched]:
    """With a deadline of 50 ms."""
    yield from _watched(idle=LONG, deadline=0.05)


def _watched(idle: float, deadline: float) -> Iterator[Watched]:
    watched = Watched(idle, deadline)
    yield watched
    watched.end_all()
    wait_for(lambda: not watched.threads())


def test_an_answer_without_an_event_for_too_long_is_stopped_as_idle(watched: Watched) -> None:
    session = watched.begin()
    assert session.flag.wait(PATIENCE)
    assert time.monotonic() - session.started_at >= 0.05
    assert session.reason is Reason.IDLE


def test_the_idle_time_counts_from_the_last_event(watched: Watched) -> None:
    lively = watched.claim("lively")
    lively.last_event_at += LONG
    silent = watched.begin("silent")
    assert silent.flag.wait(PATIENCE)
    assert not lively.flag.is_set()


def test_an_answer_that_takes_too_long_is_stopped_however_lively(
    watched_to_a_deadline: Watched,
) -> None:
    session = watched_to_a_deadline.begin()
    session.last_event_at += LONG
    assert session.flag.wait(PATIENCE)
    assert time.monotonic() - session.started_at >= 0.05
    assert session.reason is Reason.DEADLINE


def test_the_deadline_is_for_each_answer_alone(watched_to_a_deadline: Watched) -> None:
    young = watched_to_a_deadline.claim("young")
    young.started_at += LONG
    old = watched_to_a_deadline.begin("old")
    assert old.flag.wait(PATIENCE)
    assert not young.flag.is_set()


def test_where_both_are_over_the_deadline_is_the_reason() -> None:
    for watched in _watched(idle=0.05, deadline=0.05):
        session = watched.begin()
        assert session.flag.wait(PATIENCE)
        assert session.reason is Reason.DEADLINE


def test_an_answer_that_was_stopped_before_keeps_its_reason(watched: Watched) -> None:
    stopped = watched.claim("stopped")
    stopped.cancel(Reason.USER)
    silent = watched.begin("silent")
    assert silent.flag.wait(PATIENCE)
    assert stopped.reason is Reason.USER


def whole(watched: Watched) -> tuple[StreamSession, Event]:
    """An answer that is whole, and what is set when it is concluded."""
    concluded = Event()
    session = watched.claim("whole")
    session.on_cancel(concluded.set)
    session.whole = True
    return session, concluded


def test_a_whole_answer_is_concluded_and_not_stopped_when_only_its_end_is_missing(
    watched: Watched,
) -> None:
    session, concluded = whole(watched)
    session.quiet_since = time.monotonic()
    watched.watchdog.start()
    assert concluded.wait(PATIENCE)
    assert not session.flag.is_set()
    assert session.end(Outcome.FINISHED) is Outcome.FINISHED


def test_a_whole_answer_whose_readers_lag_is_not_concluded(watched: Watched) -> None:
    _, concluded = whole(watched)
    assert watched.begin("silent").flag.wait(PATIENCE)
    assert not concluded.is_set()


def test_a_whole_answer_is_concluded_at_the_deadline(watched_to_a_deadline: Watched) -> None:
    session, concluded = whole(watched_to_a_deadline)
    watched_to_a_deadline.watchdog.start()
    assert concluded.wait(PATIENCE)
    assert not session.flag.is_set()


def test_a_stop_of_a_whole_answer_is_a_stop(watched: Watched) -> None:
    session = watched.claim("stopped")
    session.whole = True
    session.conclude()
    assert session.cancel(Reason.USER)
    session.conclude()
    assert session.end(Outcome.FINISHED) is Outcome.STOPPED


def test_all_answers_share_one_thread(watched: Watched) -> None:
    for number in range(5):
        watched.begin(f"session_{number}")
    assert len(watched.threads()) == 1


def test_the_thread_ends_with_the_last_answer_and_a_new_one_starts_with_the_next(
    watched: Watched,
) -> None:
    watched.end(watched.begin("session_1"))
    wait_for(lambda: not watched.threads())
    second = watched.begin("session_2")
    assert len(watched.threads()) == 1
    assert second.flag.wait(PATIENCE)


def test_an_answer_that_starts_as_the_thread_ends_is_watched_all_the_same() -> None:
    """The pauses between two answers come close to the moments at which the thread looks."""
    for watched in _watched(idle=0.002, deadline=LONG):
        for number in range(200):
            session = watched.begin(f"session_{number}")
            assert session.flag.wait(PATIENCE)
            watched.end(session)
            time.sleep(number * 5e-6)
