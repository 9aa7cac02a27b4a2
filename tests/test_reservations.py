"""Reservations: ids that stay taken for a while, bounded, and told of once when they are over."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatproxy.answers.log import AnswerLog, LogReader
from chatproxy.answers.session import StreamSession
from chatproxy.cluster import early_stops
from chatproxy.cluster.early_stops import EARLY_CANCEL_SECONDS
from chatproxy.cluster.reservations import Reservations, SessionKey
from chatproxy.errors import EventsGone

from .support.sessions import new_session
from .support.waiting import HandClock

RETAIN = 60.0
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


FOOTPRINT = AnswerLog(1000).footprint


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def reservations(clock: HandClock) -> Reservations:
    return Reservations(RETAIN, 1 << 20, 1 << 20, clock)


def test_an_id_is_reserved_for_one_reason_and_one_owner(reservations: Reservations) -> None:
    reservations.end(session_of(("ada", "ended")))
    reservations.cancel(("ada", "cancelled"))
    assert reservations.ended(("ada", "ended"))
    assert not reservations.is_cancelled(("ada", "ended"))
    assert reservations.is_cancelled(("ada", "cancelled"))
    assert not reservations.ended(("ada", "cancelled"))
    for session_id in ("ended", "cancelled"):
        assert not reservations.ended(("bob", session_id))
        assert not reservations.is_cancelled(("bob", session_id))


def test_each_is_given_up_in_its_time_and_told_once(
    reservations: Reservations, clock: HandClock
) -> None:
    reservations.end(session_of(("ada", "ended")))
    reservations.cancel(("ada", "cancelled"))
    assert reservations.given_up() == []
    clock.now += EARLY_CANCEL_SECONDS - 0.01
    assert reservations.is_cancelled(("ada", "cancelled"))
    assert reservations.given_up() == []
    clock.now += LOOK
    assert not reservations.is_cancelled(("ada", "cancelled"))
    assert reservations.given_up() == [("ada", "cancelled")]
    clock.now += RETAIN - EARLY_CANCEL_SECONDS
    assert not reservations.ended(("ada", "ended"))
    assert reservations.given_up() == [("ada", "ended")]
    clock.now += RETAIN
    assert reservations.given_up() == []
    assert len(reservations) == 0


def test_what_is_given_up_counts_until_it_is_told(
    reservations: Reservations, clock: HandClock
) -> None:
    """Else whoever sweeps would stop before the ids are free."""
    for number in range(3):
        reservations.cancel(("", str(number)))
        reservations.end(session_of(("", f"ended {number}")))
    clock.now += 2 * RETAIN
    reservations.cancel(("bob", "new"))
    assert len(reservations) >= 7
    assert len(reservations.given_up()) == 6
    assert len(reservations) == 1


def test_a_second_stop_keeps_the_first_alive(reservations: Reservations, clock: HandClock) -> None:
    reservations.cancel(("ada", "a"))
    clock.now += 20
    reservations.cancel(("ada", "a"))
    clock.now += 20
    assert reservations.is_cancelled(("ada", "a"))
    assert reservations.given_up() == []
    clock.now += 10 + LOOK
    assert reservations.given_up() == [("ada", "a")]


def test_a_later_stop_of_an_owner_does_not_keep_the_earlier_ones(
    reservations: Reservations, clock: HandClock
) -> None:
    reservations.cancel(("ada", "a"))
    clock.now += 20
    reservations.cancel(("ada", "b"))
    clock.now += 10
    assert not reservations.is_cancelled(("ada", "a"))
    assert reservations.is_cancelled(("ada", "b"))


def test_the_ended_are_bounded_and_the_least_recent_are_told(reservations: Reservations) -> None:
    room = (1 << 20) // FOOTPRINT
    for number in range(room + 3):
        reservations.end(session_of(("ada", str(number))))
        assert reservations.ended(("ada", "0")) is None or number < room  # it is looked at
    assert reservations.given_up() == [("ada", "0"), ("ada", "1"), ("ada", "2")]
    assert len(reservations) == room
    # An ended id makes room without a loss: it is no Stop that is forgotten.
    assert reservations.forgotten == 0


@pytest.mark.parametrize(("owner", "most"), [("ada", 100), ("", 10_000)])
def test_the_stops_of_an_owner_are_bounded_and_the_least_recent_are_told(
    reservations: Reservations, owner: str, most: int
) -> None:
    for number in range(most + 2):
        reservations.cancel((owner, str(number)))
    assert reservations.given_up() == [(owner, "0"), (owner, "1")]
    assert reservations.forgotten == 2
    assert reservations.is_cancelled((owner, "2"))


def stop_from(reservations: Reservations, client: str, count: int) -> None:
    for number in range(count):
        reservations.cancel(("", f"{client} {number}"), client)


@pytest.mark.parametrize("victim", ["192.0.2.7", "2001:db8:1::1", "2001:db8:0:2::1", ""])
@pytest.mark.parametrize(
    "attacker", ["198.51.100.{}", "2001:db8:0:1::{:x}", "::ffff:198.51.100.{}"]
)
def test_no_client_can_push_out_the_early_stops_of_another(
    reservations: Reservations, attacker: str, victim: str
) -> None:
    """Also not with the many addresses that every client of IPv6 has."""
    reservations.cancel(("", "victim's"), victim)
    one = "198.51.100" in attacker
    for number in range(12_000):
        address = attacker.format(1 if one else number)
        reservations.cancel(("", f"session_{number}"), address)
    assert reservations.is_cancelled(("", "victim's"))
    assert len(reservations.given_up()) == reservations.forgotten == 2_001


def test_a_site_with_many_networks_can_not_push_out_the_early_stops_of_another(
    reservations: Reservations,
) -> None:
    reservations.cancel(("", "victim's"), "2001:db8:1::1")
    for number in range(12_000):
        reservations.cancel(("", str(number)), f"2001:db8:2:{number:x}::1")
    assert reservations.is_cancelled(("", "victim's"))


def test_many_clients_have_a_place_each(reservations: Reservations) -> None:
    stop_from(reservations, "192.0.2.1", 20_000)
    for number in range(1, 101):
        stop_from(reservations, f"198.51.100.{number}", 10)
    for number in range(1, 101):
        assert reservations.is_cancelled(("", f"198.51.100.{number} 0"))
    assert reservations.is_cancelled(("", "192.0.2.1 19999")), "the newest of the largest stay"


def test_a_stop_that_comes_again_from_elsewhere_stays_with_whoever_came_first(
    reservations: Reservations,
) -> None:
    """Else an attacker who knows an id could push it out with their own."""
    reservations.cancel(("", "victim's"), "192.0.2.7")
    reservations.cancel(("", "victim's"), "198.51.100.1")
    stop_from(reservations, "198.51.100.1", 12_000)
    assert reservations.is_cancelled(("", "victim's"))


def test_to_make_room_by_age_is_no_loss(reservations: Reservations, clock: HandClock) -> None:
    for number in range(100):
        reservations.cancel(("ada", str(number)))
    clock.now += EARLY_CANCEL_SECONDS
    reservations.cancel(("ada", "new"))
    assert reservations.forgotten == 0
    assert len(reservations.given_up()) == 100


# --- what is held of ended answers, for whom it may be


def end_read(reservations: Reservations, owner: str, name: str) -> LogReader:
    """Retain an answer that is read; return its reader."""
    session = session_of((owner, name), 10_000)
    reader = session.log.reader()
    reservations.end(session)
    return reader


def small(clock: HandClock, share: int = 1 << 20) -> Reservations:
    """Room for three answers of 10,000 bytes."""
    return Reservations(RETAIN, 45_000, share, clock)


def end(reservations: Reservations, owner: str, name: str) -> StreamSession:
    session = session_of((owner, name), 10_000)
    reservations.end(session)
    return session


def look(reservations: Reservations, clock: HandClock) -> None:
    clock.now += LOOK
    reservations.given_up()


def test_what_a_reader_holds_counts_until_it_lets_go(clock: HandClock) -> None:
    """Although its time is over, and nobody finds it any more."""
    reservations = small(clock)
    readers = [end_read(reservations, "", f"read {number}") for number in range(3)]
    clock.now += RETAIN
    look(reservations, clock)
    assert reservations.retained() == []
    assert len(reservations) == 3
    end(reservations, "", "new")
    assert reservations.retained() == [], "there is no room beside those"
    readers[0].close()
    look(reservations, clock)
    new = end(reservations, "", "newer")
    assert reservations.retained() == [new]


def test_those_that_nobody_reads_go_first_then_the_oldest_that_are_read(clock: HandClock) -> None:
    reservations = small(clock)
    first = end_read(reservations, "", "first")
    unread = end(reservations, "", "unread")
    others = [end_read(reservations, "", f"read {number}") for number in range(2)]
    assert unread.log.size == 0
    assert reservations.ended(("", "unread")) is None
    others.append(end_read(reservations, "", "one too many"))
    look(reservations, clock)
    with pytest.raises(EventsGone):
        first.read(0)
    assert all(other.read(0) for other in others)
    assert reservations.ended(("", "first")) is None
    assert reservations.forgotten == 0


def test_a_reader_that_has_had_all_of_it_holds_nothing(clock: HandClock) -> None:
    reservations = small(clock)
    reader = end_read(reservations, "", "first")
    reader.read(0)
    clock.now += RETAIN
    look(reservations, clock)
    assert len(reservations) == 0
    assert reader.read(0) is None


def test_what_is_no_longer_held_is_emptied_whoever_refers_to_it(clock: HandClock) -> None:
    reservations = small(clock)
    first = end(reservations, "", "first")
    clock.now += RETAIN
    look(reservations, clock)
    assert first.log.size == 0
    with pytest.raises(EventsGone):
        first.log.reader()


def test_a_reader_is_not_told_at_the_moment_in_which_another_answer_ends(clock: HandClock) -> None:
    """It has had no time yet to read the last events of its own."""
    reservations = small(clock)
    readers = [end_read(reservations, "", str(number)) for number in range(6)]
    assert all(reader.read(0) for reader in readers)


def test_an_owner_that_holds_most_makes_room_and_no_other(clock: HandClock) -> None:
    reservations = small(clock)
    bobs = end(reservations, "bob", "bob's")
    mallorys = [end_read(reservations, "mallory", str(number)) for number in range(9)]
    look(reservations, clock)
    assert reservations.ended(("bob", "bob's")) is bobs
    kept = [reader for reader in mallorys if reader._log.size]
    assert kept == mallorys[-2:]


def test_an_owner_has_no_more_than_a_share_although_there_is_room(clock: HandClock) -> None:
    reservations = small(clock, share=15_000)
    end(reservations, "ada", "first")
    end(reservations, "ada", "second")
    assert reservations.given_up() == [("ada", "first")]
    read = end_read(reservations, "ada", "third")
    end(reservations, "ada", "fourth")
    assert read._log.size
    look(reservations, clock)
    assert [session.id for session in reservations.retained()] == ["third"]


def test_without_owners_nobody_has_a_share(clock: HandClock) -> None:
    reservations = small(clock, share=15_000)
    for number in range(3):
        end(reservations, "", str(number))
    assert len(reservations.retained()) == 3


def test_an_answer_that_there_is_no_room_for_pushes_out_no_other(clock: HandClock) -> None:
    reservations = small(clock)
    first = end(reservations, "", "first")
    reservations.end(session_of(("", "huge"), 50_000))
    assert reservations.given_up() == [("", "huge")]
    assert reservations.retained() == [first]


def test_an_answer_replaces_the_retained_one_of_its_id_whose_readers_read_on(
    clock: HandClock,
) -> None:
    reservations = small(clock)
    reader = end_read(reservations, "", "chat")
    second = end(reservations, "", "chat")
    assert reservations.retained() == [second]
    assert len(reservations) == 2
    assert reader.read(0)
    look(reservations, clock)
    assert len(reservations) == 1


OWNERS = st.sampled_from(["", "ada", "bob", "eve"])
IDS = st.sampled_from("abcd")


class AnyOrder(RuleBasedStateMachine):
    """Ends, Stops and time in any order, against plain dictionaries of times.

    The bounds are small, so that things are forgotten; what is forgotten before its time may be
    any, but each is told of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for name, most in (("_MOST", 3), ("_MOST_OF_OWNER", 2)):
            self.patch.setattr(early_stops, name, most)
        self.clock = HandClock()
        self.ended: dict[SessionKey, float] = {}
        self.stopped: dict[SessionKey, float] = {}
        #: The ids that somebody holds at a table because of these.
        self.held: set[SessionKey] = set()

    @initialize(retain=st.sampled_from([5.0, 30.0, 70.0]))
    def begin(self, retain: float) -> None:
        self.retain = retain
        self.reservations = Reservations(retain, 3 * FOOTPRINT, 2 * FOOTPRINT, self.clock)

    def teardown(self) -> None:
        self.patch.undo()
        if hasattr(self, "reservations"):
            self.clock.now += 100 + LOOK
            self.fetch()
            assert self.held == set()
            assert len(self.reservations) == 0

    @rule(owner=OWNERS, session_id=IDS)
    def end(self, owner: str, session_id: str) -> None:
        self.reservations.end(session_of((owner, session_id)))
        self.ended[owner, session_id] = self.clock.now + self.retain
        self.held.add((owner, session_id))
        assert self.reservations.ended((owner, session_id))

    @rule(owner=OWNERS, session_id=IDS)
    def cancel(self, owner: str, session_id: str) -> None:
        before = self.reservations.forgotten
        self.reservations.cancel((owner, session_id))
        self.stopped[owner, session_id] = self.clock.now + EARLY_CANCEL_SECONDS
        self.held.add((owner, session_id))
        assert self.reservations.is_cancelled((owner, session_id))
        assert self.reservations.forgotten >= before

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.9, 5.0, 29.9, 30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def fetch(self) -> None:
        for key in self.reservations.given_up():
            if not self.reserved(key):
                self.held.discard(key)

    def reserved(self, key: SessionKey) -> bool:
        return self.reservations.ended(key) or self.reservations.is_cancelled(key)

    @invariant()
    def nothing_outlives_its_time(self) -> None:
        for key, end in self.ended.items():
            assert not self.reservations.ended(key) or self.clock.now < end
        for key, end in self.stopped.items():
            assert not self.reservations.is_cancelled(key) or self.clock.now < end

    @invariant()
    def the_bounds_hold(self) -> None:
        if hasattr(self, "reservations"):
            ended = [key for key in self.ended if self.reservations.ended(key)]
            assert len(ended) <= 3
            stopped = [key for key in self.stopped if self.reservations.is_cancelled(key)]
            assert len(stopped) <= 3
            for owner in ("ada", "bob", "eve"):
                assert sum(key[0] == owner for key in stopped) <= 2
                assert sum(key[0] == owner for key in ended) <= 2


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=150, stateful_step_count=40
)


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=8), unique=True))
def test_names_of_any_kind_are_told_apart(names: list[str]) -> None:
    reservations = Reservations(RETAIN, 1 << 20, 1 << 20, HandClock())
    for name in names[::2]:
        reservations.cancel((name, name))
        reservations.end(session_of(("x", name)))
    for number, name in enumerate(names):
        assert reservations.is_cancelled((name, name)) == (number % 2 == 0)
        assert (reservations.ended(("x", name)) is not None) == (number % 2 == 0)
