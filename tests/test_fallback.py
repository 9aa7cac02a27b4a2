"""Several upstreams: which one is asked next, and a Stop that ends whichever has been asked.

The test itself plays the upstreams on real sockets, while the question is answered in a thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trustme

from chatproxy.answers.coroutines import run
from chatproxy.answers.producer import produce
from chatproxy.answers.question import Question
from chatproxy.answers.readers import follow
from chatproxy.answers.session import Outcome, Phase, Reason
from chatproxy.answers.upstream import BillingStops, Upstream
from chatproxy.errors import Refusal, UpstreamError
from chatproxy.observability import logs
from chatproxy.upstreams.chat_completions import ChatCompletionCall, ChatCompletions
from chatproxy.upstreams.tries import Tries

from .support.descriptors import open_descriptors
from .support.played import Connect, DeepSeek, Peer, certificate
from .support.servers import black_hole
from .support.sessions import new_session
from .support.valkey import free_port
from .support.waiting import PATIENCE, Background, wait_for

pytestmark = pytest.mark.usefixtures("_plain_environment")

BODY = b'{"model":"ours","n":1e0,"messages":[],"stream":true}'
SENT = BODY[:-1] + b',"stream_options":{"include_usage":true}}'
CHUNK = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
EVENT = b"data: %b\n\n" % json.dumps(CHUNK).encode()
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
ERROR = b'data: {"error": {"message": "Out of order", "code": %d}}\n\n'
KEYS = [f"sk-{number}-0123456789abcdef" for number in range(3)]


class Asking:
    """A question that is being answered in a thread."""

    def __init__(self, caller: ChatCompletions, *upstreams: Upstream) -> None:
        self.session = new_session()
        self.reader = follow(self.session, 0, None)
        self.call = caller.call(Question(BODY, 1, "ours", upstreams), self.session)
        self.refusal: Refusal | None = None
        self._run = Background(partial(run, produce(self.session, self.call, self._end)))

    def _end(self, outcome: Outcome, refusal: Refusal | None) -> None:
        self.session.end(outcome)
        self.refusal = refusal
        self.call.close()

    def join(self) -> Outcome | None:
        self._run.result()
        return self.session.outcome

    def stop(self) -> None:
        assert self.session.cancel(Reason.USER)
        assert self.join() is Outcome.STOPPED


class Stage:
    """Three services that the test plays, the upstreams that lead there, and whoever asks them."""

    def __init__(self, connect: Connect, services: list[DeepSeek]) -> None:
        self.services = services
        self.connect = connect
        self.caller = connect()
        self.upstreams = [
            Upstream(f"{service.url}/v1", key, name=name)
            for service, key, name in zip(services, KEYS, ("first", "second", "third"), strict=True)
        ]
        #: The first one, which takes one question at a time.
        self.narrow = Upstream(services[0].url, KEYS[0], name="narrow", limit=1)

    def ask(self, *upstreams: Upstream) -> Asking:
        return Asking(self.caller, *(upstreams or self.upstreams))

    def accept(self, number: int) -> Peer:
        return self.services[number].accept()

    def leaves_alone(self, number: int) -> bool:
        return self.services[number].is_left_alone()


@pytest.fixture
def stage(connect: Connect) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        yield Stage(connect, [stack.enter_context(DeepSeek()) for _ in range(3)])


def refuse(status: int, peer: Peer) -> None:
    peer.request()
    said = b'{"error": {"message": "No."}}'
    peer.send(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%b" % (status, len(said), said))


def begin(peer: Peer, *data: bytes) -> None:
    peer.request()
    peer.begin()
    for each in data:
        peer.chunk(each)


def answer(peer: Peer) -> None:
    begin(peer, EVENT, LAST)
    peer.send(b"0\r\n\r\n")


def cut(peer: Peer, *data: bytes, headers: bool = True) -> None:
    if headers:
        begin(peer, *data)
    else:
        peer.request()
    peer.socket.close()


def end_at_once(peer: Peer) -> None:
    begin(peer)
    peer.send(b"0\r\n\r\n")


def say_a_page(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>")


#: What the first upstream does, and what operators read of it.
FAILURES: dict[str, tuple[Callable[[Peer], None], str]] = {
    **{
        str(status): (partial(refuse, status), f"status {status}: No.")
        for status in (401, 402, 403, 404, 429, 500, 502, 503)
    },
    "cut before the headers": (partial(cut, headers=False), "answer 127.0.0.1"),
    "cut before an event": (cut, "during the answer: "),
    "an end before an event": (end_at_once, "first closed the connection before"),
    "an error before an event": (lambda peer: begin(peer, ERROR % 500), "reported an error: "),
    "no stream": (say_a_page, "got no event stream"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_the_next_upstream_is_asked_after_any_failure_before_the_first_event(
    stage: Stage, caplog: pytest.LogCaptureFixture, failure: str
) -> None:
    fail, reason = FAILURES[failure]
    with caplog.at_level(logging.WARNING, logs.logger.name):
        asking = stage.ask(*stage.upstreams[:2])
        fail(stage.accept(0))
        answer(stage.accept(1))
        assert asking.join() is Outcome.FINISHED
    assert asking.session.upstream == "second"
    assert asking.session.events == 2
    assert stage.leaves_alone(0)
    (line,) = caplog.messages
    assert line.startswith(f"first failed session_1, second next, in 0.0 s: {reason}")


def test_an_upstream_that_cannot_be_reached_is_passed_over(stage: Stage) -> None:
    asking = stage.ask(Upstream(f"http://127.0.0.1:{free_port()}"), stage.upstreams[1])
    answer(stage.accept(1))
    assert asking.join() is Outcome.FINISHED


def test_an_untrusted_certificate_is_passed_over(stage: Stage, trusted: trustme.CA) -> None:
    with DeepSeek(certificate(trustme.CA(), "127.0.0.1")) as untrusted:
        asking = stage.ask(Upstream(untrusted.url), stage.upstreams[1])
        with contextlib.suppress(OSError):
            untrusted.accept()
        answer(stage.accept(1))
        assert asking.join() is Outcome.FINISHED


@pytest.mark.parametrize(
    ("fail", "status", "message"),
    [
        (partial(refuse, 400), 400, "No."),
        (partial(refuse, 413), 502, "first answered with status 413."),
        (partial(refuse, 422), 422, "No."),
        (lambda peer: begin(peer, ERROR % 400), 400, "Out of order"),
    ],
)
def test_a_question_that_is_at_fault_itself_is_asked_once(
    stage: Stage, fail: Callable[[Peer], None], status: int, message: str
) -> None:
    asking = stage.ask()
    fail(stage.accept(0))
    assert asking.join() is Outcome.FAILED
    assert stage.leaves_alone(1)
    assert asking.session.upstream == "first"
    assert asking.refusal is not None
    assert (asking.refusal.status, asking.refusal.message) == (status, message)


@pytest.mark.parametrize("end", [b"", ERROR % 500])
def test_after_the_first_event_no_other_is_asked(stage: Stage, end: bytes) -> None:
    asking = stage.ask()
    cut(stage.accept(0), EVENT, *([end] if end else []))
    assert asking.join() is Outcome.FAILED
    assert stage.leaves_alone(1)


def test_comments_are_no_event(stage: Stage) -> None:
    asking = stage.ask()
    first = stage.accept(0)
    begin(first, b": OPENROUTER PROCESSING\n\n")
    assert asking.reader.read(PATIENCE) == b": keep-alive\n"
    first.socket.close()
    answer(stage.accept(1))
    assert asking.join() is Outcome.FINISHED


def test_the_last_failure_is_told_if_none_answers(stage: Stage) -> None:
    asking = stage.ask(*stage.upstreams[:2])
    refuse(500, stage.accept(0))
    refuse(401, stage.accept(1))
    assert asking.join() is Outcome.FAILED
    assert isinstance(asking.refusal, UpstreamError)
    assert asking.refusal.message == "second did not accept the key."
    assert asking.refusal.reason.endswith("(try 2 of 3, /v1/chat/completions)")


def test_each_is_asked_with_its_own_key_and_with_its_own_name_for_the_model(stage: Stage) -> None:
    renaming = Upstream(stage.upstreams[1].base_url, KEYS[1], model='the "other"')
    asking = stage.ask(stage.upstreams[0], renaming)
    first = stage.accept(0)
    head, body = first.request()
    assert f"Authorization: Bearer {KEYS[0]}\r\n" in head
    assert body == SENT
    first.socket.close()
    second = stage.accept(1)
    head, body = second.request()
    assert f"Authorization: Bearer {KEYS[1]}\r\n" in head
    assert KEYS[0] not in head
    assert body == SENT.replace(b'"ours"', rb'"the \"other\""')
    asking.stop()


# --- one Stop for all of them


def before_headers(peer: Peer, asking: Asking) -> None:
    peer.request()
    wait_for(lambda: asking.session.phase is Phase.WAITING)


def silent(peer: Peer, asking: Asking) -> None:
    begin(peer)
    wait_for(lambda: asking.session.phase is Phase.WAITING)


def mid_stream(peer: Peer, asking: Asking) -> None:
    begin(peer, EVENT)
    wait_for(lambda: asking.session.phase is Phase.STREAMING)


@pytest.mark.parametrize("phase", [before_headers, silent, mid_stream])
@pytest.mark.parametrize("fail", [partial(refuse, 503), cut], ids=["refused", "cut"])
def test_a_stop_ends_the_second_upstream_and_nothing_begins_afterwards(
    stage: Stage, phase: Callable[[Peer, Asking], None], fail: Callable[[Peer], None]
) -> None:
    asking = stage.ask()
    fail(stage.accept(0))
    second = stage.accept(1)
    phase(second, asking)
    asking.stop()
    assert asking.session.upstream == "second"
    assert second.sees_the_end()
    assert [service.is_left_alone() for service in stage.services] == [True] * 3


def test_a_stop_ends_it_while_the_second_is_being_connected(stage: Stage) -> None:
    with black_hole() as url:
        asking = stage.ask(stage.upstreams[0], Upstream(url, name="hole"), stage.upstreams[2])
        refuse(503, stage.accept(0))
        wait_for(lambda: asking.session.upstream == "hole")
        asking.stop()
    assert asking.session.phase is Phase.CONNECTING
    assert stage.leaves_alone(2)


def test_a_stop_between_two_upstreams_is_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the failure of the first one is being told."""
    asking: list[Asking] = []
    close = ChatCompletionCall.close  # any moment between the two: here the first is closed

    def and_stop(call: ChatCompletionCall) -> None:
        close(call)
        asking[0].session.cancel(Reason.USER)

    monkeypatch.setattr(ChatCompletionCall, "close", and_stop)
    asking.append(stage.ask())
    refuse(503, stage.accept(0))
    assert asking[0].join() is Outcome.STOPPED
    assert stage.leaves_alone(1)


@pytest.mark.parametrize("number", range(3))
def test_every_try_leaves_no_descriptor(stage: Stage, number: int) -> None:
    before = open_descriptors()
    asking = stage.ask()
    peers = []
    for service in stage.services[:number]:
        peers.append(service.accept())
        cut(peers[-1])
    peers.append(stage.accept(number))
    mid_stream(peers[-1], asking)
    asking.stop()
    for peer in peers:
        peer.socket.close()
    wait_for(lambda: open_descriptors() <= before)


# --- how often


class Played:
    """As much of an endpoint as its tries need."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


A, B, C = (Played(name) for name in "ABC")


def busy(pause: float | None = None) -> UpstreamError:
    error = UpstreamError("Busy.")
    error.transient, error.pause = True, pause
    return error


def broken() -> UpstreamError:
    return UpstreamError("Broken.")


def order(
    endpoints: list[Played], most: int, *failures: UpstreamError
) -> list[tuple[Any, float | None]]:
    """Who is asked, and after what pause, if these failures come; pauses of ours are None."""
    tries = Tries(Question(b""), endpoints, most)  # type: ignore[arg-type]
    asked = list[tuple[Any, float | None]]()
    for failure in failures:
        pause = tries.pause
        asked.append((tries.endpoint, pause if pause >= 1 or not pause else None))
        tries.begin()
        if not tries.go_on(failure):
            break
    return asked


def test_all_are_asked_before_any_is_asked_again() -> None:
    asked = order([A, B, C], 9, *(busy() for _ in range(5)))
    assert asked == [(A, 0.0), (B, 0.0), (C, 0.0), asked[3], asked[4]]
    assert {each[0] for each in asked[3:]} <= {A, B, C}
    assert asked[3][1] is None


def test_whoever_is_ready_first_is_asked_again() -> None:
    asked = order([A, B], 4, busy(7), busy(3), busy(9), busy())
    assert asked == [(A, 0.0), (B, 0.0), (B, 3), (A, 7)]


def test_what_may_have_been_billed_is_not_asked_again() -> None:
    assert order([A, B], 9, broken(), busy(3), broken()) == [(A, 0.0), (B, 0.0), (B, 3)]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_all_together_are_asked_no_more_often_than_one_alone(most: int) -> None:
    assert len(order([A, B, C], most, *(busy() for _ in range(9)))) == most
    assert len(order([A], most, *(busy() for _ in range(9)))) == most


# --- limits


def test_an_upstream_that_is_full_is_passed_over(stage: Stage) -> None:
    first = stage.ask(stage.narrow)
    mid_stream(stage.accept(0), first)
    second = stage.ask(stage.narrow, stage.upstreams[1])
    answer(stage.accept(1))
    assert second.join() is Outcome.FINISHED
    first.stop()


def test_without_another_the_question_is_refused_at_once_and_may_be_sent_again(
    stage: Stage,
) -> None:
    first = stage.ask(stage.narrow)
    mid_stream(stage.accept(0), first)
    second = stage.ask(stage.narrow)
    assert second.join() is Outcome.FAILED
    assert second.refusal is not None
    assert (second.refusal.status, second.refusal.code) == (429, "upstream_busy")
    assert second.refusal.headers() == {"Retry-After": "1"}
    first.stop()
    third = stage.ask(stage.narrow)
    answer(stage.accept(0))
    assert third.join() is Outcome.FINISHED


@pytest.mark.parametrize("is_stopped", [False, True], ids=["is had", "is stopped"])
def test_a_question_may_wait_for_its_turn_until_it_is_stopped(
    stage: Stage, is_stopped: bool
) -> None:
    stage.caller = stage.connect(queue=PATIENCE)
    first = stage.ask(stage.narrow)
    mid_stream(stage.accept(0), first)
    second = stage.ask(stage.narrow)
    assert second.reader.read(PATIENCE) == b": queued\n"
    assert stage.leaves_alone(0)
    if is_stopped:
        second.stop()
        assert second.session.phase is Phase.CONNECTING
    first.stop()
    if is_stopped:
        assert stage.leaves_alone(0)
    else:
        answer(stage.accept(0))
        assert second.join() is Outcome.FINISHED
    assert stage.caller.limits.in_use == 0


def test_a_limit_is_that_of_a_key_and_a_model(stage: Stage) -> None:
    others = [
        Upstream(stage.services[0].url, KEYS[1], limit=1),
        Upstream(stage.services[0].url, KEYS[0], limit=1, model="another"),
    ]
    asking = []
    for upstream in (stage.narrow, *others):
        asking.append(stage.ask(upstream))
        mid_stream(stage.accept(0), asking[-1])
    for each in asking:
        each.stop()


def test_the_receipt_is_told_what_a_close_does_to_the_bill(stage: Stage) -> None:
    asking = stage.ask(Upstream(stage.services[0].url, billing_stops=False))
    mid_stream(stage.accept(0), asking)
    asking.stop()
    assert asking.session.billing_stops is BillingStops.NO
