"""HTTP/1.1 read from bytes: the same however they are cut, bounded, and never in two ways."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.upstreams.transport.http1 import (
    MOST_HEAD_BYTES,
    ChunkDecoder,
    Framing,
    Head,
    HeadParser,
    Malformed,
)

LAST = b"0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
END = b"\r\n\r\n"
INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
    b"HTTP/1.1 199 \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 100\r\n\r\n",
]

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


# --- heads


def parse(stream: bytes, points: Iterable[int] = ()) -> tuple[Head | None, bytes]:
    """The head in this, and what is left over."""
    return parse_pieces(cut(stream, points))


def parse_pieces(pieces: Iterator[bytes]) -> tuple[Head | None, bytes]:
    parser = HeadParser()
    for piece in pieces:
        if (head := parser.feed(piece)) is not None:
            return head, parser.rest + b"".join(pieces)
    return None, parser.rest


def head_of(stream: bytes, points: Iterable[int] = ()) -> Head:
    head, _ = parse(stream, points)
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("stream", "head"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Head(1, 200, "OK", [])),
        (
            b"HTTP/1.1 404 Not Found\r\nType: text/html\r\nX-Empty:\r\nx-a:b\xe9 \r\n\r\n",
            Head(1, 404, "Not Found", [("Type", "text/html"), ("X-Empty", ""), ("x-a", "b\xe9")]),
        ),
        (b"HTTP/1.1 200\r\n\r\n", Head(1, 200, "", [])),
        (b"HTTP/1.1 200 \r\n\r\n", Head(1, 200, "", [])),
        (b"HTTP/1.0 200 OK\r\na: b\r\n\r\n", Head(0, 200, "OK", [("a", "b")])),
        (b"HTTP/1.1 200 OK\na: b\n\n", Head(1, 200, "OK", [("a", "b")])),
        (
            OK + b"a: b\r\n \tc\r\n" + b"d: e\r\n\r\n",
            Head(1, 200, "OK", [("a", "b c"), ("d", "e")]),
        ),
    ],
    ids=[
        *("no fields", "fields", "no reason", "an empty reason"),
        *("HTTP/1.0", "line feeds alone", "folded"),
    ],
)
def test_what_the_grammar_allows_is_read(stream: bytes, head: Head) -> None:
    assert parse(stream + b"rest") == (head, b"rest")


@given(st.lists(st.sampled_from(INTERIM), max_size=5), st.binary(max_size=9), cut_points)
def test_interim_responses_are_skipped_however_the_stream_is_cut(
    interim: list[bytes], rest: bytes, points: list[int]
) -> None:
    stream = b"".join(interim) + OK + b"Content-Length: 7\r\n\r\n" + rest
    assert parse(stream, points) == (Head(1, 200, "OK", [("Content-Length", "7")]), rest)


def test_every_cut_of_a_head_gives_the_same() -> None:
    stream = INTERIM[2] + OK + b"a: b\r\n\r\nrest"
    for first in range(len(stream)):
        assert parse(stream, [first]) == (Head(1, 200, "OK", [("a", "b")]), b"rest")
    assert parse(stream, range(len(stream))) == (Head(1, 200, "OK", [("a", "b")]), b"rest")


def test_a_switch_of_protocols_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(Malformed, match="protocol"):
        parse(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + OK + b"\r\n")


@pytest.mark.parametrize(
    "stream",
    [
        b"X",
        b"<html>",
        b"data: [DONE]\n\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.10 200 OK\r\n\r\n",
    ],
)
def test_what_is_no_response_is_refused(stream: bytes) -> None:
    with pytest.raises(Malformed):
        parse(stream)


@pytest.mark.parametrize(
    "line",
    [
        b"no colon",
        b": no name",
        b"a b: c",
        b"a : b",
        b" folded: b",
        b"a: b\rc: d",
        b"a: b\0",
        b"\xe9: b",
    ],
)
def test_a_header_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(Malformed):
        parse(OK + line + END)


ENDLESS = {
    "interim responses": (b"", INTERIM[0]),
    "header lines": (OK, b"a: b\r\n"),
    "folds": (OK + b"a: b", b"\r\n "),
    "a value": (OK + b"a: ", b" b"),
    "a name": (OK, b"a"),
    "a reason": (b"HTTP/1.1 200 ", b"OK"),
    "blanks": (OK + b"a: b", b" "),
    "line ends without a header": (b"HTTP/1.1 200 OK", b"\r"),
}


@pytest.mark.parametrize("which", ENDLESS)
@pytest.mark.parametrize("size", [1, 1000, 16_384])
def test_a_head_without_end_is_refused_soon(which: str, size: int) -> None:
    """And reading it does not take longer and longer."""
    begin, more = ENDLESS[which]
    stream = (begin + more * (2 * MOST_HEAD_BYTES // len(more)))[: 2 * MOST_HEAD_BYTES]
    taken: list[int] = []

    def take(piece: bytes) -> bytes:
        taken.append(len(piece))
        return piece

    begun = time.process_time()
    with pytest.raises(Malformed):
        parse_pieces(take(stream[at : at + size]) for at in range(0, len(stream), size))
    assert sum(taken) <= MOST_HEAD_BYTES + size
    assert time.process_time() - begun < 2


def test_a_head_that_is_whole_but_hard_to_read_is_soon_refused() -> None:
    begun = time.process_time()
    for line in (
        b"a: b" + b" " * 60_000 + b"\0",
        b" " * 60_000,
        b"a" * 60_000,
        b"a" + b"\n " * 30_000,
    ):
        with pytest.raises(Malformed):
            parse(OK + line + END)
    assert time.process_time() - begun < 1


def test_there_may_be_a_hundred_header_lines() -> None:
    assert len(head_of(OK + b"a: b\r\n" * 100 + b"\r\n").fields) == 100
    with pytest.raises(Malformed):
        parse(OK + b"a: b\r\n" * 101 + b"\r\n")


# --- where the body ends


def framing_of(*lines: bytes, status: int = 200, version: int = 1) -> Framing:
    start = b"HTTP/1.%d %d OK" % (version, status)
    return head_of(b"\r\n".join([start, *lines, b"", b""])).framing()


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        ([b"Content-Length: 5"], Framing(False, 5, True)),
        ([b"content-length:0005"], Framing(False, 5, True)),
        ([b"Content-Length: 5", b"Content-Length: 5"], Framing(False, 5, True)),
        ([b"Content-Length: 5, 5"], Framing(False, 5, True)),
        ([b"Transfer-Encoding: chunked"], Framing(True, None, True)),
        ([b"TRANSFER-ENCODING: Chunked "], Framing(True, None, True)),
        ([], Framing(False, None, False)),
        ([b"Content-Length: 5", b"Connection: close"], Framing(False, 5, False)),
        ([b"Content-Length: 5", b"Connection: Keep-Alive, Close"], Framing(False, 5, False)),
        ([b"Content-Length: 5", b"Connection: keep-alive"], Framing(False, 5, True)),
        ([b"Content-Length: 5", b"Connection: a", b"Connection: close"], Framing(False, 5, False)),
    ],
)
def test_a_body_ends_where_the_head_says(lines: list[bytes], framing: Framing) -> None:
    assert framing_of(*lines) == framing


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 6"],
        [b"Content-Length: 5", b"Content-Length: 05"],
        [b"Content-Length: -5"],
        [b"Content-Length: +5"],
        [b"Content-Length: 5.0"],
        [b"Content-Length: 0x5"],
        [b"Content-Length: 5 5"],
        [b"Content-Length:"],
        [b"Content-Length: \xb2"],
        [b"Content-Length: " + b"9" * 20],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
    ],
)
def test_an_end_that_is_not_clear_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(Malformed):
        framing_of(*lines)


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    """Nor has a request that says so. After one that must not be there, the connection is over."""
    length = b"Content-Length: 5"
    assert framing_of(status=status) == Framing(False, 0, True)
    for line in (length, b"Transfer-Encoding: chunked"):
        assert framing_of(line, status=204) == Framing(False, 0, False)
    head = head_of(OK + length + END)
    assert head.framing(without_body=True) == Framing(False, 0, False)


@pytest.mark.parametrize("line", [b"Connection: keep-alive", b"Keep-Alive: timeout=5"])
def test_a_connection_of_an_old_server_is_not_used_again(line: bytes) -> None:
    """Between it and us there may be a proxy that does not know of keep-alive."""
    assert framing_of(line, b"Content-Length: 5", version=0) == Framing(False, 5, False)


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
    "size", [b"", b"g", b"-5", b"+5", b"0x5", b"1_0", b"5 5", b";a", b"\xb5", b"0" * 20, b"f" * 16]
)
def test_a_bad_size_is_refused(size: bytes) -> None:
    with pytest.raises(Malformed):
        ChunkDecoder().feed(size + b"\r\n")


@pytest.mark.parametrize("tail", [b"xx", b"x\n", b"\rx", b"\n\n", b"\r\r"])
@pytest.mark.parametrize("points", [[], [8], [9], [8, 9]])
def test_a_chunk_without_its_line_end_is_refused(tail: bytes, points: list[int]) -> None:
    stream = b"5\r\nhello" + tail + LAST
    with pytest.raises(Malformed):
        decode(ChunkDecoder(), cut(stream, points))


@pytest.mark.parametrize("begin", [b"5;", LAST[:-2] + b"X-Trailer: "])
@pytest.mark.parametrize("points", [[], range(10_000)])
def test_an_endless_line_is_refused(begin: bytes, points: Iterable[int]) -> None:
    for end in (b"", b"\r\n"):
        with pytest.raises(Malformed):
            decode(ChunkDecoder(), cut(begin + b"x" * 5000 + end, points))


@pytest.mark.parametrize("points", [[], range(0, 10_000, 7)])
def test_endless_trailers_are_refused(points: Iterable[int]) -> None:
    decoder = ChunkDecoder()
    assert decode(decoder, cut(b"0\r\n" + b"a: b\r\n" * 99 + b"\r\n", points)) == b""
    assert decoder.ended
    with pytest.raises(Malformed):
        decode(ChunkDecoder(), cut(b"0\r\n" + b"a: b\r\n" * 1000, points))


@pytest.mark.parametrize("after", [b"HTTP/1.1 200 OK\r\n", b"\n", LAST])
@pytest.mark.parametrize("points", [[], [len(chunk(b"a") + LAST)]])
def test_what_comes_after_the_end_is_noticed_and_not_given(after: bytes, points: list[int]) -> None:
    decoder = ChunkDecoder()
    assert decode(decoder, cut(chunk(b"a") + LAST + after, points)) == b"a"
    assert decoder.ended
    assert decoder.exceeded
