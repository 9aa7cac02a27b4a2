"""Direct writes: events go from the producer to the client's socket, and nothing is lost.

At the end the servers are real: gunicorn with and without our settings, and with a middleware.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from flask import Flask
from gunicorn.http.wsgi import Response
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import create_environ
from werkzeug.wsgi import ClosingIterator

from chatproxy import sse
from chatproxy.answers import readers
from chatproxy.answers.cursor import Sink
from chatproxy.answers.log import AnswerLog
from chatproxy.answers.readers import LogReader
from chatproxy.server.direct_write import DirectBody, DirectWriter, lending
from chatproxy.upstreams.transport.http1 import ChunkDecoder
from chatproxy.web import native, streaming
from chatproxy.web.event_stream import EventStream

from .support import many
from .support.servers import GUNICORN, Client, DeepSeek, Process, clean_environment, new_id
from .support.waiting import PATIENCE, Background, wait_for

#: Longer than any test waits for a thread.
LONG = 6 * PATIENCE
#: More than a socket takes at once in these tests.
LARGE = b"x" * 200_000
ROOMY = 1 << 20


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end, with the smallest of buffers and not blocking, and the client's."""
    with many.pair() as (ours, theirs):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        yield ours, theirs


def response_on(sock: socket.socket, chunked: bool = True) -> Any:
    return SimpleNamespace(sock=sock, chunked=chunked, sent=0, headers_sent=True)


def receive(sock: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = sock.recv(size - len(received))
        assert piece, received
        received += piece
    return received


def is_empty(sock: socket.socket) -> bool:
    sock.settimeout(0.0)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(PATIENCE)


def framed(block: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(block), block)


# --- writing


@pytest.mark.parametrize("chunked", [True, False])
def test_a_write_goes_out_at_once_and_is_counted(chunked: bool) -> None:
    """As a chunk, but in HTTP/1.0, which has none."""
    with pair() as (ours, theirs):
        response = response_on(ours, chunked)
        assert DirectWriter(response).write(b"hello, client")
        sent = b"D\r\nhello, client\r\n" if chunked else b"hello, client"
        assert receive(theirs, len(sent)) == sent
        assert is_empty(theirs)
        assert response.sent == len(b"hello, client")  # as gunicorn counts


def test_what_the_socket_does_not_take_is_kept_for_the_flush() -> None:
    with pair() as (ours, theirs):
        writer = DirectWriter(response_on(ours))
        assert not writer.write(LARGE)
        flushing = Background(writer.flush)
        assert receive(theirs, len(framed(LARGE))) == framed(LARGE)
        flushing.result()
        writer.flush()  # and that only once
        assert is_empty(theirs)


def test_a_write_is_when_silence_begins_anew() -> None:
    with pair() as (ours, _theirs):
        writer = DirectWriter(response_on(ours))
        before = writer.written_at
        wait_for(lambda: time.monotonic() > before)
        writer.write(b"a")
        assert writer.written_at > before


def test_a_broken_socket_is_told_of_by_the_flush() -> None:
    with pair() as (ours, theirs):
        writer = DirectWriter(response_on(ours))
        theirs.close()
        assert not writer.write(b"a")
        with pytest.raises(BrokenPipeError):
            writer.flush()


# --- what the server writes by itself


def test_what_the_server_writes_comes_after_what_was_left() -> None:
    with pair() as (ours, theirs):
        writer = DirectWriter(response_on(ours))
        assert not writer.write(LARGE)
        writing = Background(lambda: writer.sendall(b"0\r\n\r\n"))
        expected = framed(LARGE) + b"0\r\n\r\n"
        assert receive(theirs, len(expected)) == expected
        writing.result()
        assert is_empty(theirs)


def test_the_server_waits_where_the_socket_is_full_and_is_told_where_it_is_broken() -> None:
    with pair() as (ours, theirs):
        writer = DirectWriter(response_on(ours))
        writing = Background(lambda: writer.sendall(LARGE))
        assert receive(theirs, len(LARGE)) == LARGE
        writing.result()
        theirs.close()
        with pytest.raises(BrokenPipeError):
            writer.sendall(b"a")


@pytest.mark.parametrize(("version", "pieces"), [((1, 1), 1), ((1, 0), 2)])
def test_the_head_goes_with_the_first_item_where_the_body_is_chunked(
    version: tuple[int, int], pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair() as (ours, theirs):
        response, written = gunicorn_response(ours, version=version), []

        def write(descriptor: int, data: bytes) -> int:
            written.append(data)
            return theirs_too(descriptor, data)

        theirs_too = os.write
        run(application(Lent()), response.start_response)
        monkeypatch.setattr(os, "write", write)
        response.write(b"a")
        assert len(written) == pieces
        received = receive(theirs, sum(map(len, written)))
        assert received.startswith(b"HTTP/1.")
        assert received.endswith(b"\r\n\r\n" + (b"1\r\na\r\n" if pieces == 1 else b"a"))


def test_the_head_goes_out_where_there_is_no_item() -> None:
    for version, end in (((1, 1), b"\r\n\r\n0\r\n\r\n"), ((1, 0), b"\r\n\r\n")):
        with pair() as (ours, theirs):
            response = gunicorn_response(ours, version=version)
            run(application(Lent()), response.start_response)
            response.close()
            received = theirs.recv(10_000)
            assert received.startswith(b"HTTP/1.")
            assert received.endswith(end)


# --- a reader with a sink


class Server:
    """Does as gunicorn's worker does: asks for the next item, and writes it, until the end."""

    def __init__(self, log: AnswerLog, sock: socket.socket, timeout: float = LONG) -> None:
        self._timeout = timeout
        self._writer = DirectWriter(response_on(sock))
        self.reader = LogReader(log)
        self.reader.lend(self._writer)
        #: What came to the server itself.
        self.items: list[bytes] = []
        self.serving = Background(self._serve)

    def _serve(self) -> None:
        while (item := self.reader.read(self._timeout)) is not None:
            self.items.append(item)
            self._writer.sendall(framed(item or sse.HEARTBEAT))
        self._writer.sendall(b"0\r\n\r\n")

    def wait_until_it_waits(self) -> None:
        wait_for(lambda: self.reader.waits)


def read_body(sock: socket.socket, pace: Iterable[int] = (65536,)) -> bytes:
    """Read to the end of a chunked body, in pieces of these sizes."""
    decoder, found, sizes = ChunkDecoder(), b"", itertools.cycle(pace)
    while not decoder.ended:
        piece = sock.recv(next(sizes))
        assert piece, found
        found += decoder.feed(piece)
    return found


def test_events_are_written_while_the_reader_waits_and_do_not_wake_it() -> None:
    with pair() as (ours, theirs):
        log = AnswerLog(ROOMY)
        server = Server(log, ours)
        server.wait_until_it_waits()
        for number in range(1, 4):
            log.append([b"data: a"])
            expected = framed(sse.numbered(number, b"data: a"))
            assert receive(theirs, len(expected)) == expected
            assert server.reader.waits
        log.pulse()
        assert receive(theirs, len(framed(sse.KEEP_ALIVE))) == framed(sse.KEEP_ALIVE)
        log.append([])
        assert is_empty(theirs)
        log.end()
        server.serving.result()
        assert server.items == []
        assert theirs.recv(100) == b"0\r\n\r\n"


def test_what_is_written_counts_as_read() -> None:
    with pair() as (ours, _theirs):
        log = AnswerLog(10)
        server = Server(log, ours)
        server.wait_until_it_waits()
        log.append([b"data: a"])
        assert server.reader.seen == 1
        assert not log.full
        server.reader.close()
        server.serving.result()


def test_the_reader_is_woken_where_the_socket_is_full() -> None:
    with pair() as (ours, theirs):
        log = AnswerLog(ROOMY)
        server = Server(log, ours)
        server.wait_until_it_waits()
        large = b"x" * 60_000
        log.append([large])
        assert not server.reader.waits
        log.append([b"data: b"])  # is for the reader itself
        log.end()
        assert read_body(theirs) == sse.numbered(1, large) + sse.numbered(2, b"data: b")
        server.serving.result()
        assert server.items == [sse.numbered(2, b"data: b")]


def test_the_reader_is_woken_for_what_is_more_than_one_write() -> None:
    with pair() as (ours, theirs):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        log = AnswerLog(ROOMY)
        server = Server(log, ours)
        server.wait_until_it_waits()
        log.append([b"x" * 40_000] * 3)
        wait_for(lambda: server.reader.seen == 3)
        log.end()
        sent = itertools.starmap(sse.numbered, enumerate([b"x" * 40_000] * 3, 1))
        assert read_body(theirs) == b"".join(sent)
        server.serving.result()
        assert len(server.items) == 2


def test_the_reader_is_told_where_the_client_has_gone() -> None:
    with pair() as (ours, theirs):
        log = AnswerLog(ROOMY)
        reader = LogReader(log)
        reader.lend(DirectWriter(response_on(ours)))

        def read() -> None:
            with pytest.raises(BrokenPipeError):
                reader.read(LONG)

        reading = Background(read)
        wait_for(lambda: reader.waits)
        theirs.close()
        log.append([b"data: a"])
        reading.result()


def test_a_reader_that_does_not_wait_is_not_written_for() -> None:
    with pair() as (ours, theirs):
        log = AnswerLog(ROOMY)
        reader = LogReader(log)
        reader.lend(DirectWriter(response_on(ours)))
        assert reader.read(0) == b""
        log.append([b"data: a"])
        assert is_empty(theirs)
        assert reader.read(0) == sse.numbered(1, b"data: a")


appended = st.lists(
    st.lists(st.sampled_from([0, 1, 50, 5000, 100_000]), max_size=3) | st.none(), max_size=12
)


@settings(max_examples=40)
@given(
    appended,
    st.lists(st.sampled_from([1, 7, 1000, 65536]), min_size=1, max_size=4).map(
        lambda sizes: [*sizes, 65536]
    ),
    st.sampled_from([0.0, 0.001, LONG]),
    st.sampled_from([1, 20_000, ROOMY]),
)
def test_nothing_is_lost_or_doubled_or_out_of_order(
    appends: list[list[int] | None], pace: list[int], heartbeat: float, limit: int
) -> None:
    """Whatever is appended (None is a pulse), however slow the client, and however impatient."""
    with pair() as (ours, theirs):
        log = AnswerLog(limit)
        server = Server(log, ours, heartbeat)
        client = Background(lambda: read_body(theirs, pace))
        expected = []
        for sizes in appends:
            if sizes is None:
                log.pulse()
                continue
            blocks = [b"data: " + b"x" * size for size in sizes]
            expected += [sse.numbered(n, b) for n, b in enumerate(blocks, len(expected) + 1)]
            log.append(blocks)
            log.wait_for_room()
        log.end()
        body = client.result()
        server.serving.result()
        for comment in (sse.KEEP_ALIVE, sse.HEARTBEAT):
            body = body.replace(comment, b"")
        assert body == b"".join(expected)


def test_silence_is_counted_from_the_last_write(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 1000.0, []
    monkeypatch.setattr(readers, "time", SimpleNamespace(monotonic=lambda: now))

    class Sleepless(LogReader):
        """Waits without waiting; during the first time, something is written after 10 s."""

        def sleep(self, timeout: float) -> bool:
            nonlocal now
            waits.append(timeout)
            if len(waits) == 1:
                self.sink = SimpleNamespace(written_at=now + 10, flush=lambda: None)
            now += timeout + 0.001
            return False

    reader = Sleepless(AnswerLog(ROOMY))
    reader.sink = SimpleNamespace(written_at=now, flush=lambda: None)  # type: ignore[assignment]
    assert reader.read(15.0) == b""
    assert waits == [15.0, pytest.approx(10.0, abs=0.01)]


# --- one at a time


class SlowSink:
    """Takes everything; each write lasts until it is allowed to end."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.taken = b""
        self.flushes = 0
        self.written_at = 0.0

    def write(self, data: bytes) -> bool:
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        self.taken += data
        return True

    def flush(self) -> None:
        assert not self.begun.is_set() or self.may_end.is_set()
        self.flushes += 1


@contextlib.contextmanager
def slow_write(timeout: float) -> Iterator[tuple[AnswerLog, LogReader, SlowSink, Background]]:
    """An event is being written for a reader whose thread waits for so many seconds."""
    log, sink = AnswerLog(ROOMY), SlowSink()
    reader = LogReader(log)
    reader.lend(sink)
    reading = Background(lambda: reader.read(timeout))
    wait_for(lambda: reader.waits)
    appending = Background(lambda: log.append([b"data: a"]))
    assert sink.begun.wait(PATIENCE)
    yield log, reader, sink, reading
    sink.may_end.set()
    appending.result()


def test_nobody_waits_for_the_log_while_it_writes() -> None:
    with slow_write(LONG) as (log, reader, sink, reading):
        assert LogReader(log).read(0) == sse.numbered(1, b"data: a")
        assert log.followed
        reader.close()
        assert sink.taken == b""
    assert reading.result() is None


def test_a_reader_whose_time_is_over_waits_for_the_end_of_a_write() -> None:
    """The server would write a heartbeat in the middle of the event."""
    with slow_write(0.2) as (_log, reader, sink, reading):
        wait_for(lambda: not reader.waits)
        assert reading.still_runs()
        assert sink.flushes == 0
        sink.may_end.set()
        assert reading.result() == b""
        assert sink.flushes == 1  # it may have been cut short


def test_a_reader_that_is_closed_waits_for_the_end_of_a_write() -> None:
    """The server would close the socket, and another client may get its descriptor."""
    with slow_write(LONG) as (log, reader, sink, reading):
        reader.close()  # does not wait, as anybody may call it
        assert reading.still_runs()
        sink.may_end.set()
        assert reading.result() is None
        log.append([b"data: b"])
        assert sink.taken == sse.numbered(1, b"data: a")


# --- what is lent


class Lent(DirectBody):
    """A body that begins late, keeps the writer that it has borrowed, and says "a"."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        super().__init__()
        self._headers = list(headers)
        self.start_response: Any = None
        self.writer: DirectWriter | None = None

    def __iter__(self) -> Iterator[bytes]:
        self.start_response("200 OK", self._headers)
        self.writer = self.borrow()
        yield b"a"

    def close(self) -> None:
        self.give_back()


def application(body: Lent) -> Any:
    def answer(_environ: Any, start_response: Any) -> Lent:
        body.start_response = start_response
        return body

    return answer


def gunicorn_response(
    sock: Any,
    kind: type[Response] = Response,
    method: str = "GET",
    version: tuple[int, int] = (1, 1),
) -> Response:
    request = SimpleNamespace(version=version, method=method, should_close=lambda: False)
    return kind(request, sock, SimpleNamespace())


def run(app: Any, start_response: Any) -> list[bytes]:
    return list(lending(app)({}, start_response))


def test_the_body_that_the_server_gets_as_it_is_may_borrow_the_socket() -> None:
    with pair() as (ours, _theirs):
        body = Lent()
        assert run(application(body), gunicorn_response(ours).start_response) == [b"a"]
        assert body.writer is not None


def test_the_response_has_its_socket_again_when_the_body_is_closed() -> None:
    with pair() as (ours, _theirs):
        response = gunicorn_response(ours)
        body: Any = lending(application(Lent()))({}, response.start_response)
        assert list(body) == [b"a"]
        assert response.sock is body.writer
        body.close()
        assert response.sock is ours


@pytest.mark.parametrize("wrap", [iter, list, lambda body: ClosingIterator(body, body.close)])
def test_nothing_is_lent_to_a_body_that_a_middleware_has_wrapped(wrap: Any) -> None:
    with pair() as (ours, _theirs):
        body = Lent()
        inner = application(body)

        def middleware(environ: Any, start_response: Any) -> Any:
            return wrap(inner(environ, start_response))

        if wrap is iter:
            middleware = _generator(inner)
        assert run(middleware, gunicorn_response(ours).start_response) == [b"a"]
        assert body.writer is None


def _generator(inner: Any) -> Any:
    def middleware(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from inner(environ, start_response)

    return middleware


def test_nothing_is_lent_where_a_middleware_stands_at_the_headers() -> None:
    with pair() as (ours, _theirs):
        body, response = Lent(), gunicorn_response(ours)

        def start_response(status: str, headers: list[tuple[str, str]]) -> Any:
            return response.start_response(status, [*headers, ("X-Seen", "yes")])

        run(application(body), start_response)
        assert body.writer is None


class OverHTTP2(Response):
    """Writes frames, as gunicorn's own for HTTP/2 does."""


@pytest.mark.parametrize(
    ("kind", "method", "headers"),
    [
        (OverHTTP2, "GET", []),
        (Response, "HEAD", []),
        (Response, "GET", [("Content-Length", "1")]),
    ],
)
def test_nothing_is_lent_where_the_server_frames_or_cuts_the_body(
    kind: type[Response], method: str, headers: list[tuple[str, str]]
) -> None:
    with pair() as (ours, _theirs):
        body = Lent(*headers)
        response = gunicorn_response(ours, kind, method)
        run(application(body), response.start_response)
        assert body.writer is None


def test_a_socket_with_tls_or_one_that_blocks_is_not_lent() -> None:
    with pair() as (ours, _), pair() as (blocking, _):
        blocking.settimeout(None)
        assert os.get_blocking(blocking.fileno())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False) as tls:
            for sock in (tls, blocking):
                body = Lent()
                run(application(body), gunicorn_response(sock).start_response)
                assert body.writer is None


class Silent:
    """A reader of nothing."""

    refusal = None

    def __init__(self) -> None:
        self.closed = False

    def read(self, _timeout: float) -> None: ...

    def lend(self, _sink: Sink) -> None: ...

    def close(self) -> None:
        self.closed = True


def response_to(reader: Silent) -> streaming.StreamResponse:
    return streaming.StreamResponse(Flask("answers"), EventStream(reader, 1.0), native.FORM, {})


def test_a_response_as_the_view_made_it_may_borrow_the_socket() -> None:
    reader, closed = Silent(), list[str]()
    response = response_to(reader)
    response.call_on_close(lambda: closed.append("once"))
    body: Any = response(create_environ(), lambda *_: None)
    assert isinstance(body, DirectBody)
    body.close()
    assert reader.closed
    assert closed == ["once"]


def test_a_response_whose_body_was_replaced_may_not() -> None:
    """By an ``after_request`` of the application."""
    response = response_to(Silent())
    response.response = (piece.upper() for piece in [b"a"])
    body: Any = response(create_environ(), lambda *_: None)
    assert not isinstance(body, DirectBody)
    assert list(body) == [b"A"]


# --- under gunicorn


def counting() -> Any:
    """The application of the tests, with a route that tells how often a socket was lent."""
    from tests.support.serving import app

    count = itertools.count()
    write = DirectWriter.write

    def counted(self: DirectWriter, data: bytes) -> bool:
        next(count)
        return write(self, data)

    DirectWriter.write = counted  # type: ignore[method-assign]
    app.get("/written")(lambda: str(count.__reduce__()[1][0]))
    return app


def shouting() -> Any:
    """The same behind a middleware that changes the body."""
    app = counting()

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        body = app(environ, start_response)
        try:
            for piece in body:
                yield piece.upper()
        finally:
            body.close()

    return application


LINE = re.compile(r"^served (\d+) bytes of /api/chat/stream", re.MULTILINE)
ACCESS = ["--access-logfile", "-", "--access-logformat", "served %(B)s bytes of %(U)s"]
PLAIN = ["-c", "/dev/null"]  # else it takes the project's gunicorn.conf.py
OURS = ["-c", "python:chatproxy.gunicorn_config"]


@contextlib.contextmanager
def gunicorn(
    app: Callable[[], Any], deepseek: DeepSeek, log_path: Any, *options: str
) -> Iterator[Process]:
    application = f"tests.test_direct_write:{app.__name__}()"
    command = [*GUNICORN, "-k", "gevent", *ACCESS, *options, application]
    environment = clean_environment(DEEPSEEK_BASE_URL=deepseek.url)
    with Process(command, log_path, environment, "gevent") as process:
        yield process


def written(process: Process) -> int:
    return int(requests.get(f"{process.url}/written", timeout=PATIENCE).text)


SCENARIO = {"rate": 500, "tokens": 50}


@pytest.mark.parametrize(
    ("app", "options", "lends"),
    [(counting, OURS, True), (counting, PLAIN, False), (shouting, OURS, False)],
)
def test_a_stream_comes_whole_from_gunicorn(
    app: Any, options: list[str], lends: bool, deepseek: DeepSeek, logs: Any
) -> None:
    """With our settings, without them, and through a middleware."""
    with gunicorn(app, deepseek, logs("wire"), *options) as process:
        client = Client(process.port).post_stream(new_id(), simulate=SCENARIO)
        status, body = client.read_answer()
        assert status == 200
        ids = re.findall(rb"^id: (\d+)$", body, re.MULTILINE | re.IGNORECASE)
        assert [int(number) for number in ids] == list(range(1, len(ids) + 1))
        assert len(ids) > 50
        if app is shouting:
            assert body == body.upper()
        assert body.upper().endswith(b"DATA: [DONE]\n\n")
        assert (written(process) > 0) == lends
        counted = wait_for(lambda: LINE.findall(process.log()))
        assert counted == [str(len(body))]


def test_the_answer_to_a_head_has_no_body(start_proxy: Any, deepseek: DeepSeek) -> None:
    proxy, session_id = start_proxy("gunicorn", deepseek.url), new_id()
    client = proxy.start(session_id, simulate=SCENARIO)
    client.read_until(b"id: 1\n")
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        for path in (f"/api/chat/stream/{session_id}", "/pid"):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")
        client.read_answer()
        connection.request("GET", "/pid")  # what came is not taken for a part of another
        assert connection.getresponse().status == 200
