"""An upstream that sends what it should not: nobody gets another's answer, nobody else waits."""

import gzip
import json
import threading
import time

import pytest

from .support.scripted import Scripted, chunk, response
from .support.servers import data_events, new_id
from .support.waiting import wait_for

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
DONE = b"data: [DONE]\n\n"


def said_to(user):
    return (
        b'data: {"choices":[{"index":0,"delta":{"content":"for %b"},"finish_reason":"stop"}]}\n\n'
        % user
    )


def user_of(body):
    return json.loads(body)["user"].encode()


@pytest.fixture(scope="module")
def upstream():
    with Scripted(lambda *_: None) as scripted:
        yield scripted


@pytest.fixture
def serve(start_proxy, kind, upstream):
    """Has the upstream answer by this function; returns the server in front of it."""

    def serve(answer):
        upstream.answer = answer
        return start_proxy(kind, upstream.url)

    return serve


def ask(proxy, user):
    """All that this user is sent."""
    return proxy.start(new_id(), user=user).read_answer()[1]


# --- another's answer


@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_an_answer_that_nobody_asked_for_is_given_to_nobody(serve, pause):
    def answer(connection, body):
        connection.sendall(response(said_to(user_of(body)), DONE))
        time.sleep(pause)
        connection.sendall(response(said_to(b"nobody"), DONE))
        sent.append(connection)

    sent = []
    proxy = serve(answer)
    for number, user in enumerate(["first", "second"], 1):
        body = ask(proxy, user)
        assert [f"for {user}" in event["data"] for event in data_events(body)] == [True], body
        wait_for(lambda number=number: len(sent) == number)
    assert sent[0] is not sent[1]


# --- an error without its end


@pytest.mark.parametrize(
    ("status", "code", "drip"),
    [(b"401 No", "upstream_auth", 0.1), (b"400 No", "upstream_rejected", None)],
)
def test_a_status_is_told_though_its_body_does_not_come(serve, status, code, drip):
    def answer(connection, body):
        connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: 500\r\n\r\n" % status)
        while drip:
            connection.sendall(b"x")
            time.sleep(drip)
        connection.recv(1)

    proxy = serve(answer)
    begun = time.monotonic()
    answered = proxy.start(new_id(), user="first").read_until(code.encode())
    assert time.monotonic() - begun < 6
    assert answered.startswith(b"HTTP/1.1 502" if code == "upstream_auth" else b"HTTP/1.1 400")


# --- a body that does not end


@pytest.mark.parametrize("piece", [b"", chunk(b": x\n\n"), b"1;"])
def test_what_drips_after_the_end_does_not_keep_the_session(serve, piece):
    def answer(connection, body):
        connection.sendall(response(said_to(user_of(body)), DONE)[: -len(b"0\r\n\r\n")])
        while True:
            connection.sendall(piece)
            time.sleep(0.1)

    proxy = serve(answer)
    for user in ("first", "second"):
        begun = time.monotonic()
        assert f"for {user}" in ask(proxy, user).decode()
        proxy.wait_until_empty()
        assert time.monotonic() - begun < 4


# --- what keeps a reader busy

PIECE = 64 * 1024
ZIPPED = b"Content-Encoding: gzip\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ATTACKS = {
    "100 Continue": (b"", CONTINUE * 2000),
    "header lines": (HEAD, b"a: b\r\n" * 10_000),
    "comments": (HEAD + b"\r\n", b":\n" * (PIECE // 2)),
    "line ends": (HEAD + b"\r\n", b"\r\n" * (PIECE // 2)),
    "events": (HEAD + b"\r\n", b"data: 1\n\n" * (PIECE // 9)),
    "chunks of a byte": (HEAD + CHUNKED, chunk(b":") + chunk(b"\n") * 10_000),
    "inflated blanks": (HEAD + ZIPPED, gzip.compress(b"\n" * (1 << 20))),
    "empty members": (HEAD + ZIPPED, gzip.compress(b"") * 3000),
    "trailers": (HEAD + CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
}
SECONDS = 0.5


def test_what_an_upstream_sends_without_end_makes_nobody_else_wait(serve):
    """All of it at once, beside an answer and a Stop that are not concerned."""

    def answer(connection, body):
        user = user_of(body).decode()
        if user in ATTACKS:
            begin, more = ATTACKS[user]
            connection.sendall(begin)
            while not over.is_set():
                connection.sendall(more)
            return
        connection.sendall(HEAD + CHUNKED)
        while not over.is_set():
            connection.sendall(chunk(said_to(b"%.3f" % time.monotonic())))
            time.sleep(0.05)

    over = threading.Event()
    proxy = serve(answer)
    try:
        watched, stopped = new_id(), new_id()
        bystander = proxy.start(watched, user="bystander")
        bystander.read_until(b"id: 2\n")
        proxy.start(stopped, user="stopped").read_until(b"id: 1\n")
        attackers = {new_id(): attack for attack in ATTACKS}
        for session_id, attack in attackers.items():
            proxy.start(session_id, user=attack)
        end, late = time.monotonic() + SECONDS, 0.0
        while time.monotonic() < end:
            bystander.received = b""
            bystander.read_until(b"\n\n")
            sent = bystander.received.rpartition(b"for ")[2].partition(b'"')[0]
            late = max(late, time.monotonic() - float(sent))
        begun = time.monotonic()
        assert proxy.cancel(stopped)[0] == 200
        assert time.monotonic() - begun < 1
        assert late < 1
    finally:
        over.set()
    for session_id in (watched, *attackers):
        proxy.cancel(session_id)
    proxy.wait_until_empty()


def test_a_coding_that_was_not_asked_for_is_a_failure_that_says_so(serve):
    def answer(connection, body):
        connection.sendall(HEAD + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc")

    proxy = serve(answer)
    assert b"compressed in a way" in proxy.start(new_id(), user="first").read_until(
        b"upstream_failed"
    )
