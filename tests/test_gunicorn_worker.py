"""Under gunicorn with our settings nobody keeps the loop, or a place, from the others."""

import contextlib
import json
import re
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import time

import gevent
import gevent.ssl
import pytest
import requests
from gunicorn.config import Config
from gunicorn.http import RequestParser, wsgi
from gunicorn.http.message import Message

from chatproxy.server import direct_write as wire
from chatproxy.server.gunicorn import connections
from chatproxy.server.gunicorn.body import MOST_UNREAD_BYTES, PIECE
from chatproxy.server.gunicorn.connections import MOST_HEAD_BYTES, Guard
from chatproxy.server.gunicorn.pacing import SHARE
from chatproxy.server.gunicorn.worker import fits

from .support.attackers import ATTACKS, Bystander
from .support.scripted import chunk
from .support.servers import ROOT, Client, Proxy, chat, new_id
from .support.waiting import PATIENCE, wait_for

#: The default of CHATPROXY_MAX_BODY_BYTES.
MAX_BODY_BYTES = 1 << 20
#: Seconds: generous, as the machine of a test is busy. Unguarded, each attack costs many.
LONGEST_GAP = 1.0
LONGEST_STOP = 1.0
ASSETS = ROOT / "chatproxy" / "static" / "assets"


@pytest.fixture(scope="module")
def server(start_proxy, deepseek):
    """A server of 50 sessions that waits a second for what a client sends."""
    return start_proxy(
        "gunicorn", deepseek.url, CHATPROXY_MAX_SESSIONS=50, CHATPROXY_BODY_TIMEOUT=1
    )


@pytest.fixture
def bystander(server):
    """A stream of 50 events a second, whose reader notes the longest gap."""
    client = server.start(new_id(), simulate={"rate": 50, "tokens": 100_000})
    client.read_until(b"data:")
    reader = Bystander(client)
    reader.start()
    yield reader
    reader.finish()


@pytest.fixture(scope="module")
def attacked(server):
    """Attacks from another process, so that the test has its own time."""
    command = [sys.executable, "-u", "-m", "tests.support.attackers"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:

        @contextlib.contextmanager
        def attacked(name, count):
            process.stdin.write(f"{server.port} {count} {name}\n")
            assert process.stdout.readline() == "began\n"
            try:
                yield
            finally:
                process.stdin.write("\n")
                assert process.stdout.readline() == "over\n"

        yield attacked


def head(*fields, method=b"POST", path=b"/nowhere"):
    """The head of a request with these header fields."""
    start = b"%b %b HTTP/1.1" % (method, path)
    return b"\r\n".join([start, b"Host: localhost", *fields, b"", b""])


def question(*fields):
    """The head of a question with an id of its own."""
    return head(b"X-Session-Id: %b" % new_id().encode(), *fields, path=b"/api/chat/stream")


def length(size):
    return b"Content-Length: %d" % size


CHUNKED = b"Transfer-Encoding: chunked"


def whole_chunk(body):
    """This body in the chunked coding."""
    return chunk(body) + b"0\r\n\r\n"


def stop_seconds(server):
    """How long a Stop takes, of an answer that runs."""
    session_id = new_id()
    client = server.start(session_id, simulate={"rate": 5, "tokens": 1000})
    client.read_until(b"data:")
    begun = time.perf_counter()
    status, _ = server.cancel(session_id)
    seconds = time.perf_counter() - begun
    assert status == 200
    client.leave()
    return seconds


def answer_to(client):
    """The status of an answer, and whether the connection is closed after it."""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.socket.recv(65536):
            client.received += piece
    return int(client.received.split()[1])


# ---- the loop -----------------------------------------------------------------------------------


#: What goes the same way through the worker as another one: the path is looked at later.
ALIKE = {"small chunks without an id", "small chunks to nowhere"}


@pytest.mark.parametrize("name", [n for n in ATTACKS if "JSON" not in n and n not in ALIKE])
def test_beside_an_attack_events_and_stops_go_on(server, bystander, attacked, name):
    with attacked(name, 2):
        stops = [stop_seconds(server) for _ in range(2)]
    assert max(stops) < LONGEST_STOP
    assert bystander.finish() < LONGEST_GAP


@pytest.mark.parametrize("name", ["1 MiB without an id", "2 MiB", "small chunks to a 405"])
def test_beside_four_attackers_whose_bodies_are_only_refused_a_stop_is_fast(
    server, bystander, attacked, name
):
    with attacked(name, 4):
        stops = [stop_seconds(server) for _ in range(9)]
    assert statistics.median(stops) < 0.25  # measured: 5 to 30 ms
    assert bystander.finish() < LONGEST_GAP


def test_the_same_holds_if_gunicorn_ends_tls(authority, certificate, logs, deepseek):
    options = ["--certfile", f"{certificate}/cert.pem", "--keyfile", f"{certificate}/key.pem"]
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with TLSProxy("gunicorn", deepseek.url, logs("tls"), options) as server:
        mute = socket.create_connection(("127.0.0.1", server.port))  # never shakes hands
        flood = connect_tls(context, server.port)
        flood.sendall(head(CHUNKED))
        flood.setblocking(False)
        for _ in range(20):
            with contextlib.suppress(OSError, ssl.SSLWantWriteError):
                flood.send(b"1\r\nx\r\n" * 1000)
            begun = time.perf_counter()
            with connect_tls(context, server.port) as sock:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")
            assert time.perf_counter() - begun < LONGEST_STOP
        flood.close()
        mute.close()
        with connect_tls(context, server.port, pause=2 * LONGEST_STOP * SHARE) as slow:
            begun = time.perf_counter()
            slow.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert slow.recv(65536).startswith(b"HTTP/1.1 200")
            assert time.perf_counter() - begun < LONGEST_STOP


class TLSProxy(Proxy):
    """A server that answers in TLS only."""

    def _address(self):
        found = self.ready.search(self.log())
        return found and "Booting worker" in self.log() and found[1]


def connect_tls(context, port, pause=0.0):
    """A connection whose client takes so long over its part of the handshake."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    wrapped = context.wrap_socket(sock, server_hostname="127.0.0.1", do_handshake_on_connect=False)
    with contextlib.suppress(ssl.SSLWantReadError):
        wrapped.do_handshake()
    time.sleep(pause)
    wrapped.settimeout(20)
    wrapped.do_handshake()
    return wrapped


def test_a_client_that_left_before_the_tls_handshake_is_no_failure_of_the_server(authority):
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        leaving = socket.create_connection(listener.getsockname())
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaving.close()
        descriptor = listener.accept()[0].detach()
        accepted = connections.Client(listener.family, listener.type, fileno=descriptor)
    connection = connections.Connection(Guard(1, 1, 1, 1), descriptor)
    with pytest.raises(OSError, match="reset"):
        connections.wrap(accepted, context, connection)


def test_a_client_that_sends_too_fast_can_make_room_while_it_waits_for_its_turn():
    guard = Guard(timeout=60, keepalive=60, most=1, most_body=1)
    peer, accepted = gevent.socket.socketpair()
    descriptor = accepted.detach()
    with peer, connections.Client(peer.family, peer.type, fileno=descriptor) as client:
        connection = client.connection = connections.Connection(guard, descriptor)
        peer.sendall(head(CHUNKED))
        request = next(RequestParser(Config(), client, ("127.0.0.1", 0)))
        body = connection.begin_request(request)
        peer.sendall(b"1\r\nx\r\n" * 20_000)
        guard.bucket.charge(3600, time.perf_counter())  # so the greedy have to wait for an hour
        reading = gevent.spawn(connection.read_ahead, request, body)
        wait_for(lambda: gevent.sleep(0) or len(guard.arrivals))
        connections.Connection(guard, peer.fileno())  # a newcomer
        assert reading.get(timeout=PATIENCE) is False


# ---- what is left unread ------------------------------------------------------------------------


def test_a_client_that_is_still_sending_gets_its_answer_and_then_the_end(server):
    client = Client(server.port)
    client.send(head(length(2_000_000)))
    with contextlib.suppress(ConnectionError):
        client.send(b"x" * 2_000_000)
    assert answer_to(client) == 404
    assert b"connection: close" in client.received.lower()


def test_a_client_that_sends_no_more_is_waited_for_without_a_turn_of_the_loop(monkeypatch):
    """A thousand of them, looked at again and again, would take a whole core."""
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.2)
    loop = gevent.get_hub().loop
    peer, accepted = socket.socketpair()
    with peer, accepted:
        connection = connections.Connection(Guard(1, 1, 1, 1), accepted.fileno())
        before = loop.iteration
        connection.linger()
    assert loop.iteration - before < 5


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_the_connection_is_kept_if_little_was_left_unread(server, method):
    """A body is read before the application has its request, unless the method has none."""
    client = Client(server.port)
    for _ in range(2):
        client.received = b""
        client.send(head(length(MOST_UNREAD_BYTES), method=method) + b"x" * MOST_UNREAD_BYTES)
        client.read_until(b"}\n")
        assert b"connection: keep-alive" in client.received.lower()


def test_a_chunked_body_in_words_is_no_attack(server):
    client = Client(server.port)
    client.send(question(CHUNKED) + chunk(b'{"messages": [{"role": "user", "content": "'))
    client.send(b"".join(map(chunk, [b"lorem ", b"ipsum "] * 8000)))
    client.send(whole_chunk(b'"}]}'))
    client.read_until(b"data:")
    client.leave()


@pytest.mark.parametrize(
    "sent",
    [
        b"1\r\nx\r\n" * 20_000,
        (b"1;" + b"a=b;" * 1000 + b"a=b\r\nx\r\n") * 16,
        b"0\r\n" + b"a: b\r\n" * 10_000,
    ],
    ids=["sizes", "extensions", "trailers"],
)
def test_a_chunked_body_that_is_mostly_no_data_is_refused(server, sent):
    client = Client(server.port)
    with contextlib.suppress(ConnectionError):
        client.send(question(CHUNKED) + sent)
    assert answer_to(client) == 400


def test_a_head_that_is_too_large_is_refused_and_the_client_learns_of_it(server):
    client = Client(server.port)
    with contextlib.suppress(ConnectionError):
        client.send(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MOST_HEAD_BYTES // 5))
    assert answer_to(client) == 431


def test_what_was_pipelined_is_answered_in_turn(server):
    client = Client(server.port)
    client.send(head(method=b"GET", path=b"/pid") * 50)
    wait_for(lambda: read_some(client).count(b"200 OK") == 50, message="50 answers")


def read_some(client):
    client.socket.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        client.received += client.socket.recv(65536)
    return client.received


# ---- what never ends ----------------------------------------------------------------------------

HALF_BODY = (
    b"POST /api/chat/stream HTTP/1.1\r\nHost: localhost\r\nX-Session-Id: half-%d\r\n"
    b"Content-Length: 100\r\n\r\n{"
)
PARTS = {
    "nothing": b"",
    "half a head": b"POST /api/chat/stream HTTP/1.1\r\nHost: localhost\r\nX-Number: %d",
    "half a body": HALF_BODY,
    "half a body that nobody reads": HALF_BODY.replace(b"/api/chat/stream", b"/nowhere"),
    "half a body of an unknown length": HALF_BODY.replace(
        b"Content-Length: 100", b"Transfer-Encoding: chunked"
    ),
}


@pytest.fixture(scope="module")
def few(logs, deepseek):
    """A server of 60 connections and 3 sessions."""
    options = ["--worker-connections", "60"]
    with Proxy("gunicorn", deepseek.url, logs("few"), options, CHATPROXY_MAX_SESSIONS=3) as server:
        yield server


@pytest.mark.parametrize("name", PARTS)
def test_connections_that_send_no_more_than_a_part_shut_nobody_out(few, name):
    """A server of 60 connections, which would wait for them for half a minute."""
    part, server = PARTS[name], few
    running = server.start(new_id(), simulate={"rate": 50, "tokens": 100_000})
    running.read_until(b"data:")
    for number in range(100):
        Client(server.port).send(part % number if b"%d" in part else part)
    begun = time.monotonic()
    assert stop_seconds(server) < LONGEST_STOP
    assert time.monotonic() - begun < 5
    assert server.resources()["descriptors"] < 60
    running.received = b""
    running.read_until(b"data:")  # the one that is answered did not make room
    running.leave()
    server.wait_until_empty()


def test_connections_that_take_no_more_than_a_part_shut_nobody_out(logs, deepseek):
    """They ask for more than a socket holds, and don't read it."""
    options = ["--worker-connections", "12"]  # four may wait: the Stop's is not of the most then
    with Proxy("gunicorn", deepseek.url, logs("parts"), options) as server:
        largest = max(ASSETS.glob("*.js"), key=lambda each: each.stat().st_size)
        script = b"/assets/%b" % largest.name.encode()
        for _ in range(16):
            client = Client(server.port, receive_buffer=1024)
            client.send(head(method=b"GET", path=script) * 20)
        assert stop_seconds(server) < LONGEST_STOP
        assert unfinished(server)["answer", "room"] >= 8


def test_many_readers_of_a_silent_answer_shut_nobody_out(few):
    """Each holds a connection, and neither sends nor has anything to take."""
    session_id = new_id()
    few.start(session_id, simulate={"first_token_delay": 60})
    few.wait_for_phase(session_id, "waiting")
    get = head(method=b"GET", path=f"/api/chat/stream/{session_id}".encode())

    def reader():
        client = Client(few.port)
        client.send(get)
        client.read_until(b"\r\n\r\n")
        return client

    readers = [reader() for _ in range(40)]
    refused = [each for each in readers if b" 429 " in each.received[:20]]
    assert refused == readers[32:]
    assert b"Retry-After: 1" in refused[0].received
    readers[0].leave()
    wait_for(lambda: b" 200 " in reader().received[:20], message="the place of the one that left")
    assert few.cancel(session_id)[0] == 200


def test_many_that_send_nothing_push_out_nobody_who_is_slow(logs, deepseek):
    """Nor who is answered while a small body of theirs is left unread."""
    with Proxy("gunicorn", deepseek.url, logs("slow"), ["--worker-connections", "20"]) as server:
        running = server.start(new_id(), simulate={"rate": 50, "tokens": 100_000})
        running.read_until(b"data:")
        session_id = re.search(rb"X-Session-Id: (\S+)", running.received, re.IGNORECASE)[1]
        again = Client(server.port)
        again.send(head(length(2), method=b"GET", path=b"/api/chat/stream/" + session_id))
        again.read_until(b"data:")
        reader = Client(server.port, receive_buffer=4096)
        reader.post_stream(new_id(), simulate={"rate": 0, "text": "x" * 10_000, "tokens": 800})
        body = json.dumps(chat(unread="x" * 20_000, simulate={"tokens": 3})).encode()
        sender = Client(server.port)
        sender.send(question(length(len(body))))
        for begin in range(0, len(body), 1000):
            for _ in range(2):
                Client(server.port)  # which sends nothing
            sender.send(body[begin : begin + 1000])
            reader.received += reader.socket.recv(4096)
            assert requests.get(f"{server.url}/healthz", timeout=10).ok
        sender.read_until(b"[DONE]")
        reader.read_until(b"[DONE]")
        for each in (running, again):
            each.received = b""
            each.read_until(b"data:")
        assert set(unfinished(server).values()) == {0}


_LARGE = b"x" * MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (length(4), b"abcd"),
        (length(MAX_BODY_BYTES), _LARGE),
        (CHUNKED, whole_chunk(_LARGE)),
        (b"Expect: 100-continue\r\n" + length(4), b"abcd"),
    ],
    ids=["small", "the largest", "chunked", "asked for"],
)
def test_nobody_works_on_a_request_before_its_body_has_come(server, header, body):
    """So nothing of the application's is held meanwhile, and one that never comes costs little."""
    client = Client(server.port)
    client.send(head(header))
    if b"Expect" in header:
        client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.received = b""
    client.send(body[:-1])
    for _ in range(5):
        assert requests.get(f"{server.url}/healthz", timeout=10).ok
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.socket.recv(1)
    client.socket.settimeout(10)
    client.send(body[-1:])
    client.read_until(b"}\n")
    assert client.received.startswith(b"HTTP/1.1 404")
    assert b"connection: keep-alive" in client.received.lower()


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        (length(MAX_BODY_BYTES + 2), b""),
        (length(MAX_BODY_BYTES + 2) + b"\r\nExpect: 100-continue", b""),
        (CHUNKED, b"FFFFFFFF\r\n" + 2 * _LARGE),
    ],
    ids=["by its length", "asked for", "chunked"],
)
def test_a_body_that_is_too_large_is_refused_before_it_has_come(server, header, sent):
    client = Client(server.port)
    with contextlib.suppress(ConnectionError):
        client.send(question(header) + sent)
    client.read_until(b"body_too_large")


def test_bodies_that_hold_much_make_room_and_shut_nobody_out(logs, deepseek):
    """It is the largest that goes, not one that is smaller and as slow."""
    limit = 256 * 1024
    with Proxy("gunicorn", deepseek.url, logs("much"), CHATPROXY_MAX_BODY_BYTES=limit) as server:
        slow = Client(server.port)
        body = json.dumps(chat(unread="x" * 150_000, simulate={"tokens": 3})).encode()
        slow.send(question(length(len(body))) + body[:-1])
        large = [Client(server.port) for _ in range(100)]  # 64 of them have room
        for client in large:
            client.send(head(length(limit)))
            with contextlib.suppress(ConnectionError):
                client.send(b"x" * (limit - 1))
        assert stop_seconds(server) < LONGEST_STOP
        wait_for(lambda: unfinished(server)["body", "room"] >= 10, message="room")
        slow.send(body[-1:])
        slow.read_until(b"[DONE]")


def test_what_does_not_come_in_time_is_answered_or_closed_and_counted(server):
    """A body is answered with a 408, unless nobody reads it; a head also ends if it drips."""
    before = unfinished(server)
    body, large, unread, half, dripping = (Client(server.port) for _ in range(5))
    body.send(HALF_BODY % 1)
    large.send((HALF_BODY % 2).replace(b": 100", b": %d" % (2 * PIECE)) + b"x" * (PIECE - 1))
    unread.send(HALF_BODY.replace(b"/api/chat/stream", b"/nowhere") % 1)
    half.send(b"GET / HTTP/1.1\r\nHost:")
    begun = time.monotonic()
    dripping.socket.setblocking(False)
    wait_for(lambda: is_closed_for(dripping, b"A"), message="the end of the connection")
    assert time.monotonic() - begun > 0.9
    assert answer_to(body) == 408
    refusal = json.loads(body.received.partition(b"\r\n\r\n")[2])
    assert refusal == {"error": "The body did not come within 1 seconds.", "code": "body_timeout"}
    assert answer_to(large) == 408
    assert answer_to(unread) == 404
    assert half.socket.recv(1) == b""
    assert time.monotonic() - begun < 10
    after = unfinished(server)
    counted = {part: after[part, "timeout"] - before[part, "timeout"] for part in ("head", "body")}
    assert counted == {"head": 2, "body": 3}


def is_closed_for(client, byte):
    """Send a byte, and say whether the server has closed the connection."""
    try:
        client.send(byte)
        return client.socket.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def unfinished(server):
    """How many requests never came whole, by the part that was awaited, and why they were ended."""
    metrics = requests.get(f"{server.url}/metrics", timeout=10).text
    line = r'^chatproxy_requests_unfinished_total\{part="(\w+)",why="(\w+)"\} (.+)$'
    return {(part, why): float(n) for part, why, n in re.findall(line, metrics, re.MULTILINE)}


@pytest.mark.parametrize("kind", ["gunicorn", "gunicorn-threads", "pywsgi", "werkzeug"])
def test_under_any_server_that_shows_its_socket_a_body_has_its_time(start_proxy, deepseek, kind):
    server = start_proxy(kind, deepseek.url, CHATPROXY_BODY_TIMEOUT=0.3)
    client = Client(server.port)
    client.send(HALF_BODY % 1)
    client.read_until(b"body_timeout")
    assert client.received.split()[1] == b"408"


@pytest.mark.parametrize("kind", ["gunicorn", "werkzeug"])
def test_a_stop_whose_body_does_not_come_is_a_stop(start_proxy, deepseek, kind):
    server = start_proxy(kind, deepseek.url, CHATPROXY_BODY_TIMEOUT=0.3)
    session_id = new_id()
    server.start(session_id, simulate={"rate": 50, "tokens": 100_000}).read_until(b"data:")
    client = Client(server.port)
    client.send(head(length(100), path=f"/api/chat/{session_id}/stop".encode()) + b'{"a')
    client.read_until(b'"upstreamClosed":true')
    assert client.received.split()[1] == b"200"


# ---- gunicorn -----------------------------------------------------------------------------------


def test_this_gunicorn_is_as_we_know_it():
    assert fits(Config())
    assert wire.fits(Config())


def test_a_gunicorn_whose_requests_are_different_is_noticed(monkeypatch):
    monkeypatch.setattr(Message, "should_close", lambda self: False)
    assert not fits(Config())


def test_a_gunicorn_that_hides_the_body_is_noticed(monkeypatch):
    monkeypatch.setattr("chatproxy.server.gunicorn.worker.default_environ", lambda *_: {})
    assert not fits(Config())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("write", lambda self, data: None),
        ("send_headers", lambda self: None),
        ("__init__", lambda self, *_: None),
        ("sent", property(lambda self: 0, lambda self, value: None)),
    ],
)
def test_a_gunicorn_whose_responses_are_different_is_noticed(monkeypatch, name, value):
    monkeypatch.setattr(wsgi.Response, name, value, raising=False)
    assert not wire.fits(Config())


@pytest.mark.parametrize("module", ["gunicorn.worker", "direct_write"])
def test_with_an_unknown_gunicorn_the_server_works_and_says_so_once(
    logs, deepseek, tmp_path, module
):
    config = tmp_path / "config.py"
    config.write_text(
        "from chatproxy.gunicorn_config import *\n"
        "from chatproxy.gunicorn_config import post_worker_init as begin\n"
        "def post_worker_init(worker):\n"
        f"    import chatproxy.server.{module}\n"
        f"    chatproxy.server.{module}.fits = lambda config: False\n"
        "    begin(worker)\n"
    )
    with Proxy("gunicorn", deepseek.url, logs("unknown"), ["-c", str(config)]) as server:
        assert stop_seconds(server) < LONGEST_STOP
        assert server.log().count("[WARNING] chatproxy:") == 1
