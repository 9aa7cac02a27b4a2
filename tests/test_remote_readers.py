"""Readers of an answer, on this worker and on others: each sees exactly the log, come what may."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy import signals, sse
from chatproxy.answers.readers import follow
from chatproxy.answers.session import Outcome, Reason, SessionKey, StreamSession
from chatproxy.cluster import remote_readers
from chatproxy.cluster.peers import Message
from chatproxy.cluster.remote_readers import RemoteReader, RemoteReaders
from chatproxy.errors import EventsGone, PeersUnavailable, Refusal

from .support.sessions import new_session
from .support.waiting import PATIENCE, Background, wait_for, wait_for_garbage

KEY = SessionKey("", "session_1")
#: The requests of a visit.
FIRST: Message = {"owner": "", "id": "session_1", "visit": "v", "wait": 0, "first": True}
LATER: Message = {**FIRST, "first": False}


def add(session: StreamSession, count: int) -> None:
    first = session.log.last + 1
    session.log.append([b"data: %d" % number for number in range(first, first + count)])


def finish(session: StreamSession) -> None:
    session.end(Outcome.FINISHED)
    session.log.end()


def wire(first: int, last: int) -> bytes:
    return b"".join(sse.numbered(number, b"data: %d" % number) for number in range(first, last + 1))


class Elsewhere:
    """Another worker that has a session, and the way to it, which loses what a test says.

    A question may also come late: after the next one.
    """

    def __init__(self, session: StreamSession | None, patience: float = PATIENCE) -> None:
        self.session = session
        self.ended = False
        self.remote_readers = RemoteReaders(
            lambda key: self.session if key == KEY else None,
            self,
            patience,
            lambda worker: worker == "reader's" and self.ended,
        )
        self.losses: list[str] = []
        self.late: list[Message] = []
        self.asked = 0

    def ask(self, question: Message) -> tuple[str, Message]:
        self.asked += 1
        loss = self.losses.pop(0) if self.losses else ""
        if loss == "late":
            self.late.append(question)
        if loss in ("question", "late"):
            raise PeersUnavailable("Lost.")
        answer = self.answer(question)
        while self.late:
            self.answer(self.late.pop(0))
        if loss == "answer":
            raise PeersUnavailable("Lost.")
        return answer["state"], answer

    def answer(self, question: Message) -> Message:
        answers: dict[str, Callable[[Message], Message]] = {
            "read": self.remote_readers.read,
            "leave": self.remote_readers.leave,
        }
        return answers[question["ask"]](question)

    def open(self, after: int = 0) -> RemoteReader:
        reading = RemoteReader(self.ask, "reader's", KEY, after)
        assert reading.begin()[0] == "reading"
        return reading


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_readers, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(remote_readers, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(remote_readers, "LOST_SECONDS", 0.3)


def test_the_leaving_of_each_reader_of_a_live_answer_is_told() -> None:
    sender, session, told = object(), new_session(grace=10.0), []

    def note(_sender: object, session: StreamSession) -> None:
        told.append(session)

    with signals.client_disconnected.connected_to(note, sender):
        reading = follow(session, 0, sender)
        reading.close()
        reading.close()
    assert told == [session]


def test_a_reader_elsewhere_gets_what_comes_after_its_event() -> None:
    session = new_session()
    add(session, 5)
    reading = Elsewhere(session).open(after=2)
    assert reading.read(PATIENCE) == wire(3, 5)
    assert reading.read(0.0) == b""
    add(session, 1)
    assert reading.read(PATIENCE) == wire(6, 6)
    finish(session)
    assert reading.read(PATIENCE) is None


def test_a_reader_elsewhere_counts_as_a_reader_until_it_leaves() -> None:
    session = new_session()
    elsewhere = Elsewhere(session)
    here, there = follow(session, 0, None), elsewhere.open()
    here.close()
    assert not session.flag.is_set()
    there.close()
    wait_for(session.flag.is_set)
    assert session.reason is Reason.DISCONNECT
    assert len(elsewhere.remote_readers) == 0


@pytest.mark.parametrize("loss", ["question", "answer"])
def test_a_reader_elsewhere_says_that_it_leaves_until_that_is_heard(loss: str) -> None:
    session = new_session()
    elsewhere = Elsewhere(session)
    there = elsewhere.open()
    elsewhere.losses = [loss] * 3
    there.close()
    wait_for(session.flag.is_set)
    wait_for(lambda: elsewhere.losses == [])


def test_a_request_that_comes_when_its_reader_has_left_makes_no_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each takes a way of its own, so that one may overtake the other."""
    session = new_session(grace=10.0)
    readers = Elsewhere(session).remote_readers
    add(session, 1)
    request = {"owner": "", "id": "session_1", "visit": "v", "after": 0, "wait": 0}
    readers.leave(request)
    assert readers.read(request) == {"state": "left"}
    assert (len(readers), session.log.followed) == (0, False)
    assert readers.read({**request, "visit": "w"})["state"] == "reading"
    monkeypatch.setattr(remote_readers, "LOST_SECONDS", -1.0)
    readers.sweep()
    assert readers.read({**request, "first": False}) == {"state": "nothing"}
    assert readers.read(request)["state"] == "reading", "for that long it is remembered"


@pytest.mark.parametrize("following", [True, False])
def test_if_the_end_is_lost_it_is_said_again_whatever_has_the_key_by_then(following: bool) -> None:
    """A chat's id is free when its answer ends, and may be that of the next one."""
    session = new_session()
    elsewhere = Elsewhere(session)
    reading = elsewhere.open()
    add(session, 2)
    finish(session)
    elsewhere.session = new_session() if following else None
    if elsewhere.session is not None:
        add(elsewhere.session, 5)
    elsewhere.losses = ["answer"]
    assert (reading.read(PATIENCE), reading.read(PATIENCE)) == (wire(1, 2), None)
    assert len(elsewhere.remote_readers) == 0


def test_a_request_that_comes_after_the_end_reads_nothing_of_the_next_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = new_session()
    elsewhere = Elsewhere(session)
    readers = elsewhere.remote_readers
    add(session, 1)
    finish(session)
    assert readers.read({**FIRST, "after": 0})["state"] == "over"
    elsewhere.session = following = new_session()
    add(following, 1)
    assert readers.read({**LATER, "after": 0})["last"] == 1
    readers.leave(FIRST)
    assert readers.read({**LATER, "after": 0}) == {"state": "left"}
    monkeypatch.setattr(remote_readers, "LOST_SECONDS", -1.0)
    readers.sweep()
    assert readers.read({**LATER, "after": 0}) == {"state": "nothing"}
    assert (len(readers), following.log.followed) == (0, False)


def test_a_request_that_was_overtaken_changes_nothing() -> None:
    """Here the events that it asks for are gone by then."""
    session = new_session(log_bytes=30)
    readers = Elsewhere(session).remote_readers
    assert readers.read({**FIRST, "after": 0})["last"] == 0
    for last in range(1, 11):
        add(session, 1)
        assert readers.read({**LATER, "after": last - 1})["last"] == last
    late = readers.read({**LATER, "after": 2})
    assert (late["state"], late["data"], late["last"]) == ("reading", "", 2)
    add(session, 1)
    assert readers.read({**LATER, "after": 10})["last"] == 11
    assert not session.flag.is_set()


def test_what_was_lost_on_the_way_is_sent_again_even_if_the_log_holds_it_no_longer() -> None:
    session = new_session(log_bytes=100)
    elsewhere = Elsewhere(session)
    reading, got = elsewhere.open(), b""
    for _ in range(5):
        add(session, 20)
        elsewhere.losses = ["answer"]
        got += reading.read(PATIENCE) or b""
    assert got == wire(1, 100)


def test_no_request_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was frozen finds many that nobody waits for any more."""
    monkeypatch.setattr(remote_readers, "WAIT_SECONDS", PATIENCE)
    session = new_session()
    readers = Elsewhere(session).remote_readers
    readers.read({**FIRST, "after": 0})
    waiting = Background(lambda: readers.read({**LATER, "after": 0, "wait": PATIENCE}))
    assert waiting.still_runs()
    assert readers.read({**LATER, "after": 0})["state"] == "reading"
    assert waiting.is_alive()
    finish(session)
    assert waiting.result()["state"] == "over"


def test_what_is_kept_of_a_visit_that_is_over_is_not_the_answer_and_not_for_long() -> None:
    session = new_session()
    elsewhere = Elsewhere(session)
    reading = elsewhere.open()
    finish(session)
    assert reading.read(PATIENCE) is None
    assert not elsewhere.remote_readers.idle
    answer = weakref.ref(session)
    elsewhere.session = None
    del session
    wait_for_garbage(lambda: answer() is None)

    def swept() -> bool:
        elsewhere.remote_readers.sweep()
        return elsewhere.remote_readers.idle

    wait_for(swept)


def test_a_reader_that_has_read_the_end_says_that_it_leaves() -> None:
    session = new_session()
    elsewhere = Elsewhere(session)
    reading = elsewhere.open()
    finish(session)
    assert reading.read(PATIENCE) is None
    asked = elsewhere.asked
    reading.close()
    wait_for(lambda: elsewhere.asked > asked)


def test_a_reader_elsewhere_that_asks_no_more_has_gone() -> None:
    session = new_session()
    elsewhere = Elsewhere(session, patience=0.05)
    elsewhere.open()
    elsewhere.remote_readers.sweep()
    assert not session.flag.is_set()

    def swept() -> bool:
        elsewhere.remote_readers.sweep()
        return session.flag.is_set()

    wait_for(swept)
    assert len(elsewhere.remote_readers) == 0


def test_a_reader_whose_worker_has_ended_has_gone_long_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that nobody can read must not go on, and cost, for as long as a client may wait."""
    monkeypatch.setattr(remote_readers, "SILENCE_SECONDS", 0.0)
    session = new_session()
    elsewhere = Elsewhere(session, patience=1000.0)
    elsewhere.open()
    elsewhere.remote_readers.sweep()
    wait_for(
        lambda: "chatproxy-remote-readers" not in [each.name for each in threading.enumerate()]
    )
    assert not session.flag.is_set()
    elsewhere.ended = True
    elsewhere.remote_readers.sweep()
    wait_for(session.flag.is_set)
    assert session.reason is Reason.DISCONNECT
    assert len(elsewhere.remote_readers) == 0


def test_a_look_that_no_thread_can_be_had_for_is_made_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_readers, "SILENCE_SECONDS", 0.0)
    elsewhere = Elsewhere(new_session(), patience=1000.0)
    elsewhere.open()
    elsewhere.ended = True
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", mock.Mock(side_effect=RuntimeError))
        elsewhere.remote_readers.sweep()
    assert len(elsewhere.remote_readers) == 1
    elsewhere.remote_readers.sweep()
    wait_for(lambda: len(elsewhere.remote_readers) == 0)


def test_a_reader_that_was_taken_for_gone_goes_on_with_its_own_answer() -> None:
    session = new_session(grace=10.0)
    elsewhere = Elsewhere(session, patience=-1.0)
    reading = elsewhere.open()
    add(session, 1)
    finish(session)
    elsewhere.remote_readers.sweep()
    elsewhere.session = following = new_session()
    add(following, 5)
    assert (reading.read(PATIENCE), reading.read(PATIENCE)) == (wire(1, 1), None)
    assert not following.log.followed


def test_the_end_of_a_visit_that_was_swept_is_not_the_end_of_the_answer() -> None:
    """The sweep may come while a question is being answered."""
    session = new_session(grace=10.0)
    elsewhere = Elsewhere(session, patience=-1.0)
    reading = elsewhere.open()
    reader = Background(lambda: reading.read(PATIENCE))
    for _ in range(20):
        elsewhere.remote_readers.sweep()
        time.sleep(0.001)
    add(session, 1)
    assert reader.result() == wire(1, 1)


@pytest.mark.parametrize("gone", ["ended", "silent"])
def test_where_the_worker_is_gone_the_reader_is_told_after_which_event(gone: str) -> None:
    session = new_session()
    add(session, 2)
    elsewhere = Elsewhere(session)
    reading = elsewhere.open()
    assert reading.read(PATIENCE) == wire(1, 2)
    if gone == "ended":
        elsewhere.session = None
        elsewhere.remote_readers = RemoteReaders(
            lambda _key: None, None, PATIENCE, lambda _worker: False
        )
    else:
        elsewhere.losses = ["question"] * 1_000_000
    with pytest.raises(Refusal, match="after event 2:") as told:
        reading.read(PATIENCE)
    assert told.value.code == "answer_lost"
    reading.close()
    assert reading.read(PATIENCE) is None


def test_a_reader_elsewhere_that_falls_too_far_behind_is_told_and_is_gone() -> None:
    session = new_session(log_bytes=100)
    elsewhere = Elsewhere(session)
    here, there = follow(session, 0, None), elsewhere.open()
    for _ in range(20):
        add(session, 1)
        here.read(0)
        session.log.wait_for_room()
    with pytest.raises(EventsGone):
        there.read(PATIENCE)
    assert len(elsewhere.remote_readers) == 0
    assert not session.flag.is_set()
    here.close()
    assert session.reason is Reason.DISCONNECT


def test_events_that_are_gone_and_that_never_were_are_told_apart() -> None:
    session = new_session(log_bytes=30)
    add(session, 10)
    readings = [RemoteReader(Elsewhere(session).ask, "", KEY, after) for after in (0, 10, 11)]
    states = [reading.begin()[0] for reading in readings]
    assert states == ["gone", "reading", "beyond"]
    with pytest.raises(EventsGone):
        follow(session, 0, None)


def test_another_key_finds_nothing_with_the_name_of_a_visit() -> None:
    session = new_session()
    add(session, 1)
    readers = Elsewhere(session).remote_readers
    assert readers.read({**FIRST, "after": 0})["state"] == "reading"
    assert readers.read({**FIRST, "after": 0, "owner": "bob"})["state"] == "nothing"


@pytest.mark.parametrize(
    "question",
    [{}, {"visit": 1}, {"visit": "v", "after": "x"}, {"visit": "v", "after": -1}, {"visit": []}],
)
def test_a_question_that_makes_no_sense_finds_nothing(question: Message) -> None:
    remote_readers = Elsewhere(new_session()).remote_readers
    assert remote_readers.read({"owner": "", "id": "session_1", **question})["state"] == "nothing"
    assert remote_readers.leave(question) == {"state": "left"}
    assert len(remote_readers) == 0


@given(
    steps=st.lists(st.sampled_from(["add", "read", "keep-alive"]), max_size=30),
    losses=st.lists(st.sampled_from(["", "question", "answer", "late"]), max_size=40),
    after=st.integers(0, 3),
)
@settings(max_examples=60)
def test_whatever_is_lost_or_late_on_the_way_a_reader_sees_exactly_the_log(
    steps: list[str], losses: list[str], after: int
) -> None:
    session = new_session()
    add(session, 3)
    elsewhere = Elsewhere(session)
    reading = elsewhere.open(after)
    elsewhere.losses = losses
    got = b""
    for step in steps:
        if step == "add":
            add(session, 2)
        elif step == "keep-alive":
            session.log.pulse()
        else:
            got += reading.read(0.01) or b""
    finish(session)
    while (piece := reading.read(PATIENCE)) is not None:
        got += piece
    assert got.replace(sse.KEEP_ALIVE, b"") == wire(after + 1, session.log.last)
