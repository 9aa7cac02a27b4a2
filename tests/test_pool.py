"""The pool: whatever an upstream sends on a connection, no answer contains a byte of another's.

What comes on a connection after the next request has been sent can't be told from its answer, by
nobody. All that comes before can.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import itertools
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy.answers.coroutines import run
from chatproxy.answers.session import Reason, StreamSession
from chatproxy.config import Settings
from chatproxy.errors import Aborted, UpstreamError
from chatproxy.server.resolver import ThreadedResolver
from chatproxy.upstreams import attempt as attempt_module
from chatproxy.upstreams.chat_completions import ChatCompletions
from chatproxy.upstreams.transport import connection as connection_module
from chatproxy.upstreams.transport.exchange import TAKEN_UNREAD, Exchange

from .support.pieces import call_for_pieces, whole
from .support.played import DeepSeek, Peer, certificate
from .support.scripted import Answer, Scripted, chunk, response
from .support.sessions import new_session
from .support.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.usefixtures("_plain_environment")

FIRST = b"<user 1>"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@contextlib.contextmanager
def pool_for(url: str) -> Iterator[ChatCompletions]:
    with contextlib.closing(
        ChatCompletions(Settings(base_url=url, api_key="sk-test"), ThreadedResolver())
    ) as upstream:
        yield upstream


def user_of(body: bytes) -> bytes:
    """Who has asked; the rest is what every upstream is asked for."""
    return body.partition(b",")[0]


def to_user(answer: Answer) -> Answer:
    return lambda connection, body: answer(connection, user_of(body))


def ask(upstream: ChatCompletions, user: bytes, session: StreamSession | None = None) -> bytes:
    """All that this user is told, be it an answer or why there is none."""
    session = session or new_session()
    told: list[bytes] = []
    call = call_for_pieces(upstream, session, lambda piece: told.append(piece) is None, user + b"}")
    try:
        run(whole(call))
    except UpstreamError as error:
        told.append(error.message.encode())
    except Aborted:
        pass
    finally:
        call.close()
    return b"".join(told)


def ask_for(seconds: float, upstream: ChatCompletions, user: bytes) -> bytes:
    """The same, stopped after so many seconds, as the idle timer does."""
    session = new_session()
    timer = threading.Timer(seconds, session.cancel, [Reason.IDLE])
    timer.start()
    try:
        return ask(upstream, user, session)
    finally:
        timer.cancel()


# --- any upstream


def own(user: bytes) -> list[bytes]:
    """What only this user may see, in every form in which it may be sent."""
    words = b"<%b>" % user
    error = b'{"error": {"message": "%b"}}' % words
    packed = gzip.compress(words)
    head = b"HTTP/1.1 200 OK\r\n"
    return [
        response(words),
        response(words, words, b"data: [DONE]\n\n"),
        head + b"Content-Length: %d\r\n\r\n%b" % (len(words), words),
        head + b"Content-Length: %d\r\n\r\n%b" % (len(words) - 2, words),  # too little
        head + b"Content-Length: %d\r\n\r\n%b" % (len(words) + 2, words),  # and too much
        head + b"Content-Length: 0\r\n\r\n" + words,
        head + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(words), words),
        head + b"\r\n" + words,
        head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(words),
        head + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(packed),
        head + b"Content-Encoding: br\r\nContent-Length: 0\r\n\r\n",
        head.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n%b" % (len(words), words),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n%b" % (len(words), words),
        b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(error), error),
        b"HTTP/1.1 401 Bad\r\nContent-Length: 500\r\n\r\n" + words,
        b"HTTP/1.1 307 Elsewhere\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        response(error, status=b"422 Bad"),
        response(error, status=b"503 Busy"),
        EARLY,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        words,
        chunk(words),
        b"0\r\n\r\n",
        b"\r\n",
        head,
    ]


#: What is sent after a request: parts of ``own``, cut at some points, each piece a little later;
#: and whether the connection is closed then.
SCRIPTS = st.tuples(
    st.lists(st.integers(0, len(own(b"")) - 1), min_size=1, max_size=3),
    st.lists(st.integers(0, 200), max_size=2),
    st.booleans(),
)
Script = tuple[list[int], list[int], bool]


class Following:
    """Answers each request by the next script, with what only its user may see."""

    def __init__(self, scripts: list[Script]) -> None:
        self._scripts = iter(scripts)
        self.followed = 0

    def __call__(self, connection: socket.socket, user: bytes) -> None:
        parts, points, closes = next(self._scripts, ([0], [], False))
        data = b"".join(own(user)[part] for part in parts)
        try:
            start = 0
            for point in sorted(points):
                connection.sendall(data[start:point])
                start = max(start, point)
                time.sleep(0.003)
            connection.sendall(data[start:])
            if closes:
                connection.shutdown(socket.SHUT_WR)
        finally:
            self.followed += 1


@settings(max_examples=50)
@given(st.lists(SCRIPTS, min_size=2, max_size=6))
def test_no_answer_contains_a_byte_of_anothers(scripts: list[Script]) -> None:
    following = Following(scripts)
    with Scripted(to_user(following)) as scripted, pool_for(scripted.url) as upstream:
        for user in (b"user 1", b"user 2", b"user 3"):
            told = ask_for(0.01, upstream, user)
            assert set(re.findall(rb"user \d", told)) <= {user}
            wait_for(lambda: following.followed == len(scripted.asked))


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([b"100 Continue", b"102 Processing", b"103 Early Hints"]), max_size=4)
)
def test_an_answer_that_follows_interim_ones_late_is_given_to_who_asked(
    interim: list[bytes],
) -> None:
    """Also if the next user asks at once when the first has been told something."""

    def answer(connection: socket.socket, user: bytes) -> None:
        for status in interim:
            connection.sendall(b"HTTP/1.1 %b\r\n\r\n" % status)
            time.sleep(0.003)
        connection.sendall(response(b"<%b>" % user))

    with Scripted(to_user(answer)) as scripted, pool_for(scripted.url) as upstream:
        for user in (b"user 1", b"user 2", b"user 3"):
            assert ask(upstream, user) == b"<%b>" % user


# --- the connection that is used again, and those that are not


class Played:
    """An upstream that is played, with TLS or without, and whoever asks it."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._stack = contextlib.ExitStack()
        deepseek = self._stack.enter_context(DeepSeek(tls))
        self.accept = deepseek.accept
        self.upstream = self._stack.enter_context(pool_for(deepseek.url))
        self.aside = self._stack.enter_context(ThreadPoolExecutor(4))

    def asking(self, user: bytes) -> Future[bytes]:
        """What this user will be told."""
        return self.aside.submit(ask, self.upstream, user)

    def asked(self) -> tuple[Future[bytes], Peer]:
        """What the first user will be told, and the connection on which that was asked."""
        asking, peer = self.asking(b"user 1"), self.accept()
        peer.request()
        return asking, peer

    def answered(self) -> Peer:
        """The connection on which the first user has been answered."""
        asking, peer = self.asked()
        peer.send(response(FIRST))
        assert asking.result(PATIENCE) == FIRST
        return peer

    def another_is_answered(self, *expected: Peer) -> bool:
        """Whether the next call is answered on one of these connections, else on a new one."""
        asking = self.asking(b"user 2")
        peer = expected[0] if expected else self.accept()
        assert user_of(peer.request()[1]) == b"user 2"
        peer.send(response(b"<user 2>"))
        return asking.result(PATIENCE) == b"<user 2>"

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(params=["plain", "tls"])
def played(request: pytest.FixtureRequest, trusted: trustme.CA) -> Iterator[Played]:
    tls = certificate(trusted, "127.0.0.1") if request.param == "tls" else None
    with contextlib.closing(Played(tls)) as played:
        yield played


IN_ORDER = {
    "chunked": response(FIRST),
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + FIRST,
    "after early hints": EARLY * 3 + response(FIRST),
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunk(gzip.compress(FIRST))
    + b"0\r\n\r\n",
    "an error": b"HTTP/1.1 401 No\r\nContent-Length: 8\r\n\r\n" + FIRST,
    "an error in chunks": response(FIRST, status=b"400 No"),
    "a redirect": b"HTTP/1.1 307 There\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "without a body": b"HTTP/1.1 204 None\r\n\r\n",
}


@pytest.mark.parametrize("answer", IN_ORDER)
def test_a_connection_is_used_again_after_an_answer_that_was_read_whole(
    played: Played, answer: str
) -> None:
    asking, peer = played.asked()
    peer.send(IN_ORDER[answer])
    asking.result(PATIENCE)
    assert played.another_is_answered(peer)


OVER = {
    "an answer": response(b"<user 1 again>"),
    "early hints": EARLY,
    "a line end": b"\r\n",
    "a byte": b"H",
}


@pytest.mark.parametrize(("answer", "over"), [*zip(IN_ORDER, itertools.cycle(OVER))])
def test_a_connection_with_something_over_is_not_used_again(
    played: Played, answer: str, over: str
) -> None:
    asking, peer = played.asked()
    peer.send(IN_ORDER[answer] + OVER[over])
    assert b"again" not in asking.result(PATIENCE)
    assert played.another_is_answered()


@pytest.mark.parametrize("over", OVER)
def test_a_connection_on_which_something_comes_in_the_pool_is_not_used_again(
    played: Played, over: str
) -> None:
    peer = played.answered()
    peer.send(OVER[over])
    assert played.another_is_answered()


HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 8\r\n"
NOT_IN_ORDER = {
    "until the close": HEAD + b"\r\n" + FIRST,
    "to be closed": HEAD + b"Connection: close\r\n" + LENGTH + b"\r\n" + FIRST,
    "of an old server": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\n" + FIRST,
    "an error without its end": b"HTTP/1.1 401 No\r\nContent-Length: 500\r\n\r\n" + FIRST,
    "no more than early hints": EARLY,
    "a protocol that nobody asked for": b"HTTP/1.1 101 Switch\r\n\r\n" + response(FIRST),
    "a length and chunks": HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + FIRST,
    "compressed in a strange way": HEAD + LENGTH + b"Content-Encoding: br\r\n\r\n" + FIRST,
}


@pytest.mark.parametrize("answer", NOT_IN_ORDER)
def test_a_connection_whose_answer_does_not_end_well_is_not_used_again(
    played: Played, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(attempt_module, "ERROR_SECONDS", 0.01)
    session = new_session()
    asking = played.aside.submit(ask, played.upstream, b"user 1", session)
    peer = played.accept()
    peer.request()
    peer.send(NOT_IN_ORDER[answer])
    if answer == "until the close":
        peer.socket.close()
    if answer == "no more than early hints":
        session.cancel(Reason.USER)
    asking.result(PATIENCE)
    with contextlib.suppress(OSError):
        assert peer.socket.recv(1) == b""
    assert played.another_is_answered()


def test_a_connection_whose_request_was_refused_before_it_was_written_whole_is_not_used_again(
    played: Played,
) -> None:
    asking = played.asking(b"user 1," + b" " * (16 << 20))
    peer = played.accept()
    peer.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
    assert asking.result(PATIENCE) == b"DeepSeek answered with status 413."
    assert played.another_is_answered()


def test_a_large_request_goes_on_a_new_connection_which_is_kept(played: Played) -> None:
    """The peer of one that was kept may be gone."""
    played.answered()
    asking = played.asking(b"user 1," + b" " * TAKEN_UNREAD)
    peer = played.accept()
    peer.request()
    peer.send(response(FIRST))
    assert asking.result(PATIENCE) == FIRST
    assert played.another_is_answered(peer)


def test_what_the_upstream_has_written_is_noticed_though_it_is_held_back() -> None:
    """Nagle's algorithm holds a second write back until the first is acknowledged."""

    def answer(connection: socket.socket, user: bytes) -> None:
        connection.sendall(response(b"<%b>" % user))
        connection.sendall(response(b"<%b again>" % user))
        answered.append(connection)

    def answer_once(connection: socket.socket, user: bytes) -> None:
        connection.sendall(response(b"<%b>" % user))

    answered: list[socket.socket] = []
    with Scripted(to_user(answer_once)) as scripted, pool_for(scripted.url) as upstream:
        for _ in range(3):  # only then acknowledgements are delayed
            ask(upstream, b"user 0")
        scripted.answer = to_user(answer)
        for user in (b"user 1", b"user 2"):
            assert ask(upstream, user) == b"<%b>" % user
            wait_for(functools.partial(len, answered))
            answered.clear()


def test_what_comes_while_a_request_is_made_is_no_answer_to_it(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look is just before the request is sent; then it is sent on another connection."""
    peer = played.answered()

    def use_late(exchange: Exchange, *args: Any) -> None:
        monkeypatch.setattr(Exchange, "use", use)
        peer.send(response(b"<user 1 again>"))
        use(exchange, *args)

    use = Exchange.use
    monkeypatch.setattr(Exchange, "use", use_late)
    assert played.another_is_answered()


def test_a_connection_is_not_kept_for_long(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "KEPT_SECONDS", 0.0)
    played.answered()
    assert played.another_is_answered()
