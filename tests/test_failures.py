"""What fails before an answer: what is tried again, what operators read, what clients are told."""

from __future__ import annotations

import contextlib
import errno
import http.client
import itertools
import json
import logging
import re
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable

import pytest
import requests
import trustme

from chatproxy import signals
from chatproxy.answers.session import Phase
from chatproxy.errors import UpstreamError
from chatproxy.observability import logs
from chatproxy.upstreams.transport import dialer, failures
from chatproxy.upstreams.transport.exchange import Exchange, Step, Unreachable

from .support.another import under_gevent
from .support.played import (
    EVENT,
    FAR,
    KEY,
    Calling,
    Connect,
    DeepSeek,
    Peer,
    Resolver,
    asked,
    certificate,
)
from .support.servers import ask, new_id
from .support.sessions import new_session
from .support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("_plain_environment")

#: A body of a request that no socket takes at once.
LARGE = b"{%b}" % (b" " * (16 << 20))

RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


@pytest.fixture
def deepseek(played: DeepSeek) -> DeepSeek:
    return played


def chained(*errors: BaseException) -> BaseException:
    """The last of some errors, each of which was caused by the one before."""
    for cause, error in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[-1]


def untrusted() -> ssl.SSLError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:1006)")
    error.verify_message = "self-signed certificate"
    return error


def failure(error: BaseException, step: Step) -> UpstreamError:
    exchange = Exchange()
    exchange.enter(step, "deepseek.example:443")
    return failures.unanswered(error, exchange, "DeepSeek")


BEFORE_THE_ANSWER = [step for step in Step if step is not Step.ANSWER]


def test_what_is_not_http_is_not_tried_again_though_the_request_was_not_written_whole() -> None:
    found = failure(http.client.BadStatusLine("220 mail.example ESMTP"), Step.SEND)
    assert (found.message, found.transient) == ("DeepSeek's answer is not HTTP.", False)


@pytest.mark.parametrize("step", BEFORE_THE_ANSWER)
@pytest.mark.parametrize("error", [RESET, TimeoutError("timed out"), Unreachable("refused")])
def test_what_fails_before_the_request_is_written_whole_may_be_tried_again(
    step: Step, error: OSError
) -> None:
    found = failure(chained(error, requests.ConnectionError()), step)
    assert (found.code, found.transient) == ("upstream_unreachable", True)


@pytest.mark.parametrize(
    "error",
    [
        RESET,
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
        http.client.RemoteDisconnected("Remote end closed connection without response"),
        http.client.BadStatusLine("220 mail.example ESMTP"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        ssl.SSLError(1, "tlsv13 alert certificate required"),
    ],
)
def test_what_fails_later_is_not(error: OSError) -> None:
    found = failure(chained(error, requests.ConnectionError()), Step.ANSWER)
    assert (found.code, found.transient) == ("upstream_failed", False)


def test_tls_that_is_refused_is_not_tried_again_and_one_that_is_cut_short_is() -> None:
    refused = failure(chained(untrusted(), requests.exceptions.SSLError()), Step.TLS)
    assert (refused.code, refused.transient) == ("upstream_unreachable", False)
    cut = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    assert failure(chained(cut, requests.exceptions.SSLError()), Step.TLS).transient


def wrong_version() -> ssl.SSLError:
    """What a server without TLS gives."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError) as caught:
            ssl.create_default_context().wrap_socket(here, server_hostname="deepseek.example")
    return caught.value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (untrusted(), "certificate verify failed: self-signed certificate"),
        (wrong_version(), r"(wrong version number|record layer failure)"),
        (TimeoutError("The handshake operation timed out"), "timed out"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "Connection timed out"),
        (chained(OSError(1, "inner"), Unreachable("192.0.2.1 refuses")), "192.0.2.1 refuses"),
        (OSError("Tunnel connection failed: 407 No"), "Tunnel connection failed: 407 No"),
        (http.client.RemoteDisconnected("Remote end closed"), "Remote end closed"),
        (ValueError(), "ValueError"),
    ],
)
def test_operators_read_the_words_of_whoever_noticed(error: BaseException, words: str) -> None:
    reason = failure(chained(error, requests.ConnectionError("of no use")), Step.TLS).reason
    assert re.fullmatch(f"TLS deepseek.example:443: {words}", reason)


def test_that_a_read_had_to_wait_is_not_taken_for_a_reason() -> None:
    error = OSError(errno.ECONNRESET, "Connection reset by peer")
    error.__context__ = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    assert failures.words_of(error) == "Connection reset by peer"


# --- on real sockets


def reset(peer: Peer) -> None:
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def close(peer: Peer) -> None:
    peer.socket.close()


@pytest.mark.parametrize("leave", [close, reset])
def test_an_upstream_that_took_the_request_and_left_is_not_asked_again(
    deepseek: DeepSeek, leave: Callable[[Peer], None]
) -> None:
    """It may have worked on it; a second request would be a second bill."""
    calling, peer = deepseek.asked()
    wait_for(lambda: calling.session.phase is Phase.WAITING)
    leave(peer)
    error = calling.failure()
    assert error.code == "upstream_failed"
    assert error.message == "DeepSeek broke the connection off before it answered."
    assert error.reason.startswith(f"answer {deepseek.url.removeprefix('http://')}: ")
    assert deepseek.is_left_alone()


def test_a_request_that_was_not_written_whole_is_sent_again(deepseek: DeepSeek) -> None:
    """The first peer takes some of it, and resets the connection."""
    calling = Calling(deepseek.upstream(), LARGE)
    first = deepseek.accept()
    first.socket.recv(1000)
    assert calling.session.phase is Phase.CONNECTING
    reset(first)
    peer = deepseek.accept()
    assert len(peer.request()[1]) > 16 << 20
    peer.begin()
    peer.chunk(EVENT)
    peer.send(b"0\r\n\r\n")
    assert calling.join() is None


def test_a_request_that_was_written_for_long_is_not_sent_again(
    deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another try would take as long."""
    monkeypatch.setattr(failures, "LONG_SECONDS", 0.0)
    calling = Calling(deepseek.upstream(), LARGE)
    peer = deepseek.accept()
    peer.socket.recv(1000)
    reset(peer)
    assert calling.failure().code == "upstream_unreachable"
    assert deepseek.is_left_alone()


def stay(peer: Peer) -> None:
    """Neither read on nor leave."""


def read_on(peer: Peer) -> None:
    peer.socket.shutdown(socket.SHUT_WR)
    while peer.socket.recv(1 << 20):
        continue


@pytest.mark.parametrize("leave", [read_on, close, stay])
def test_an_answer_before_all_of_the_request_was_sent_is_read(
    deepseek: DeepSeek, leave: Callable[[Peer], None]
) -> None:
    calling = Calling(deepseek.upstream(tries=1), LARGE)
    peer = deepseek.accept()
    peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    leave(peer)
    error = calling.failure()
    assert error.reason.startswith("status 413 ")


EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("early", "secured"),
    [(EARLY, False), (EARLY + HEAD, False), (EARLY + HEAD[:14], False), (EARLY + HEAD[:14], True)],
)
def test_what_comes_before_all_of_the_request_was_sent_and_is_no_refusal_changes_nothing(
    trusted: trustme.CA, early: bytes, secured: bool
) -> None:
    with DeepSeek(certificate(trusted, "127.0.0.1") if secured else None) as deepseek:
        calling = Calling(deepseek.upstream(tries=1), LARGE)
        peer = deepseek.accept()
        peer.send(early)
        peer.request()
        peer.send((EARLY + HEAD).removeprefix(early))
        peer.chunk(EVENT)
        peer.send(b"0\r\n\r\n")
        assert calling.join() is None
        assert calling.piece() == EVENT


def test_a_peer_that_is_alive_and_does_not_read_yet_is_waited_for(
    deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a local model does that answers one question after the other."""
    monkeypatch.setattr(dialer, "DEAD_AFTER", 1)
    calling = Calling(deepseek.upstream(tries=1), LARGE)
    peer = deepseek.accept()
    with socket.create_connection(deepseek.address) as impatient, deepseek.accept_plain():
        impatient.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)
        with pytest.raises(TimeoutError):
            impatient.sendall(LARGE)
    peer.answer()
    assert calling.join() is None


# --- handshakes


def test_an_address_that_breaks_tls_off_is_left_for_another(
    connect: Connect, resolve: Callable[..., Resolver], trusted: trustme.CA, deepseek: DeepSeek
) -> None:
    with DeepSeek(certificate(trusted, "deepseek.example")) as good:
        resolve(deepseek.address, good.address).go_on.set()
        upstream = connect("https://deepseek.example", tries=2)
        first = Calling(upstream)
        peer = Peer(deepseek.accept_plain())
        # Amid the handshake: before it, ``ssl`` leaves the socket to the garbage collector.
        assert peer.socket.recv(1) == b"\x16"
        reset(peer)
        good.accept().answer("Connection: close")
        second = Calling(upstream)
        good.accept().answer()
        assert [first.join(), second.join()] == [None, None]
        assert deepseek.is_left_alone()


#: By what the environment names and which URL is asked: what begins the reply of the other side.
HANDSHAKES = {
    "tls": ("", "https://{}", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0"),
    "tunnel": ("http://{}", "https://deepseek.example", b"HTTP/1.1 200 OK\r\nA: "),
    "socks": ("socks5h://{}", FAR, b"\x05\x00\x05\x00\x00\x03\xff"),
}


def a_handshake_that_never_ends(kind: str) -> None:
    proxy, url, reply = HANDSHAKES[kind]
    with DeepSeek() as deepseek, pytest.MonkeyPatch.context() as environment:
        address = deepseek.url.removeprefix("http://")
        if proxy:
            environment.setenv("all_proxy", proxy.format(address))
        settings = {"base_url": url.format(address), "connect_timeout": 0.3, "tries": 1}
        calling = Calling(deepseek.upstream(**settings))
        peer = deepseek.accept()
        with contextlib.suppress(OSError):
            peer.socket.recv(65536)
            peer.send(reply)
            while not select.select([peer.socket], [], [], 0.02)[0] or peer.socket.recv(65536):
                peer.send(b"x")
        error = calling.failure()
    assert (error.code, error.transient) == ("upstream_unreachable", True)
    assert "timed out" in error.reason


def handshakes_that_never_end() -> None:
    for kind in HANDSHAKES:
        a_handshake_that_never_ends(kind)


@pytest.mark.parametrize("kind", HANDSHAKES)
def test_a_handshake_of_which_a_byte_comes_now_and_then_is_given_up(kind: str) -> None:
    """After the connect timeout, as one that is silent."""
    a_handshake_that_never_ends(kind)


def test_under_gevent_so_it_is() -> None:
    under_gevent(handshakes_that_never_end)


def test_a_tls_handshake_that_is_cut_short_is_begun_again(
    connect: Connect, deepseek: DeepSeek
) -> None:
    calling = Calling(connect(deepseek.url.replace("http:", "https:"), tries=2))
    for _ in range(2):
        peer = deepseek.accept()
        assert peer.socket.recv(1) == b"\x16"
        reset(peer)
    error = calling.failure()
    assert error.reason.startswith("TLS 127.0.0.1:")
    assert "(try 2 of 2, /chat/completions)" in error.reason


def test_how_long_the_request_takes_to_send_is_not_bounded_by_the_connect_timeout(
    deepseek: DeepSeek,
) -> None:
    calling = Calling(deepseek.upstream(connect_timeout=1.0, tries=1), LARGE)
    peer = deepseek.accept()
    time.sleep(1.2)
    peer.answer()
    assert calling.join() is None


def test_a_stop_ends_the_sending_of_the_request(deepseek: DeepSeek) -> None:
    calling = Calling(deepseek.upstream(), LARGE)
    peer = deepseek.accept()
    peer.socket.recv(1000)
    assert calling.session.phase is Phase.CONNECTING
    calling.stop()
    assert peer.sees_the_end()


# --- the log


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings so far; everything else must be free of the key."""
    caplog.set_level(logging.DEBUG)

    def warnings() -> list[str]:
        assert KEY not in caplog.text
        found = [each for each in caplog.records if each.name == logs.logger.name]
        return [each.getMessage() for each in found if each.levelno == logging.WARNING]

    return warnings


Closing = Callable[[UpstreamError], str]


@pytest.fixture
def closing(caplog: pytest.LogCaptureFixture) -> Closing:
    """The warning at the end of an answer that failed so."""

    def closing(error: UpstreamError) -> str:
        session = new_session()
        session.refusal = error
        caplog.clear()
        signals.stream_closed.send(None, session=session)
        return caplog.messages[0]

    return closing


def test_each_failed_try_is_one_line_with_its_reason(
    connect: Connect,
    resolve: Callable[..., object],
    log: Callable[[], list[str]],
    closing: Closing,
) -> None:
    words = "Name or service not known"
    resolve(error=socket.gaierror(socket.EAI_NONAME, words)).go_on.set()
    calling = Calling(connect(FAR, tries=3))
    error = calling.failure()
    reasons = [
        f"look-up deepseek.example: {words} (try {number} of 3, /chat/completions)"
        for number in (1, 2, 3)
    ]
    assert [re.sub(r"in \d+\.\d s", "soon", line) for line in log()] == [
        f"DeepSeek failed session_1, again soon: {reason}" for reason in reasons[:2]
    ]
    assert closing(error) == f"DeepSeek failed session_1: {reasons[2]}"
    assert (error.code, error.message) == ("upstream_unreachable", "DeepSeek could not be reached.")


FORGED = "no\n[SSE] session_2 ended\u2028outcome=finished\x1b[2J\x85"


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_status_is_told_with_its_path_and_what_deepseek_says_on_one_line(
    deepseek: DeepSeek, closing: Closing, status: int
) -> None:
    calling, peer = asked(deepseek.upstream("/v1", tries=1), deepseek)
    said = json.dumps({"error": {"message": f"{FORGED} {KEY}"}}).encode()
    peer.send(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%b" % (status, len(said), said))
    error = calling.failure()
    assert error.reason == (
        f"status {status}: no [SSE] session_2 ended outcome=finished [2J *** "
        "(try 1 of 1, /v1/chat/completions)"
    )
    assert closing(error).isprintable()
    assert "[SSE]" not in closing(error)


def test_what_a_proxy_says_is_one_line_too(
    connect: Connect, deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch, closing: Closing
) -> None:
    password = "s3cr3t-of-the-proxy"
    address = deepseek.url.removeprefix("http://")
    monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:{password}@{address}")
    calling, peer = asked(connect("https://deepseek.example", tries=1), deepseek)
    peer.send(b"HTTP/1.1 407 Who\x1b[2J\x85are you?\r\n\r\n")
    error = calling.failure()
    assert error.reason.startswith(f"proxy {address}: Tunnel connection failed: 407 Who [2J")
    assert closing(error).isprintable()
    assert password not in closing(error)


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (407, 1), (502, 2), (503, 2)])
def test_a_proxy_that_refuses_is_asked_again_only_if_that_may_help(
    connect: Connect,
    deepseek: DeepSeek,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    tries: int,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", deepseek.url)
    calling = Calling(connect("https://deepseek.example", tries=2))
    for _ in range(tries):
        peer = deepseek.accept()
        peer.request()
        peer.send(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
    error = calling.failure()
    assert f"Tunnel connection failed: {status} No (try {tries} of 2" in error.reason
    assert (error.code, error.elsewhere) == ("upstream_unreachable", True)


def test_a_server_logs_why_its_upstream_cannot_be_reached(kind, start_proxy):
    """And tells the client no more than that it can't, and that another try won't help."""
    settings = {"CHATPROXY_TRIES": 1, "DEEPSEEK_API_KEY": KEY}
    proxy = start_proxy(kind, "http://127.0.0.1:1", **settings)
    session_id = new_id()
    response = ask(proxy, session_id)
    assert (response.status_code, response.json()["code"]) == (502, "upstream_unreachable")
    assert response.json()["error"].startswith("DeepSeek could not be reached")
    assert response.headers["X-Should-Retry"] == "false"
    proxy.closing_line(session_id)
    (line,) = proxy.reasons(session_id)
    assert "connect 127.0.0.1:1: 127.0.0.1 Connection refused" in line
    assert line.endswith("(try 1 of 1, /chat/completions)")
    assert KEY not in proxy.log()
