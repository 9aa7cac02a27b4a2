"""Whatever is sent to the two routes has an answer, costs nobody anything, and forges no line."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .support.servers import Proxy, chat, events, new_id
from .support.waiting import PATIENCE

STREAM, CANCEL = b"/api/chat/stream", b"/api/chat/cancel/"

#: The words by which programs tell refusals apart.
CODES = {
    *("missing_session_id", "invalid_session_id", "invalid_json", "invalid_request"),
    *("body_too_large", "session_active", "session_cancelled", "too_many_sessions"),
    *("upstream_failed", "upstream_rejected", "upstream_timeout"),
    # Werkzeug's, for what is not there or not HTTP.
    *("not_found", "method_not_allowed", "bad_request", "host_not_allowed"),
}
STATUSES = {200, 308, 400, 404, 405, 409, 413, 414, 415, 417, 421, 429, 431, 501, 502, 504}
#: Those that gunicorn gives by itself, to what is not HTTP.
OF_GUNICORN = {308, 400, 414, 417, 431, 501}

_ID = r"[A-Za-z0-9._:-]{1,128}"
#: All lines that may begin as ours do.
LINES = re.compile(
    r"(?:[0-9-]+ [0-9:,]+ (?:INFO|WARNING) )?\[SSE\] (?:"
    rf"Cancel request received for {_ID}|"
    rf"{_ID} (?:aborted by client|client disconnected|failed code=\w+|"
    r"ended outcome=\w+ phase=\w+ events=\d+ ms=\d+( calls=\d+)?"
    r"( tokens=\d+\+\d+ usage=\w+)?( cost=[\d.]+ [A-Z]{3})?))"
)

# The same requests each time. The server is shared by all of them.
fuzz = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def server(start_proxy: Any, deepseek: Any) -> Iterator[Proxy]:
    """A server that nobody else uses; in the end it works, and its log is whole."""
    server = start_proxy("gunicorn", deepseek.url, CHATPROXY_MAX_BODY_BYTES=5000)
    yield server
    server.wait_until_empty()
    log = server.log()
    assert "Traceback" not in log
    for line in log.splitlines():
        if re.match(r"(?:[0-9-]+ [0-9:,]+ \w+ )?\s*\[SSE\]", line):
            assert LINES.fullmatch(line)
            assert "forged" not in line
    works(server)


def works(server: Proxy) -> None:
    """See that a stream runs and can be stopped."""
    status, body = server.start(new_id(), simulate={"rate": 0, "tokens": 1}).read_answer()
    assert status == 200
    assert events(body)[-1]["data"] == "[DONE]"
    session_id = new_id()
    stream = server.start(session_id, simulate={"rate": 50, "tokens": 100_000})
    stream.read_until(b"id: 1\n")
    assert server.cancel(session_id)[0] == 200
    assert stream.read_answer()[0] == 200


# ---- what is sent -------------------------------------------------------------------------------

FORGED = "[SSE] session_1 ended outcome=forged"
WORDS = st.sampled_from(
    [
        *("session_1", "x" * 128, "x" * 129, "a/b", "..", "../../etc/passwd"),
        *("a%0d%0a[SSE]%20forged", "a%0a[SSE]%20session_1%20ended%20outcome=forged"),
        *("%E2%80%A8[SSE]%20forged", "%85[SSE]%20forged", FORGED),
        *("%00", "%ff%fe", "%ed%a0%80", "%", "%s%n{0}", "\xf6", ""),
    ]
)
#: Text of a header or a path: anything but what would end it.
TEXTS = st.one_of(
    WORDS.map(lambda word: word.encode("latin-1")),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30).map(
        lambda text: text.encode("latin-1")
    ),
    st.from_regex(r"[A-Za-z0-9._:-]{1,12}", fullmatch=True).map(str.encode),
)
IN_PATHS = TEXTS.map(lambda text: re.sub(rb"[\x00-\x20\x7f#?]", b"%0a", text))
PATHS = st.one_of(
    st.just(STREAM),
    IN_PATHS.map(lambda text: CANCEL + text),
    IN_PATHS.map(lambda text: STREAM + b"?" + text),
    IN_PATHS.map(lambda text: b"/api/chat/" + text),
    IN_PATHS.map(lambda text: b"/" + text),
)
METHODS = st.sampled_from([b"POST"] * 8 + [b"GET", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"FROB"])
NAMES = st.sampled_from(
    [
        *(b"X-Session-Id", b"x-session-id", b"Last-Event-ID", b"Authorization", b"Cookie"),
        *(b"Content-Type", b"Content-Encoding", b"Accept", b"Accept-Encoding", b"Range"),
        *(b"Origin", b"Referer", b"X-Forwarded-For", b"X-HTTP-Method-Override", b"X-" + b"x" * 200),
    ]
)
KINDS = st.sampled_from(
    [
        *(b"application/json", b"application/json; charset=utf-16", b"text/plain", b";;;"),
        *(b"multipart/form-data", b"multipart/form-data; boundary=x"),
        b"application/x-www-form-urlencoded",
    ]
)
HEADERS = st.lists(
    st.one_of(
        st.tuples(NAMES, TEXTS),
        st.tuples(st.just(b"Content-Type"), KINDS),
        st.tuples(st.just(b"Content-Encoding"), st.sampled_from([b"gzip", b"br", b"deflate"])),
        st.tuples(st.just(b"Expect"), st.sampled_from([b"100-continue", b"forged"])),
    ),
    max_size=5,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
QUICK = {"rate": 0, "tokens": 3}
CHATS = st.one_of(
    st.just(chat(simulate=QUICK)),
    st.fixed_dictionaries(
        {"messages": st.just([{"role": "user", "content": "Hello"}]) | VALUES},
        optional={"model": st.text(max_size=5) | VALUES, "stream": VALUES, "x": VALUES},
    ).map(lambda fields: {**fields, "simulate": QUICK}),
    st.just({"messages": [{"role": "user", "content": "Hello"}] * 150}),
    VALUES,
)
BODIES = st.one_of(
    CHATS.map(lambda value: json.dumps(value).encode()),
    CHATS.map(lambda value: json.dumps(value).encode("utf-16")),
    CHATS.map(lambda value: json.dumps(value, ensure_ascii=False)).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    st.tuples(CHATS, st.integers(0, 60), st.binary(max_size=3)).map(
        lambda parts: insert(json.dumps(parts[0]).encode(), parts[1], parts[2])
    ),
    st.binary(max_size=100),
    st.sampled_from([b"[" * 4900, b'{"a":' * 900, b"9" * 4900, b"x" * 6000, FORGED.encode()]),
)


def insert(data: bytes, at: int, what: bytes) -> bytes:
    return data[:at] + what + data[at:]


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


NAMED = b"X-Session-Id"
IDS = st.integers(0, 1 << 40).map(lambda number: b"session_%d" % number)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A method, and the bytes of a whole request whose framing is right."""
    headers, body = draw(HEADERS), draw(BODIES)
    if draw(st.booleans()):  # right but for the body and what it is said to be
        method, path = b"POST", STREAM
        headers = [(b"X-Session-Id", draw(IDS)), *(each for each in headers if each[0] != NAMED)]
    else:
        method, path = draw(METHODS), draw(PATHS)
        headers = [(b"X-Session-Id", draw(TEXTS)), *headers][draw(st.integers(0, 1)) :]
    if draw(st.booleans()):
        headers.append((b"Transfer-Encoding", b"chunked"))
        body = chunked(body, draw(st.integers(1, 2000)))
    else:
        headers.append((b"Content-Length", b"%d" % len(body)))
    lines = [b"%b: %b" % header for header in [(b"Host", b"localhost"), *headers]]
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, path), *lines, b"Connection: close"])
    return method, head + b"\r\n\r\n" + body


# ---- what comes back ----------------------------------------------------------------------------


def connect(server: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def check(response: http.client.HTTPResponse) -> None:
    """See that this is an answer for people and programs."""
    assert response.status in STATUSES
    kind = response.headers.get_content_type()
    if kind == "text/event-stream":
        assert response.status == 200
        assert response.readline()
        return
    body = response.read()
    assert len(body) < 2000
    if kind != "application/json":
        assert response.status in {200, *OF_GUNICORN}
    elif body:  # none, where only the head was asked for
        check_refusal(response.status, json.loads(body))


def check_refusal(status: int, answer: dict[str, Any]) -> None:
    if "success" in answer:
        assert (status, answer) == (404, {"success": False, "message": "Session not found"}) or (
            status == 200 and answer["success"] is True
        )
    elif status != 200:
        assert answer.keys() == {"error", "code"}
        assert answer["code"] in CODES
        assert re.fullmatch(r"[^\r\n]+", answer["error"])
        assert "forged" not in answer["error"]


@settings(fuzz, max_examples=120)
@given(requests())
def test_any_request_has_an_answer(server: Proxy, request: tuple[bytes, bytes]) -> None:
    method, data = request
    with connect(server) as connection:
        connection.sendall(data)
        with http.client.HTTPResponse(connection, method=method.decode()) as response:
            response.begin()
            check(response)


CHUNKED = (
    b"POST %b HTTP/1.1\r\nHost: localhost\r\nX-Session-Id: a\r\nTransfer-Encoding: chunked\r\n\r\n"
)
SIZES = st.sampled_from([b"zz", b"-1", b"0x2", b"f" * 20, b"2;x=\n", b"", b"9"])


@settings(fuzz, max_examples=50)
@given(
    body=st.one_of(
        st.binary(max_size=30),
        st.tuples(SIZES, BODIES).map(b"\r\n".join),
        st.tuples(BODIES, st.integers(0, 20), st.binary(min_size=1, max_size=3)).map(
            lambda parts: insert(chunked(parts[0], 7), parts[1], parts[2])
        ),
    ),
    path=st.sampled_from([STREAM, CANCEL + b"a"]),
)
def test_a_body_in_broken_chunks_is_refused_or_dropped(
    server: Proxy, body: bytes, path: bytes
) -> None:
    exchange(server, CHUNKED % path + body)


@settings(fuzz, max_examples=100)
@given(
    request=requests(),
    damage=st.tuples(
        st.integers(0, 200),
        st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\xff", b"\r\n\r\n"]),
        st.binary(max_size=10),
    ),
    cut=st.integers(0, 400),
)
def test_a_damaged_request_is_answered_or_dropped(
    server: Proxy, request: tuple[bytes, bytes], damage: tuple[int, bytes, bytes], cut: int
) -> None:
    """Lines in the wrong place, too little, too much: the connection ends, and nothing else."""
    at, what, more = damage
    data = insert(request[1], at, what + more)
    exchange(server, data[:-cut] if cut else data)


def exchange(server: Proxy, data: bytes) -> None:
    """Send this, and see that the connection ends with answers of ours, if any."""
    with connect(server) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        received = rest_of(connection)
    for status in re.findall(rb"HTTP/1\.[01] (\d+) ", received):
        assert int(status) in {100, *STATUSES}


def rest_of(connection: socket.socket) -> bytes:
    """All that comes when nothing more is sent, to the end of the connection."""
    received = b""
    with suppress(OSError):  # it may be reset
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            received += piece
    return received


@settings(fuzz, max_examples=50)
@given(data=st.binary(max_size=300), leaves=st.booleans())
def test_bytes_that_are_no_request_are_answered_or_dropped(
    server: Proxy, data: bytes, leaves: bool
) -> None:
    with connect(server) as connection:
        connection.sendall(data)
        if not leaves:
            rest_of(connection)
