"""Host names: a name that a stranger has rebound to this machine can't spend the key."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client as WSGIClient
from werkzeug.test import TestResponse, create_environ, run_wsgi_app

from chatproxy import ChatProxy, cli, create_app
from chatproxy.config import Settings
from chatproxy.hosts import LOOPBACK, HostGuard, Hosts, is_loopback
from chatproxy.server import exposure

from .support.servers import Client, DeepSeek, Proxy, new_id

LOCAL = {"DEEPSEEK_BASE_URL": "http://127.0.0.1:1"}
KEY = {"DEEPSEEK_API_KEY": "sk-1"}

#: Host headers.
LOCAL_NAMES = [
    *("localhost", "LocalHost:8000", "localhost.", "localhost.:8000", "localhost:"),
    *("chat.localhost", "127.0.0.1", "127.8.9.10:80", "[::1]:8000"),
]
OTHER_NAMES = [
    *("", ":8000", "rebound.example", "localhost.rebound.example", "rebound-localhost"),
    *("127.0.0.1.rebound.example", "127.0.0.1.nip.io:8000", "0.0.0.0", "10.0.0.1"),
    *("[::]", "[::2]", "::1", "localhost,rebound.example", "localhost rebound.example"),
    *("user@localhost", "rebound.example:@localhost", "http://localhost", "localhost/"),
    *("localhost:80:80", "localhost:port", "localhost\n", "localhost\x00", "..localhost"),
]


def test_a_loopback_name_is_one_whole_name_with_or_without_a_port() -> None:
    hosts = Hosts(LOOPBACK)
    assert [each for each in LOCAL_NAMES + OTHER_NAMES if each in hosts] == LOCAL_NAMES


@pytest.mark.parametrize(
    ("entry", "admitted", "refused"),
    [
        ("Chat.Example.com", ["chat.example.com", "CHAT.example.com:443"], ["a.chat.example.com"]),
        (".example.com", ["a.example.com", "a.b.example.com", "example.com"], ["anexample.com"]),
        ("10.0.0.5", ["10.0.0.5:8000"], ["10.0.0.50", "10.0.0.5.example"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.1", "10.example"]),
        ("[fd00::5]", ["[fd00::5]:80", "[fd00:0::5]"], ["[fd00::6]"]),
        ("fd00::/8", ["[fd12::1]"], ["[fe80::1]"]),
        ("chat_proxy", ["chat_proxy:8000"], ["chatproxy"]),
        ("*", ["rebound.example", "", "?"], []),
    ],
)
def test_an_entry_is_a_name_a_domain_an_address_a_network_or_all(
    entry: str, admitted: list[str], refused: list[str]
) -> None:
    hosts = Hosts([entry])
    assert [header for header in [*admitted, *refused] if header in hosts] == admitted


@given(st.text(max_size=20), st.sampled_from(["localhost", "127.0.0.1", "[::1]", ".localhost"]))
def test_whatever_is_put_around_a_loopback_name_does_not_make_another_one_pass(
    text: str, name: str
) -> None:
    for header in (name + text, text + name):
        if header in Hosts(LOOPBACK):
            assert re.fullmatch(
                r"([\w-]+\.)*localhost\.?(:\d*)?|127(\.\d+){3}\.?(:\d*)?|\[[0:]*:0*1\]\.?(:\d*)?",
                header,
                re.IGNORECASE | re.ASCII,
            )


def test_a_listener_on_a_loopback_address_is_known_and_any_other_counts_as_public() -> None:
    local = ["localhost", "127.0.0.1", "127.1.1.1", "::1"]
    others = ["", "0.0.0.0", "::", "10.0.0.1", "vm", "localhost.example"]
    assert [each for each in local + others if is_loopback(each)] == local


# ---- the guard


def answer(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"answered"]


def ask(guard: Any, path: str = "/", **environ: str) -> TestResponse:
    given = {"SERVER_NAME": "127.0.0.1", "REMOTE_ADDR": "127.0.0.1", **environ}
    return WSGIClient(guard).open(path, environ_overrides=given)


def is_admitted(guard: Any, **environ: str) -> bool:
    response = ask(guard, **environ)
    assert response.status_code in (200, 421)
    return response.status_code == 200


def test_without_a_setting_a_loopback_listener_admits_loopback_names_alone() -> None:
    guard = HostGuard(answer, ())
    assert is_admitted(guard, HTTP_HOST="localhost:8000")
    assert not is_admitted(guard, HTTP_HOST="rebound.example")
    assert is_admitted(guard, HTTP_HOST="chat.example.com", SERVER_NAME="0.0.0.0")


@pytest.mark.parametrize("listener", ["127.0.0.1", "0.0.0.0", "chat"])
def test_a_setting_holds_on_every_listener(listener: str) -> None:
    guard = HostGuard(answer, ("chat.example.com",))
    assert is_admitted(guard, HTTP_HOST="chat.example.com", SERVER_NAME=listener)
    for other in ("rebound.example", "localhost", ""):
        assert not is_admitted(guard, HTTP_HOST=other, SERVER_NAME=listener)


def test_what_a_page_can_send_admits_nobody() -> None:
    names = ("X_FORWARDED_HOST", "FORWARDED", "X_HOST", "X_ORIGINAL_HOST")
    forged = {f"HTTP_{name}": "localhost" for name in names}
    assert not is_admitted(HostGuard(answer, ()), HTTP_HOST="rebound.example", **forged)


def test_a_target_in_absolute_form_admits_nobody_whom_the_header_does_not() -> None:
    guard = HostGuard(answer, ())
    local, rebound = "http://localhost:8000/", "HTTP://rebound.example/?http://localhost/"
    assert is_admitted(guard, HTTP_HOST="localhost", RAW_URI=local)
    assert not is_admitted(guard, HTTP_HOST="rebound.example", RAW_URI=local)
    assert not is_admitted(guard, HTTP_HOST="localhost", RAW_URI=rebound)


def test_a_request_without_a_host_is_refused() -> None:
    environ = create_environ("/", environ_overrides={"SERVER_NAME": "127.0.0.1"})
    del environ["HTTP_HOST"]
    refused = run_wsgi_app(HostGuard(answer, ()), environ)
    assert refused[1] == "421 Misdirected Request"


def test_probes_are_answered_under_any_name() -> None:
    guard = HostGuard(answer, ())
    for path in ("/healthz", "/readyz"):
        assert ask(guard, path, HTTP_HOST="10.0.0.5:8000").status_code == 200
    refused = ask(guard, "/healthz/x", HTTP_HOST="10.0.0.5:8000")
    assert refused.status == "421 Misdirected Request"
    assert refused.get_json()["code"] == "host_not_allowed"
    assert refused.headers["X-Should-Retry"] == "false"
    assert "10.0.0.5" not in refused.text


# ---- the standalone application


def test_every_route_of_the_standalone_server_is_guarded() -> None:
    app = create_app(LOCAL)
    paths = {str(rule).replace("<path:", "<") for rule in app.url_map.iter_rules()}
    assert {"/", "/metrics", "/api/chat/stream", "/healthz"} <= paths
    for path in {re.sub(r"<\w+>", "x", path) for path in paths} | {"/nothing"}:
        for method in ("GET", "POST", "OPTIONS", "HEAD", "DELETE"):
            response = app.test_client().open(path, method=method, headers={"Host": "x.example"})
            assert (response.status_code == 421) == (path not in ("/healthz", "/readyz"))


def test_an_application_of_ones_own_keeps_its_own_rules() -> None:
    """That is Flask's ``TRUSTED_HOSTS``."""
    app = Flask("own")
    app.config.update(LOCAL, CHATPROXY_HOSTS="chat.example.com")
    ChatProxy(app)
    response = app.test_client().post("/api/chat/cancel/x", headers={"Host": "own.example"})
    assert response.status_code == 404


def test_a_rebound_name_gets_no_answer_and_costs_nothing(proxy: Proxy, deepseek: DeepSeek) -> None:
    """As a browser sends it, to a server as it starts by default."""
    session_id = new_id()
    body = json.dumps({"messages": [{"role": "user"}], "simulate": {"tag": session_id}}).encode()
    for path in ("/api/chat/stream", f"/api/chat/cancel/{session_id}", "/page.json", "/metrics"):
        client = Client(proxy.port)
        client.send(
            f"POST {path} HTTP/1.1\r\nHost: rebound.example:{proxy.port}\r\n"
            f"Origin: http://rebound.example:{proxy.port}\r\nX-Session-Id: {session_id}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        received = client.read_until(b"host_not_allowed")
        assert received.startswith(b"HTTP/1.1 421 ")
    assert deepseek.entries(session_id) == []


@pytest.mark.parametrize("kind", ["gunicorn-pywsgi", "gunicorn-threads", "pywsgi"])
def test_the_other_servers_tell_their_listener_too(
    kind: str, start_proxy: Any, deepseek: DeepSeek
) -> None:
    proxy = start_proxy(kind, deepseek.url)
    headers = {"Host": "rebound.example"}
    assert requests.get(f"{proxy.url}/page.json", headers=headers, timeout=10).status_code == 421
    assert requests.get(f"{proxy.url}/page.json", timeout=10).status_code == 200


# ---- what is said at the start


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_public_listener_says_once_what_is_exposed(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app({**KEY, **LOCAL})
    for _ in range(2):
        ask(app, "/page.json", SERVER_NAME="0.0.0.0", HTTP_HOST="a.example")
    tokens, hosts = told(caplog)
    assert "CHATPROXY_TOKENS" in tokens
    assert "CHATPROXY_HOSTS" in hosts


@pytest.mark.parametrize(
    ("chosen", "environ"),
    [
        ({}, {}),
        ({}, {"SERVER_NAME": "chat.example", "REMOTE_ADDR": ""}),  # a Unix socket
        ({"CHATPROXY_INSECURE": "1"}, {"SERVER_NAME": "0.0.0.0"}),
        (
            {"CHATPROXY_HOSTS": "localhost", "CHATPROXY_TOKENS": "ann:0123456789abcdef"},
            {"SERVER_NAME": "0.0.0.0"},
        ),
    ],
)
def test_there_is_nothing_to_say_of_a_server_that_is_set_up_or_private(
    chosen: dict[str, str], environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    ask(create_app({**KEY, **LOCAL, **chosen}), "/page.json", **environ, HTTP_HOST="localhost")
    assert told(caplog) == []


def test_a_key_that_others_can_read_on_its_way_is_told_of() -> None:
    open_to_others = ["http://gateway.example", "http://10.0.0.1:8080/v1"]
    private = ["https://gateway.example", "http://localhost:1", "http://[::1]:1"]

    def is_told(url: str, **chosen: str) -> bool:
        settings = Settings.load({}, {**KEY, "DEEPSEEK_BASE_URL": url, **chosen})
        return bool(exposure.of_the_keys(settings))

    assert [each for each in open_to_others + private if is_told(each)] == open_to_others
    assert not is_told(open_to_others[0], CHATPROXY_INSECURE="yes")


def test_an_application_of_ones_own_hears_of_its_key(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("own")
    app.config.update(KEY, DEEPSEEK_BASE_URL="http://gateway.example")
    ChatProxy(app)
    [sentence] = told(caplog)
    assert "plain HTTP" in sentence
    assert "sk-1" not in sentence


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls ``chatproxy serve``, up to the start of gunicorn."""

    def call(*options: str, **chosen: str) -> Result:
        monkeypatch.setenv("CHATPROXY_INSECURE", "")
        for name, value in {**KEY, **chosen}.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(cli.main, ["serve", *options])
        assert result.stdout == "started\n"
        return result

    server = SimpleNamespace(run=lambda: print("started"))
    monkeypatch.setattr("chatproxy.cli.gunicorn_server.GunicornServer", lambda *_, **__: server)
    return call


def test_serve_on_a_public_address_says_one_sentence_of_each_thing_that_is_open(
    serve: Any,
) -> None:
    for bind in ("0.0.0.0:80", ":80", "[::]:80", "10.0.0.1:80", "chat:80"):
        tokens, hosts = serve("--bind", bind).stderr.splitlines()
        assert "CHATPROXY_TOKENS" in tokens
        assert "CHATPROXY_HOSTS" in hosts
    assert serve("--bind", bind, "--insecure").stderr == ""
    assert serve("--bind", bind, CHATPROXY_INSECURE="1").stderr == ""


def test_serve_on_a_private_address_has_nothing_to_say(serve: Any) -> None:
    for bind in ("127.0.0.1:80", "localhost:80", "[::1]:80", "unix:/tmp/x.sock"):
        assert serve("--bind", bind).stderr == ""


def test_serve_says_that_the_key_can_be_read_wherever_it_listens(serve: Any) -> None:
    [sentence] = serve(DEEPSEEK_BASE_URL="http://gateway.example").stderr.splitlines()
    assert "plain HTTP" in sentence
