"""The wire of server-sent events: blocks out of bytes, whatever the pieces, and back again."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy import sse
from chatproxy.errors import UpstreamError
from chatproxy.sse import MAX_EVENT_BYTES, Decoder

BOM = b"\xef\xbb\xbf"
LINE_SEPARATOR = "\u2028".encode()

LINE_ENDS = [b"\n", b"\r", b"\r\n"]
LINES = [
    b'data: {"a": 1}',
    b"data:x",
    b"data:  two spaces",
    b"data",
    b"data: a:b",
    b"data: [DONE]",
    b"data: " + LINE_SEPARATOR + b" \xc2\x85 \x0b\x0c",
    b"data: \xff\xfe\x00",
    b"datax: y",
    b" data: z",
    b"event: e",
    b"id: 4",
    b"retry: 1",
    b"unknown: u",
    b": a comment",
    b":",
    b"",
]
#: DeepSeek sends the first; the others are much like it.
PIECES = [
    b"data: 1\n\n",
    b"data: 1\n\n\n\n",
    b"data: 1\ndata: 2\n\n",
    b"data: 1\n\n: c\n\n",
    b"data: 1\n\nid: 1\n\n",
    b"data: 1\n",
    b"data: 1\r\r",
    b"data: 1\r\n\n",
    b"\n\ndata: 1",
    b"data: 1",
    BOM[:2],
    b"\n\n",
]
streams = st.lists(
    st.sampled_from([*LINES, *LINE_ENDS * 4, BOM]) | st.binary(max_size=6), max_size=30
).map(b"".join)
#: The last of them is between all bytes.
cut_points = st.lists(st.integers(0, 200), max_size=20) | st.just([*range(200)])
json_objects = st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=4)

data_blocks = st.lists(st.sampled_from([b"data: 1", b"data:", b"data"]), min_size=1, max_size=3)
events = data_blocks.map(b"\n".join)
OWN_COMMENTS = [sse.KEEP_ALIVE, sse.HEARTBEAT]


def decode(pieces: Iterable[bytes]) -> list[bytes]:
    decoder = Decoder()
    return [block for piece in pieces for block in decoder.feed(piece)]


def cut(stream: bytes, points: list[int]) -> Iterator[bytes]:
    ends = [0, *sorted(points), len(stream)]
    return (stream[start:end] for start, end in itertools.pairwise(ends))


def name_of(line: bytes) -> bytes:
    return line.split(b":")[0]


def by_the_book(stream: bytes) -> list[bytes]:
    """The blocks of a whole stream, found in another way: line by line with all of it at hand."""
    *lines, _unended = re.split(rb"\r\n|\r|\n", stream.removeprefix(BOM))
    blocks: list[bytes] = []
    event: list[bytes] = []
    for line in lines:
        if line.startswith(b":"):
            blocks.append(line)
        elif line:
            event.append(line)
        else:
            kept = [line for line in event if name_of(line) in (b"data", b"event")]
            if any(name_of(line) == b"data" for line in kept):
                blocks.append(b"\n".join(kept))
            event = []
    return blocks


@settings(max_examples=200)
@given(streams, cut_points)
def test_every_split_of_a_stream_gives_the_same_blocks(stream: bytes, points: list[int]) -> None:
    assert decode(cut(stream, points)) == by_the_book(stream)


def test_what_looks_like_whole_events_gives_the_blocks_that_it_is() -> None:
    for a, b, c in itertools.product(PIECES, repeat=3):
        blocks = by_the_book(a + b + c)
        assert decode([a, b, c]) == decode([a + b, c]) == decode([a, b + c]) == blocks


def test_whole_events_in_one_piece_have_no_bound_but_a_long_one_among_them_has() -> None:
    many = [b"data: 1"] * MAX_EVENT_BYTES
    assert decode([many[0] + b"\n\n", b"\n\n".join([*many, b""])]) == [many[0], *many]
    long = b"data: " + b"x" * MAX_EVENT_BYTES
    with pytest.raises(UpstreamError, match="more than 262144 bytes"):
        decode([many[0] + b"\n\n", long + b"\n\n"])


SEPARATORS = b"data: a" + LINE_SEPARATOR + b"b\xe2\x80\xa9c\xc2\x85d\x0be\x0cf"
EXAMPLES: dict[str, tuple[list[bytes], list[bytes]]] = {
    "a CRLF split between two reads is one line end": (
        [b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n"],
        [b"data: 1\ndata: 2"],
    ),
    "a byte order mark at the start is dropped": ([BOM + b"data: 1\n\n"], [b"data: 1"]),
    "and one in pieces": ([b"\xef", b"\xbb", b"\xbfdata: 1\n\n"], [b"data: 1"]),
    "a second one belongs to its line": ([BOM + BOM + b"data: 1\n\n"], []),
    "so does one amid an event": ([b"data: 1\n" + BOM + b"data: 2\n\n"], [b"data: 1"]),
    "and one at a later event": ([b"data: 1\n\n", BOM + b"data: 2\n\n"], [b"data: 1"]),
    "an event that the end cuts off is discarded": ([b"data: 1\n\ndata: 2\n"], [b"data: 1"]),
    "also amid its line": ([b"data: 1\n\ndata: 2"], [b"data: 1"]),
    "an event without data is none and leaves nothing": (
        [b"event: e\n\ndata: 1\n\n"],
        [b"data: 1"],
    ),
    "a comment amid an event comes first": (
        [b"data: 1\n: c\ndata: 2\n\n"],
        [b": c", b"data: 1\ndata: 2"],
    ),
    "ids, retries and unknown fields are dropped": (
        [b"id: 9\nretry: 5\nx: y\ndata: 1\nevent: e\n\n"],
        [b"data: 1\nevent: e"],
    ),
    "and do not count": (
        [b"data: 1\n", *[b"id: ".ljust(1000, b"x") + b"\n"] * 1000, b"\n"],
        [b"data: 1"],
    ),
    "what is not UTF-8 passes": ([b"data: \xff\xc3\x28\x00\n\n"], [b"data: \xff\xc3\x28\x00"]),
    "Unicode's line separators end no line": ([SEPARATORS + b"\n\n"], [SEPARATORS]),
}


@pytest.mark.parametrize("which", EXAMPLES)
def test_by_example(which: str) -> None:
    pieces, blocks = EXAMPLES[which]
    assert decode(pieces) == blocks


def test_a_block_is_given_as_soon_as_its_line_end_came() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\r\r") == [b"data: 1"]
    assert decoder.feed(b"\n: c\r") == [b": c"]


def bytes_until_refused(piece: bytes) -> int:
    """How many bytes the decoder takes of an endless row of pieces."""
    decoder = Decoder()
    for number in range(1, 1024 * 1024 // len(piece)):
        try:
            decoder.feed(piece)
        except UpstreamError:
            return number * len(piece)
    raise AssertionError("a megabyte was taken")


@pytest.mark.parametrize(
    "piece",
    [
        b"x" * 100,
        b"data: ".ljust(99, b"x") + b"\n",
        b"event: ".ljust(99, b"x") + b"\n",
        b":" * 100,
        b"x" * 4096,
    ],
    ids=["a line", "data lines", "event lines", "a comment", "a line in larger pieces"],
)
def test_an_event_without_end_is_refused_at_the_limit(piece: bytes) -> None:
    taken = bytes_until_refused(piece)
    line_ends = taken // len(piece) if piece.endswith(b"\n") else 0
    assert MAX_EVENT_BYTES < taken <= MAX_EVENT_BYTES + len(piece) + line_ends


@pytest.mark.parametrize("size", [1, 1000, MAX_EVENT_BYTES + 2])
def test_an_event_of_just_the_limit_passes_in_pieces_of_any_size(size: int) -> None:
    block = b"data: ".ljust(MAX_EVENT_BYTES, b"x")
    stream = block + b"\n\n"
    assert decode(cut(stream, list(range(0, len(stream), size)))) == [block]


def test_the_limit_is_for_each_event_alone() -> None:
    block = b"data: ".ljust(MAX_EVENT_BYTES - 10, b"x")
    assert decode([block + b"\n\n", block + b"\n", b"\n" + block, b"\n\n"]) == [block] * 3


@pytest.mark.parametrize(
    ("block", "data"),
    [
        (b'data: {"a": 1}', b'{"a": 1}'),
        (b"data:x", b"x"),
        (b"data:  x", b" x"),
        (b"data: a: b", b"a: b"),
        (b"data", b""),
        (b"data: 1\ndata\ndata: 2", b"1\n\n2"),
        (b"event: e\ndata: 1", b"1"),
        (b"event: data", b""),
        (b": data: 1", b""),
    ],
)
def test_the_data_are_the_data_lines_without_their_names(block: bytes, data: bytes) -> None:
    assert sse.data_of(block) == data


@pytest.mark.parametrize(
    ("block", "done"),
    [
        *((sse.DONE, True), (b"data:[DONE]", True), (b"data: [DONE] ", True)),
        (b"event: message\ndata: [DONE]", True),
        (b'data: "[DONE]"', False),
        (b'data: {"content": "[DONE]"}', False),
        (b"data: [DONE]\ndata: more", False),
        *((b"event: [DONE]", False), (b": [DONE]", False), (b"data: [done]", False)),
    ],
)
def test_deepseeks_last_event_is_known_in_any_notation(block: bytes, done: bool) -> None:
    """And none that only speaks of the end."""
    assert sse.is_done(block) == done


@pytest.mark.parametrize("ends", [b"", b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize(
    "before", [b"", b"data: {}\n\n", b"event: message\n", b"\xef\xbb\xbf: c\n"]
)
@pytest.mark.parametrize("last", [b"data: [DONE]", b"data:[DONE]"])
def test_the_last_event_is_known_before_its_line_ends_come(
    before: bytes, last: bytes, ends: bytes
) -> None:
    decoder = Decoder()
    for byte in before + last[:-1]:
        decoder.feed(bytes([byte]))
        assert not sse.is_done(decoder.pending)
    decoder.feed(last[-1:] + ends)
    assert sse.is_done(decoder.pending)


def test_of_a_long_event_nothing_is_told_before_it_is_whole() -> None:
    """Else each byte of it would cost as much as all before."""
    decoder = Decoder()
    decoder.feed(b"data: " + b"x" * 3000)
    assert len(decoder.pending) == 3006
    decoder.feed(b"x" * 3000)
    assert decoder.pending == b""


@pytest.mark.parametrize("line", [b": [DONE]", b"id: [DONE]", b'data: "[DONE]"', b"data: [DONE"])
def test_a_line_that_is_not_the_last_event_is_not_taken_for_it(line: bytes) -> None:
    decoder = Decoder()
    decoder.feed(b"data: {}\n\n" + line)
    assert not sse.is_done(decoder.pending)


@pytest.mark.parametrize("ends", [b"", b"\n", b"\r", b"\r\n"])
def test_an_event_without_its_line_ends_is_whole_once_they_are_fed(ends: bytes) -> None:
    decoder = Decoder()
    assert decoder.feed(b"event: e\ndata: 1" + ends) == []
    assert decoder.feed(b"\n\n") == [b"event: e\ndata: 1"]


@pytest.mark.parametrize("prefix", [b"data:", b"event: ping\ndata:"])
def test_an_event_may_say_nothing(prefix: bytes) -> None:
    for data in (b"", b" ", b" \t ", b" null", b"null "):
        assert sse.is_blank(prefix + data)
    for data in (b"0", b"{}", b'""', b"nullx"):
        assert not sse.is_blank(prefix + data)


def test_what_is_no_event_stream_is_kept_for_the_one_who_has_to_tell() -> None:
    decoder = Decoder()
    decoder.feed(b'{\n "error": 1\n}\n' + b"id: 4\nretry: 3\n" + b"x" * 9000 + b"\n")
    assert decoder.strays.startswith(b'{\n "error": 1\n}\nxxx')
    assert len(decoder.strays) < 5000


@settings(max_examples=30)
@given(json_objects)
def test_an_event_of_our_own_survives_the_wire(data: dict[str, object]) -> None:
    block = sse.event("stopped", data)
    (decoded,) = decode([sse.numbered(1, block)])
    assert decoded == block
    assert decoded.startswith(b"event: stopped\n")
    assert json.loads(sse.data_of(decoded)) == data


@given(st.lists(events | st.none(), max_size=10), st.sampled_from(OWN_COMMENTS), cut_points)
def test_whatever_is_written_is_read_again(
    blocks: list[bytes | None], comment: bytes, points: list[int]
) -> None:
    """With comments, which stand for the Nones, between the events."""
    pairs = enumerate(blocks, 1)
    wire = b"".join(sse.numbered(n, block) if block else comment for n, block in pairs)
    assert decode(cut(wire, points)) == [block or comment.strip() for block in blocks]


@pytest.mark.parametrize("comment", OWN_COMMENTS)
def test_comments_are_told_from_events(comment: bytes) -> None:
    (block,) = decode([comment])
    assert sse.is_comment(block)
    assert not sse.is_comment(b"data: :")


def test_a_number_comes_as_an_id_line_before_the_event() -> None:
    assert sse.numbered(42, b"event: e\ndata: 1") == b"id: 42\nevent: e\ndata: 1\n\n"


def test_many_small_lines_up_to_the_limit_are_one_event() -> None:
    decoder = sse.Decoder()
    for _ in range(40_000):
        decoder.feed(b"data:\n")
    assert decoder.feed(b"\n") == [b"\n".join([b"data:"] * 40_000)]
