"""The session table: ids that stay taken for a while, bounded, and given up once each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.answers.log import AnswerLog
from chatproxy.answers.readers import LogReader
from chatproxy.answers.session import SessionKey, StreamSession
from chatproxy.cluster import early_stops
from chatproxy.cluster.early_stops import EARLY_STOP_SECONDS
from chatproxy.cluster.peers import PeerState
from chatproxy.cluster.session_table import SessionTable
from chatproxy.errors import EventsGone

from .support.sessions import new_session
from .support.waiting import HandClock

RETAIN = 60.0
HOLD = 1800.0
#: More than the time between two looks.
LOOK = 1.5


def session_of(key: SessionKey, size: int = 0) -> StreamSession:
    """A session that has ended, with one event of some bytes, if any."""
    owner, session_id = key
    session = new_session(session_id, owner)
    if size:
        session.log.append([b"data: " + b"x" * size])
    session.log.end()
    return session


def retain(table: SessionTable, session: StreamSession) -> None:
    """Let a session begin and end."""
    table.add(session)
    table.end(session)


def is_stopped(table: SessionTable, key: SessionKey) -> bool:
    return table.state(key) is PeerState.CANCELLED


FOOTPRINT = AnswerLog(1000).footprint


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def table(clock: HandClock) -> SessionTable:
    return SessionTable(RETAIN, HOLD, 1 << 20, 1 << 20, clock)


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Early Stops have a hundredth of the room."""
    monkeypatch.setattr(early_stops, "MOST", early_stops.MOST // 100)


def test_an_id_is_reserved_for_one_reason_and_one_owner(table: SessionTable) -> None:
    retain(table, session_of(SessionKey("ada", "ended")))
    table.remember_stop(SessionKey("ada", "cancelled"))
    assert table.find(SessionKey("ada", "ended"))
    assert not is_stopped(table, SessionKey("ada", "ended"))
    assert is_stopped(table, SessionKey("ada", "cancelled"))
    assert not table.find(SessionKey("ada", "cancelled"))
    for session_id in ("ended", "cancelled"):
        assert not table.find(SessionKey("bob", session_id))
        assert not is_stopped(table, SessionKey("bob", session_id))


def test_each_is_given_up_in_its_time_and_told_once(table: SessionTable, clock: HandClock) -> None:
    """Only who sees the sessions of all is told whose each is."""
    retain(table, session_of(SessionKey("ada", "ended")))
    table.remember_stop(SessionKey("ada", "cancelled"))
    assert table.given_up() == []
    clock.now += EARLY_STOP_SECONDS - 0.01
    assert is_stopped(table, SessionKey("ada", "cancelled"))
    assert table.given_up() == []
    clock.now += LOOK
    assert not is_stopped(table, SessionKey("ada", "cancelled"))
    assert table.given_up() == [("ada", "cancelled")]
    (of_all,), (of_ada,) = table.describe(None), table.describe("ada")
    assert of_all == {**of_ada, "owner": "ada"}
    assert table.describe("bob") == []
    clock.now += RETAIN - EARLY_STOP_SECONDS
    assert not table.find(SessionKey("ada", "ended"))
    assert table.given_up() == [("ada", "ended")]
    clock.now += RETAIN
    assert table.given_up() == []
    assert len(table) == 0


def test_what_is_given_up_counts_until_it_is_told(table: SessionTable, clock: HandClock) -> None:
    """Else whoever sweeps would stop before the ids are free."""
    for number in range(3):
        table.remember_stop(SessionKey("", str(number)))
        retain(table, session_of(SessionKey("", f"ended {number}")))
    clock.now += 2 * RETAIN
    table.remember_stop(SessionKey("bob", "new"))
    assert len(table) >= 7
    assert len(table.given_up()) == 6
    assert len(table) == 1


def test_a_second_stop_of_an_id_keeps_the_first_alive_and_one_of_another_id_does_not(
    table: SessionTable, clock: HandClock
) -> None:
    again, once = SessionKey("ada", "again"), SessionKey("ada", "once")
    table.remember_stop(again)
    table.remember_stop(once)
    clock.now += 20
    table.remember_stop(again)
    clock.now += 10
    assert is_stopped(table, again)
    assert not is_stopped(table, once)
    assert table.given_up() == [once]
    clock.now += 20 + LOOK
    assert table.given_up() == [again]


def test_what_is_lost_stands_for_nothing_from_then_on_and_is_not_told(
    table: SessionTable, clock: HandClock
) -> None:
    """Another worker may have it by then."""
    ended, cancelled = SessionKey("ada", "ended"), SessionKey("ada", "cancelled")
    retain(table, session_of(ended))
    table.remember_stop(cancelled)
    for key in (ended, cancelled):
        assert table.lose(key) is None
        assert table.state(key) is PeerState.UNKNOWN
    clock.now += 2 * RETAIN
    assert table.given_up() == []
    assert len(table) == 0


def test_the_ended_are_bounded_and_the_least_recent_are_told(table: SessionTable) -> None:
    room = (1 << 20) // FOOTPRINT
    for number in range(room + 3):
        retain(table, session_of(SessionKey("ada", str(number))))
        assert table.find(SessionKey("ada", "0")) is None or number < room  # it is looked at
    assert table.given_up() == [("ada", "0"), ("ada", "1"), ("ada", "2")]
    assert len(table) == room


@pytest.mark.parametrize(("owner", "most"), [("ada", 100), ("", 10_000)])
def test_the_stops_of_an_owner_are_bounded_and_the_least_recent_are_told(
    table: SessionTable, clock: HandClock, owner: str, most: int
) -> None:
    keys = [SessionKey(owner, str(number)) for number in range(most + 2)]
    assert sum(map(table.remember_stop, keys)) == 2
    assert table.given_up() == keys[:2]
    assert is_stopped(table, keys[2])
    clock.now += EARLY_STOP_SECONDS
    assert not table.remember_stop(SessionKey(owner, "new")), "it is no loss to make room by age"
    assert len(table.given_up()) == most


def stop_from(table: SessionTable, client: str, count: int) -> None:
    for number in range(count):
        table.remember_stop(SessionKey("", f"{client} {number}"), client)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("victim", ["192.0.2.7", "2001:db8:1::1", "2001:db8:0:2::1", ""])
@pytest.mark.parametrize(
    "attacker", ["198.51.100.{}", "2001:db8:0:1::{:x}", "::ffff:198.51.100.{}"]
)
def test_no_client_can_push_out_the_early_stops_of_another(
    table: SessionTable, attacker: str, victim: str
) -> None:
    """Also not with the many addresses that every client of IPv6 has."""
    table.remember_stop(SessionKey("", "victim's"), victim)
    one, forgotten = "198.51.100" in attacker, 0
    for number in range(120):
        address = attacker.format(1 if one else number)
        forgotten += table.remember_stop(SessionKey("", f"session_{number}"), address)
    assert is_stopped(table, SessionKey("", "victim's"))
    assert len(table.given_up()) == forgotten == 21


@pytest.mark.usefixtures("_few")
def test_a_site_with_many_networks_can_not_push_out_the_early_stops_of_another(
    table: SessionTable,
) -> None:
    table.remember_stop(SessionKey("", "victim's"), "2001:db8:1::1")
    for number in range(120):
        table.remember_stop(SessionKey("", str(number)), f"2001:db8:2:{number:x}::1")
    assert is_stopped(table, SessionKey("", "victim's"))


@pytest.mark.usefixtures("_few")
def test_many_clients_have_a_place_each(table: SessionTable) -> None:
    stop_from(table, "192.0.2.1", 200)
    clients = [f"198.51.100.{number}" for number in range(9)]
    for client in clients:
        stop_from(table, client, 10)
    assert all(is_stopped(table, SessionKey("", f"{client} 0")) for client in clients)
    assert is_stopped(table, SessionKey("", "192.0.2.1 199")), "the newest of the largest stay"


@pytest.mark.usefixtures("_few")
def test_a_stop_that_comes_again_from_elsewhere_stays_with_whoever_came_first(
    table: SessionTable,
) -> None:
    """Else an attacker who knows an id could push it out with their own."""
    table.remember_stop(SessionKey("", "victim's"), "192.0.2.7")
    table.remember_stop(SessionKey("", "victim's"), "198.51.100.1")
    stop_from(table, "198.51.100.1", 120)
    assert is_stopped(table, SessionKey("", "victim's"))


# --- what is held of ended answers, for whom it may be


def end_read(table: SessionTable, owner: str, name: str) -> LogReader:
    """Retain an answer that is read; return its reader."""
    session = session_of(SessionKey(owner, name), 10_000)
    reader = LogReader(session.log)
    retain(table, session)
    return reader


def is_held(reader: LogReader) -> bool:
    """Whether it can read what has been kept for it."""
    try:
        return bool(reader.read(0))
    except EventsGone:
        return False


def small(clock: HandClock, share: int = 1 << 20) -> SessionTable:
    """Room for three answers of 10,000 bytes."""
    return SessionTable(RETAIN, HOLD, 45_000, share, clock)


def end(table: SessionTable, owner: str, name: str) -> StreamSession:
    session = session_of(SessionKey(owner, name), 10_000)
    retain(table, session)
    return session


def look(table: SessionTable, clock: HandClock) -> None:
    clock.now += LOOK
    table.given_up()


def test_what_a_reader_holds_counts_until_it_lets_go(clock: HandClock) -> None:
    """Although its time is over, and nobody finds it any more."""
    table = small(clock)
    readers = [end_read(table, "", f"read {number}") for number in range(3)]
    clock.now += RETAIN
    look(table, clock)
    assert table.all() == []
    assert len(table) == 3
    end(table, "", "new")
    assert table.all() == [], "there is no room beside those"
    readers[0].close()
    look(table, clock)
    new = end(table, "", "newer")
    assert table.all() == [new]


def test_what_readers_hold_alone_has_an_end(table: SessionTable, clock: HandClock) -> None:
    """Also if they take a little now and then."""
    reader = end_read(table, "", "read")
    clock.now += RETAIN
    look(table, clock)
    clock.now += HOLD - 1
    look(table, clock)
    assert len(table) == 0
    assert not is_held(reader)


class Kept:
    """What is withheld from a client."""

    def __init__(self, size: int) -> None:
        self.size = size

    def pieces(self) -> Iterator[bytes]:
        raise NotImplementedError

    def drop(self) -> None:
        self.size = 0


def end_withheld(table: SessionTable, name: str, size: int = 10_000) -> Kept:
    """Retain an answer that has been read, but is yet to be told to the reader's client."""
    session = session_of(SessionKey("", name))
    reader = LogReader(session.log)
    reader.withheld = kept = Kept(size)
    retain(table, session)
    return kept


def test_an_answer_that_is_given_whole_counts_until_its_client_has_taken_it(
    clock: HandClock,
) -> None:
    table = small(clock)
    kept = end_withheld(table, "whole", 35_000)
    end(table, "", "no room")
    assert [session.id for session in table.all()] == ["whole"]
    kept.size = 0
    look(table, clock)
    end(table, "", "room")
    assert [session.id for session in table.all()] == ["whole", "room"]
    clock.now += RETAIN
    look(table, clock)
    assert len(table) == 0


def test_answers_that_are_given_whole_make_room_for_newer_ones(clock: HandClock) -> None:
    table = small(clock)
    kept = [end_withheld(table, str(number)) for number in range(9)]
    assert all(each.size for each in kept)
    look(table, clock)
    assert [bool(each.size) for each in kept] == [False] * 6 + [True] * 3


def test_those_that_nobody_reads_go_first_then_the_oldest_that_are_read(clock: HandClock) -> None:
    table = small(clock)
    first = end_read(table, "", "first")
    unread = end(table, "", "unread")
    others = [end_read(table, "", f"read {number}") for number in range(2)]
    assert unread.log.size == 0
    assert table.find(SessionKey("", "unread")) is None
    others.append(end_read(table, "", "one too many"))
    look(table, clock)
    with pytest.raises(EventsGone):
        first.read(0)
    assert all(other.read(0) for other in others)
    assert table.find(SessionKey("", "first")) is None


def test_what_is_no_longer_held_is_emptied_whoever_refers_to_it(clock: HandClock) -> None:
    """A reader that has had all of it holds nothing."""
    table = small(clock)
    session = end(table, "", "first")
    reader = LogReader(session.log)
    reader.read(0)
    clock.now += RETAIN
    look(table, clock)
    assert len(table) == session.log.size == 0
    assert reader.read(0) is None
    with pytest.raises(EventsGone):
        LogReader(session.log)


def test_a_reader_is_not_told_at_the_moment_in_which_another_answer_ends(clock: HandClock) -> None:
    """It has had no time yet to read the last events of its own."""
    table = small(clock)
    readers = [end_read(table, "", str(number)) for number in range(6)]
    assert all(reader.read(0) for reader in readers)


def test_an_owner_that_holds_most_makes_room_and_no_other(clock: HandClock) -> None:
    table = small(clock)
    bobs = end(table, "bob", "bob's")
    mallorys = [end_read(table, "mallory", str(number)) for number in range(9)]
    look(table, clock)
    assert table.find(SessionKey("bob", "bob's")) is bobs
    assert [is_held(reader) for reader in mallorys] == [False] * 7 + [True] * 2


def test_an_owner_has_no_more_than_a_share_although_there_is_room(clock: HandClock) -> None:
    table = small(clock, share=15_000)
    end(table, "ada", "first")
    end(table, "ada", "second")
    assert table.given_up() == [("ada", "first")]
    read = end_read(table, "ada", "third")
    end(table, "ada", "fourth")
    look(table, clock)
    assert [session.id for session in table.all()] == ["third"]
    assert is_held(read)
    for number in range(2):  # of nobody
        end(table, "", str(number))
    assert len(table.all()) == 3


def test_an_answer_that_there_is_no_room_for_pushes_out_no_other(clock: HandClock) -> None:
    table = small(clock)
    first = end(table, "", "first")
    retain(table, session_of(SessionKey("", "huge"), 50_000))
    assert table.given_up() == [("", "huge")]
    assert table.all() == [first]


def test_an_answer_replaces_the_retained_one_of_its_id_whose_readers_read_on(
    clock: HandClock,
) -> None:
    table = small(clock)
    reader = end_read(table, "", "chat")
    second = end(table, "", "chat")
    assert table.all() == [second]
    assert len(table) == 2
    assert reader.read(0)
    look(table, clock)
    assert table.all() == [second]
    assert len(table) == 1


@given(st.lists(st.text(st.characters(exclude_categories=()), min_size=1, max_size=8), unique=True))
def test_names_of_any_kind_are_told_apart(names: list[str]) -> None:
    table = SessionTable(RETAIN, HOLD, 1 << 20, 1 << 20, HandClock())
    for name in names[::2]:
        table.remember_stop(SessionKey(f"{name}'s", name))
        retain(table, session_of(SessionKey("x", name)))
    for number, name in enumerate(names):
        assert is_stopped(table, SessionKey(f"{name}'s", name)) == (number % 2 == 0)
        assert (table.find(SessionKey("x", name)) is not None) == (number % 2 == 0)
