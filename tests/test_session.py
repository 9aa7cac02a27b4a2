"""One answer: the table of its phases, the Stop that wins once, and the one outcome."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from chatproxy.answers.readers import LogReader
from chatproxy.answers.session import Outcome, Phase, Reason, StreamSession

from .support.sessions import new_session
from .support.spoken import delta
from .support.waiting import PATIENCE, Background, at_once

ROUNDS = 5
PATHS = {
    Phase.CONNECTING: [],
    Phase.WAITING: [Phase.WAITING],
    Phase.STREAMING: [Phase.WAITING, Phase.STREAMING],
}
LEGAL = [
    (Phase.CONNECTING, Phase.CONNECTING),
    (Phase.CONNECTING, Phase.WAITING),
    (Phase.WAITING, Phase.WAITING),
    (Phase.WAITING, Phase.CONNECTING),
    (Phase.WAITING, Phase.STREAMING),
    (Phase.STREAMING, Phase.STREAMING),
]


class SlowFlag(threading.Event):
    """A flag that leaves time for a race between a look at it and what follows from that."""

    def is_set(self) -> bool:
        seen = super().is_set()
        time.sleep(0.002)
        return seen


def session_in(phase: Phase) -> StreamSession:
    session = new_session()
    for step in PATHS[phase]:
        session.enter(step)
    return session


def contended_session() -> StreamSession:
    session = new_session()
    session.flag = SlowFlag()
    return session


def together(*functions: Callable[[], object]) -> list[object]:
    """What the functions return, called in a thread each and set off together."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        barrier.wait(PATIENCE)
        return function()

    return at_once(*(partial(run, function) for function in functions))


def test_a_session_begins_by_connecting_with_nothing_decided() -> None:
    session = new_session()
    assert (session.phase, session.outcome, session.reason) == (Phase.CONNECTING, None, None)
    assert not session.flag.is_set()
    assert not session.closed.is_set()
    assert session.events == 0


@pytest.mark.parametrize("start", Phase)
@pytest.mark.parametrize("to", Phase)
def test_a_legal_step_is_taken_and_an_illegal_one_is_refused_and_changes_nothing(
    start: Phase, to: Phase
) -> None:
    session = session_in(start)
    if (start, to) in LEGAL:
        session.enter(to)
        assert session.phase is to
    else:
        with pytest.raises(ValueError, match="->"):
            session.enter(to)
        assert session.phase is start


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize(("start", "to"), [step for step in LEGAL if step[0] is not step[1]])
def test_an_ended_session_takes_no_further_step(outcome: Outcome, start: Phase, to: Phase) -> None:
    session = session_in(start)
    session.end(outcome)
    with pytest.raises(ValueError, match="->"):
        session.enter(to)
    assert session.phase is start


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("reason", Reason)
def test_a_cancel_works_in_every_phase_and_tells_why(phase: Phase, reason: Reason) -> None:
    session = session_in(phase)
    assert session.cancel(reason) is True
    assert session.flag.is_set()
    assert (session.reason, session.phase, session.outcome) == (reason, phase, None)


def test_of_many_cancels_at_once_exactly_one_wins_and_gives_its_reason() -> None:
    for _ in range(ROUNDS):
        session = contended_session()
        aborts: list[None] = []
        session.on_cancel(partial(aborts.append, None))
        reasons = [*Reason] * 2
        won = together(*(partial(session.cancel, reason) for reason in reasons))
        assert [reason for reason, wins in zip(reasons, won, strict=True) if wins] == [
            session.reason
        ]
        assert len(aborts) == 1


def test_a_cancel_runs_the_abort_hooks_with_the_flag_set_also_those_that_come_later() -> None:
    session = new_session()
    seen: list[bool] = []
    for _ in range(2):
        session.on_cancel(lambda: seen.append(session.flag.is_set()))
    session.cancel(Reason.USER)
    assert seen == [True, True]
    session.on_cancel(lambda: seen.append(session.flag.is_set()))
    assert seen == [True] * 3


def test_a_hook_that_comes_with_the_cancel_is_called_exactly_once() -> None:
    for _ in range(ROUNDS):
        session = contended_session()
        called: list[None] = []
        hook = partial(called.append, None)
        together(partial(session.cancel, Reason.USER), partial(session.on_cancel, hook))
        assert len(called) == 1


def test_a_hook_may_ask_the_session_again() -> None:
    """No lock is held while hooks run, so a hook that looks at its session can't hang."""
    session = new_session()
    session.on_cancel(lambda: session.on_cancel(lambda: None))
    session.on_cancel(lambda: session.enter(Phase.CONNECTING))
    assert session.cancel(Reason.USER)


def test_a_stop_finds_closed_what_is_not_connected() -> None:
    drawing, begun, early = new_session(), new_session(), new_session()
    early.cancel(Reason.USER)
    with drawing.unconnected(), begun.unconnected(), early.unconnected():
        assert (drawing.closed_at, drawing.closed.is_set()) == (None, False)
        drawing.cancel(Reason.USER)
    begun.cancel(Reason.USER)
    found = [(each.closed_at is not None, each.closed.is_set()) for each in (drawing, early, begun)]
    assert found == [(True, True), (True, True), (False, False)]


def test_a_cancel_frees_the_producer_that_waits_for_a_slow_reader() -> None:
    session = new_session(log_bytes=1)
    log = session.log
    _lagging = LogReader(log)
    log.append([b"data: more than there is room for"])
    waiting = Background(log.wait_for_room)
    session.cancel(Reason.USER)
    waiting.result()


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_session_ends_as_it_is_told_once_and_as_stopped_if_it_was_cancelled(
    outcome: Outcome, cancelled: bool
) -> None:
    session = new_session()
    if cancelled:
        session.cancel(Reason.USER)
    expected = Outcome.STOPPED if cancelled else outcome
    assert session.end(outcome) is session.outcome is expected
    for another in Outcome:
        assert session.end(another) is session.outcome is expected


def test_an_ended_session_cannot_be_cancelled() -> None:
    session = new_session()
    called: list[None] = []
    session.on_cancel(lambda: called.append(None))
    session.end(Outcome.FINISHED)
    assert session.cancel(Reason.USER) is False
    assert (session.reason, session.outcome) == (None, Outcome.FINISHED)
    assert not session.flag.is_set()
    assert not called


def test_an_ended_session_lets_go_of_what_its_hooks_held() -> None:
    class Call:
        def abort(self) -> None: ...

    session, call = new_session(), Call()
    session.on_cancel(call.abort)
    session.end(Outcome.FINISHED)
    watched = weakref.ref(call)
    del call
    assert watched() is None


def test_a_cancel_succeeds_exactly_where_the_outcome_is_stopped() -> None:
    """Whoever is told that the answer was stopped can rely on it, however close the race."""
    for _ in range(ROUNDS):
        session = contended_session()
        finish = partial(session.end, Outcome.FINISHED)
        results = together(partial(session.cancel, Reason.USER), finish)
        assert (True in results) == (session.outcome is Outcome.STOPPED)


def test_a_live_answer_takes_ever_longer_and_a_closed_one_took_the_time_up_to_its_close() -> None:
    session = new_session()
    session.started_at -= 5
    assert session.milliseconds() >= 5000
    session.closed_at = session.started_at + 1.2345
    assert session.milliseconds() in (1234, 1235)


def test_the_last_reader_that_leaves_stops_an_answer_but_not_a_whole_one() -> None:
    whole, half = (new_session() for _ in range(2))
    whole.whole = True
    for session in (whole, half):
        session.leave()
    assert (whole.reason, half.reason) == (None, Reason.DISCONNECT)


def test_an_answer_is_abandoned_once_nobody_has_come_back_in_time() -> None:
    session = new_session(grace=10.0)
    session.leave()
    assert session.left_at is not None
    assert not session.is_abandoned(session.left_at + 9.9)
    assert session.is_abandoned(session.left_at + 10.0)
    assert session.is_abandoned(session.left_at + 11.0)
    _reader = LogReader(session.log)
    assert not session.is_abandoned(session.left_at + 11.0)


def test_the_silence_after_a_whole_answer_begins_with_the_last_that_it_says() -> None:
    """Events that say nothing do not put its end off."""
    session = session_in(Phase.WAITING)
    session.take([b"data: 1"])
    assert session.quiet_since is None
    session.take([b"data: 2"], whole=True)
    assert (since := session.quiet_since) is not None
    session.take([], whole=True)
    session.take([b'data: {"choices":[]}', delta(role="assistant", content="")], whole=True)
    assert session.quiet_since == since
    session.take([delta(content="more")], whole=True)
    assert session.quiet_since > since


def test_phases_outcomes_and_reasons_have_the_words_of_the_contract() -> None:
    assert [phase.value for phase in Phase] == ["connecting", "waiting", "streaming"]
    assert {outcome.value for outcome in Outcome} == {"finished", "stopped", "failed"}
    reasons = " ".join(reason.value for reason in Reason)
    assert reasons == "user disconnect shutdown deadline idle lost replaced budget"
