"""A response on its socket: the same bytes however it is cut, no end but the real one, and no step
that takes long, whatever was sent.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.upstreams.transport.content_coding import PIECE_BYTES, Inflater
from chatproxy.upstreams.transport.http1 import Malformed
from chatproxy.upstreams.transport.response import Response

from .support.scripted import chunk

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = HEAD + b"\r\n"
LAST = b"0\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
Connect = Callable[[bytes], tuple[Response, socket.socket]]


def length(count: int) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % count


def coded(coding: str, content: bytes) -> bytes:
    head = HEAD + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (coding.encode(), len(content)) + content


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes a body, its head read if it has come, and the other end of its socket."""
    with contextlib.ExitStack() as stack:

        def connect(sent: bytes) -> tuple[Response, socket.socket]:
            ours, theirs = (stack.enter_context(sock) for sock in socket.socketpair())
            for sock in (ours, theirs):
                sock.settimeout(10)
            body = Response(ours, method="POST")
            if sent:
                theirs.sendall(sent)
                body.begin()
            return body, theirs

        yield connect


def rest_of(body: Response) -> bytes:
    found = b""
    while not body.complete:
        found += body.receive()
    return found


BODIES = [
    CHUNKED + chunk(b"hello ") + chunk(b"world") + LAST,
    length(11) + b"hello world",
    EARLY + EARLY + length(11) + b"hello world",
]


@pytest.mark.parametrize("sent", BODIES)
@pytest.mark.parametrize("with_the_head", [0, 1, 8, 100])
def test_a_body_is_whole_whatever_came_with_the_head(
    connect: Connect, sent: bytes, with_the_head: int
) -> None:
    end_of_head = sent.index(b"\r\n\r\n", sent.index(HEAD)) + 4
    body, peer = connect(sent[: end_of_head + with_the_head])
    assert not body.complete or with_the_head == 100
    peer.sendall(sent[end_of_head + with_the_head :])
    assert rest_of(body) == b"hello world"
    assert body.complete
    assert body.reusable


def test_all_that_has_come_is_taken_at_once(connect: Connect) -> None:
    body, peer = connect(CHUNKED)
    peer.sendall(chunk(b"a") * 1000)
    assert body.receive() == b"a" * 1000


def test_a_body_until_the_close_ends_with_it(connect: Connect) -> None:
    body, peer = connect(UNTIL_CLOSE + b"hello ")
    assert body.receive() == b"hello "
    peer.sendall(b"world")
    assert body.receive() == b"world"
    assert not body.complete
    peer.close()
    assert body.receive() == b""
    assert body.complete


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED,
        CHUNKED + b"5",
        CHUNKED + b"5\r\nhel",
        CHUNKED + chunk(b"hello"),
        CHUNKED + chunk(b"hello") + b"0\r\n",
        HEAD + b"Content-Length: 5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nhell",
    ],
)
def test_an_early_end_is_an_error(connect: Connect, sent: bytes) -> None:
    body, peer = connect(sent)
    peer.close()
    with pytest.raises(http.client.IncompleteRead):
        rest_of(body)
    assert not body.complete
    assert not body.reusable


@pytest.mark.parametrize("sent", BODIES)
@pytest.mark.parametrize("together", [True, False])
def test_a_connection_with_bytes_after_the_end_is_not_used_again(
    connect: Connect, sent: bytes, together: bool
) -> None:
    body, peer = connect(sent + b"!" if together else sent[:-1])
    if not together:
        peer.sendall(sent[-1:] + b"!")
    assert rest_of(body) == b"hello world"
    assert body.complete
    assert not body.reusable


@pytest.mark.parametrize(
    ("sent", "content"), [(CHUNKED + chunk(b"hello"), b"hello"), (length(0) + b"!", b"")]
)
def test_a_body_whose_end_was_not_read_or_that_is_empty_and_has_more_is_not_used_again(
    connect: Connect, sent: bytes, content: bytes
) -> None:
    body, _peer = connect(sent)
    assert body.receive() == content
    assert not body.reusable


@pytest.mark.parametrize("begun", [b"", chunk(b"a")])
def test_a_socket_that_does_not_block_says_that_nothing_has_come_yet(
    connect: Connect, begun: bytes
) -> None:
    body, peer = connect(CHUNKED)
    body.socket.settimeout(0.0)
    peer.sendall(begun)
    if begun:
        assert body.receive() == b"a"
    with pytest.raises(BlockingIOError):
        body.receive()
    peer.sendall(chunk(b"b")[:3])
    assert body.receive() == b""  # of a chunk, nothing but its size
    with pytest.raises(BlockingIOError):
        body.receive()
    peer.sendall(chunk(b"b")[3:] + LAST)
    assert rest_of(body) == b"b"


@pytest.mark.parametrize("sent", [b"", EARLY, EARLY * 3, EARLY[:20], HEAD, HEAD + b"a: b\r\n"])
def test_an_end_before_the_head_is_whole_is_an_error(sent: bytes) -> None:
    """Only one tells that nothing came, after which the request might be sent again."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Malformed if sent else http.client.RemoteDisconnected):
            Response(ours).begin()


# --- content codings


def deflated(content: bytes) -> bytes:
    """As RFC 9110 calls it, within zlib's format."""
    return zlib.compress(content)


def deflated_bare(content: bytes) -> bytes:
    """As many send it, without."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


def gzipped_twice(content: bytes) -> bytes:
    """Two members, one after the other."""
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:])


PACKERS = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("gzip", gzipped_twice),
    ("deflate", deflated),
    ("deflate", deflated_bare),
]
#: What takes several pieces, and what does not shrink.
CONTENTS = st.binary(max_size=100) | st.integers(1, 60_000).map(lambda size: b"ab\n" * size)


@given(st.sampled_from(PACKERS), CONTENTS, st.lists(st.integers(0, 300), max_size=5))
def test_what_was_compressed_comes_out_as_it_was(
    packer: tuple[str, Callable[[bytes], bytes]], content: bytes, points: list[int]
) -> None:
    coding, pack = packer
    inflater, packed, pieces = Inflater(coding), pack(content), list[bytes]()
    ends = [0, *sorted(min(point, len(packed)) for point in points), len(packed)]
    for start, end in itertools.pairwise(ends):
        pieces.append(inflater.feed(packed[start:end]))
        while inflater.has_more:
            pieces.append(inflater.feed(b""))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert not inflater.open


@pytest.mark.parametrize(("coding", "pack"), PACKERS)
def test_a_compressed_body_is_read_to_its_end(
    connect: Connect, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    content = b"data: {}\n\n" * 10_000
    body, _peer = connect(coded(coding, pack(content)))
    body.socket.settimeout(0.0)
    assert rest_of(body) == content
    assert body.reusable


FLUSHED = (deflater := zlib.compressobj(wbits=31)).compress(b"hello") + deflater.flush(
    zlib.Z_SYNC_FLUSH
)
GZIP = HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + chunk(b"hello") + EARLY,
        CHUNKED + chunk(b"hel") + chunk(b"lo") + b"x\r\n",
        CHUNKED + b"5\r\nhelloxx",
        CHUNKED + chunk(b"hello") + b"0\r\n" + b"a: b\r\n" * 200,
        GZIP + chunk(FLUSHED) + LAST,
        GZIP + chunk(FLUSHED) + EARLY,
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_came_before_a_fault_is_given_though_it_came_with_it(
    connect: Connect, sent: bytes, together: bool
) -> None:
    body, peer = connect(b"")
    threading.Thread(target=peer.sendall, args=(sent,)).start()
    if not together:
        body.socket = OneByOne(body.socket)  # type: ignore[assignment]
    body.begin()
    found: list[bytes] = []
    with pytest.raises(http.client.HTTPException):
        found.extend(iter(body.receive, None))
    assert b"".join(found) == b"hello"
    assert not body.complete


class OneByOne:
    """A socket from which each read gets one byte."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def recv(self, _count: int) -> bytes:
        return self._sock.recv(1)


@pytest.mark.parametrize(("coding", "pack"), PACKERS)
def test_a_compressed_body_that_is_cut_or_not_what_it_says_is_an_error(
    connect: Connect, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    content = b"data: {}\n\n" * 10
    for sent, error in (pack(content)[:-1], http.client.IncompleteRead), (content, Malformed):
        body, _peer = connect(coded(coding, sent))
        with pytest.raises(error):
            rest_of(body)


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "identity, gzip"])
def test_a_coding_that_cannot_be_taken_off_is_named(connect: Connect, coding: str) -> None:
    assert connect(coded(coding, b"abc"))[0].unknown_coding == coding
    for none in ("", "identity", "Identity"):
        body, _peer = connect(coded(none, b"abc"))
        assert (body.unknown_coding, rest_of(body)) == ("", b"abc")


def test_a_body_that_inflates_beyond_reason_is_given_up(connect: Connect) -> None:
    """A megabyte could keep its reader busy with a gigabyte."""
    packed = gzip.compress(b"\n" * (20 << 20))
    body, peer = connect(coded("gzip", packed)[: -len(packed)])
    peer.sendall(packed)
    given: list[int] = []

    def read_on() -> None:
        while True:
            given.append(len(body.receive()))

    with pytest.raises(Malformed):
        read_on()
    assert sum(given) < 4 << 20


# --- no step takes long

MEGABYTE = 1 << 20
EMPTY_BLOCK = b"\0\0\0\xff\xff"
EMPTY_MEMBER = gzip.compress(b"")
ATTACKS = {
    "comments": UNTIL_CLOSE + b":\n" * (MEGABYTE // 2),
    "line feeds": UNTIL_CLOSE + b"\n" * MEGABYTE,
    "carriage returns": UNTIL_CLOSE + b"\r" * MEGABYTE,
    "events": UNTIL_CLOSE + b"data:\n\n" * (MEGABYTE // 7),
    "chunks of a byte": CHUNKED + chunk(b"\n") * (MEGABYTE // 6),
    "chunks with extensions": CHUNKED + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * (MEGABYTE // 4000),
    "inflated comments": HEAD
    + b"Content-Encoding: gzip\r\n\r\n"
    + gzip.compress(b":\n" * MEGABYTE),
    "empty blocks": HEAD
    + b"Content-Encoding: deflate\r\n\r\n\x78\x9c"
    + EMPTY_BLOCK * (MEGABYTE // 5),
    "empty members": HEAD
    + b"Content-Encoding: gzip\r\n\r\n"
    + EMPTY_MEMBER * (MEGABYTE // 4 // len(EMPTY_MEMBER)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_step_reads_or_gives_much(connect: Connect, attack: str) -> None:
    """What the reader does with it takes about a microsecond a line."""
    body, peer = connect(b"")
    with_the_rest = ATTACKS[attack]
    sender = threading.Thread(target=send_and_leave, args=(peer, with_the_rest))
    sender.start()
    body.begin()
    lines, times = [0], [0.0]
    with contextlib.suppress(Malformed, http.client.IncompleteRead):
        while not body.complete:
            begun, before = time.thread_time(), body.taken
            piece = body.receive()
            times.append(time.thread_time() - begun)
            lines.append(piece.count(b"\n") + piece.count(b"\r"))
            assert body.taken - before <= PIECE_BYTES
            assert len(piece) <= PIECE_BYTES
    peer.close()
    sender.join()
    assert max(lines) < 3000
    assert sorted(times)[-3] < 0.05  # the system may take two turns from this thread, not every one


def send_and_leave(peer: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
