"""What ChatProxy adds to a Flask application, with a DeepSeek of our own on a real socket."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import pytest
from flask import Flask, Response, abort, current_app, request
from werkzeug.test import TestResponse

from chatproxy import ChatProxy, ConfigError, Refusal, sse, stream_ended, stream_started
from chatproxy.config import describe

from .support import scripted
from .support.waiting import PATIENCE, wait_for

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
NOT_FOUND = {"success": False, "message": "Session not found"}
ORIGIN = "https://chat.example.com"


def chunk(**delta: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()


ANSWER = [
    chunk(reasoning_content="Hm."),
    chunk(content="Hel"),
    chunk(content="lo"),
    b"data: "
    + json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode(),
]
#: What a receipt says of an estimate.
ACCOUNT = ("usage", "usageSource", "usageSpread", "cost")
#: What only those get who have asked for it.
COUNT = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode()
WHOLE = [*ANSWER, b"data: [DONE]"]


class DeepSeek(scripted.Scripted):
    """Answers each request with the same blocks; at the end it is done, or falls silent."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.status = 200
        self.blocks = [*ANSWER, COUNT, b"data: [DONE]"]
        self.falls_silent = False
        #: One empty piece for each silent connection that the other side has closed.
        self.left: queue.Queue[bytes] = queue.Queue()

    def _answer(self, connection: socket.socket, _body: bytes) -> None:
        body = b"".join(block + b"\n\n" for block in self.blocks)
        events = [body] if body else []  # in one chunk, so that all come at once
        connection.sendall(scripted.unfinished(*events, status=b"%d Done" % self.status))
        if self.falls_silent:
            self.left.put(connection.recv(1))
        else:
            connection.sendall(b"0\r\n\r\n")

    @property
    def received(self) -> list[dict[str, Any]]:
        """What was asked, without what is asked of every upstream."""
        asked = [json.loads(body) for body in self.asked]
        assert all(each.pop("stream_options") == {"include_usage": True} for each in asked)
        return asked

    def fall_silent_after(self, blocks: list[bytes]) -> None:
        self.blocks, self.falls_silent = blocks, True


@pytest.fixture
def deepseek() -> Iterator[DeepSeek]:
    with DeepSeek() as server:
        yield server


class Site:
    """A Flask application with ChatProxy, and somebody who uses it."""

    def __init__(self, app: Flask, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    def stream(self, session_id: str | None = "session_1", **options: Any) -> TestResponse:
        """Begin an answer; returns with its first event."""
        headers = {**options.pop("headers", {})}
        if session_id is not None:
            headers["X-Session-Id"] = session_id
        if not options.keys() & {"data", "input_stream"}:
            options.setdefault("json", CHAT)
        return self.app.test_client().post(f"{self.prefix}/stream", headers=headers, **options)

    def stop(self, session_id: str = "session_1", **headers: str) -> TestResponse:
        path = f"{self.prefix}/cancel/{session_id}"
        return self.app.test_client().post(path, headers=headers)

    @property
    def live(self) -> list[str]:
        return [session.id for session in self.app.extensions["chatproxy"].registry.live()]


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeSite]:
    """Makes applications; what they leave running is stopped after the test."""
    for name, _, _ in describe():
        monkeypatch.delenv(name, raising=False)
    with contextlib.ExitStack() as stack:

        def make_site(
            chat: ChatProxy | None = None, prefix: str = "/api/chat", **config: Any
        ) -> Site:
            app = Flask(__name__)
            app.config.update(DEEPSEEK_BASE_URL=deepseek.url, **config)
            chat = chat or ChatProxy()
            chat.init_app(app)
            state = app.extensions["chatproxy"]
            stack.callback(state.upstream.close)
            stack.callback(state.registry.drain.run, 0.0)
            return Site(app, prefix)

        yield make_site


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@pytest.fixture
def silent(deepseek: DeepSeek) -> DeepSeek:
    """DeepSeek falls silent after three events."""
    deepseek.fall_silent_after(ANSWER[:3])
    return deepseek


def wire(blocks: list[bytes]) -> bytes:
    return b"".join(b"id: %d\n%b\n\n" % pair for pair in enumerate(blocks, 1))


def error_of(response: TestResponse) -> tuple[int, str]:
    """The status and the code of a refusal, which always has a sentence too."""
    body = response.get_json()
    assert isinstance(body["error"], str)
    return response.status_code, body["code"]


# --- setting up


def test_the_application_can_be_given_at_once_or_later(deepseek: DeepSeek) -> None:
    first, second = Flask("first"), Flask("second")
    for app in (first, second):
        app.config["DEEPSEEK_BASE_URL"] = deepseek.url
    ChatProxy(first)
    ChatProxy().init_app(second)
    rules = [{rule.rule for rule in app.url_map.iter_rules()} for app in (first, second)]
    assert rules[0] == rules[1] >= {"/api/chat/stream", "/api/chat/cancel/<path:session_id>"}


def test_tokens_do_not_stand_in_for_the_owners_of_an_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sets them counts on nobody else getting in."""
    monkeypatch.setenv("CHATPROXY_TOKENS", "ada:0123456789abcdef")
    config = {"DEEPSEEK_BASE_URL": "http://127.0.0.1:1"}
    app = Flask("mine")
    app.config.from_mapping(config)
    with pytest.raises(ConfigError, match="CHATPROXY_TOKENS"):
        ChatProxy(app)
    ChatProxy(app, owner=lambda: "ada")


def test_an_application_is_not_set_up_twice(site: Site) -> None:
    state = site.app.extensions["chatproxy"]
    for chat in (ChatProxy(), ChatProxy(url_prefix="/other")):
        with pytest.raises(RuntimeError, match="already set up"):
            chat.init_app(site.app)
    assert site.app.extensions["chatproxy"] is state


def test_a_wrong_setting_leaves_the_application_as_it_was() -> None:
    app = Flask(__name__)
    app.config.update(DEEPSEEK_BASE_URL="http://localhost", CHATPROXY_GRACE="soon")
    rules = len(list(app.url_map.iter_rules()))
    with pytest.raises(ConfigError, match="CHATPROXY_GRACE"):
        ChatProxy(app)
    assert "chatproxy" not in app.extensions
    assert len(list(app.url_map.iter_rules())) == rules


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_an_unknown_setting_is_warned_about_and_no_more(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CHATPROXY_MODLE", "deepseek-pro")
    assert make_site(CHATPROXY_GRAZE=5).stream().get_data() == wire(WHOLE)
    in_config, in_environment = sorted(warnings(caplog))
    assert in_config.startswith("CHATPROXY_GRAZE is not a setting")
    assert in_environment.startswith("CHATPROXY_MODLE is not a setting")
    assert "deepseek-pro" not in in_environment


def test_the_settings_come_from_the_application(make_site: MakeSite, deepseek: DeepSeek) -> None:
    make_site(CHATPROXY_MODEL="deepseek-pro").stream().get_data()
    assert deepseek.received[0]["model"] == "deepseek-pro"


def test_the_routes_go_where_they_are_wanted(make_site: MakeSite) -> None:
    site = make_site(ChatProxy(url_prefix="/ai"), "/ai")
    assert site.stream().get_data() == wire(WHOLE)
    assert site.app.test_client().post("/api/chat/stream").status_code == 404


def test_the_applications_own_checks_come_first(make_site: MakeSite, deepseek: DeepSeek) -> None:
    site = make_site()
    site.app.before_request(lambda: Response("Log in.", 403))
    assert site.stream().status_code == 403
    assert site.stop().status_code == 403
    assert not deepseek.received


# --- an answer


def test_an_answer_is_deepseeks_events_byte_for_byte_with_numbers(site: Site) -> None:
    response = site.stream("session_1718345013123_k3j9x0ab")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Session-Id"] == "session_1718345013123_k3j9x0ab"
    assert response.get_data() == wire(WHOLE)


def test_deepseek_gets_the_clients_fields_and_a_stream(site: Site, deepseek: DeepSeek) -> None:
    site.stream(json={**CHAT, "new_field": {"x": 1}, "stream": False}).get_data()
    assert deepseek.received == [
        {**CHAT, "new_field": {"x": 1}, "stream": True, "model": "deepseek-flash"}
    ]


@pytest.mark.parametrize(
    ("request_details", "status", "code"),
    [
        ({"session_id": None}, 400, "missing_session_id"),
        ({"session_id": "a/b"}, 400, "invalid_session_id"),
        ({"session_id": "x" * 129}, 400, "invalid_session_id"),
        ({"data": b"{"}, 400, "invalid_json"),
        ({"data": b"[]"}, 400, "invalid_request"),
        ({"json": {"messages": []}}, 400, "invalid_request"),
        ({"data": b" " * 1001}, 413, "body_too_large"),
    ],
)
def test_a_request_that_cannot_be_used_never_reaches_deepseek(
    make_site: MakeSite,
    deepseek: DeepSeek,
    request_details: dict[str, Any],
    status: int,
    code: str,
) -> None:
    site = make_site(CHATPROXY_MAX_BODY_BYTES=1000)
    assert error_of(site.stream(**request_details)) == (status, code)
    assert not deepseek.received
    assert not site.live


def test_a_missing_id_is_refused_in_the_agreed_words(site: Site) -> None:
    body = site.stream(None).get_json()
    assert body == {"error": "Missing sessionId", "code": "missing_session_id"}


def test_a_body_that_says_it_is_too_large_is_not_read(make_site: MakeSite) -> None:
    body = io.BytesIO(b" " * 5000)
    site = make_site(CHATPROXY_MAX_BODY_BYTES=1000)
    response = site.stream(input_stream=body, content_length=5000)
    assert error_of(response) == (413, "body_too_large")
    assert body.tell() == 0


def test_a_body_of_just_the_limit_is_taken(make_site: MakeSite) -> None:
    body = json.dumps(CHAT).encode()
    assert make_site(CHATPROXY_MAX_BODY_BYTES=len(body)).stream(data=body).status_code == 200


# --- a Stop


def test_a_stop_closes_the_connection_and_gives_a_receipt(site: Site, silent: DeepSeek) -> None:
    stream = site.stream()
    receipt = site.stop()
    assert receipt.status_code == 200
    assert silent.left.get(timeout=PATIENCE) == b""
    body = receipt.get_json()
    assert body.pop("stopMs") >= 0
    assert body == {
        "success": True,
        "sessionId": "session_1",
        "phase": "streaming",
        "upstreamClosed": True,
        "events": 3,
        "upstream": "DeepSeek",
        "billingStops": "unknown",
        **dict.fromkeys(ACCOUNT, ANY),
    }
    *events, ending, done = sse.Decoder().feed(stream.get_data())
    stopped = json.loads(sse.data_of(ending))
    assert [*events, done] == [*ANSWER[:3], b"data: [DONE]"]
    assert stopped == {
        "sessionId": "session_1",
        "reason": "user",
        "phase": "streaming",
        "events": 3,
        **{name: body[name] for name in ACCOUNT},
    }


@pytest.mark.parametrize("session_id", ["session_9", "a/b", "a%00b", "x" * 129, "%20"])
def test_a_stop_for_what_does_not_exist_finds_nothing(site: Site, session_id: str) -> None:
    response = site.stop(session_id)
    assert (response.status_code, response.get_json()) == (404, NOT_FOUND)


# --- several applications


def test_two_applications_of_one_extension_do_not_meet(
    make_site: MakeSite, silent: DeepSeek
) -> None:
    chat = ChatProxy()
    here, there = make_site(chat), make_site(chat)
    streams = [here.stream(), there.stream()]
    assert here.stop().status_code == 200
    assert (here.live, there.live) == ([], ["session_1"])
    for stream in streams:
        stream.close()


def test_two_extensions_have_preparers_of_their_own(make_site: MakeSite) -> None:
    strict = ChatProxy()
    strict.prepare(lambda payload: abort(403))
    assert make_site(strict).stream().status_code == 403
    assert make_site(ChatProxy()).stream().status_code == 200


# --- owners


def current_user() -> str | None:
    return request.headers.get("X-User")


@pytest.fixture
def owned(make_site: MakeSite) -> Site:
    return make_site(ChatProxy(owner=current_user))


@pytest.mark.parametrize("headers", [{}, {"X-User": ""}])
def test_nobody_gets_an_answer_or_a_stop(
    owned: Site, deepseek: DeepSeek, headers: dict[str, str]
) -> None:
    assert error_of(owned.stream(headers=headers)) == (401, "unauthorized")
    assert error_of(owned.stop(**headers)) == (401, "unauthorized")
    assert not deepseek.received


def test_who_nobody_knows_is_refused_before_the_request_is_looked_at(owned: Site) -> None:
    assert error_of(owned.stream(None, data=b"{")) == (401, "unauthorized")


def test_the_same_id_of_two_owners_is_two_answers(owned: Site, silent: DeepSeek) -> None:
    streams = [owned.stream(headers={"X-User": user}) for user in ("ada", "bob")]
    assert [stream.status_code for stream in streams] == [200, 200]
    assert owned.stop(**{"X-User": "ada"}).status_code == 200
    assert owned.live == ["session_1"]
    for stream in streams:
        stream.close()


def test_an_owner_may_be_a_number(make_site: MakeSite, silent: DeepSeek) -> None:
    site = make_site(ChatProxy(owner=lambda: 7))
    with ended_of(site.app) as ended, site.stream():
        site.stop()
        assert ended.get(timeout=PATIENCE)["owner"] == "7"


# --- preparers


def sent(
    make_site: MakeSite, deepseek: DeepSeek, *preparers: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    """What DeepSeek gets after these preparers."""
    chat = ChatProxy()
    for preparer in preparers:
        assert chat.prepare(preparer) is preparer
    assert make_site(chat).stream().get_data() == wire(WHOLE)
    return deepseek.received[0]


def test_a_preparer_may_change_the_payload(make_site: MakeSite, deepseek: DeepSeek) -> None:
    def add_system_prompt(payload: dict[str, Any]) -> None:
        payload["messages"].insert(0, {"role": "system", "content": "Be brief."})

    messages = sent(make_site, deepseek, add_system_prompt)["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]


def test_a_preparer_may_return_another_payload(make_site: MakeSite, deepseek: DeepSeek) -> None:
    replaced = sent(make_site, deepseek, lambda payload: {**CHAT, "user": "u"})
    assert replaced == {**CHAT, "user": "u", "model": "deepseek-flash", "stream": True}


def test_preparers_run_in_their_order_each_on_what_the_last_one_left(
    make_site: MakeSite, deepseek: DeepSeek
) -> None:
    payload = sent(
        make_site,
        deepseek,
        lambda payload: {**payload, "trail": "a"},
        lambda payload: payload.update(trail=payload["trail"] + "b"),
        lambda payload: {**payload, "trail": payload["trail"] + "c"},
    )
    assert payload["trail"] == "abc"


@pytest.mark.parametrize("wrong", [["a list"], "text", {"messages": object()}])
def test_a_preparer_that_returns_something_wrong_is_not_blamed_on_the_client(
    make_site: MakeSite, wrong: Any
) -> None:
    chat = ChatProxy()
    chat.prepare(lambda payload: wrong)
    site = make_site(chat)
    site.app.testing = False
    assert site.stream().status_code == 500
    assert site.app.extensions["chatproxy"].registry.live() == []


@pytest.mark.parametrize("preparers", [[], [lambda payload: payload.update(user="u")]])
def test_what_nobody_changes_goes_to_deepseek_as_the_text_that_came(
    make_site: MakeSite, deepseek: DeepSeek, preparers: list[Callable[[dict[str, Any]], Any]]
) -> None:
    chat = ChatProxy()
    for preparer in preparers:
        chat.prepare(preparer)
    messages = rb'[ {"role": "user", "content": "\u00e9"} ]'
    body = b'{"messages": %b, "seed": 1e9, "top_p": 1.10}' % messages
    response = make_site(chat).stream(json=None, data=body)
    assert response.get_data() == wire(WHOLE)
    (sent,) = deepseek.asked
    assert b'"messages":%b,"seed":1e9,"top_p":1.10' % messages in sent


def test_a_preparer_runs_in_the_request(make_site: MakeSite, deepseek: DeepSeek) -> None:
    payload = sent(make_site, deepseek, lambda payload: {**payload, "user": request.path})
    assert payload["user"] == "/api/chat/stream"


def test_a_preparer_does_not_see_what_cannot_be_sent(make_site: MakeSite) -> None:
    seen: list[dict[str, Any]] = []
    chat = ChatProxy()
    chat.prepare(seen.append)
    assert make_site(chat).stream(json={"messages": "Hello"}).status_code == 400
    assert not seen


def test_a_preparer_may_refuse_and_that_leaves_the_id_free(
    make_site: MakeSite, deepseek: DeepSeek
) -> None:
    """By a refusal of its own, or by Flask's ``abort``."""
    chat = ChatProxy()

    @chat.prepare
    def refuse_some(payload: dict[str, Any]) -> None:
        if payload.get("user") == "poor":
            raise Refusal("No budget is left.", status=402, code="no_budget", retry_after=60)
        if payload.get("user") == "banned":
            abort(403)

    site = make_site(chat)
    refused = site.stream(json={**CHAT, "user": "poor"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (402, "60")
    assert refused.get_json() == {"error": "No budget is left.", "code": "no_budget"}
    assert site.stream(json={**CHAT, "user": "banned"}).status_code == 403
    assert not deepseek.received
    assert not site.live
    assert site.stream().status_code == 200


# --- signals


@contextlib.contextmanager
def ended_of(app: Flask) -> Iterator[queue.Queue[dict[str, Any]]]:
    """The ``stream_ended`` of an application, as they come."""
    ended: queue.Queue[dict[str, Any]] = queue.Queue()

    def receive(sender: Flask, **details: Any) -> None:
        ended.put({**details, "sender": sender, "application": current_app.name})

    with stream_ended.connected_to(receive, sender=app):
        yield ended


def test_a_finished_answer_is_told_with_all_that_it_said(site: Site) -> None:
    with ended_of(site.app) as ended:
        site.stream().get_data()
        assert ended.get(timeout=PATIENCE) == {
            "sender": site.app,
            "application": site.app.name,
            "session_id": "session_1",
            "owner": "",
            "outcome": "finished",
            "reason": None,
            "phase": "streaming",
            "events": 4,
            "upstream": "DeepSeek",
            "usage": USAGE,
            "usage_source": "provider",
            "account": {"usage": USAGE, "usageSource": "provider", "cost": ANY},
            "text": "Hello",
            "reasoning_text": "Hm.",
            "payload": {**CHAT, "model": "deepseek-flash", "stream": True},
            "context": {},
        }


def test_a_stopped_answer_is_told_with_what_had_come(site: Site, silent: DeepSeek) -> None:
    with ended_of(site.app) as ended, site.stream():
        site.stop()
        told = ended.get(timeout=PATIENCE)
    assert (told["outcome"], told["reason"]) == ("stopped", "user")
    assert (told["text"], told["reasoning_text"]) == ("Hello", "Hm.")
    assert told["usage_source"] == "estimated"
    assert told["usage"]["completion_tokens"] == 2
    assert told["events"] == 3


def test_a_failed_answer_is_told_too(site: Site, deepseek: DeepSeek) -> None:
    deepseek.status = 402
    with ended_of(site.app) as ended:
        site.stream()
        told = ended.get(timeout=PATIENCE)
    assert (told["outcome"], told["reason"], told["events"]) == ("failed", None, 0)
    assert told["text"] == ""


def test_each_answer_is_told_once(site: Site) -> None:
    with ended_of(site.app) as ended:
        for number in range(3):
            site.stream(f"session_{number}").get_data()
        told = {ended.get(timeout=PATIENCE)["session_id"] for _ in range(3)}
    assert told == {"session_0", "session_1", "session_2"}
    assert ended.empty()


def test_the_start_is_told_with_the_id_and_the_owner(owned: Site) -> None:
    started: list[dict[str, Any]] = []

    def receive(sender: Flask, **details: Any) -> None:
        started.append({**details, "sender": sender})

    with stream_started.connected_to(receive, sender=owned.app):
        owned.stream(headers={"X-User": "ada"}).get_data()
    assert started == [{"sender": owned.app, "session_id": "session_1", "owner": "ada"}]


def test_what_is_refused_was_never_started(site: Site) -> None:
    started: list[Any] = []

    def receive(sender: Flask, **details: Any) -> None:
        started.append(details)

    with stream_started.connected_to(receive, sender=site.app):
        site.stream(None)
    assert not started


def test_a_receiver_of_the_end_that_fails_harms_no_answer(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(sender: Flask, **details: Any) -> None:
        raise ValueError("the database is away")

    def failures() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.exc_info]

    with stream_ended.connected_to(fail, sender=site.app):
        for number in range(2):
            assert site.stream(f"session_{number}").get_data() == wire(WHOLE)
        wait_for(lambda: len(failures()) == 2)
    assert not site.live


def test_a_receiver_of_the_start_that_fails_leaves_nothing_running(
    site: Site, silent: DeepSeek
) -> None:
    def fail(sender: Flask, **details: Any) -> None:
        raise ValueError("the database is away")

    with stream_started.connected_to(fail, sender=site.app):
        assert site.stream().status_code == 500
    wait_for(lambda: not site.live)


# --- log lines


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [r.getMessage() for r in caplog.records if r.name == "chatproxy"]
    return [message for message in messages if message.startswith("[SSE]")]


def test_a_stopped_answer_leaves_the_three_agreed_lines(
    site: Site, silent: DeepSeek, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chatproxy")
    stream = site.stream()
    site.stop()
    stream.close()
    requested, aborted, ended = lines(caplog)
    assert requested == "[SSE] Cancel request received for session_1"
    assert aborted == "[SSE] session_1 aborted by client"
    assert ended.startswith("[SSE] session_1 ended outcome=stopped phase=streaming events=3 ms=")


def test_a_client_that_left_leaves_two_lines(
    site: Site, silent: DeepSeek, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chatproxy")
    site.stream().close()
    wait_for(lambda: len(lines(caplog)) == 2)
    left, ended = lines(caplog)
    assert left == "[SSE] session_1 client disconnected"
    assert ended.startswith("[SSE] session_1 ended outcome=stopped phase=streaming events=3 ms=")


@pytest.mark.parametrize("session_id", ["x%0A[SSE]%20y%20aborted", "x%0D[SSE]", "x%E2%80%A8y"])
def test_an_id_cannot_forge_a_line(
    site: Site, caplog: pytest.LogCaptureFixture, session_id: str
) -> None:
    caplog.set_level(logging.INFO, "chatproxy")
    site.stop(session_id)
    assert lines(caplog) == []


# --- other origins


@pytest.fixture
def shared(make_site: MakeSite) -> Site:
    """Another origin's pages may call."""
    return make_site(CHATPROXY_CORS_ORIGINS=ORIGIN)


def preflight(site: Site, origin: str) -> TestResponse:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-session-id",
    }
    return site.app.test_client().options("/api/chat/stream", headers=headers)


def test_a_page_of_a_listed_origin_may_ask_for_an_answer(shared: Site) -> None:
    asked = preflight(shared, ORIGIN)
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert "x-session-id" in asked.headers["Access-Control-Allow-Headers"].lower()
    answer = shared.stream(headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Session-Id" in answer.headers["Access-Control-Expose-Headers"]
    answer.close()


def test_a_page_of_a_listed_origin_can_read_refusals_and_receipts(shared: Site) -> None:
    for response in (shared.stop(Origin=ORIGIN), shared.stream(None, headers={"Origin": ORIGIN})):
        assert response.status_code in (400, 404)
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("header", ["X-Session-Id", "Retry-After", "X-Should-Retry"])
def test_a_page_of_a_listed_origin_can_read_what_a_client_goes_by(
    make_site: MakeSite, header: str
) -> None:
    """On answers, on refusals, and on the answer to a Stop, whatever its status is."""
    site = make_site(
        ChatProxy(owner=current_user), CHATPROXY_CORS_ORIGINS=ORIGIN, CHATPROXY_MAX_BODY_BYTES=500
    )
    user = {"Origin": ORIGIN, "X-User": "ada"}
    responses = [
        site.stream("one", headers=user),
        site.stream("one", headers=user),  # the id is taken
        site.stream(headers={"Origin": ORIGIN}),  # nobody is logged in
        site.stream("two", headers=user, data=b"x" * 1000),
        site.stop("nothing", **user),
    ]
    assert [response.status_code for response in responses] == [200, 409, 401, 413, 404]
    for response in responses:
        assert header in response.headers["Access-Control-Expose-Headers"].split(", ")
        response.close()


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("POST", "stream", "X-Session-Id"),
        ("POST", "stream", "X-On-Disconnect"),
        ("POST", "stream", "Authorization"),
        ("GET", "stream/session_1", "Last-Event-ID"),
        ("GET", "sessions", "Authorization"),
        ("POST", "cancel/session_1", "Authorization"),
    ],
)
def test_a_page_of_a_listed_origin_may_send_the_headers_that_a_route_knows(
    shared: Site, method: str, path: str, header: str
) -> None:
    asked = shared.app.test_client().options(
        f"{shared.prefix}/{path}",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": header,
        },
    )
    assert asked.status_code == 200
    assert method in asked.headers["Access-Control-Allow-Methods"].split(", ")
    assert header.lower() in asked.headers["Access-Control-Allow-Headers"].lower().split(", ")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://chat.example.com",
        ORIGIN + ".evil.example",
        ORIGIN + ":8443",
        ORIGIN.replace(".", "x"),
    ],
)
def test_a_page_of_any_other_origin_may_not(shared: Site, origin: str) -> None:
    assert "Access-Control-Allow-Origin" not in preflight(shared, origin).headers
    assert "Access-Control-Allow-Origin" not in shared.stop(Origin=origin).headers


def test_without_listed_origins_none_may(site: Site) -> None:
    assert "Access-Control-Allow-Origin" not in preflight(site, ORIGIN).headers


def test_the_applications_own_routes_are_not_opened(shared: Site) -> None:
    shared.app.add_url_rule("/private", view_func=lambda: "private", endpoint="private")
    answer = shared.app.test_client().get("/private", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers


# --- what an application may do to a response


def test_an_answer_whose_response_fails_after_the_view_is_ended(
    make_site: MakeSite, silent: DeepSeek
) -> None:
    site = make_site()
    site.app.testing = False

    @site.app.after_request
    def fail(response: Any) -> Any:
        raise ValueError("on purpose")

    assert site.stream().status_code == 500
    wait_for(lambda: site.live == [])


def test_the_callbacks_of_a_response_are_called(make_site: MakeSite, deepseek: DeepSeek) -> None:
    site = make_site()
    called: list[bool] = []

    @site.app.after_request
    def note(response: Any) -> Any:
        response.call_on_close(lambda: called.append(True))
        return response

    with site.stream() as answer:
        answer.get_data()
    assert called == [True]


def test_what_a_request_took_is_given_back_while_its_answer_is_awaited(
    make_site: MakeSite, deepseek: DeepSeek
) -> None:
    """As with a pool of connections to a database, which the login takes one of."""
    deepseek.fall_silent_after([])
    site = make_site()
    pool = threading.BoundedSemaphore(2)

    @site.app.before_request
    def take() -> tuple[str, int] | None:
        return None if pool.acquire(timeout=0.1) else ("no connection", 500)

    site.app.teardown_request(lambda _error: pool.release())
    names = ["session_1", "session_2", "session_3"]
    asking = [threading.Thread(target=site.stream, args=(name,)) for name in names]
    for number, thread in enumerate(asking, 1):
        thread.start()
        wait_for(lambda number=number: len(site.live) == number)
    assert [site.stop(name).status_code for name in names] == [200, 200, 200]
    for thread in asking:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_failure_before_the_first_event_has_its_status_and_the_applications_headers(
    make_site: MakeSite, deepseek: DeepSeek
) -> None:
    deepseek.status = 422
    site = make_site()

    @site.app.after_request
    def mark(response: Any) -> Any:
        response.headers["X-Seen"] = "yes"
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    answer = site.stream()
    assert error_of(answer) == (422, "upstream_rejected")
    assert answer.content_type == "application/json"
    assert answer.headers["X-Seen"] == "yes"
    assert len(answer.headers.getlist("Set-Cookie")) == 2
    assert "X-Accel-Buffering" not in answer.headers


def test_a_failure_is_an_event_if_the_application_has_replaced_the_body(
    make_site: MakeSite, deepseek: DeepSeek
) -> None:
    deepseek.status = 422
    site = make_site()

    @site.app.after_request
    def wrap(response: Any) -> Any:
        response.response = (piece for piece in response.response)
        return response

    answer = site.stream()
    assert answer.status_code == 200
    assert b"event: error\n" in answer.get_data()


# --- what is refused costs nothing else


def test_what_is_refused_without_a_look_at_the_body_is_refused_before_it_is_read(
    make_site: MakeSite, silent: DeepSeek
) -> None:
    """The id is taken, the worker or the owner has too many answers, or the server drains."""
    full, busy = (
        make_site(ChatProxy(owner=lambda: "ann"), **{f"CHATPROXY_MAX_SESSIONS{of}": 1})
        for of in ("", "_PER_OWNER")
    )
    for site in (full, busy):
        first = site.stream("session_1")
        assert error_of(site.stream("session_1", data=b"{")) == (409, "session_active")
        refused = site.stream("session_2", data=b"{")
        assert error_of(refused) == (429, "too_many_sessions")
        assert int(refused.headers["Retry-After"]) >= 1
        first.close()
        assert silent.left.get(timeout=PATIENCE) == b""
        wait_for(lambda site=site: not site.live)
        site.app.extensions["chatproxy"].registry.drain.run(0.0)
        assert error_of(site.stream("session_2", data=b"{")) == (503, "shutting_down")


def test_without_the_package_for_redis_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    app = Flask("chat")
    app.config.update(DEEPSEEK_BASE_URL="http://127.0.0.1:1", CHATPROXY_PEERS="redis://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"pip install 'chatproxy\[redis\]'"):
        ChatProxy(app)
