"""The answer log: the same bytes for every reader, bounded, at the pace of the furthest one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatproxy import sse
from chatproxy.answers import log as log_module
from chatproxy.answers.log import AnswerLog
from chatproxy.answers.readers import LogReader
from chatproxy.answers.transcript import Transcript
from chatproxy.errors import EventsGone, Refusal

from .support.waiting import MOMENT, PATIENCE, Background, replace_sleep, wait_for

#: Long enough to catch what does not block. What blocks passes however slow the machine is.
#: Longer than any test waits for a thread: a reader that is not woken fails its test.
LONG = 6 * PATIENCE
ROOMY = 1 << 20
T = TypeVar("T")


def blocks(count: int, first: int = 1, size: int = 0) -> list[bytes]:
    return [b"data: %d" % n + b"x" * size for n in range(first, first + count)]


def wire(count: int, first: int = 1, size: int = 0) -> list[bytes]:
    return [sse.numbered(n, block) for n, block in enumerate(blocks(count, first, size), first)]


def log_of(count: int, limit: int = ROOMY, size: int = 0) -> AnswerLog:
    log = AnswerLog(limit)
    log.append(blocks(count, size=size))
    return log


def read_all(reader: LogReader, timeout: float = PATIENCE) -> bytes:
    """What the reader gets until the end."""
    return b"".join(iter(lambda: reader.read(timeout), None))


def held(log: AnswerLog) -> bytes:
    """The events that are held now."""
    for after in range(log.last + 1):
        with suppress(EventsGone):
            reader = LogReader(log, after)
            break
    ready = read_all(reader, 0) if log.ended else b"".join(iter(partial(reader.read, 0), b""))
    reader.close()
    return ready


def reading(reader: LogReader) -> Background:
    """One read in the background that has come to its wait."""
    thread = Background(lambda: reader.read(LONG))
    wait_for(lambda: reader.waits)
    return thread


# --- the same bytes for everybody


@pytest.mark.parametrize("after", range(4))
def test_a_reader_gets_everything_after_its_point_with_the_numbers(after: int) -> None:
    log = log_of(3)
    reader = LogReader(log, after)
    log.end()
    for each in (reader, LogReader(log, after)):  # before the end and after it, each by itself
        assert read_all(each) == b"".join(wire(3)[after:])


@pytest.mark.usefixtures("_close_races")
@pytest.mark.parametrize(("readers", "limit"), [(1, 500), (5, ROOMY)])
def test_readers_in_threads_of_their_own_get_exactly_the_answer(readers: int, limit: int) -> None:
    for _ in range(5):
        log = AnswerLog(limit)
        threads = [Background(partial(read_all, LogReader(log), LONG)) for _ in range(readers)]
        for number in range(1, 201):
            log.append(blocks(1, first=number))
            log.wait_for_room()
        log.end()
        assert {thread.result() for thread in threads} == {b"".join(wire(200))}


@pytest.mark.parametrize("size", [1000, 200_000])
def test_one_read_joins_what_is_ready_up_to_64_kib_and_one_whole_event_more(size: int) -> None:
    count = 200_000 // size
    log = log_of(count, size=size)
    reader, sizes = LogReader(log), []
    while piece := reader.read(0):
        sizes.append(len(piece))
    one = len(wire(1, first=count, size=size)[0])
    assert 64 * 1024 <= max(sizes) < 64 * 1024 + one
    assert len(sizes) == -(-log.size // max(64 * 1024, one))


# --- what it says


class Recorder(Transcript):
    """Keeps the events themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[list[bytes]] = []

    def add(self, blocks: Sequence[bytes]) -> None:
        self.taken.append(list(blocks))

    @property
    def blocks(self) -> list[bytes]:
        return [block for piece in self.taken for block in piece]


def recorded_by(log: AnswerLog) -> Recorder:
    log.transcript = recorder = Recorder()
    return recorder


def test_nothing_is_transcribed_before_it_is_forgotten_or_asked_for() -> None:
    log = AnswerLog(sum(map(len, wire(3))))
    recorder = recorded_by(log)
    log.append(blocks(3))
    assert not recorder.taken
    log.append(blocks(2, first=4))
    assert recorder.blocks == blocks(2)
    assert log.transcribed() is recorder
    assert recorder.blocks == blocks(5)


def test_what_is_cleared_is_transcribed() -> None:
    log = AnswerLog(ROOMY)
    recorder = recorded_by(log)
    log.append(blocks(3))
    log.clear()
    assert recorder.blocks == blocks(3)


def test_others_have_their_turns_while_a_long_answer_is_transcribed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = AnswerLog(ROOMY)
    recorder = recorded_by(log)
    log.append(blocks(100, size=5000))
    turns: list[int] = []
    replace_sleep(monkeypatch, lambda _: turns.append(len(recorder.taken)))
    log.transcribed()
    assert recorder.blocks == blocks(100, size=5000)
    assert max(sum(map(len, piece)) for piece in recorder.taken) < 70 * 1024
    assert turns == list(range(1, len(recorder.taken)))


# --- waiting


def test_a_read_that_waits_in_vain_gives_nothing_and_loses_nothing_that_comes_later() -> None:
    log = AnswerLog(ROOMY)
    reader = LogReader(log)
    assert reader.read(MOMENT) == b""
    log.append(blocks(1))
    assert reader.read(0) == wire(1)[0]
    assert reader.read(0) == b""


@pytest.mark.parametrize(
    ("happens", "got"),
    [
        (lambda log: log.append(blocks(1)), wire(1)[0]),
        (AnswerLog.pulse, sse.KEEP_ALIVE),
        (AnswerLog.end, None),
    ],
    ids=["event", "pulse", "end"],
)
def test_whatever_comes_wakes_every_reader_that_waits(
    happens: Callable[[AnswerLog], None], got: bytes | None
) -> None:
    log = AnswerLog(ROOMY)
    threads = [reading(LogReader(log)) for _ in range(3)]
    happens(log)
    assert [thread.result() for thread in threads] == [got] * 3


def test_the_end_comes_after_the_last_event_and_stays() -> None:
    """Also after events that come with the end itself."""
    log = log_of(1)
    reader = LogReader(log)
    log.end(blocks(2, first=2))
    assert reader.read(0) == b"".join(wire(3))
    for _ in range(2):
        assert reader.read(PATIENCE) is None
        assert reader.over


def test_why_there_is_no_answer_is_known_when_its_last_event_is_read_and_stays() -> None:
    log, refusal = AnswerLog(ROOMY), Refusal("No.")
    reader = LogReader(log)
    thread = Background(lambda: (reader.read(LONG), reader.refusal))
    wait_for(lambda: reader.waits)
    assert reader.refusal is None
    log.end(blocks(1), refusal)
    assert thread.result() == (wire(1)[0], refusal)
    log.end(blocks(1), Refusal("Again."))
    assert (log.last, log.refusal) == (1, refusal)


def test_closing_a_reader_wakes_its_thread_and_no_other() -> None:
    log = AnswerLog(ROOMY)
    reader, other = LogReader(log), LogReader(log)
    thread, unmoved = reading(reader), reading(other)
    reader.close()
    assert thread.result() is None
    assert unmoved.still_runs()
    other.close()


def test_a_closed_reader_gets_nothing_more_and_counts_for_none() -> None:
    """Whoever made it is told once that it leaves."""
    left: list[bool] = []
    log = log_of(3)
    reader = LogReader(log, on_leave=lambda: left.append(log.followed))
    reader.close()
    reader.close()
    assert left == [False]
    assert reader.read(PATIENCE) is None
    assert not log.followed


# --- pulses


def test_pulses_between_reads_are_given_as_one_unless_there_is_something_to_read() -> None:
    """They are no part of the answer, and not for readers who come later."""
    log = AnswerLog(ROOMY)
    reader = LogReader(log)
    for _ in range(2):
        log.pulse()
    assert [reader.read(0), reader.read(0)] == [sse.KEEP_ALIVE, b""]
    assert LogReader(log).read(0) == b""
    log.pulse()
    log.append(blocks(1))
    assert [reader.read(0), reader.read(0)] == [wire(1)[0], b""]
    assert (log.last, held(log)) == (1, wire(1)[0])


# --- bounds


@pytest.mark.parametrize("count", [3, 9])
def test_without_readers_the_log_keeps_the_newest_events_that_it_has_room_for(count: int) -> None:
    assert held(log_of(count, limit=sum(map(len, wire(3))))) == b"".join(wire(3, first=count - 2))


@pytest.mark.parametrize("room", [3, 9])
def test_a_reader_that_falls_behind_by_more_than_the_limit_is_told_that_events_are_gone(
    room: int,
) -> None:
    log = AnswerLog(sum(map(len, wire(room))))
    fast, slow = LogReader(log), LogReader(log)
    for number in range(1, 10):
        log.append(blocks(1, first=number))
        assert fast.read(0) == wire(1, first=number)[0]
        log.wait_for_room()
    assert log.size <= sum(map(len, wire(room)))
    if room == 9:
        assert slow.read(0) == b"".join(wire(9))
    else:
        with pytest.raises(EventsGone, match="after number 0 "):
            slow.read(0)


def test_a_reader_that_lags_and_reads_on_loses_nothing() -> None:
    """However much faster another one is, whose system takes more for it, say."""
    log = AnswerLog(sum(map(len, wire(3))))
    fast, slow, got = LogReader(log), LogReader(log), b""
    for number in range(1, 31):
        log.append(blocks(1, first=number))
        fast.read(0)
        producer = Background(log.wait_for_room)
        if log.full:
            got += slow.read(0) or b""
        producer.result()
    log.end()
    assert got + read_all(slow) == b"".join(wire(30))


def test_a_reader_that_can_not_go_on_counts_for_none() -> None:
    """When the one ahead of it leaves, nobody reads any more, and nobody waits for it."""
    log = AnswerLog(10)
    fast, _slow = LogReader(log), LogReader(log)
    log.append(blocks(3))
    fast.read(0)
    log.wait_for_room()
    fast.close()
    assert not log.followed
    log.append(blocks(3, first=4))
    log.append(blocks(3, first=7))
    assert Background(log.wait_for_room).result() is None


@pytest.mark.parametrize("after", [0, 3])
def test_a_second_reader_that_passes_a_stalled_one_frees_the_producer_and_reads_on(
    after: int,
) -> None:
    """It is not the end of the answer for others that one is told."""
    log, stalled, producer = full_log()
    second = LogReader(log, after)
    assert second.read(0) == b"".join(wire(3)[after:])
    producer.result()
    with pytest.raises(EventsGone):
        stalled.read(0)
    stalled.close()
    log.append(blocks(1, first=4))
    assert second.read(0) == wire(1, first=4)[0]


def test_a_log_is_cleared_unless_a_reader_has_yet_to_read_some() -> None:
    log = log_of(3)
    log.end()
    reader = LogReader(log, 1)
    assert log.needed
    assert not log.clear()
    assert log.size
    reader.read(0)
    assert not log.needed
    assert log.clear()
    assert log.size == 0
    assert reader.read(0) is None, "it has had all of it"


def test_a_log_that_is_cleared_although_it_is_read_tells_that_reader() -> None:
    log = log_of(3)
    log.end()
    reader = LogReader(log, 1)
    assert log.clear(although_needed=True)
    with pytest.raises(EventsGone):
        reader.read(0)
    with pytest.raises(EventsGone):
        LogReader(log, 1)


def test_what_was_forgotten_is_gone_and_not_skipped() -> None:
    log = log_of(9, limit=sum(map(len, wire(3))))
    for after in (0, 5):
        with pytest.raises(EventsGone):
            LogReader(log, after)
    with pytest.raises(ValueError, match="no event 10 yet"):
        LogReader(log, 10)
    assert not log.followed
    assert LogReader(log, 6).read(0) == b"".join(wire(3, first=7))


# --- the pace of the furthest reader


def full_log() -> tuple[AnswerLog, LogReader, Background]:
    """A log that a reader keeps full, that reader, and a producer that waits for room."""
    log = AnswerLog(10)
    reader = LogReader(log)
    log.append(blocks(3))
    producer = Background(log.wait_for_room)
    assert producer.still_runs()
    return log, reader, producer


@pytest.mark.parametrize("goes", [lambda reader: reader.read(0), LogReader.close])
def test_the_producer_waits_until_the_lagging_reader_reads_on_or_leaves(
    goes: Callable[[LogReader], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "PATIENCE_SECONDS", 2 * PATIENCE)
    log, reader, producer = full_log()
    goes(reader)
    assert producer.result() is None
    assert log.size <= 10


def test_there_is_room_while_the_log_is_not_full_or_nobody_reads_it() -> None:
    log = log_of(100)
    _lagging = LogReader(log)
    for each in (log, log_of(100, limit=10)):
        assert Background(each.wait_for_room).result() is None


def test_a_release_ends_the_wait_for_room_now_and_later() -> None:
    log, _reader, producer = full_log()
    log.release()
    assert producer.result() is None
    log.append(blocks(3, first=4))
    assert Background(log.wait_for_room).result() is None


def test_the_producer_waits_each_time_the_log_is_full_whatever_room_was_made_before() -> None:
    log = AnswerLog(10)
    reader = LogReader(log)
    for first in (1, 7):
        log.append(blocks(3, first=first))
        assert reader.read(0)  # makes room while nobody waits for it
        log.append(blocks(3, first=first + 3))
        producer = Background(log.wait_for_room)
        assert producer.still_runs()
        assert reader.read(0)
        producer.result()


def test_room_wakes_every_thread_that_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a run do."""
    monkeypatch.setattr(log_module, "PATIENCE_SECONDS", 0.001)
    log = AnswerLog(10)
    reader = LogReader(log)
    log.append(blocks(100))
    threads = [Background(log.wait_for_room) for _ in range(3)]
    assert all(each.still_runs() for each in threads)
    while reader.read(0):
        pass
    for each in threads:
        each.result()


def test_a_reader_that_is_woken_when_its_time_is_over_is_woken_again_later() -> None:
    log = AnswerLog(ROOMY)
    reader = LogReader(log)
    for number in range(1, 51):
        thread = Background(partial(reader.read, 0.002))
        thread.join(0.002)
        log.append(blocks(1, first=number))
        got = thread.result() or reader.read(LONG)
        assert got == wire(1, first=number)[0]


# --- any interleaving


class AnyInterleaving(RuleBasedStateMachine):
    """Appends, reads, pulses, arrivals and departures in any order, against a plain list."""

    limit = 100

    def __init__(self) -> None:
        super().__init__()
        self.log = AnswerLog(self.limit)
        self.sent: list[bytes] = []
        self.read_by: dict[LogReader, int] = {}
        self.pulsed: set[LogReader] = set()
        self.ended = False
        self.recorder = recorded_by(self.log)

    def held_from(self) -> int:
        """How many of the oldest events are forgotten."""
        return len(self.sent) - held(self.log).count(b"\n\n")

    @precondition(lambda self: not self.ended)
    @rule(sizes=st.lists(st.integers(0, 60), max_size=5))
    def append(self, sizes: list[int]) -> None:
        new = [b"data: " + b"x" * size for size in sizes]
        self.log.append(new)
        self.sent += [sse.numbered(n, b) for n, b in enumerate(new, len(self.sent) + 1)]

    @precondition(lambda self: not self.ended)
    @rule()
    def pulse(self) -> None:
        self.log.pulse()
        self.pulsed = set(self.read_by)

    @rule()
    def end(self) -> None:
        self.log.end()
        self.ended = True

    @rule(back=st.integers(0, 12))
    def arrive(self, back: int) -> None:
        after = max(0, len(self.sent) - back)
        if after < self.held_from():
            with pytest.raises(EventsGone):
                LogReader(self.log, after)
        else:
            self.read_by[LogReader(self.log, after)] = after

    @precondition(lambda self: self.read_by)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from(list(self.read_by)))
        if self.read_by[reader] < self.held_from():
            with pytest.raises(EventsGone):
                reader.read(0)
            return
        due = b"".join(self.sent[self.read_by[reader] :])
        if due:
            expected: bytes | None = due
        elif self.ended:
            expected = None
        else:
            expected = sse.KEEP_ALIVE if reader in self.pulsed else b""
        assert reader.read(0) == expected
        self.read_by[reader] = len(self.sent)
        self.pulsed.discard(reader)

    @rule()
    def lose_patience(self) -> None:
        self.log.leave_behind()
        if self.log.size <= self.limit:
            self.log.wait_for_room()

    @rule()
    def transcribe(self) -> None:
        self.log.transcribed()
        taken = [sse.numbered(n, b) for n, b in enumerate(self.recorder.blocks, 1)]
        assert taken == self.sent

    @precondition(lambda self: self.read_by)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from(list(self.read_by)))
        reader.close()
        del self.read_by[reader]

    @invariant()
    def what_is_held_is_the_newest_part_of_what_was_sent(self) -> None:
        assert held(self.log) == b"".join(self.sent[self.held_from() :])
        assert self.log.size == len(held(self.log))
        assert self.log.last == len(self.sent)

    @invariant()
    def there_is_always_a_reader_who_loses_nothing(self) -> None:
        if self.log.followed:
            assert max(self.read_by.values()) >= self.held_from()
        else:
            assert all(seen < self.held_from() for seen in self.read_by.values())

    @invariant()
    def more_than_the_limit_is_held_only_for_a_reader_that_lags(self) -> None:
        if self.log.size > self.limit:
            assert self.held_from() in self.read_by.values()


AnyInterleaving.TestCase.settings = settings(max_examples=25, stateful_step_count=40)
TestAnyInterleaving = AnyInterleaving.TestCase
