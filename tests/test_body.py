"""The body of DeepSeek's answer: the same bytes however it is cut, and no end but the real one."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.body import Body, ChunkDecoder

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = HEAD + b"Connection: close\r\n\r\n"
LAST = b"0\r\n\r\n"
Connect = Callable[[bytes], tuple[Body, socket.socket]]

EXTENSIONS = [b"", b";a", b" ; a=b", b';a="0"', b";" + b"x" * 4000]
TRAILERS = [b"X-Sum: 1\r\n", b"0: 5\r\n", b"X-Long: " + b"x" * 4000 + b"\r\n"]
FORMS = [b"%x", b"%X", b"00%x"]
#: What looks like the coding itself is content as well.
contents = st.lists(
    st.binary(min_size=1, max_size=40) | st.sampled_from([b"\n5\r\nhello\r\n", b"\r", LAST]),
    max_size=6,
)
cut_points = st.lists(st.integers(0, 300), max_size=20)


def chunk(content: bytes, form: bytes = b"%x", extension: bytes = b"") -> bytes:
    return form % len(content) + extension + b"\r\n" + content + b"\r\n"


def cut(stream: bytes, points: Iterable[int]) -> Iterator[bytes]:
    ends = [0, *sorted(min(point, len(stream)) for point in points), len(stream)]
    return (stream[start:end] for start, end in itertools.pairwise(ends))


def decode(decoder: ChunkDecoder, pieces: Iterable[bytes]) -> bytes:
    return b"".join(map(decoder.feed, pieces))


# --- the chunked coding


@given(contents, st.data(), cut_points)
def test_any_cut_of_any_chunked_stream_gives_the_same_bytes(
    parts: list[bytes], data: st.DataObject, points: list[int]
) -> None:
    stream = b"".join(
        chunk(part, data.draw(st.sampled_from(FORMS)), data.draw(st.sampled_from(EXTENSIONS)))
        for part in parts
    )
    trailers = data.draw(st.lists(st.sampled_from(TRAILERS), max_size=2))
    stream += b"0" + data.draw(st.sampled_from(EXTENSIONS)) + b"\r\n"
    stream += b"".join(trailers) + b"\r\n"
    decoder = ChunkDecoder()
    assert decode(decoder, cut(stream, points)) == b"".join(parts)
    assert decoder.ended
    assert not decoder.exceeded


STREAM = chunk(b"hello") + chunk(b"\r\n") + b"0;a\r\nb: c\r\n\r\n"


@pytest.mark.parametrize("first", range(len(STREAM)))
def test_every_two_cuts_give_the_same_bytes(first: int) -> None:
    for second in range(first, len(STREAM)):
        decoder = ChunkDecoder()
        assert decode(decoder, cut(STREAM, [first, second])) == b"hello\r\n"
        assert decoder.ended


def test_one_byte_at_a_time_gives_the_same_bytes() -> None:
    assert decode(ChunkDecoder(), cut(STREAM, range(len(STREAM)))) == b"hello\r\n"


@given(contents, cut_points)
def test_a_stream_has_not_ended_before_its_very_last_byte(
    parts: list[bytes], points: list[int]
) -> None:
    decoder = ChunkDecoder()
    decode(decoder, cut((b"".join(map(chunk, parts)) + LAST)[:-1], points))
    assert not decoder.ended
    assert decoder.feed(b"\n") == b""
    assert decoder.ended


@pytest.mark.parametrize(
    "size",
    [b"", b"g", b"-5", b"+5", b"0x5", b"1_0", b"5 5", b";a", b"\xb5", b"0" * 20, b"f" * 16],
)
def test_a_bad_size_is_refused(size: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        ChunkDecoder().feed(size + b"\r\n")


@pytest.mark.parametrize("tail", [b"xx", b"x\n", b"\rx", b"\n\n", b"\r\r"])
@pytest.mark.parametrize("points", [[], [8], [9], [8, 9]])
def test_a_chunk_without_its_line_end_is_refused(tail: bytes, points: list[int]) -> None:
    stream = b"5\r\nhello" + tail + LAST
    with pytest.raises(http.client.HTTPException):
        decode(ChunkDecoder(), cut(stream, points))


@pytest.mark.parametrize("begin", [b"5;", LAST[:-2] + b"X-Trailer: "])
@pytest.mark.parametrize("points", [[], range(10_000)])
def test_an_endless_line_is_refused(begin: bytes, points: Iterable[int]) -> None:
    for end in (b"", b"\r\n"):
        with pytest.raises(http.client.HTTPException):
            decode(ChunkDecoder(), cut(begin + b"x" * 5000 + end, points))


@pytest.mark.parametrize("points", [[], range(0, 10_000, 7)])
def test_endless_trailers_are_refused(points: Iterable[int]) -> None:
    decoder = ChunkDecoder()
    assert decode(decoder, cut(b"0\r\n" + b"a: b\r\n" * 99 + b"\r\n", points)) == b""
    assert decoder.ended
    with pytest.raises(http.client.HTTPException):
        decode(ChunkDecoder(), cut(b"0\r\n" + b"a: b\r\n" * 1000, points))


@pytest.mark.parametrize("after", [b"HTTP/1.1 200 OK\r\n", b"\n", LAST])
@pytest.mark.parametrize("points", [[], [len(chunk(b"a") + LAST)]])
def test_what_comes_after_the_end_is_noticed_and_not_given(after: bytes, points: list[int]) -> None:
    decoder = ChunkDecoder()
    assert decode(decoder, cut(chunk(b"a") + LAST + after, points)) == b"a"
    assert decoder.ended
    assert decoder.exceeded


# --- the body on its socket


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes a body of which this much has come, and the other end of its socket."""
    with contextlib.ExitStack() as stack:

        def connect(sent: bytes) -> tuple[Body, socket.socket]:
            ours, theirs = (stack.enter_context(sock) for sock in socket.socketpair())
            for sock in (ours, theirs):
                sock.settimeout(10)
            theirs.sendall(sent)
            body = Body(ours, method="POST")
            stack.callback(body.close)
            body.begin()
            return body, theirs

        yield connect


def rest_of(body: Body) -> bytes:
    return b"".join(iter(body.receive, b""))


BODIES = [
    CHUNKED + chunk(b"hello ") + chunk(b"world") + LAST,
    HEAD + b"Content-Length: 11\r\n\r\nhello world",
]


@pytest.mark.parametrize("sent", BODIES)
@pytest.mark.parametrize("with_the_head", [0, 1, 8, 100])
def test_a_body_is_whole_whatever_came_with_the_head(
    connect: Connect, sent: bytes, with_the_head: int
) -> None:
    end_of_head = sent.index(b"\r\n\r\n") + 4
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


def test_a_body_can_be_read_after_its_connection_has_let_go_of_the_socket(
    connect: Connect,
) -> None:
    """``http.client`` closes its own reference as soon as the head says "Connection: close"."""
    body, peer = connect(UNTIL_CLOSE)
    body.socket.close()
    peer.sendall(b"hello")
    assert body.receive() == b"hello"
    peer.close()
    assert body.receive() == b""


def test_the_buffer_of_the_head_is_let_go_of(connect: Connect) -> None:
    body, _peer = connect(CHUNKED + chunk(b"a"))
    assert body.receive() == b"a"
    assert body.isclosed()


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


def test_a_connection_with_bytes_after_an_empty_body_is_not_used_again(connect: Connect) -> None:
    body, _peer = connect(HEAD + b"Content-Length: 0\r\n\r\n!")
    assert body.receive() == b""
    assert not body.reusable


def test_a_body_whose_end_was_not_read_is_not_used_again(connect: Connect) -> None:
    body, _peer = connect(CHUNKED + chunk(b"hello"))
    assert body.receive() == b"hello"
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
    with pytest.raises(BlockingIOError):  # of a chunk, nothing but its size
        body.receive()
    peer.sendall(chunk(b"b")[3:] + LAST)
    assert rest_of(body) == b"b"
