"""DeepSeek through requests: what each failure becomes, and an abort in every phase of a call.

In the second half the test itself plays DeepSeek on a real socket, step by step, while the call
runs in a thread.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import json
import math
import os
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import requests
import trustme
from responses import RequestsMock

from chatproxy.answers.abort import AbortHandle
from chatproxy.answers.coroutines import Coroutine, run
from chatproxy.answers.question import Question
from chatproxy.answers.session import Phase, Reason, StreamSession
from chatproxy.errors import Aborted, ConfigError, UpstreamError
from chatproxy.upstreams import attempt as attempt_module
from chatproxy.upstreams import connections as connections_module
from chatproxy.upstreams import refusals
from chatproxy.upstreams import tries as tries_module
from chatproxy.upstreams.chat_completions import ChatCompletionCall
from chatproxy.upstreams.transport.exchange import Exchange, current_exchange
from chatproxy.upstreams.tries import LONGEST_PAUSE

from .support.another import under_gevent
from .support.descriptors import open_descriptors
from .support.many import MANY, Many
from .support.pieces import whole
from .support.played import (
    BODY,
    DONE,
    EVENT,
    FAR,
    KEY,
    SENT,
    Calling,
    Connect,
    DeepSeek,
    Peer,
    Resolver,
    answered,
    asked,
    before_the_headers,
    certificate,
    mid_stream,
    new_call,
    silent,
)
from .support.servers import black_hole
from .support.sessions import new_session
from .support.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.usefixtures("_plain_environment")

TRIES = 3


@pytest.fixture
def deepseek(played: DeepSeek) -> DeepSeek:
    return played


def failure_of(call: ChatCompletionCall) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        run(whole(call))
    call.close()
    return caught.value


# --- what DeepSeek's answers become


class Mocked:
    """Answers in DeepSeek's place without a network."""

    def __init__(self, connect: Connect, mock: RequestsMock) -> None:
        self.connect = connect
        self.calls = mock.calls
        self._mock = mock

    def answer(self, status: int, **details: Any) -> None:
        self._mock.add("POST", f"{FAR}/chat/completions", status=status, **details)

    def refused(self, status: int, **details: Any) -> UpstreamError:
        self.answer(status, **details)
        return failure_of(new_call(self.connect()))


@pytest.fixture
def mocked(connect: Connect) -> Iterator[Mocked]:
    with RequestsMock() as mock:
        yield Mocked(connect, mock)


@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [
        (400, 400, "upstream_rejected"),
        (401, 502, "upstream_auth"),
        (402, 502, "upstream_balance"),
        (403, 502, "upstream_failed"),
        (404, 502, "upstream_failed"),
        (422, 422, "upstream_rejected"),
        (429, 429, "upstream_busy"),
        (500, 502, "upstream_failed"),
        (502, 502, "upstream_failed"),
        (503, 503, "upstream_busy"),
        (504, 502, "upstream_failed"),
        (204, 502, "upstream_failed"),
        (307, 502, "upstream_failed"),
    ],
)
def test_each_status_of_deepseek_becomes_the_agreed_refusal(
    mocked: Mocked, status: int, ours: int, code: str
) -> None:
    """With a sentence of ours, but for a wrong request: what is said of the key stays here.

    What another try can't mend, or may be billed twice, is asked once.
    """
    said = {"error": {"message": f"Authentication Fails. Your api key: {KEY} is invalid."}}
    error = mocked.refused(status, json=said, headers={"Retry-After": "0"})
    assert (error.status, error.code) == (ours, code)
    assert error.message.endswith(".")
    assert ("Authentication Fails" in error.message) == (code == "upstream_rejected")
    assert KEY not in "".join(traceback.format_exception(error))
    assert len(mocked.calls) == (TRIES if code == "upstream_busy" else 1)


OURS = "DeepSeek rejected the request."
#: What is said to a wrong request, and what of it the client reads.
SAID: dict[str, tuple[bytes | list[Any] | dict[str, Any], str]] = {
    "DeepSeek": ({"error": {"message": "Too hot", "type": "invalid_request_error"}}, "Too hot"),
    "Ollama": ({"error": "No model of that name"}, "No model of that name"),
    "Gemini": ([{"error": {"code": 400, "message": "Too many images"}}], "Too many images"),
    "FastAPI": ({"detail": [{"loc": ["body"], "msg": "Too long"}]}, "Too long"),
    "FastAPI, in a sentence": ({"detail": "No such model"}, "No such model"),
    "Mistral": ({"object": "x", "message": "Too hot", "type": "y"}, "Too hot"),
    "vLLM": ({"object": "error", "message": "No such model", "code": 400}, "No such model"),
    "lines and the key": (
        {"error": {"message": f"no {KEY}\r\nsecond\tline"}},
        "no *** second line",
    ),
    "without end": ({"error": {"message": "no " * 5000}}, ("no " * 334)[:1000]),
    "the key at the cut": ({"error": {"message": "x" * 990 + KEY}}, "x" * 990 + "***"),
    "a huge body": (b'{"error": {"message": "x"}, "more": "%b"}' % (b"x" * (1 << 20)), OURS),
    "nothing": (b"", OURS),
    "a page": (b"<html>", OURS),
    "a list": (b"[]", OURS),
    "null": (b"null", OURS),
    "a number": ({"error": {"message": 5}}, OURS),
    "no text": (b"\xff", OURS),
}


@pytest.mark.parametrize("who", SAID)
def test_the_sentence_for_a_wrong_request_is_passed_on_or_replaced_by_ours(
    mocked: Mocked, who: str
) -> None:
    said, message = SAID[who]
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    assert mocked.refused(400, body=body).message == message


def test_operators_read_the_beginning_of_a_body_without_a_sentence(mocked: Mocked) -> None:
    error = mocked.refused(500, body=f"<h1>Out\nof order</h1> {KEY}".encode())
    assert error.reason == (
        "status 500: '<h1>Out of order</h1> ***' (try 1 of 3, /chat/completions)"
    )
    assert error.message == "DeepSeek answered with status 500."


def test_operators_read_in_which_way_an_answer_is_compressed(deepseek: DeepSeek) -> None:
    calling, peer = deepseek.asked()
    peer.begin(f"Content-Encoding: br, {KEY}")
    error = calling.failure()
    assert error.reason == "Content-Encoding 'br, ***' (try 1 of 3, /chat/completions)"


@pytest.mark.parametrize("part", [KEY, KEY[:12], KEY[7:]])
def test_no_part_of_the_key_is_told_even_if_it_is_escaped(mocked: Mocked, part: str) -> None:
    """To operators, who read the body; a client gets a sentence of ours."""
    escaped = "".join(f"\\u{ord(each):04x}" for each in part)
    error = mocked.refused(500, body=f'{{"detail": "No {part}...", "key": "{escaped}"}}'.encode())
    said = '{"detail": "No ***...", "key": "***"}'
    assert error.reason == f"status 500: {said!r} (try 1 of 3, /chat/completions)"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_the_key_is_found_in_each_encoding_of_json(mocked: Mocked, encoding: str) -> None:
    """Those that ``json`` reads. Else there would be a space after each letter."""
    error = mocked.refused(500, body=f'{{"detail": "No {KEY}"}}'.encode(encoding))
    assert """'{"detail": "No ***"}'""" in error.reason


def test_a_key_that_is_blotted_out_in_part_is_found_in_linear_time() -> None:
    """Looked for at each character, it would take minutes."""
    begun = time.monotonic()
    word = "x" * 100_000
    error = refusals.reported(f"{word} sk-01***cdef", str, "DeepSeek", begun=True)
    assert error.message == f"{word} ***"
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("part", [KEY[:12], KEY[7:]])
def test_no_part_of_the_key_is_in_the_sentence_for_the_client(mocked: Mocked, part: str) -> None:
    said = {"error": {"message": f"The key {part}... is not valid for this model."}}
    assert mocked.refused(400, json=said).message == "The key ***... is not valid for this model."


@pytest.mark.parametrize("location", ["http://elsewhere.example/", "http://[::1"])
def test_a_redirect_is_neither_followed_nor_looked_at(mocked: Mocked, location: str) -> None:
    """It would carry the key elsewhere."""
    failure = mocked.refused(307, headers={"Location": location})
    assert (failure.status, failure.code) == (502, "upstream_failed")
    assert [call.request.url for call in mocked.calls] == [f"{FAR}/chat/completions"]


@pytest.mark.parametrize("error", [requests.ConnectionError, requests.ConnectTimeout, OSError])
def test_no_connection_is_said_plainly(mocked: Mocked, error: type[Exception]) -> None:
    mocked.answer(200, body=error(f"something about {KEY}"))
    failure = failure_of(new_call(mocked.connect()))
    assert (failure.status, failure.code) == (502, "upstream_unreachable")
    assert failure.message == "DeepSeek could not be reached."
    assert len(mocked.calls) == TRIES


# --- further tries


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_busy_deepseek_is_asked_as_often_as_the_setting_says(mocked: Mocked, tries: int) -> None:
    mocked.answer(503)
    failure_of(new_call(mocked.connect(tries=tries)))
    assert len(mocked.calls) == tries


def test_a_later_try_may_succeed(mocked: Mocked) -> None:
    mocked.answer(503)
    mocked.answer(200, body=requests.ConnectionError())
    mocked.answer(200, body=EVENT + DONE)
    pieces: list[bytes] = []
    assert run(whole(new_call(mocked.connect(), take=lambda piece: pieces.append(piece) is None)))
    assert b"".join(pieces) == EVENT + DONE
    assert [call.request.body for call in mocked.calls] == [SENT] * 3


def pauses_after(mocked: Mocked, retry_after: str | None) -> list[float]:
    """The pauses between all tries, none of which is taken."""
    pauses = list[float]()
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    mocked.answer(503, headers=headers)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(AbortHandle, "sleep", lambda _handle, pause: pauses.append(pause))
        failure_of(new_call(mocked.connect()))
    return pauses


@pytest.mark.parametrize("wish", ["7", " 20 ", "1.5", "date"])
def test_the_pause_is_as_long_as_deepseek_asks(mocked: Mocked, wish: str) -> None:
    date = email.utils.formatdate(time.time() + 10, usegmt=True)
    pauses = pauses_after(mocked, date if wish == "date" else wish)
    least, most = (5, 10) if wish == "date" else (math.ceil(float(wish)),) * 2
    assert len(pauses) == TRIES - 1
    assert all(least <= pause <= most for pause in pauses)


@pytest.mark.parametrize("retry_after", [None, "", "soon", "-5", "1.5.2", "٣", "0"])
def test_without_a_usable_wish_the_pauses_grow(
    mocked: Mocked, monkeypatch: pytest.MonkeyPatch, retry_after: str | None
) -> None:
    monkeypatch.setattr(tries_module, "FIRST_PAUSE", 4.0)
    first, second = pauses_after(mocked, retry_after)
    assert 2.0 <= first <= 4.0 <= second <= 8.0


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_too_long_a_pause_is_not_waited_for_and_that_is_passed_on(
    mocked: Mocked, status: int
) -> None:
    longer = str(round(LONGEST_PAUSE) + 1)
    error = mocked.refused(status, headers={"Retry-After": longer})
    assert error.headers() == {"Retry-After": longer, "X-Should-Retry": "false"}
    assert len(mocked.calls) == 1


def test_a_stop_ends_the_pause_between_two_tries(mocked: Mocked) -> None:
    mocked.answer(503, headers={"Retry-After": str(round(LONGEST_PAUSE))})
    calling = Calling(mocked.connect())
    wait_for(lambda: len(mocked.calls) == 1)
    calling.stop()
    assert len(mocked.calls) == 1


# --- a real peer


def test_the_request_is_what_deepseek_expects(
    deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its key is ours, also if a netrc knows the host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    calling = Calling(deepseek.upstream("/v1"))
    head, body = deepseek.accept().request()
    calling.stop()
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert body == SENT
    assert f"\r\nAuthorization: Bearer {KEY}\r\n" in head
    assert fields["content-type"] == "application/json"
    assert fields["accept"] == "text/event-stream"
    assert fields["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://api.deepseek.com", "api.deepseek.com"),
        ("https://Api.DeepSeek.com:443/beta", "api.deepseek.com"),
        ("http://deepseek.example:443", "deepseek.example:443"),
        ("http://[::1]:8000/v1", "[::1]:8000"),
    ],
)
def test_the_host_is_named_with_its_port_if_that_is_unusual(
    connect: Connect, base_url: str, host: str
) -> None:
    assert connect(base_url).configured.prepare(b"{}").headers["Host"] == host


def test_pieces_come_as_they_are_sent(deepseek: DeepSeek) -> None:
    calling, peer = deepseek.asked()
    peer.begin()
    for number in range(3):
        peer.chunk(b"data: %d\n\n" % number)
        assert calling.piece() == b"data: %d\n\n" % number
    peer.send(b"0\r\n\r\n")
    assert calling.join() is None


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.CONNECTING])
def test_the_phase_is_waiting_once_the_request_is_sent_and_connecting_again_between_tries(
    deepseek: DeepSeek, phase: Phase
) -> None:
    calling, peer = deepseek.asked()
    wait_for(lambda: calling.session.phase is Phase.WAITING)
    if phase is Phase.CONNECTING:
        peer.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n")
        wait_for(lambda: calling.session.phase is Phase.CONNECTING)
    calling.stop()
    assert calling.session.phase is phase


@pytest.mark.parametrize(
    "said", [b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"X" * 70_000 + b"\r\n"]
)
def test_an_answer_that_is_not_http_is_a_failure_and_not_asked_for_again(
    deepseek: DeepSeek, said: bytes
) -> None:
    calling, peer = deepseek.asked()
    with contextlib.suppress(ConnectionError):
        peer.send(said)
    error = calling.failure()
    assert (error.code, error.message) == ("upstream_failed", "DeepSeek's answer is not HTTP.")
    assert deepseek.is_left_alone()


def break_off(peer: Peer) -> None:
    peer.socket.close()


def send_a_broken_chunk(peer: Peer) -> None:
    peer.send(b"no number\r\n")


def end_amid_a_chunk(peer: Peer) -> None:
    peer.send(b"ff\r\ndata: ")
    peer.socket.close()


@pytest.mark.parametrize("misbehave", [break_off, send_a_broken_chunk, end_amid_a_chunk])
@pytest.mark.parametrize("begun", [True, False], ids=["after an event", "before any event"])
def test_an_answer_that_breaks_off_is_a_failure_and_not_asked_for_again(
    deepseek: DeepSeek, misbehave: Callable[[Peer], None], begun: bool
) -> None:
    calling, peer = deepseek.asked()
    peer.begin()
    if begun:
        peer.chunk(EVENT)
        assert calling.piece() == EVENT
    misbehave(peer)
    error = calling.failure()
    assert (error.code, error.message) == (
        "upstream_failed",
        "The connection to DeepSeek broke off.",
    )
    assert deepseek.is_left_alone()


def begin_and_fall_silent(deepseek: DeepSeek, *more: bytes) -> Peer:
    peer = deepseek.accept()
    peer.request()
    peer.begin()
    for piece in (EVENT, *more):
        peer.chunk(piece)
    return peer


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """A thread for DeepSeek, where the call is made by the test's own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_the_end_of_the_body_is_not_waited_for_without_end(
    deepseek: DeepSeek, aside: ThreadPoolExecutor
) -> None:
    call = deepseek.upstream().call(Question(BODY), new_session())
    peer = aside.submit(begin_and_fall_silent, deepseek, DONE)
    assert run(whole(call))
    begun = time.monotonic()
    call.close()
    assert time.monotonic() - begun < PATIENCE
    assert peer.result(PATIENCE).sees_the_end()


def test_the_connection_is_let_go_of_whatever_comes_of_its_last_read(
    deepseek: DeepSeek, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise MemoryError

    call = deepseek.upstream().call(Question(BODY), new_session())
    peer = aside.submit(begin_and_fall_silent, deepseek, DONE)
    assert run(whole(call))
    monkeypatch.setattr(attempt_module, "wait_for_read", fail)
    with pytest.raises(MemoryError):
        call.close()
    assert peer.result(PATIENCE).sees_the_end()


def test_an_error_is_not_its_own_cause(deepseek: DeepSeek, aside: ThreadPoolExecutor) -> None:
    """Else the garbage collector alone could free it, and the whole answer with it."""
    call = deepseek.upstream().call(Question(BODY), new_session())
    aside.submit(lambda: begin_and_fall_silent(deepseek).send(b"0\r\n\r\n"))
    with pytest.raises(UpstreamError, match="before the answer was complete") as caught:
        run(whole(call))
    call.close()
    assert caught.value.__cause__ is not caught.value


# --- the pool


def begun_call(
    deepseek: DeepSeek, aside: ThreadPoolExecutor, session: StreamSession
) -> tuple[Peer, ChatCompletionCall]:
    """A call of which the first piece has come, and no other is taken."""
    peer = aside.submit(begin_and_fall_silent, deepseek)
    pieces = list[bytes]()
    call = new_call(deepseek.upstream(), session, lambda piece: pieces.append(piece) is not None)
    assert not run(whole(call))
    assert pieces == [EVENT]
    return peer.result(PATIENCE), call


def test_a_connection_that_was_used_before_is_aborted_all_the_same(deepseek: DeepSeek) -> None:
    upstream = deepseek.upstream()
    peer = answered(upstream, deepseek)
    second = Calling(upstream)
    peer.request()
    second.stop()
    assert peer.sees_the_end()


def test_to_abort_a_finished_call_leaves_its_connection_to_the_next(deepseek: DeepSeek) -> None:
    upstream = deepseek.upstream()
    first = Calling(upstream)
    peer = deepseek.accept()
    peer.answer()
    assert first.join() is None
    first.call.abort()
    second = Calling(upstream)
    peer.answer()
    assert second.join() is None


def test_a_connection_that_was_aborted_is_not_kept_though_its_answer_was_whole(
    deepseek: DeepSeek, aside: ThreadPoolExecutor
) -> None:
    """The bytes that had come before are read; the socket under them is shut."""
    upstream = deepseek.upstream().configured
    exchange = Exchange()
    current_exchange.set(exchange)
    answered = aside.submit(lambda: deepseek.accept().answer())
    response = upstream.send(upstream.prepare(b"{}"))
    answered.result(PATIENCE)
    exchange.abort()
    assert b"".join(iter(response.raw.receive, b"")).endswith(DONE)
    response.raw.close()
    assert response.raw.socket.fileno() < 0


def test_a_call_that_is_closed_amid_its_answer_closes_the_connection(
    deepseek: DeepSeek, aside: ThreadPoolExecutor
) -> None:
    peer, call = begun_call(deepseek, aside, new_session())
    call.close()
    assert peer.sees_the_end()


def test_cookies_are_not_kept(deepseek: DeepSeek) -> None:
    upstream = deepseek.upstream()
    peer = answered(upstream, deepseek, "Set-Cookie: a=b; Path=/")
    second = Calling(upstream)
    head, _ = peer.request()
    second.stop()
    assert "cookie" not in head.lower()


# --- an abort in every phase


@pytest.fixture(params=["plain", "tls"])
def either(request: pytest.FixtureRequest) -> Iterator[DeepSeek]:
    """DeepSeek without and with TLS, whose authority the environment names."""
    tls = None
    if request.param == "tls":
        tls = certificate(request.getfixturevalue("trusted"), "127.0.0.1")
    with DeepSeek(tls) as deepseek:
        yield deepseek


def amid_the_headers(peer: Peer, calling: Calling) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nX-Field: ")


def amid_a_chunk(peer: Peer, calling: Calling) -> None:
    peer.begin()
    peer.send(b"ff\r\n" + EVENT)
    assert calling.piece() == EVENT


def amid_an_error(peer: Peer, calling: Calling) -> None:
    peer.send(b"HTTP/1.1 500 Failed\r\nContent-Length: 100\r\n\r\n{")


@pytest.mark.parametrize(
    "reach", [before_the_headers, amid_the_headers, silent, mid_stream, amid_a_chunk, amid_an_error]
)
def test_an_abort_ends_the_call_and_closes_the_connection(
    either: DeepSeek, reach: Callable[[Peer, Calling], None]
) -> None:
    """The next call has one of its own."""
    upstream = either.upstream()
    calling, peer = asked(upstream, either)
    reach(peer, calling)
    calling.stop()
    assert peer.sees_the_end()
    assert either.is_left_alone()
    answered(upstream, either)


def test_what_came_before_the_abort_and_was_not_read_is_not_given_any_more(
    deepseek: DeepSeek, aside: ThreadPoolExecutor
) -> None:
    session = new_session()
    peer, call = begun_call(deepseek, aside, session)
    peer.chunk(EVENT)
    session.cancel(Reason.USER)
    with pytest.raises(Aborted):
        run(call.receive())
    call.close()


def test_an_abort_amid_the_tls_handshake(connect: Connect) -> None:
    with DeepSeek() as deepseek:
        calling = Calling(connect(deepseek.url.replace("http:", "https:")))
        peer = Peer(deepseek.accept_plain())
        assert peer.socket.recv(1) == b"\x16"  # a TLS handshake (RFC 8446, section 5.1)
        calling.stop()
        assert peer.sees_the_end()
        assert deepseek.is_left_alone()


def test_an_abort_amid_the_look_up_of_the_name(
    connect: Connect, resolve: Callable[..., Resolver], deepseek: DeepSeek
) -> None:
    resolver = resolve(deepseek.address)
    calling = Calling(connect(FAR, connect_timeout=PATIENCE * 6))
    assert resolver.asked.get(timeout=PATIENCE) == "deepseek.example"
    calling.stop()
    resolver.go_on.set()
    assert deepseek.is_left_alone()


def test_a_look_up_that_takes_too_long_is_given_up(
    connect: Connect, resolve: Callable[..., Resolver]
) -> None:
    resolver = resolve()
    failure = failure_of(new_call(connect(FAR, connect_timeout=0.02)))
    assert failure.code == "upstream_unreachable"
    assert list(resolver.asked.queue) == [urlsplit(FAR).hostname]  # all tries wait for one look-up


def test_a_connection_that_takes_too_long_is_given_up(connect: Connect) -> None:
    with black_hole() as url:
        failure = failure_of(new_call(connect(url, connect_timeout=0.02)))
    assert failure.code == "upstream_unreachable"


def test_a_call_that_was_aborted_before_its_start_opens_no_connection(deepseek: DeepSeek) -> None:
    session = new_session()
    call = new_call(deepseek.upstream(), session)
    session.cancel(Reason.USER)
    with pytest.raises(Aborted):
        run(whole(call))
    call.close()
    assert deepseek.is_left_alone()


def the_abort_of_one_beside_many() -> None:
    many, session, ended = Many(), new_session(), list[int]()
    with DeepSeek() as deepseek:
        call = new_call(deepseek.upstream(), session)

        def receive() -> Coroutine[None]:
            with pytest.raises(Aborted):
                yield from whole(call)
            ended.append(len(many.steps))
            call.close()

        many.coroutines.spawn(receive())
        peer = deepseek.accept()
        peer.begin()
        with many.busy():
            wait_for(lambda: len(many.steps) > 10 * MANY)
            before = len(many.steps)
            session.cancel(Reason.USER)
            wait_for(lambda: bool(ended))
        assert peer.sees_the_end()
    assert ended[0] - before < MANY / 2


def test_under_gevent_an_abort_goes_before_what_others_read() -> None:
    under_gevent(the_abort_of_one_beside_many)


def test_an_aborted_call_leaves_nothing_open(deepseek: DeepSeek) -> None:
    upstream, found = deepseek.upstream(), []
    for _ in range(5):
        calling, peer = asked(upstream, deepseek)
        before_the_headers(peer, calling)
        found.append(open_descriptors())
        calling.stop()
        peer.socket.close()
    assert max(found) == found[0]


# --- certificates, proxies, netrc


@pytest.mark.parametrize("host", ["127.0.0.1", "another.example"])
def test_a_certificate_that_cannot_be_verified_is_refused(
    request: pytest.FixtureRequest, authority: trustme.CA, host: str
) -> None:
    """Neither one of an unknown authority, nor a known one's for another host."""
    if host != "127.0.0.1":
        request.getfixturevalue("trusted")
    with DeepSeek(certificate(authority, host)) as deepseek:
        calling = Calling(deepseek.upstream())
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            deepseek.accept()
        error = calling.failure()
        assert deepseek.is_left_alone()
    assert (error.status, error.code) == (502, "upstream_unreachable")
    assert "TLS" in error.message
    assert "certificate verify failed" in error.reason
    assert error.headers() == {"X-Should-Retry": "false"}


def test_a_folder_of_certificates_can_be_named_and_what_cannot_be_read_stops_the_start(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    connect("https://deepseek.example")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match="missing"):
        connect("https://deepseek.example")


def test_the_proxy_of_the_environment_is_used(
    connect: Connect, deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", deepseek.url)
    calling = Calling(connect(FAR))
    peer = deepseek.accept()
    head, body = peer.request()
    assert head.startswith(f"POST {FAR}/chat/completions HTTP/1.1\r\n")
    assert body == SENT
    calling.stop()
    assert peer.sees_the_end()


def test_behind_a_proxy_tls_is_spoken_with_deepseek_itself(
    connect: Connect, deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch, trusted: trustme.CA
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", deepseek.url)
    calling = Calling(connect("https://deepseek.example"))
    proxy = deepseek.accept()
    head, _ = proxy.request()
    assert head.startswith("CONNECT deepseek.example:443 HTTP/1.")
    assert KEY not in head
    proxy.send(b"HTTP/1.1 200 Connected\r\n\r\n")
    inner = Peer(deepseek.secured(proxy.socket, certificate(trusted, "deepseek.example")))
    inner.request()
    mid_stream(inner, calling)
    calling.stop()
    assert inner.sees_the_end()


def test_an_abort_while_a_proxy_connects(
    connect: Connect, deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", deepseek.url)
    calling, proxy = asked(connect("https://deepseek.example"), deepseek)
    calling.stop()
    assert proxy.sees_the_end()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_lack_of_descriptors_is_not_put_down_to_deepseek(
    deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_descriptor: int) -> NoReturn:
        raise OSError(number, "too many open files")

    call = new_call(deepseek.upstream())
    monkeypatch.setattr(os, "dup", fail)
    failure = failure_of(call)
    assert (failure.status, failure.code) == (429, "too_many_sessions")


def test_an_abort_between_two_tries_does_not_reach_a_connection_that_was_given_back(
    deepseek: DeepSeek,
) -> None:
    """The connection of a refused try goes to the pool, and from there to somebody else's call."""
    upstream = deepseek.upstream()
    first, peer = asked(upstream, deepseek)
    wait_for(lambda: first.session.phase is Phase.WAITING)
    peer.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 15\r\nContent-Length: 2\r\n\r\n{}")
    wait_for(lambda: first.session.phase is Phase.CONNECTING)
    second = Calling(upstream)
    peer.request()
    peer.begin()
    first.stop()
    assert isinstance(first.join(), Aborted)
    peer.chunk(b"data: all of it\n\n")
    assert second.piece() == b"data: all of it\n\n"
    peer.send(b"0\r\n\r\n")
    assert second.join() is None


def test_no_more_connections_are_kept_than_there_is_room_for(
    deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nobody is warned of what is as it should be."""
    monkeypatch.setattr(connections_module, "KEPT_CONNECTIONS", 2)
    upstream = deepseek.upstream()
    calls = [Calling(upstream) for _ in range(4)]
    peers = [deepseek.accept() for _ in calls]
    for peer in peers:
        peer.answer()
    assert [call.join() for call in calls] == [None] * 4
    for peer in peers:
        peer.socket.settimeout(0.05)
    closed = 0
    for peer in peers:
        with contextlib.suppress(TimeoutError):
            closed += peer.socket.recv(1) == b""
    assert closed == 2
    assert "pool is full" not in caplog.text


@pytest.mark.parametrize("said", [None, b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_a_kept_connection_that_deepseek_has_given_up_is_not_tried(
    said: bytes | None, deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it closed without a word, or said that it is about to."""
    monkeypatch.setattr(tries_module, "FIRST_PAUSE", PATIENCE)
    upstream = deepseek.upstream()
    peer = answered(upstream, deepseek)
    if said:
        peer.send(said)
    peer.socket.shutdown(socket.SHUT_WR)
    answered(upstream, deepseek)


@pytest.mark.parametrize("length", [b"Content-Length: 5000", b"Transfer-Encoding: chunked"])
def test_what_came_of_an_error_is_told_though_its_body_breaks_off(
    deepseek: DeepSeek, length: bytes
) -> None:
    calling, peer = deepseek.asked()
    said = b'{"error": {"message": "Too hot."}}'
    body = b"%x\r\n%b\r\nno chunk\r\n" % (len(said), said) if b"chunked" in length else said
    peer.send(b"HTTP/1.1 400 No\r\n%b\r\n\r\n%b" % (length, body))
    peer.socket.close()
    error = calling.failure()
    assert error.message == "Too hot."
