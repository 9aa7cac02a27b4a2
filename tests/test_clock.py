"""The watchdog: it stops the answers that take too long, and lives no longer than they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from threading import Event
from unittest.mock import Mock

import pytest

from chatproxy.answers.session import Outcome, Reason, SessionKey, StreamSession
from chatproxy.answers.watchdog import Watchdog
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import UpstreamError

from .support.sessions import new_session
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


Watch = Callable[..., Watched]
SHORT = 0.05


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Makes registries with watchdogs; both times are long unless they are given."""
    made: list[Watched] = []

    def watch(idle: float = LONG, deadline: float = LONG) -> Watched:
        made.append(Watched(idle, deadline))
        return made[-1]

    yield watch
    for each in made:
        each.end_all()
    wait_for(lambda: not any(each.threads() for each in made))


def test_an_answer_without_an_event_for_too_long_is_stopped_as_idle(watch: Watch) -> None:
    watched = watch(idle=SHORT)
    lively = watched.claim("lively")
    lively.last_event_at += LONG
    silent = watched.begin("silent")
    assert silent.flag.wait(PATIENCE)
    assert time.monotonic() - silent.last_event_at >= SHORT
    assert (silent.reason, lively.reason) == (Reason.IDLE, None)


def test_an_answer_that_cannot_be_stopped_keeps_no_other_from_it(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched = watch(idle=LONG, deadline=SHORT)
    broken, other = watched.claim("broken"), watched.begin("other")
    cancel = StreamSession.cancel

    def failing(session: StreamSession, reason: Reason) -> bool:
        if session is broken:
            raise OSError("broken")
        return cancel(session, reason)

    with monkeypatch.context() as patch:
        patch.setattr(StreamSession, "cancel", failing)
        assert other.flag.wait(PATIENCE)
        wait_for(lambda: "could not be stopped" in caplog.text)
    assert broken.flag.wait(PATIENCE), "it is tried again"


def test_a_sweep_that_fails_keeps_no_other_from_it() -> None:
    swept = Event()
    sweeps = [Mock(side_effect=OSError("broken")), swept.set]
    Watchdog(LONG, LONG, lambda: (), sweeps, swept.is_set).start()
    assert swept.wait(PATIENCE)


@pytest.mark.parametrize("idle", [LONG, SHORT])
def test_an_answer_that_takes_too_long_is_stopped_however_lively(watch: Watch, idle: float) -> None:
    """The deadline is the reason also if it is silent for too long; it is for each alone."""
    watched = watch(idle, deadline=SHORT)
    young = watched.claim("young")
    young.started_at += LONG
    young.last_event_at += LONG
    old = watched.begin("old")
    if idle == LONG:
        old.last_event_at += LONG
    assert old.flag.wait(PATIENCE)
    assert time.monotonic() - old.started_at >= SHORT
    assert (old.reason, young.reason) == (Reason.DEADLINE, None)


def whole(watched: Watched) -> tuple[StreamSession, Event]:
    """An answer that is whole, and what is set when it is concluded."""
    concluded = Event()
    session = watched.claim("whole")
    session.on_cancel(concluded.set)
    session.whole = True
    return session, concluded


@pytest.mark.parametrize("times", [{"idle": SHORT}, {"deadline": SHORT}])
def test_a_whole_answer_is_concluded_and_not_stopped_when_only_its_end_is_missing(
    watch: Watch, times: dict[str, float]
) -> None:
    """It is at the deadline, also if its readers lag."""
    watched = watch(**times)
    session, concluded = whole(watched)
    session.quiet_since = time.monotonic() if "idle" in times else None
    watched.watchdog.start()
    assert concluded.wait(PATIENCE)
    assert not session.flag.is_set()
    assert session.end(Outcome.FINISHED) is Outcome.FINISHED


def test_a_whole_answer_whose_readers_lag_is_not_concluded(watch: Watch) -> None:
    watched = watch(idle=SHORT)
    _, concluded = whole(watched)
    assert watched.begin("silent").flag.wait(PATIENCE)
    assert not concluded.is_set()


def test_a_stop_of_a_whole_answer_is_a_stop() -> None:
    session = new_session()
    session.whole = True
    session.conclude()
    assert session.cancel(Reason.USER)
    session.conclude()
    assert session.end(Outcome.FINISHED) is Outcome.STOPPED


def test_the_thread_of_all_answers_ends_with_the_last_and_a_new_one_starts_with_the_next(
    watch: Watch,
) -> None:
    watched = watch(idle=SHORT)
    for number in range(5):
        watched.begin(f"session_{number}")
    assert len(watched.threads()) == 1
    watched.end_all()
    wait_for(lambda: not watched.threads())
    second = watched.begin("second")
    assert len(watched.threads()) == 1
    assert second.flag.wait(PATIENCE)


def test_an_answer_that_starts_as_the_thread_ends_is_watched_all_the_same(watch: Watch) -> None:
    """The pauses between two answers come close to the moments at which the thread looks."""
    watched = watch(idle=0.002)
    for number in range(100):
        session = watched.begin(f"session_{number}")
        assert session.flag.wait(PATIENCE)
        watched.end(session)
        time.sleep(number * 1e-5)
