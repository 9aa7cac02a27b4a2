"""Under each WSGI server: what docs/servers.md says of it, tried; and what is told of it."""

from __future__ import annotations

import io
import json
import math
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from flask import Flask
from werkzeug.test import create_environ

from chatproxy import ChatProxy
from chatproxy.answers.shares import SlotPool
from chatproxy.config import Settings
from chatproxy.server import capabilities as servers
from chatproxy.server.capabilities import (
    ServerCapabilities,
    longest_grace,
    shortcomings,
    threads_of,
)

from .support.servers import ROOT, Client, DeepSeek, Proxy, ask, chat, new_id
from .support.waiting import wait_for

StartProxy = Callable[..., Proxy]

#: The servers of the table that are tried here: what its first cell says of each, and how it tells
#: that a client has left.
TRIED = {
    "gunicorn-cold": ("gunicorn, gevent worker, the package's settings", "at once"),
    "gunicorn-plain": ("gunicorn, gevent worker, no settings", "at once"),
    "gunicorn-pywsgi": ("gunicorn, gevent_pywsgi worker", "at once"),
    "gunicorn-threads": ("gunicorn, gthread worker", "at once"),
    "pywsgi": ("gevent.pywsgi", "at once"),
    "werkzeug": ("Werkzeug", "at once"),
    "waitress": ("waitress", "at once"),
    "cheroot": ("cheroot", "at once"),
    "a2wsgi": ("uvicorn with a2wsgi", "at once"),
    "uvicorn": ("uvicorn's own bridge", "never"),
    "hypercorn": ("hypercorn", "never"),
}


def table() -> dict[str, list[str]]:
    """The rows of the page, by their first cell."""
    text = (ROOT / "docs" / "servers.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows[2:]}


@pytest.fixture(params=TRIED)
def server(request: Any, start_proxy: StartProxy, deepseek: DeepSeek) -> Proxy:
    return start_proxy(request.param, deepseek.url)


def test_the_page_says_what_is_tried_here() -> None:
    found = {name: table()[name] for name, _ in TRIED.values()}
    for name, leaving in TRIED.values():
        assert found[name][2].startswith(leaving), name


def test_an_answer_streams_as_it_comes_and_a_stop_ends_it(
    server: Proxy, deepseek: DeepSeek
) -> None:
    session_id = new_id()
    client = server.start(session_id, simulate={"rate": 20, "tokens": 10_000, "tag": session_id})
    client.read_until(b"id: 2\n")
    head = client.received.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\ncontent-type: text/event-stream" in head
    assert f"\r\nx-session-id: {session_id}".encode() in head
    status, receipt = server.cancel(session_id)
    assert (status, receipt["upstreamClosed"]) == (200, True)
    assert deepseek.gone(session_id)["finished"] is False
    client.read_until(b"event: stopped")
    client.read_until(b"[DONE]")


def test_a_failure_before_the_first_event_has_its_status(server: Proxy) -> None:
    client = server.start(new_id(), simulate={"status": 402})
    received = client.read_until(b"upstream_balance")
    assert received.startswith(b"HTTP/1.1 502")
    assert b"application/json" in received


@pytest.mark.parametrize("scenario", [{"never": "headers"}, {"rate": 20, "tokens": 10_000}])
@pytest.mark.parametrize("kind", [kind for kind, (_, how) in TRIED.items() if how == "at once"])
def test_a_client_that_leaves_is_noticed_at_once(
    kind: str, scenario: dict[str, Any], start_proxy: StartProxy, deepseek: DeepSeek
) -> None:
    """The heartbeat of 15 s plays no part in it."""
    proxy = start_proxy(kind, deepseek.url)
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, **scenario})
    deepseek.entry(session_id)
    left_at = time.monotonic()
    client.leave()
    assert deepseek.gone(session_id)["peer_gone_mono"] - left_at < 1
    assert "outcome=stopped" in proxy.closing_line(session_id)


@pytest.mark.parametrize("kind", [kind for kind, (_, how) in TRIED.items() if how == "never"])
def test_a_server_that_hides_whether_a_client_is_there_is_told_of(
    kind: str, start_proxy: StartProxy, deepseek: DeepSeek
) -> None:
    proxy = start_proxy(kind, deepseek.url)
    proxy.cancel("x")
    assert proxy.log().count("does not tell when a client has left") == 1


def test_an_answer_that_ends_under_a2wsgi_is_not_taken_for_one_whose_client_left(
    start_proxy: StartProxy, deepseek: DeepSeek
) -> None:
    proxy = start_proxy("a2wsgi", deepseek.url)
    session_id = new_id()
    answer = ask(proxy, session_id, simulate={"rate": 50, "tokens": 5})
    assert answer.content.endswith(b"[DONE]\n\n")
    assert "outcome=finished" in proxy.closing_line(session_id)
    assert not proxy.lines(f"{session_id} client disconnected")


# ---- a pool of threads


def test_a_pool_of_threads_keeps_one_for_stops(
    logs: Any, deepseek: DeepSeek, start_proxy: StartProxy
) -> None:
    """Streams that would take it are refused; readers of an answer take a thread too."""
    options = ["--threads", "3"]
    settings = {"CHATPROXY_HEARTBEAT": "5"}
    with Proxy("gunicorn-threads", deepseek.url, logs("few"), options, **settings) as proxy:
        first, *others = [new_id() for _ in range(4)]
        proxy.start(first, simulate={"tag": first, "never": "tokens"})
        deepseek.entry(first)
        reader = Client(proxy.port)
        reader.send(f"GET /api/chat/stream/{first} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        reader.read_until(b"heartbeat")
        for each in others:
            refused = proxy.start(each, simulate={"tag": each})
            assert refused.read_until(b"too_many_sessions").startswith(b"HTTP/1.1 429 ")
            refused.leave()
        assert deepseek.entries(others[0]) == []
        began = time.monotonic()
        assert proxy.cancel(first)[0] == 200
        assert time.monotonic() - began < 3
        reader.read_until(b"event: stopped")
        wait_for(lambda: is_whole(proxy), message="the threads are free again")
        assert proxy.log().count("This server answers in 3 threads") == 1


def test_a_body_that_comes_slowly_leaves_the_last_thread_to_stops(
    logs: Any, deepseek: DeepSeek
) -> None:
    """Also to those that have a body of their own, which says what to stop."""
    with Proxy("gunicorn-threads", deepseek.url, logs("bodies"), ["--threads", "3"]) as proxy:
        session_id, url = new_id(), f"{proxy.url}/api/chat"
        proxy.start(session_id, simulate={"rate": 20, "tokens": 10_000}).read_until(b"data:")
        body = json.dumps(chat(simulate={"tokens": 2})).encode()

        def begin_to_send() -> Client:
            client = Client(proxy.port)
            client.send(
                f"POST /api/chat/stream HTTP/1.1\r\nHost: localhost\r\nX-Session-Id: {new_id()}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
            )
            return client

        def begin_slowly() -> Client | None:
            client = begin_to_send()
            if ask(proxy, simulate={"tokens": 1}).status_code == 429:
                return client
            client.leave()  # that question may have overtaken it, and had the thread instead
            return None

        slow = wait_for(begin_slowly)
        begin_to_send().read_until(b"too_many_sessions")
        began = time.monotonic()
        for stream_id, key in (("another", "message"), (session_id, "upstreamClosed")):
            stop = {"json": {"activeStreamId": stream_id}, "timeout": 10}
            assert key in requests.post(f"{url}/{session_id}/stop", **stop).json()
        assert time.monotonic() - began < 3
        slow.send(body)
        slow.read_until(b"[DONE]")
        wait_for(lambda: is_whole(proxy), message="the threads are free again")


def is_whole(proxy: Proxy) -> bool:
    answer = ask(proxy, simulate={"rate": 0, "tokens": 2})
    return answer.status_code == 200 and answer.content.endswith(b"[DONE]\n\n")


def test_whoever_is_refused_for_another_reason_has_taken_no_thread(
    deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask("refusing")
    app.config["DEEPSEEK_BASE_URL"] = deepseek.url
    chat = ChatProxy(app)

    @chat.prepare
    def refuse(payload: dict[str, Any]) -> None:
        if payload.get("refused"):
            raise ValueError

    pool = SlotPool(1)
    monkeypatch.setattr(ServerCapabilities, "take_thread", lambda _server: pool.take())
    client, json = app.test_client(), {"messages": [{"role": "user"}], "simulate": {"tokens": 1}}
    for _ in range(2):
        assert client.get("/api/chat/stream/unknown").status_code == 404
        assert client.post("/api/chat/stream", json=json).status_code == 400
    headers = {"X-Session-Id": new_id()}
    assert client.post("/api/chat/stream", json=json, headers=headers).get_data()
    assert client.post("/api/chat/stream", json=json, headers=headers).status_code == 409
    pool.take()


# ---- what is said


def of(settings: dict[str, str] | None = None, **environ: Any) -> str:
    """What is said of a server, by the environ of a request."""
    known = {"SERVER_SOFTWARE": "other", "wsgi.multithread": True, "wsgi.multiprocess": False}
    given = create_environ("/", environ_overrides={**known, "wsgi.input": object(), **environ})
    for name, value in environ.items():
        if value is None:
            del given[name]
    return " ".join(shortcomings(given, Settings.load({}, settings or {})))


def test_nothing_is_to_be_said_of_a_server_with_threads_or_a_client_for_tests() -> None:
    assert of() == ""
    assert list(shortcomings(create_environ("/"), Settings())) == []


@pytest.mark.parametrize(
    "environ",
    [
        {"wsgi.multithread": False},
        {"wsgi.multithread": False, "SERVER_SOFTWARE": None, "wsgi.multiprocess": True},  # bjoern
    ],
)
def test_a_server_that_takes_one_request_at_a_time_is_told_of(environ: dict[str, Any]) -> None:
    assert "one request at a time" in of(**environ)


def test_several_processes_that_do_not_meet_are_told_of(tmp_path: Any) -> None:
    several = {"wsgi.multiprocess": True}
    assert "CHATPROXY_RUN_DIR" in of(**several)
    assert of({"CHATPROXY_RUN_DIR": str(tmp_path)}, **several) == ""
    assert of({"CHATPROXY_PEERS": "redis://127.0.0.1"}, **several) == ""


def test_a_bridge_that_hides_its_clients_is_told_of() -> None:
    bridge = {"SERVER_SOFTWARE": None, "wsgi.input": io.BytesIO()}
    assert "does not tell when a client has left" in of(**bridge)
    assert of(**{**bridge, "SERVER_SOFTWARE": "waitress"}) == ""


def test_gevents_server_without_its_patches_is_told_of() -> None:
    assert "without gevent's patches" in of(SERVER_SOFTWARE="gevent/26.9 Python/3.11")


def test_a_late_patch_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Patched:
        __module__ = "gevent._socket3"

    monkeypatch.setattr(servers.socket, "socket", Patched)
    assert of() == ""
    monkeypatch.setattr(sys.modules["urllib3.util.ssl_"], "SSLContext", type("Old", (), {}))
    assert ssl.SSLContext.__name__ == "SSLContext"
    assert "after requests had been imported" in of()


def test_a_server_is_looked_at_once_in_each_process(caplog: pytest.LogCaptureFixture) -> None:
    server = ServerCapabilities(Settings())
    environ = {"SERVER_SOFTWARE": "other", "wsgi.multithread": False}
    for _ in range(3):
        server.inspect(environ)
    [record] = caplog.records
    assert record.getMessage().endswith("See docs/servers.md for servers that can do it all.")


def test_waitress_tells_its_threads() -> None:
    class Channel(SimpleNamespace):
        def check_client_disconnected(self) -> bool:
            return False

    channel = Channel(server=SimpleNamespace(adj=SimpleNamespace(threads=4)))
    environ = {"waitress.client_disconnected": channel.check_client_disconnected}
    assert threads_of(environ) == 4
    assert threads_of({}) is None


class GunicornWorker:
    """What gunicorn's workers show of themselves."""

    __module__ = "gunicorn.workers.other"

    def __init__(self, *, max_requests: int = 0, graceful_timeout: int = 30) -> None:
        self.cfg = SimpleNamespace(max_requests=max_requests, graceful_timeout=graceful_timeout)

    def handle_abort(self, *_: object) -> None:
        """Be found: the handler of SIGABRT is a method of the worker."""


class OurWorker(GunicornWorker):
    __module__ = "chatproxy.server.gunicorn.worker"


@pytest.fixture
def within() -> Iterator[Callable[[GunicornWorker], None]]:
    """Has this process be a worker of gunicorn's."""
    before = signal.getsignal(signal.SIGABRT)

    def be(worker: GunicornWorker) -> None:
        signal.signal(signal.SIGABRT, worker.handle_abort)

    yield be
    signal.signal(signal.SIGABRT, before)


def test_a_worker_that_ends_itself_after_some_requests_is_told_of_unless_it_is_ours(
    within: Callable[[GunicornWorker], None],
) -> None:
    within(GunicornWorker(max_requests=1000))
    assert "After max_requests" in of()
    for worker in (GunicornWorker(), OurWorker(max_requests=1000)):
        within(worker)
        assert of() == ""


@pytest.mark.parametrize(("graceful_timeout", "longest"), [(30, 25), (6, 1)])
def test_a_grace_is_no_longer_than_gunicorn_waits(
    graceful_timeout: int, longest: int, within: Callable[[GunicornWorker], None]
) -> None:
    assert longest_grace() == math.inf
    within(GunicornWorker(graceful_timeout=graceful_timeout))
    assert longest_grace() == longest
    assert of({"CHATPROXY_GRACE": str(longest)}) == ""
    told = of({"CHATPROXY_GRACE": "60"})
    assert f"answers have {longest} seconds" in told
    assert "set that to 65 or more" in told


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("gunicorn-sync", "This server takes one request at a time"),
        ("gunicorn-preload", "gevent patched after requests had been imported"),
    ],
)
def test_a_worker_of_gunicorn_that_can_not_do_it_all_is_told_of(
    kind: str, sentence: str, logs: Any, deepseek: DeepSeek
) -> None:
    with Proxy(kind, deepseek.url, logs(kind), ["-w", "2"]) as proxy:
        requests.get(f"{proxy.url}/readyz", timeout=20)
        told = [line for line in proxy.log().splitlines() if "docs/servers.md" in line]
        assert all(sentence in line for line in told)
        assert 1 <= len(told) <= 2  # once in each of the two that was asked


@pytest.mark.parametrize("kind", ["gunicorn-cold", "gunicorn-plain", "gunicorn-pywsgi"])
def test_a_worker_of_gunicorn_that_can_do_it_all_has_nothing_to_be_said_of(
    kind: str, start_proxy: StartProxy, deepseek: DeepSeek
) -> None:
    proxy = start_proxy(kind, deepseek.url)
    requests.get(f"{proxy.url}/readyz", timeout=20)
    assert "docs/servers.md" not in proxy.log()


def test_granian_has_its_status_before_it_asks_for_an_item(deepseek: DeepSeek) -> None:
    """It sends what it knows when the application returns; a refusal went out as a 200.

    The status is awaited after the application's teardown all the same.
    """
    app = Flask("eager")
    app.config["DEEPSEEK_BASE_URL"] = deepseek.url
    ChatProxy(app)
    seen: list[str] = []
    app.teardown_appcontext(lambda _error: seen.append("teardown"))
    body = b'{"messages": [{"role": "user"}], "simulate": {"status": 402}}'
    for software, expected in (
        ("Granian", ["teardown", "502 BAD GATEWAY"]),
        ("other", ["teardown"]),
    ):
        seen.clear()
        environ = create_environ(
            "/api/chat/stream",
            method="POST",
            input_stream=io.BytesIO(body),
            content_length=len(body),
            headers={"X-Session-Id": new_id()},
            environ_overrides={"SERVER_SOFTWARE": software, "wsgi.multithread": True},
        )
        items: Any = app(environ, lambda status, _: seen.append(status))
        assert list(dict.fromkeys(seen)) == expected  # other contexts are torn down, too
        assert b"upstream_balance" in b"".join(items)
        items.close()
