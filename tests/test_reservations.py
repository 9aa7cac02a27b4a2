"""Reservations: ids that stay taken for a while, bounded, and told of once when they are over."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatproxy import reservations as reservations_module
from chatproxy.answer_log import AnswerLog
from chatproxy.reservations import EARLY_CANCEL_SECONDS, Reservations, SessionKey
from chatproxy.session import StreamSession

RETAIN = 60.0
#: More than the time between two looks.
LOOK = 1.5


def session_of(key: SessionKey) -> StreamSession:
    owner, session_id = key
    return StreamSession(session_id, owner, AnswerLog(1000))


FOOTPRINT = AnswerLog(1000).footprint


class HandClock:
    """Moves only by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def reservations(clock: HandClock) -> Reservations:
    return Reservations(RETAIN, 1 << 20, clock)


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


def test_the_owners_with_stops_are_bounded_and_all_stops_of_the_least_recent_are_told(
    reservations: Reservations,
) -> None:
    reservations.cancel(("owner 0", "a"))
    reservations.cancel(("owner 0", "b"))
    for number in range(1, 1001):
        reservations.cancel((f"owner {number}", "a"))
    assert set(reservations.given_up()) == {("owner 0", "a"), ("owner 0", "b")}
    assert reservations.forgotten == 2


def test_of_an_owner_that_makes_room_all_are_told_and_only_the_live_ones_are_lost(
    reservations: Reservations, clock: HandClock
) -> None:
    reservations.cancel(("owner 0", "a"))
    clock.now += 20
    reservations.cancel(("owner 0", "b"))
    clock.now += 15
    for number in range(1, 1001):
        reservations.cancel((f"owner {number}", "a"))
    assert set(reservations.given_up()) == {("owner 0", "a"), ("owner 0", "b")}
    assert reservations.forgotten == 1


def test_to_make_room_by_age_is_no_loss(reservations: Reservations, clock: HandClock) -> None:
    for number in range(100):
        reservations.cancel(("ada", str(number)))
    clock.now += EARLY_CANCEL_SECONDS
    reservations.cancel(("ada", "new"))
    assert reservations.forgotten == 0
    assert len(reservations.given_up()) == 100


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
        for name, most in (("_MOST", 3), ("_MOST_OF_OWNER", 2), ("_MOST_OWNERS", 2)):
            self.patch.setattr(reservations_module, name, most)
        self.clock = HandClock()
        self.ended: dict[SessionKey, float] = {}
        self.stopped: dict[SessionKey, float] = {}
        #: The ids that somebody holds at a table because of these.
        self.held: set[SessionKey] = set()

    @initialize(retain=st.sampled_from([5.0, 30.0, 70.0]))
    def begin(self, retain: float) -> None:
        self.retain = retain
        self.reservations = Reservations(retain, 3 * FOOTPRINT, self.clock)

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
            assert sum(self.reservations.ended(key) is not None for key in self.ended) <= 3
            stopped = [key for key in self.stopped if self.reservations.is_cancelled(key)]
            assert len({owner for owner, _ in stopped}) <= 2
            for owner in ("ada", "bob", "eve"):
                assert sum(key[0] == owner for key in stopped) <= 2


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=150, stateful_step_count=40
)


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=8), unique=True))
def test_names_of_any_kind_are_told_apart(names: list[str]) -> None:
    reservations = Reservations(RETAIN, 1 << 20, HandClock())
    for name in names[::2]:
        reservations.cancel((name, name))
        reservations.end(session_of(("x", name)))
    for number, name in enumerate(names):
        assert reservations.is_cancelled((name, name)) == (number % 2 == 0)
        assert (reservations.ended(("x", name)) is not None) == (number % 2 == 0)
