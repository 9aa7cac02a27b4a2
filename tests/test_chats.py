"""Sessions that are found by their chat, and sessions without an id, on two workers."""

from __future__ import annotations

import time

import pytest

from chatproxy.answers.session import Reason, SessionKey, StreamSession
from chatproxy.cluster.registry import Registry
from chatproxy.errors import SessionActive, SessionCancelled, UpstreamError

from .support.table import Table
from .test_registry import PEERS, finish, finish_when_cancelled, new_registry

CHAT = SessionKey("ada", "chat_1")
OWN = SessionKey("ada", "session_1")


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
def test_a_live_chat_is_taken(here: Registry, other: Registry, key: SessionKey) -> None:
    begin(here, key)
    with pytest.raises(SessionActive):
        begin(other, SessionKey("ada", "session_2"))
    assert ("id", "ada", "session_2") not in table_of(here).holders


@pytest.mark.parametrize("key", [OWN, CHAT])
def test_a_stop_for_a_chat_stops_its_answer(
    here: Registry, other: Registry, key: SessionKey
) -> None:
    session = begin(here, key)
    receipt = other.cancel(CHAT, time.monotonic(), remember=False)
    assert receipt is not None
    assert receipt.session_id == key.id
    assert session.reason is Reason.USER


@pytest.mark.parametrize("key", [OWN, CHAT])
def test_a_chat_whose_answer_has_ended_is_free(
    here: Registry, other: Registry, key: SessionKey
) -> None:
    finish(here, begin(here, key), events=3)
    assert here.find(CHAT) is None
    assert begin(other, SessionKey("ada", "session_2") if key == OWN else CHAT)


def test_the_own_id_of_an_answer_in_a_chat_is_retained(here: Registry, other: Registry) -> None:
    finish(here, begin(here), events=3)
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
    assert begin(here, SessionKey("ada", "session_2"))  # the chat was not left taken


def test_a_chat_is_its_owners(here: Registry, other: Registry) -> None:
    session = begin(here)
    assert other.cancel(SessionKey("eve", CHAT.id), time.monotonic(), remember=False) is None
    assert session.outcome is None
    assert begin(other, SessionKey("eve", "session_1"), SessionKey("eve", CHAT.id))


def test_a_refused_answer_frees_both_ids(here: Registry, other: Registry) -> None:
    finish(here, begin(here), refusal=UpstreamError("No."))
    assert begin(other)


def test_an_answer_whose_chat_is_lost_is_stopped(here: Registry) -> None:
    session = begin(here)
    here.lose(("id", *CHAT))
    assert session.reason is Reason.LOST


def test_a_session_is_listed_once(here: Registry) -> None:
    begin(here)
    assert [each["sessionId"] for each in here.list_sessions("ada")] == ["session_1"]
    assert len(here.live()) == 1


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
