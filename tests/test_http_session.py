"""A run's own requests: what comes is taken in pieces, beside all others, and not after a Stop."""

from __future__ import annotations

import gzip
import io
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import requests

from chatproxy.answers.abort import AbortHandle
from chatproxy.answers.calls import Calls
from chatproxy.answers.coroutines import A_TURN
from chatproxy.errors import Stopped
from chatproxy.server.resolver import ThreadedResolver
from chatproxy.upstreams.http_session import HttpSession, Turns
from chatproxy.upstreams.transport.http1 import MOST_HEAD_BYTES

from .support.another import under_gevent
from .support.costs import cost
from .support.scripted import Answer, Scripted
from .support.waiting import PATIENCE, Background

#: Within what a connection holds, so that a reader who goes on need not wait.
MANY = 100_000
CONTENT = b"abc" * 100_000
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
FIELD = b"A: %b\r\n" % (b"b" * 8000)


def small_chunks(number: int) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"1\r\nx\r\n" * number + b"0\r\n\r\n"


def plain(content: bytes, fields: bytes = b"") -> bytes:
    """A response with this body."""
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (fields, len(content)) + content


def zipped(content: bytes) -> bytes:
    """The same in gzip."""
    return plain(gzip.compress(content), b"Content-Encoding: gzip\r\n")


def sending(response: bytes) -> Answer:
    return lambda connection, _: connection.sendall(response)


def session_of(handle: AbortHandle) -> HttpSession:
    session = HttpSession(handle, ThreadedResolver(), Calls(), Turns())
    session.trust_env = False
    return session


@pytest.fixture
def handle() -> AbortHandle:
    return AbortHandle(Stopped)


@pytest.fixture
def get(handle: AbortHandle) -> Iterator[Callable[[bytes], requests.Response]]:
    """Asks for what is answered by these bytes; only the head has been read."""
    with session_of(handle) as session, Scripted(lambda *_: None) as site:

        def get(response: bytes) -> requests.Response:
            site.answer = sending(response)
            return session.get(site.url, stream=True, timeout=PATIENCE)

        yield get


# ---- others have their turn ---------------------------------------------------------------------


def pieces_between_turns(response: bytes, readers: int = 1) -> list[int]:
    """How many pieces are read between two turns of another greenlet, by all readers together."""
    count, turns, over = 0, [0], threading.Event()

    def live() -> None:
        while not over.is_set():
            turns.append(count)
            time.sleep(A_TURN)

    def read(got: requests.Response) -> None:
        nonlocal count
        for _ in got.iter_content(None):
            count += 1

    with session_of(AbortHandle(Stopped)) as session, Scripted(sending(response)) as site:
        asked = [session.get(site.url, stream=True, timeout=PATIENCE) for _ in range(readers)]
        other = Background(live)
        for each in [Background(partial(read, got)) for got in asked]:
            each.result()
        over.set()
        other.result()
    turns.append(count)
    return [later - earlier for earlier, later in itertools.pairwise(turns)]


def read_beside_another() -> None:
    for response in (small_chunks(MANY), zipped(b"\n" * (1 << 25))):
        found = pieces_between_turns(response)
        assert sum(found) > 10 * max(found), f"{max(found)} of {sum(found)}"


def read_side_by_side() -> None:
    one, many = (
        statistics.mean(filter(None, pieces_between_turns(small_chunks(MANY // readers), readers)))
        for readers in (1, 8)
    )
    assert many < 5.5 * one, f"{many:.0f} and {one:.0f}"


def test_whoever_answers_lets_others_have_their_turn() -> None:
    """Also if pieces are small and come without a pause, or grow when they are inflated."""
    under_gevent(read_beside_another)


def test_of_many_who_answer_without_a_pause_one_has_its_turn_at_a_time() -> None:
    under_gevent(read_side_by_side)


def test_after_a_stop_nothing_is_read_of_what_had_come_before(
    handle: AbortHandle, get: Callable[[bytes], requests.Response]
) -> None:
    got = get(small_chunks(MANY))
    pieces = got.iter_content(None)
    assert next(pieces) == b"x"
    handle.abort()
    with pytest.raises(Stopped):
        next(pieces)
    with pytest.raises(Stopped):
        _ = got.content


# ---- what comes is what was sent ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "content"),
    [
        (small_chunks(MANY), b"x" * MANY),
        (plain(CONTENT), CONTENT),
        (zipped(CONTENT), CONTENT),
        (EARLY * 100 + plain(b"abc"), b"abc"),
        (plain(CONTENT, FIELD * 8 + b"B:" + FIELD[-1400:]), CONTENT),
        (plain(b""), b""),
    ],
    ids=["small chunks", "plain", "gzip", "after interim responses", "a large head", "empty"],
)
def test_a_body_is_the_same_whole_and_in_pieces(
    get: Callable[[bytes], requests.Response], response: bytes, content: bytes
) -> None:
    got = get(response)
    assert got.content == content
    assert b"".join(got.iter_content(1000)) == content
    assert b"".join(get(response).iter_content(None)) == content


@pytest.mark.parametrize("delimiter", [b"", b"cd"])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("encoding", [None, "utf-8"])
def test_its_lines_are_those_that_requests_finds(
    get: Callable[[bytes], requests.Response], encoding: str | None, size: int, delimiter: bytes
) -> None:
    content = "ab\n\ncd\r\nef\r\rgh\x0b\x0cij\x85k\u2028l\n m".encode()
    options: Any = {"delimiter": delimiter.decode() if encoding else delimiter}
    for end in (b"", b"\n", b"\r\n", b"n"):
        got, asked = get(plain(content + end)), requests.Response()
        asked.raw = io.BytesIO(content + end)
        got.encoding = asked.encoding = encoding
        ours, theirs = (
            list(each.iter_lines(size, bool(encoding), **options)) for each in (got, asked)
        )
        assert ours == theirs


def test_a_long_line_costs_no_more_than_short_ones(
    get: Callable[[bytes], requests.Response],
) -> None:
    def cost_of(line: bytes) -> float:
        got: list[requests.Response] = []
        body = plain(line * 1024)
        return cost(lambda: list(got[-1].iter_lines()), lambda: got.append(get(body)))

    assert cost_of(b"x" * 1024) < 5 * cost_of(b"x" * 1023 + b"\n")


def test_a_body_that_was_read_in_pieces_cannot_be_had_whole(
    get: Callable[[bytes], requests.Response],
) -> None:
    got = get(plain(b"abc"))
    assert list(got.iter_content(1)) == [b"a", b"b", b"c"]
    with pytest.raises(RuntimeError, match="consumed"):
        _ = got.content


@pytest.mark.parametrize("head", [EARLY * 2000, b"HTTP/1.1 200 OK\r\n" + FIELD * 10])
def test_a_head_without_bounds_is_refused(
    get: Callable[[bytes], requests.Response], head: bytes
) -> None:
    assert len(head) > MOST_HEAD_BYTES
    with pytest.raises(requests.ConnectionError, match="head is larger"):
        get(head)
