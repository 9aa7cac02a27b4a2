"""The wire: events go from the producer to the client's socket, and nothing is lost on the way.

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
from chatproxy.answers import log as answer_log
from chatproxy.answers.log import AnswerLog
from chatproxy.server.direct_write import Outlet, Wire, lending
from chatproxy.upstreams.transport.http1 import ChunkDecoder
from chatproxy.web import native as views
from chatproxy.web.event_stream import Follower

from .support.servers import GUNICORN, Client, DeepSeek, Process, clean_environment, new_id
from .support.waiting import PATIENCE, wait_for

#: Longer than any test waits for a thread.
LONG = 6 * PATIENCE
#: More than a socket takes at once in these tests.
LARGE = b"x" * 200_000
ROOMY = 1 << 20


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end, with the smallest of buffers and not blocking, and the client's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        ours.settimeout(PATIENCE)
        theirs.settimeout(PATIENCE)
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


class Aside(threading.Thread):
    """Calls a function in a thread of its own; ``result`` waits for what it returns."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._results: list[Any] = []
        self.start()

    def run(self) -> None:
        self._results.append(self._function())

    def result(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive()
        (result,) = self._results
        return result


# --- writing


def test_a_write_goes_out_at_once_as_a_chunk_and_is_counted() -> None:
    with pair() as (ours, theirs):
        response = response_on(ours)
        assert Wire(response).write(b"hello, client")
        assert receive(theirs, 18) == b"D\r\nhello, client\r\n"
        assert is_empty(theirs)
        assert response.sent == len(b"hello, client")  # as gunicorn counts


def test_http_1_0_has_no_chunks() -> None:
    with pair() as (ours, theirs):
        response = response_on(ours, chunked=False)
        assert Wire(response).write(b"hello")
        assert receive(theirs, 5) == b"hello"
        assert is_empty(theirs)
        assert response.sent == 5


def test_nothing_is_not_written_for_it_would_end_the_body() -> None:
    with pair() as (ours, theirs):
        assert Wire(response_on(ours)).write(b"")
        assert is_empty(theirs)


def test_what_the_socket_does_not_take_is_kept_for_the_flush() -> None:
    with pair() as (ours, theirs):
        wire = Wire(response_on(ours))
        assert not wire.write(LARGE)
        flushing = Aside(wire.flush)
        framed = b"%X\r\n%b\r\n" % (len(LARGE), LARGE)
        assert receive(theirs, len(framed)) == framed
        flushing.result()
        wire.flush()  # and that only once
        assert is_empty(theirs)


def test_a_write_is_when_silence_begins_anew() -> None:
    with pair() as (ours, _theirs):
        wire = Wire(response_on(ours))
        before = wire.written_at
        wait_for(lambda: time.monotonic() > before)
        wire.write(b"a")
        assert wire.written_at > before


def test_a_broken_socket_is_told_of_by_the_flush() -> None:
    with pair() as (ours, theirs):
        wire = Wire(response_on(ours))
        theirs.close()
        assert not wire.write(b"a")
        with pytest.raises(BrokenPipeError):
            wire.flush()


# --- what the server writes by itself


def test_what_the_server_writes_comes_after_what_was_left() -> None:
    with pair() as (ours, theirs):
        wire = Wire(response_on(ours))
        assert not wire.write(LARGE)
        writing = Aside(lambda: wire.sendall(b"0\r\n\r\n"))
        expected = framed(LARGE) + b"0\r\n\r\n"
        assert receive(theirs, len(expected)) == expected
        writing.result()
        assert is_empty(theirs)


def test_the_server_waits_where_the_socket_is_full_and_is_told_where_it_is_broken() -> None:
    with pair() as (ours, theirs):
        wire = Wire(response_on(ours))
        writing = Aside(lambda: wire.sendall(LARGE))
        assert receive(theirs, len(LARGE)) == LARGE
        writing.result()
        theirs.close()
        with pytest.raises(BrokenPipeError):
            wire.sendall(b"a")


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


# --- a reader with a wire


class Server:
    """Does as gunicorn's worker does: asks for the next item, and writes it, until the end."""

    def __init__(self, log: AnswerLog, sock: socket.socket, timeout: float = LONG) -> None:
        self._timeout = timeout
        self._wire = Wire(response_on(sock))
        self.reader = log.reader()
        self.reader.wire = self._wire
        #: What came to the server itself.
        self.items: list[bytes] = []
        self.serving = Aside(self._serve)

    def _serve(self) -> None:
        while (item := self.reader.read(self._timeout)) is not None:
            self.items.append(item)
            item = item or sse.HEARTBEAT
            self._wire.sendall(b"%X\r\n%b\r\n" % (len(item), item))
        self._wire.sendall(b"0\r\n\r\n")

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


def framed(block: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(block), block)


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
            assert server.reader.bell.empty()
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
        log.append([LARGE])
        assert not server.reader.waits
        log.append([b"data: b"])  # is for the reader itself
        log.end()
        assert read_body(theirs) == sse.numbered(1, LARGE) + sse.numbered(2, b"data: b")
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
        assert len(server.items) == 1


def test_the_reader_is_told_where_the_client_has_gone() -> None:
    with pair() as (ours, theirs):
        log = AnswerLog(ROOMY)
        reader = log.reader()
        reader.wire = Wire(response_on(ours))

        def read() -> None:
            with pytest.raises(BrokenPipeError):
                reader.read(LONG)

        reading = Aside(read)
        wait_for(lambda: reader.waits)
        theirs.close()
        log.append([b"data: a"])
        reading.result()


def test_a_reader_that_does_not_wait_is_not_written_for() -> None:
    with pair() as (ours, theirs):
        log = AnswerLog(ROOMY)
        reader = log.reader()
        reader.wire = Wire(response_on(ours))
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
        client = Aside(lambda: read_body(theirs, pace))
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


def test_what_is_left_is_written_before_anything_else_even_if_the_time_is_over() -> None:
    """A write may be cut short at the very moment at which the wait ends."""
    with pair() as (ours, theirs):
        log = AnswerLog(ROOMY)
        reader = log.reader()
        reader.wire = Wire(response_on(ours))

        class Bell:
            def get(self, timeout: float) -> None:
                time.sleep(timeout)
                log.append([LARGE])
                assert reader.wire is not None
                reader.wire.written_at -= LONG
                raise answer_log.queue.Empty

            def put(self, _item: None) -> None: ...

        reader.bell = Bell()  # type: ignore[assignment]
        reading = Aside(lambda: reader.read(0.01))
        expected = framed(sse.numbered(1, LARGE))
        assert receive(theirs, len(expected)) == expected
        assert reading.result() == b""
        assert is_empty(theirs)


def test_silence_is_counted_from_the_last_write(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 1000.0, []
    monkeypatch.setattr(answer_log, "time", SimpleNamespace(monotonic=lambda: now))

    class Bell:
        """Waits without waiting; during the first time, something is written after 10 s."""

        def get(self, timeout: float) -> None:
            nonlocal now
            waits.append(timeout)
            if len(waits) == 1:
                reader.wire = SimpleNamespace(written_at=now + 10, flush=lambda: None)
            now += timeout + 0.001
            raise answer_log.queue.Empty

    reader = AnswerLog(ROOMY).reader()
    reader.wire = SimpleNamespace(written_at=now, flush=lambda: None)  # type: ignore[assignment]
    reader.bell = Bell()  # type: ignore[assignment]
    assert reader.read(15.0) == b""
    assert waits == [15.0, pytest.approx(10.0, abs=0.01)]


# --- what is lent


class Lent:
    """A body that keeps the wires that it is lent."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.lend = self.wires.append

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a"])


def application(body: Lent, *headers: tuple[str, str]) -> Any:
    def answer(_environ: Any, start_response: Any) -> Outlet:
        def begin() -> Lent:
            start_response("200 OK", list(headers))
            return body

        return Outlet(begin, lambda: None)

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


def test_a_wire_is_lent_to_the_body_that_the_server_gets_as_it_is() -> None:
    with pair() as (ours, _theirs):
        body = Lent()
        assert run(application(body), gunicorn_response(ours).start_response) == [b"a"]
        assert len(body.wires) == 1


def test_the_response_has_its_socket_again_when_the_body_is_closed() -> None:
    with pair() as (ours, _theirs):
        response, closed = gunicorn_response(ours), []

        def application(_environ: Any, start_response: Any) -> Outlet:
            def begin() -> Lent:
                start_response("200 OK", [])
                return Lent()

            return Outlet(begin, lambda: closed.append(response.sock))

        body: Any = lending(application)({}, response.start_response)
        assert next(body) == b"a"
        assert isinstance(response.sock, Wire)
        body.close()
        assert closed != [ours]
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
        assert body.wires == []


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
        assert body.wires == []


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
        body = Lent()
        response = gunicorn_response(ours, kind, method)
        run(application(body, *headers), response.start_response)
        assert body.wires == []


def test_a_socket_with_tls_is_not_lent() -> None:
    with pair() as (ours, _theirs):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls = context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
        with tls:
            body = Lent()
            run(application(body), gunicorn_response(tls).start_response)
            assert body.wires == []


def test_a_socket_that_blocks_is_not_lent() -> None:
    with pair() as (ours, _theirs):
        ours.settimeout(None)
        assert os.get_blocking(ours.fileno())
        body = Lent()
        run(application(body), gunicorn_response(ours).start_response)
        assert body.wires == []


class Silent:
    """A reading of nothing."""

    refusal = None

    def __init__(self) -> None:
        self.closed = False

    def read(self, _timeout: float) -> None: ...

    def lend(self, _wire: Wire) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_an_answer_as_the_view_made_it_can_be_lent_a_wire() -> None:
    reading = Silent()
    answer = views._Answer(Flask("answers"), Follower(reading, 1.0), {})
    body = answer(create_environ(), lambda *_: None)
    assert isinstance(body, Outlet)
    body.close()
    assert reading.closed


def test_an_answer_whose_body_was_replaced_cannot() -> None:
    """By an ``after_request`` of the application."""
    answer = views._Answer(Flask("answers"), Follower(Silent(), 1.0), {})
    answer.response = (piece.upper() for piece in [b"a"])
    body: Any = answer(create_environ(), lambda *_: None)
    assert not isinstance(body, Outlet)
    assert list(body) == [b"A"]


# --- under gunicorn


def counting() -> Any:
    """The application of the tests, with a route that tells how often a wire was written to."""
    from tests.support.serving import app

    count = itertools.count()
    write = Wire.write

    def counted(self: Wire, data: bytes) -> bool:
        next(count)
        return write(self, data)

    Wire.write = counted  # type: ignore[method-assign]
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
    command = [*GUNICORN, "-k", "gevent", *ACCESS, *options, f"tests.test_wire:{app.__name__}()"]
    with Process(command, log_path, clean_environment(DEEPSEEK_BASE_URL=deepseek.url)) as process:
        yield process


def written(process: Process) -> int:
    return int(requests.get(f"{process.url}/written", timeout=PATIENCE).text)


SCENARIO = {"rate": 500, "tokens": 100}


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
        assert len(ids) > 100
        if app is shouting:
            assert body == body.upper()
        assert body.upper().endswith(b"DATA: [DONE]\n\n")
        assert (written(process) > 0) == lends
        counted = wait_for(lambda: LINE.findall(process.log()))
        assert counted == [str(len(body))]


def test_a_client_that_reads_late_gets_it_whole(deepseek: DeepSeek, logs: Any) -> None:
    with gunicorn(counting, deepseek, logs("wire"), *OURS) as process:
        client = Client(process.port, receive_buffer=4096)
        client.post_stream(new_id(), simulate={"rate": 0, "tokens": 30_000})
        wait_for(lambda: written(process) > 0)
        status, body = client.read_answer()
        ids = re.findall(rb"^id: (\d+)$", body, re.MULTILINE)
        assert status == 200
        assert [int(number) for number in ids] == list(range(1, len(ids) + 1))
        assert len(ids) > 30_000


def test_the_answer_to_a_head_has_no_body(deepseek: DeepSeek, logs: Any) -> None:
    with gunicorn(counting, deepseek, logs("wire"), *OURS) as process:
        session_id = new_id()
        client = Client(process.port).post_stream(session_id, simulate=SCENARIO)
        client.read_until(b"id: 1\n")
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            for path in (f"/api/chat/stream/{session_id}", "/pid"):
                connection.request("HEAD", path)
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (200, b"")
            client.read_answer()
            connection.request("GET", "/pid")  # what came is not taken for a part of another
            assert connection.getresponse().status == 200
