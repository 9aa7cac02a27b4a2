"""Sessions that are found by their chat, and sessions without an id, on two workers.

And what a new question does while one of its chat is live, there or here.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chatproxy import signals
from chatproxy.answers.abort import AbortHandle
from chatproxy.answers.coroutines import Coroutine, run
from chatproxy.answers.producer import produce
from chatproxy.answers.question import Question
from chatproxy.answers.readers import follow
from chatproxy.answers.reservation import Reservation
from chatproxy.answers.session import Outcome, Phase, Reason, SessionKey, StreamSession
from chatproxy.cluster import chats as chats_module
from chatproxy.cluster import registry as registry_module
from chatproxy.cluster.chats import Chats
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import (
    BudgetSpent,
    PeersUnavailable,
    Refusal,
    SessionActive,
    SessionCancelled,
    TooManySessions,
    UpstreamError,
)
from chatproxy.observability import logs

from .support.table import Table, service_of
from .support.waiting import MOMENT, PATIENCE, Background, wait_for, wait_for_garbage
from .test_registry import PEERS, finish, finish_when_cancelled, new_registry

CHAT = SessionKey("ada", "chat_1")
OWN, SECOND = SessionKey("ada", "session_1"), SessionKey("ada", "session_2")
THIRD = SessionKey("ada", "session_3")


@pytest.fixture
def here() -> Registry:
    return new_registry()


@pytest.fixture
def there(here: Registry) -> Registry:
    """Another worker."""
    return new_registry(table=table_of(here))


def table_of(registry: Registry) -> Table:
    return PEERS[registry].table


def begin(
    registry: Registry, key: SessionKey = OWN, chat: SessionKey | None = CHAT
) -> StreamSession:
    session = registry.claim(key, 0.0, chat)
    finish_when_cancelled(registry, session)
    return session


@pytest.fixture(params=["the same worker", "another worker"])
def other(request: pytest.FixtureRequest, here: Registry, there: Registry) -> Registry:
    """The worker that the next request comes to."""
    return here if request.param == "the same worker" else there


@pytest.mark.parametrize("key", [OWN, CHAT])
def test_a_live_chat_is_taken_and_a_stop_for_it_stops_its_answer(
    here: Registry, other: Registry, key: SessionKey
) -> None:
    session = begin(here, key)
    with pytest.raises(SessionActive):
        begin(other, SECOND)
    assert ("id", *SECOND) not in table_of(here).holders
    receipt = other.cancel(CHAT, time.monotonic(), remember=False)
    assert receipt is not None
    assert receipt.session_id == key.id
    assert session.reason is Reason.USER


@pytest.mark.parametrize("key", [OWN, CHAT])
def test_a_chat_whose_answer_has_ended_is_free(
    here: Registry, other: Registry, key: SessionKey
) -> None:
    """The answer's own id is retained."""
    finish(here, begin(here, key), events=3)
    assert here.find(CHAT) is None
    assert begin(other, SECOND if key == OWN else CHAT)
    if key == OWN:
        assert here.find(OWN) is not None
        with pytest.raises(SessionActive):
            begin(other, OWN, None)


@pytest.mark.parametrize("ended", [False, True])
def test_a_stop_that_is_not_remembered_refuses_no_question(
    here: Registry, other: Registry, ended: bool
) -> None:
    if ended:
        finish(here, begin(here, CHAT), events=3)
    assert other.cancel(CHAT, time.monotonic(), remember=False) is None
    assert begin(here, CHAT)


def test_a_stop_for_an_earlier_answer_of_a_chat_stops_nothing(
    here: Registry, other: Registry
) -> None:
    session = begin(here)
    assert other.cancel(CHAT, time.monotonic(), remember=False, only="session_0") is None
    assert session.outcome is None
    assert other.cancel(CHAT, time.monotonic(), remember=False, only="session_1") is not None


def test_a_stop_that_came_first_refuses_by_either_id(here: Registry, other: Registry) -> None:
    other.cancel(OWN, time.monotonic())
    with pytest.raises(SessionCancelled):
        begin(here)
    assert begin(here, SECOND)  # the chat was not left taken


def test_a_chat_is_its_owners(here: Registry, other: Registry) -> None:
    session = begin(here)
    assert other.cancel(SessionKey("eve", CHAT.id), time.monotonic(), remember=False) is None
    assert session.outcome is None
    assert begin(other, SessionKey("eve", "session_1"), SessionKey("eve", CHAT.id))


def test_a_refused_answer_frees_both_ids(here: Registry, other: Registry) -> None:
    finish(here, begin(here), refusal=UpstreamError("No."))
    assert begin(other)


def test_a_session_is_listed_once_and_stopped_if_its_chat_is_lost(here: Registry) -> None:
    session = begin(here)
    assert [each["sessionId"] for each in here.list_sessions("ada")] == ["session_1"]
    assert here.live() == [session]
    here.lose(("id", *CHAT))
    assert session.reason is Reason.LOST


def test_sessions_without_an_id_run_side_by_side_and_hold_no_lease(here: Registry) -> None:
    nameless = SessionKey("ada", "")
    sessions = [begin(here, nameless, None) for _ in range(3)]
    assert here.live() == sessions
    assert [each["sessionId"] for each in here.list_sessions("ada")] == [None] * 3
    assert here.find(nameless) is None
    assert here.cancel(nameless, time.monotonic(), remember=False) is None
    assert not any(session.outcome for session in sessions)
    for session in sessions:
        finish(here, session, events=1)
    assert here.idle


# --- what a new question does while one of its chat is live


class Call:
    """A call whose answer is whole as soon as it is opened, or, if held, when it may end."""

    def __init__(self, on_open: Callable[[], None] = lambda: None, *, held: bool = False) -> None:
        self._on_open = on_open
        self.opened = threading.Event()
        self.closed = threading.Event()
        self.may_end = threading.Event()
        if not held:
            self.may_end.set()

    def open(self) -> None:
        self._on_open()
        self.opened.set()

    def receive(self) -> Coroutine[bool]:
        assert self.may_end.wait(PATIENCE)
        yield from ()
        return True

    def abort(self) -> None:
        self.may_end.set()

    def close(self) -> None:
        self.closed.set()


class Upstream:
    """An upstream whose answers are held, and that refuses those of some."""

    def __init__(self, refused: SessionKey | None = None) -> None:
        self._refused = refused
        self.calls: dict[SessionKey, Call] = {}
        self.sessions: weakref.WeakSet[StreamSession] = weakref.WeakSet()

    def call(self, _question: Question, session: StreamSession) -> Call:
        self.sessions.add(session)
        if session.key == self._refused:
            raise BudgetSpent("No.")
        return self.calls.setdefault(session.key, Call(held=True))


class SlowEnd(Reservation):
    """Has the end of an answer wait until another one has looked twice for its turn."""

    def __init__(self, other: StreamSession) -> None:
        self._other = other

    def end(self) -> None:
        for _ in range(2):
            seen = self._other.last_event_at
            wait_for(lambda seen=seen: self._other.last_event_at != seen)

    def settle(self, session: StreamSession) -> None:
        pass


class Waiting:
    """A question that is asked in the way that is set, and its answer, made in a thread."""

    def __init__(
        self,
        registry: Registry,
        chats: Chats,
        key: SessionKey = SECOND,
        call: Call | None = None,
    ) -> None:
        self._registry, self._chats = registry, chats
        self.call = call or Call()
        self.session = chats.claim(key, 0.0, CHAT)
        self.reader = follow(self.session, 0, None)
        self._in_turn = chats.in_turn(self.session, self.call)
        self._made = Background(lambda: run(produce(self.session, self._in_turn, self._end)))

    def _end(self, outcome: Outcome, refusal: Refusal | None) -> None:
        self.session.end(outcome)
        self._in_turn.close()
        self._chats.leave(self.session)
        finish(self._registry, self.session, refusal, events=0 if refusal else 1)

    def join(self) -> Outcome | None:
        self._made.result()
        return self.session.outcome


def chats_of(registry: Registry, on_active: str, **settings: Any) -> Chats:
    return Chats(Settings(on_active=on_active, **settings), registry)


@pytest.mark.parametrize("key", [OWN, CHAT])
def test_a_new_question_may_replace_the_live_one(
    here: Registry, other: Registry, key: SessionKey, caplog: pytest.LogCaptureFixture
) -> None:
    """Its receipt is in the log, and nobody is said, or counted, to have pressed Stop."""
    first, new, counted = begin(here, key), SECOND if key == OWN else CHAT, []
    caplog.set_level(logging.INFO, logs.logger.name)
    with signals.cancel_answered.connected_to(lambda *_, **__: counted.append(1), other.sender):
        second = chats_of(other, "replace").claim(new, 0.0, CHAT)
    assert first.reason is Reason.REPLACED
    assert counted == []
    assert other.find(CHAT) is second
    (line,) = [each for each in caplog.messages if "replaced by" in each]
    begins = f"[SSE] {key.id} replaced by {new.id} phase=connecting events=0 upstreamClosed=true"
    assert line.startswith(f"{begins} stopMs=")
    finish(other, second, events=1)


@pytest.mark.parametrize("reason", [Reason.USER, Reason.DISCONNECT, Reason.REPLACED])
def test_a_question_that_replaces_what_is_being_stopped_waits_for_its_close(
    here: Registry, other: Registry, reason: Reason
) -> None:
    """It has not replaced that one: something else has stopped it."""
    first, told = here.claim(OWN, 0.0, CHAT), list[object]()
    first.cancel(reason)
    with signals.stream_replaced.connected_to(lambda *_, **__: told.append(1), other.sender):
        claim = Background(lambda: chats_of(other, "replace").claim(SECOND, 0.0, CHAT))
        assert claim.still_runs()
        finish(here, first, events=1)
        second = claim.result()
    assert first.reason is reason
    assert told == []
    assert other.find(CHAT) is second
    finish(other, second, events=1)


def test_a_close_that_does_not_come_refuses_the_question_that_replaces(
    here: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "CONFIRM_SECONDS", 0.05)
    here.claim(OWN, 0.0, CHAT).cancel(Reason.USER)
    with pytest.raises(SessionActive):
        chats_of(here, "replace").claim(SECOND, 0.0, CHAT)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_one_that_is_replaced_leaves_its_slot(elsewhere: bool) -> None:
    limits = {"max_sessions_per_owner": 1, "on_active": "replace"}
    here = new_registry(**limits)
    other = new_registry(table_of(here), **limits) if elsewhere else here
    first = begin(here)
    other.check_claim(SECOND, CHAT)
    second = chats_of(other, "replace").claim(SECOND, 0.0, CHAT)
    assert first.reason is Reason.REPLACED
    with pytest.raises(TooManySessions):
        chats_of(other, "replace").claim(SessionKey("ada", "x"), 0.0, SessionKey("ada", "y"))
    finish(other, second, events=1)


def test_a_question_that_replaces_nothing_is_one_like_any_other(here: Registry) -> None:
    chats = chats_of(here, "replace")
    first = chats.claim(OWN, 0.0, None)
    second = chats.claim(SECOND, 0.0, CHAT)
    assert first.outcome is None
    for each in (first, second):
        finish(here, each, events=1)


def test_an_id_that_is_taken_is_not_replaced(here: Registry, other: Registry) -> None:
    session = begin(here, OWN, None)
    with pytest.raises(SessionActive):
        chats_of(other, "replace").claim(OWN, 0.0, CHAT)
    assert session.outcome is None


@pytest.mark.parametrize("key", [OWN, CHAT])
def test_a_new_question_may_wait_for_the_live_one(
    here: Registry, other: Registry, key: SessionKey
) -> None:
    first = begin(here, key)
    new = SECOND if key == OWN else CHAT
    second = Waiting(other, chats_of(other, "enqueue"), new)
    assert second.session in other.live()
    assert not second.call.opened.wait(MOMENT)
    finish(here, first, events=1)
    assert second.join() is Outcome.FINISHED
    assert second.call.closed.is_set()
    assert other.find(CHAT) is None
    assert ("id", *CHAT) not in table_of(here).holders


def test_a_question_that_waits_for_nobody_begins_at_once(here: Registry) -> None:
    assert Waiting(here, chats_of(here, "enqueue")).join() is Outcome.FINISHED


def test_those_that_wait_have_their_turn_in_the_order_of_arrival(
    here: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks more often, or comes when the chat is free, has no advantage."""
    first, chats, order = begin(here), chats_of(here, "enqueue"), list[int]()
    waiting: list[Waiting] = []

    def wait(number: int, pause: float) -> None:
        monkeypatch.setattr(chats_module, "SHORTEST_PAUSE", pause)
        key = SessionKey("ada", f"waiting_{number}")
        waiting.append(Waiting(here, chats, key, Call(partial(order.append, number))))
        assert waiting[-1].reader.read(PATIENCE) == b": queued\n"

    wait(0, 0.3)
    wait(1, 0.001)
    finish(here, first, events=1)
    wait(2, 0.001)
    assert [each.join() for each in waiting] == [Outcome.FINISHED] * 3
    assert order == [0, 1, 2]
    assert chats.in_use == 0


def test_a_stop_ends_the_wait(here: Registry, other: Registry) -> None:
    first = begin(here)
    second = Waiting(other, chats_of(other, "enqueue"))
    receipt = here.cancel(second.session.key, time.monotonic())
    assert receipt is not None
    assert receipt.phase is Phase.CONNECTING
    assert second.join() is Outcome.STOPPED
    assert not second.call.opened.is_set()
    assert first.outcome is None
    assert here.find(CHAT) is first


def test_whoever_leaves_gives_the_next_its_turn(here: Registry) -> None:
    first, chats = begin(here), chats_of(here, "enqueue")
    second, third = Waiting(here, chats), Waiting(here, chats, THIRD)
    second.session.leave()
    assert second.join() is Outcome.STOPPED
    finish(here, first, events=1)
    assert third.join() is Outcome.FINISHED


def test_one_that_never_came_to_a_call_is_in_nobodys_way_and_stays_nowhere(here: Registry) -> None:
    upstream = Upstream(refused=SECOND)
    service = service_of(here, upstream, on_active="enqueue")
    readers = [service.begin(OWN, Question(b"{}"), 0.0, CHAT)]
    with pytest.raises(BudgetSpent):
        service.begin(SECOND, Question(b"{}"), 0.0, CHAT)
    wait_for_garbage(lambda: [each.key for each in upstream.sessions] == [OWN])
    readers.append(service.begin(THIRD, Question(b"{}"), 0.0, CHAT))
    upstream.calls[OWN].may_end.set()
    assert upstream.calls[THIRD].opened.wait(PATIENCE)
    upstream.calls[THIRD].may_end.set()
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_one_that_has_waited_is_closed_though_the_next_one_looks_amid_its_end(
    here: Registry, stopped: bool
) -> None:
    upstream = Upstream()
    service = service_of(here, upstream, on_active="enqueue")
    keys = (OWN, SECOND, THIRD)
    readers = [service.begin(key, Question(b"{}"), 0.0, CHAT) for key in keys]
    _first, second, third = here.live()
    second.reservation = SlowEnd(third)
    upstream.calls[OWN].may_end.set()
    assert upstream.calls[SECOND].opened.wait(PATIENCE)
    if stopped:
        assert second.cancel(Reason.USER)
    upstream.calls[SECOND].may_end.set()
    assert upstream.calls[SECOND].closed.wait(PATIENCE)
    assert upstream.calls[THIRD].opened.wait(PATIENCE)
    upstream.calls[THIRD].may_end.set()
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("since", ["it was asked", "it waits"])
def test_a_holder_that_is_silent_for_a_moment_refuses_no_question_that_may_wait(
    here: Registry, there: Registry, since: str
) -> None:
    first = begin(here)
    silent = threading.Event()

    def hear(*_: object, result: str, **__: object) -> None:
        if result == "unavailable":
            silent.set()

    with signals.peer_asked.connected_to(hear, there.sender):
        if since == "it was asked":
            table_of(here).mute.add(PEERS[here].name)
        second = Waiting(there, chats_of(there, "enqueue"))
        table_of(here).mute.add(PEERS[here].name)
        silent.clear()
        assert silent.wait(PATIENCE)
    table_of(here).mute.clear()
    finish(here, first, events=1)
    assert second.join() is Outcome.FINISHED


def test_a_holder_that_stays_silent_is_what_the_refusal_tells_of(
    here: Registry, there: Registry
) -> None:
    begin(here)
    chats = chats_of(there, "enqueue", idle_timeout=0.05)
    session = chats.claim(SECOND, 0.0, CHAT)
    table_of(here).mute.add(PEERS[here].name)
    with pytest.raises(PeersUnavailable):
        chats.wait(session, CHAT, AbortHandle())


def test_the_wait_has_an_end(here: Registry) -> None:
    first = begin(here)
    second = Waiting(here, chats_of(here, "enqueue", idle_timeout=0.05))
    assert second.join() is Outcome.FAILED
    assert isinstance(second.session.refusal, SessionActive)
    assert first.outcome is None
