"""The native upstream and load of the benchmarks keep what they promise."""

import contextlib
import http.client
import json
import re
import socket
import time
from functools import partial

import pytest

from benchmarks.load import LoadError
from benchmarks.native import Load, Upstream
from benchmarks.processes import Cores
from tests.support.waiting import Background, wait_for

CORES = Cores.all_for_all()
BODY = b'{"messages":[{"role":"user","content":"@SPEC@ tag=@TAG@ Hello"}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"
# The line before the one that tells the coding is longer than the load keeps lines.
CHUNKED = b"HTTP/1.1 200 OK\r\nX-Long: %s\r\ntransfer-encoding: Chunked\r\n\r\n" % (b"long " * 99)
LAST_CHUNK = b"0;name=value\r\nTrailer: value\r\n\r\n"
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def upstream(logs):
    with Upstream(logs("native"), CORES) as process:
        yield process


@pytest.fixture
def load(upstream):
    with Load(upstream.port, PATH, BODY, {}, cancel_path=None, cores=CORES) as load:
        yield load


@pytest.fixture
def server():
    """A server that is played by the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def player(server):
    """The load of that server."""
    port, headers = server.getsockname()[1], {"X-Session-Id": "@TAG@"}
    with Load(port, "/stream", BODY, headers, cancel_path="/stop/@TAG@", cores=CORES) as load:
        yield load


def event(stamp=None):
    """An event that bears a time, now if none is given."""
    return b'data: {"content":"@%019d "}\n\n' % (time.monotonic_ns() if stamp is None else stamp)


def chunks(*texts):
    """Each text as a chunk."""
    return b"".join(b"%X;name=value\r\n%s\r\n" % (len(text), text) for text in texts)


def accept(server):
    """The next connection, and the request that came on it."""
    connection, _ = server.accept()
    connection.settimeout(10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    return connection, request


def opened(server, player, begin=None):
    """The server's end of one open stream, after its first event."""
    opening = Background(partial(player.open, 1, "a", "rate=1"))
    connection, _ = accept(server)
    connection.sendall(begin or HEAD + event())
    assert opening.result().failed == 0
    return connection


def idle(upstream):
    """The upstream's totals, once the streams of the tests before have ended."""
    return wait_for(lambda: (totals := upstream.totals()).open == 0 and totals)


@pytest.fixture
def connection(upstream):
    """A connection to the upstream."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=20)
    with contextlib.closing(connection):
        yield connection


def post(connection, body, **options):
    """The upstream's answer to a body, on a connection that is kept."""
    connection.request("POST", PATH, body, **options)
    return connection.getresponse()


def test_an_answer_has_the_form_of_deepseeks_and_leaves_the_connection_open(upstream, connection):
    for _ in range(2):
        response = post(connection, b"rate=0 tokens=3 tag=form ")
        assert response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        *blocks, empty = response.read().decode().split("\n\n")
        assert blocks.pop() == "data: [DONE]"
        assert not empty
        assert [len(block) + 2 for block in blocks[:3]] == [270] * 3
        choices = [json.loads(block.removeprefix("data: "))["choices"][0] for block in blocks]
        assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
        assert re.fullmatch(r"@\d{19} ", choices[0]["delta"]["content"])
        assert connection.sock  # else the second request would connect anew
    assert [entry.finished for entry in upstream.ledger("form")] == [True, True]


def test_the_words_are_found_in_a_chunked_body(upstream, connection):
    pieces = (b'{"messages": [{"content": "ra', b"te=0 tok", b'ens=5 tag=in_chunks "}]}')
    post(connection, iter(pieces), encode_chunked=True).read()
    assert upstream.ledger("in_chunks")[0].events == 5


def test_a_body_without_the_words_is_refused(connection):
    assert post(connection, b"{}").status == 400


def test_events_come_exactly_at_their_rate(load, upstream):
    """Never early, and however late one was, the next are not late because of it."""
    rate = 200
    load.open(3, "rate", f"rate={rate} tokens=0")

    def due(entry):
        return (time.monotonic_ns() - entry.received) * rate / 1e9

    def on_time(tag):
        begun = upstream.ledger(tag)[0]
        before = due(begun)
        entry = upstream.ledger(tag)[0]
        assert entry.events <= due(entry) + 2  # the first is at once, the second at any time
        return entry.events > 400 and entry.events >= before

    for tag in ("rate_1", "rate_2", "rate_3"):
        wait_for(lambda tag=tag: on_time(tag), message=f"all that is due of {tag}")
    sends = upstream.ledger("rate_1")[0].last_sends
    assert len(sends) == 16
    assert sends == sorted(sends)


def test_a_silent_answer_has_one_event(load, upstream):
    load.open(1, "silent", "rate=1000 tokens=0 silent=1")
    load.open(1, "beside", "rate=1000 tokens=0")
    wait_for(lambda: upstream.ledger("beside_1")[0].events > 50)
    assert upstream.ledger("silent_1")[0].events == 1


def test_whole_answers_are_counted(load, upstream):
    before = idle(upstream)
    answers = load.answers(30, 4, "whole", "rate=0 tokens=7")
    assert (answers.answers, answers.whole, answers.events) == (30, 30, 210)
    assert len(answers.first) == 30
    assert {upstream.ledger(f"whole_{i}")[0].finished for i in range(1, 31)} == {True}
    after = upstream.totals()
    assert (after.open, after.requests) == (0, before.requests + 30)
    assert after.events == before.events + 210


def test_probes_keep_their_interval(load):
    answers = load.probe(5, 40, "probe", "rate=0 tokens=2")
    assert answers.whole == 5
    assert answers.seconds >= 4 * 0.040


def test_an_answer_that_was_cut_short_is_not_whole(server, player):
    answering = Background(partial(player.answers, 3, 1, "a", "tokens=2"))
    for body in (event() + event(), event() + DONE, event() + event() + DONE):
        with accept(server)[0] as connection:
            connection.sendall(HEAD + body)
    answers = answering.result()
    assert (answers.whole, answers.events, len(answers.failures)) == (1, 5, 2)


TEXT = event()
#: Where its marker begins, and each place that is within it.
AT = TEXT.index(b'"@')
WITHIN = range(AT, AT + 23)
FRAMED = chunks(TEXT[: AT + 9], TEXT[AT + 9 :])
#: How an answer begins, and an event in two parts, cut at one place after the other.
CUTS = {
    "markers by reads": (HEAD + TEXT, [(TEXT[:cut], TEXT[cut:]) for cut in WITHIN]),
    "markers by frames of chunks": (
        CHUNKED + chunks(TEXT),
        [(chunks(TEXT[:cut], TEXT[cut:]), b"") for cut in WITHIN],
    ),
    "frames by reads": (
        CHUNKED + chunks(TEXT),
        [(FRAMED[:cut], FRAMED[cut:]) for cut in range(1, len(FRAMED))],
    ),
}


@pytest.mark.parametrize("what", CUTS)
def test_what_is_cut_in_two_is_understood_and_counted_once(server, player, what):
    begin, cuts = CUTS[what]
    with opened(server, player, begin) as connection:
        counted = player.mark().events
        for one, other in cuts:
            connection.sendall(one)
            counted += player.mark().events  # the load has read what came before this
            connection.sendall(other)
            counted += player.mark().events
    assert counted == 1 + len(cuts)


def test_the_last_chunk_ends_an_answer(server, player):
    """The connections stay open: nothing else ends these. One ``[DONE]`` is cut at every place."""
    cuts = range(DONE.index(b"["), DONE.index(b"]") + 2)
    answering = Background(partial(player.answers, len(cuts) + 1, 1, "a", "tokens=1"))
    with contextlib.ExitStack() as stack:
        for cut in cuts:
            connection = stack.enter_context(accept(server)[0])
            done = chunks(DONE[:cut], DONE[cut:])
            connection.sendall(CHUNKED + chunks(event()) + done + LAST_CHUNK)
        stack.enter_context(accept(server)[0]).sendall(CHUNKED + chunks(event()) + LAST_CHUNK)
        answers = answering.result()
    assert (answers.whole, answers.events) == (len(cuts), len(cuts) + 1)


def test_a_stream_has_ended_after_the_trailers(server, player):
    *lines, last = LAST_CHUNK.splitlines(keepends=True)
    with opened(server, player, CHUNKED + chunks(event())) as connection:
        connection.sendall(b"".join(lines))
        assert (player.mark().live, player.mark().ended) == (1, 0)
        connection.sendall(last)
        mark = player.mark()
    assert (mark.live, mark.ended) == (0, 1)


def test_what_is_no_chunk_ends_an_answer(server, player):
    answering = Background(partial(player.answers, 1, 1, "a", "tokens=1"))
    with accept(server)[0] as connection:
        connection.sendall(CHUNKED + event() + DONE)
        assert answering.result().events == 0


def test_without_the_coding_nothing_is_a_chunk(server, player):
    head = HEAD.replace(b"\r\n\r\n", b"\r\nX-Note: Transfer-Encoding: chunked\r\n\r\n")
    with opened(server, player, head + b"0\r\n\r\n" + event()) as connection:
        connection.sendall(b"5\r\n" + event() + LAST_CHUNK + event())
        mark = player.mark()
    assert (mark.events, mark.ended) == (3, 0)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_comes_byte_by_byte_is_whole(server, player, chunked):
    text = event() + event() + event() + DONE
    pieces = [text[at : at + 20] for at in range(0, len(text), 20)]
    response = CHUNKED + chunks(*pieces) + LAST_CHUNK if chunked else HEAD + text
    answering = Background(partial(player.answers, 1, 1, "a", "tokens=3"))
    with accept(server)[0] as connection:
        for byte in response:
            connection.sendall(bytes([byte]))
            time.sleep(0.0002)  # so that most are read alone
    answers = answering.result()
    assert (answers.whole, answers.events) == (1, 3)


def test_a_delay_is_the_time_since_the_stamp(server, player):
    with opened(server, player) as connection:
        player.mark()
        begun = time.monotonic_ns()
        for late in (1, 2, 3):
            connection.sendall(event(begun - late * 10**9))
        delays = player.mark().delay_ms
        taken = (time.monotonic_ns() - begun) / 1e6
    assert 1990 <= delays.p50 <= 2010 + taken
    assert 2985 <= delays.p99 <= 3015 + taken
    assert 3000 <= delays.max <= 3000 + taken


def test_a_mark_tells_who_was_served_and_who_ended(load, upstream):
    load.open(2, "ending", "rate=0 tokens=5")
    load.open(3, "staying", "rate=50 tokens=0")
    load.open(4, "silent", "rate=50 tokens=0 silent=1")
    marks = []

    def ended():
        marks.append(load.mark())
        return sum(mark.ended for mark in marks) == 2

    wait_for(ended)
    load.mark()
    already = upstream.ledger("staying_1")[0].events
    wait_for(lambda: upstream.ledger("staying_1")[0].events >= already + 5)
    mark = load.mark()
    assert mark.events >= 10
    assert (mark.served, mark.live, mark.ended) == (3, 7, 0)
    assert load.close() == 7
    assert load.mark().live == 0


def test_the_ledger_knows_when_a_client_left(load, upstream):
    idle(upstream)
    load.open(5, "leave", "rate=50 tokens=0")
    assert upstream.totals().open == 5
    stops = load.stop(2, 20, "leave")
    assert stops[1].sent - stops[0].sent >= 19_000_000
    wait_for(lambda: upstream.totals().open == 3)
    for stop in stops:
        entry = upstream.ledger(stop.tag)[0]
        assert stop.sent <= entry.gone <= stop.sent + 10**9
        assert entry.last_sends[-1] <= entry.gone
        assert not entry.finished
    assert (load.mark().live, load.mark().ended) == (3, 0)


def test_a_stop_is_posted_and_its_answer_timed(server, player):
    with opened(server, player) as stream:
        begun = time.monotonic_ns()
        stopping = Background(partial(player.stop, 1, 0, "cancel"))
        connection, request = accept(server)
        assert request.startswith(b"POST /stop/a_1 HTTP/1.1\r\n")
        assert b"\r\nX-Session-Id: a_1\r\n" in request
        with connection:
            connection.sendall(b"HTTP/1.1 404 NOT FOUND\r\n\r\n")
        (stop,) = stopping.result()
        assert begun <= stop.sent
        assert (stop.tag, stop.status) == ("a_1", 404)
        assert 0 < stop.answered_ms < (time.monotonic_ns() - begun) / 1e6
        assert player.stop(1, 0, "cancel") == []  # nobody is left who was not told
        assert player.mark().live == 1
        stream.shutdown(socket.SHUT_RDWR)
        assert player.mark().ended == 0  # it was stopped


@pytest.mark.parametrize("rate", [0, 200_000])
def test_a_slow_reader_gets_every_event_and_delays_nobody(load, upstream, connection, rate):
    tag, tokens = f"slow_{rate}", 30_000  # more than the buffers of both sockets take
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    response = post(connection, f"rate={rate} tokens={tokens} tag={tag} ".encode())
    seen = [0]

    def stands_still():
        seen.append(upstream.ledger(tag)[0].events)
        return seen[-1] == seen[-2] > 0

    wait_for(stands_still)
    assert seen[-1] < tokens
    assert load.answers(5, 1, "beside_slow", "rate=0 tokens=5").whole == 5
    body = response.read()
    assert len(re.findall(rb'"@\d{19} "', body)) == tokens
    assert body.endswith(DONE)
    entry = upstream.ledger(tag)[0]
    assert (entry.events, entry.finished, entry.gone) == (tokens, True, None)


def test_a_failure_tells_what_came_instead(upstream):
    with Load(upstream.port, "/nothing", BODY, {}, cancel_path=None, cores=CORES) as load:
        opening = load.open(5, "lost", "rate=1")
        assert (opening.open, opening.failed, len(opening.failures)) == (5, 5, 3)
        assert opening.failures[0].startswith("HTTP/1.1 404 Not Found\r\n")
        assert load.answers(2, 1, "lost", "tokens=1").whole == 0


def test_a_server_that_is_not_there_is_a_failure():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with Load(port, PATH, BODY, {}, cancel_path=None, cores=CORES) as load:
            assert load.open(2, "refused", "rate=1").failures == ["Connection refused"] * 2


def test_what_cannot_be_done_is_an_error(load):
    with pytest.raises(LoadError, match="no such command"):
        load.stop(1, 0, "cancel")  # it has no cancel path
    with pytest.raises(LoadError, match="usage: load"):
        Load(0, PATH, BODY, {}, cancel_path=None, cores=CORES)


def test_ended_entries_can_be_forgotten(load, upstream):
    load.answers(1, 1, "forget", "rate=0 tokens=1")
    load.open(1, "keep", "rate=1 tokens=0")
    upstream.forget()
    assert upstream.ledger("forget_1") == []
    assert len(upstream.ledger("keep_1")) == 1
