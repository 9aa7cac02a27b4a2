"""The routes of the AI SDK's protocol: ids, refusals, and a Stop and a resume on any worker."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_login import LoginManager
from werkzeug.test import TestResponse

from chatproxy import ChatProxy, sse
from chatproxy.answers.transcript import Transcript
from chatproxy.protocols.headers import TAKEN
from chatproxy.web import ai_sdk as web_ai_sdk
from chatproxy.web import streaming

from .support import cluster, scripted
from .support.servers import ROOT, events, new_id
from .support.spoken import chunk, delta
from .support.ui_stream import UiMessage
from .support.waiting import wait_for

MESSAGES = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}]
ANSWER = [delta(content="Hel"), chunk({"content": "lo"}, finish_reason="stop"), sse.DONE]
NOT_FOUND = {"success": False, "message": "Session not found"}

_names = itertools.count(1)


def question(chat_id: str | None = "chat_1", **fields: Any) -> dict[str, Any]:
    own = {"messages": MESSAGES, "trigger": "submit-message"}
    return {**own, **({"id": chat_id} if chat_id else {}), **fields}


# --- one application


class Site:
    """An application in front of an upstream that answers each question with the same events."""

    def __init__(self, upstream: scripted.Scripted, prefix: str, **options: Any) -> None:
        self.upstream = upstream
        self.prefix = prefix.rstrip("/")
        self.url = self.prefix or "/"
        app = Flask(__name__)
        app.config.update(DEEPSEEK_BASE_URL=upstream.url, **options.pop("config", {}))
        self.chat = ChatProxy(app, url_prefix=prefix, name=f"ui-{next(_names)}", **options)
        self.app = app
        self.client = app.test_client()

    def ask(self, **options: Any) -> TestResponse:
        if "data" not in options:
            options.setdefault("json", question())
        return self.client.post(self.url, **options)

    def close(self) -> None:
        state = self.app.extensions["chatproxy"]
        state.registry.drain.run(0.0)
        state.upstream.close()


@pytest.fixture
def make_site(_plain_environment: None) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def make_site(
            *blocks: bytes, prefix: str = "/api/chat", status: bytes = b"200 OK", **options: Any
        ) -> Site:
            body = b"".join(block + b"\n\n" for block in blocks or ANSWER)
            said = scripted.response(body, status=status)
            upstream = scripted.Scripted(lambda connection, _: connection.sendall(said))
            site = Site(stack.enter_context(upstream), prefix, **options)
            stack.callback(site.close)
            return site

        yield make_site


@pytest.mark.parametrize("prefix", ["/api/chat", "", "/", "/x/"])
def test_an_answer_is_a_ui_message_stream(make_site: Any, prefix: str) -> None:
    response = make_site(prefix=prefix).ask()
    assert response.status_code == 200
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert response.headers["X-Vercel-AI-UI-Message-Stream"] == "v1"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Session-Id"] == "chat_1"
    message = UiMessage(response.data)
    assert (message.text, message.finish_reason, message.done) == ("Hello", "stop", True)
    assert message.metadata == {"chatproxy": {"sessionId": "chat_1"}}


def test_the_upstream_gets_a_chat_completion(make_site: Any) -> None:
    site = make_site()
    site.chat.prepare(lambda payload: payload.update(user="u"))
    site.ask(json=question(temperature=0.5)).close()
    assert json.loads(site.upstream.asked[0]) == {
        "model": "deepseek-flash",
        "temperature": 0.5,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream_options": {"include_usage": True},
        "user": "u",
        "stream": True,
    }


def test_others_have_a_turn_after_each_step_of_a_question(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[None] = []
    for step in (web_ai_sdk, streaming):
        monkeypatch.setattr(step, "give_way", lambda: turns.append(None))
    make_site().ask()
    assert len(turns) == 2  # it is parsed, converted, and prepared


@pytest.mark.parametrize("chat_id", ["chat_1", None])
def test_an_answer_has_the_id_that_the_client_sends_and_then_needs_no_chat(
    make_site: Any, chat_id: str | None
) -> None:
    response = make_site().ask(json=question(chat_id), headers={"X-Session-Id": "session_1"})
    assert response.headers["X-Session-Id"] == "session_1"
    assert UiMessage(response.data).metadata["chatproxy"]["sessionId"] == "session_1"


def test_an_answer_that_continues_a_message_keeps_its_id(make_site: Any) -> None:
    messages = [*MESSAGES, {"id": "m2", "role": "assistant", "parts": []}]
    assert UiMessage(make_site().ask(json=question(messages=messages)).data).id is None
    assert UiMessage(make_site().ask().data).id == "c1-1700000000"


def begin_only(connection: socket.socket, _body: bytes) -> None:
    """An answer that begins, and lives until its connection is closed."""
    connection.sendall(scripted.unfinished(ANSWER[0] + b"\n\n"))
    connection.recv(1)


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"json": question(None)}, 400, "missing_session_id", "Missing sessionId"),
    ({"json": question("a/b")}, 400, "invalid_session_id", "The session id"),
    ({"headers": {"X-Session-Id": "a/b"}}, 400, "invalid_session_id", "The session id"),
    ({"json": question("stream")}, 400, "invalid_request", "The id of"),  # that is a route
    ({"json": question(messages=[])}, 400, "invalid_request", "'messages' must"),
    ({"json": question(messages=[{"role": "user"}])}, 400, "invalid_request", "Each of 'messages'"),
    ({"json": question(x="x" * 3000)}, 413, "body_too_large", "The body is larger"),
    ({"headers": {"X-On-Disconnect": "maybe"}}, 400, "invalid_request", "X-On-Disconnect must"),
    (
        {"data": b"{", "content_type": "application/json"},
        *(400, "invalid_json", "The body is not valid JSON."),
    ),
    (  # as any page can send it
        {"data": json.dumps(question()), "content_type": "text/plain"},
        *(415, "not_json", "The Content-Type must be application/json."),
    ),
]


def test_what_is_refused_is_told_in_json_and_costs_nothing(make_site: Any) -> None:
    site = make_site(config={"CHATPROXY_MAX_BODY_BYTES": 2000})
    for options, status, code, sentence in REFUSED:
        response = site.ask(**options)
        assert (response.status_code, response.json["code"]) == (status, code)
        assert response.json["error"].startswith(sentence)
    assert site.upstream.accepted == 0
    assert site.app.extensions["chatproxy"].registry.live() == []


@pytest.mark.parametrize("own", [{}, {"X-Session-Id": "session_2"}], ids=["a chat", "an own id"])
@pytest.mark.parametrize("on_active", ["replace", "enqueue"])
def test_a_new_question_replaces_the_live_one_or_waits_for_it_if_that_is_set(
    make_site: Any, on_active: str, own: dict[str, str]
) -> None:
    site = make_site(on_active=on_active)
    answer, site.upstream.answer = site.upstream.answer, begin_only
    live = site.ask()
    wait_for(lambda: site.upstream.accepted == 1)
    site.upstream.answer = answer
    asked = site.ask(headers=own)
    if on_active == "enqueue":
        assert next(iter(asked.response)) == b": queued\n"
        assert site.upstream.accepted == 1
        assert site.client.post("/api/chat/chat_1/stop").json["success"] is True
    assert UiMessage(b"".join(asked.response)).text == "Hello"
    reason = UiMessage(live.data).metadata["chatproxy"]["stopped"]["reason"]
    assert reason == {"replace": "replaced", "enqueue": "user"}[on_active]


def test_a_taken_id_is_told_before_the_rest_is_looked_at(make_site: Any) -> None:
    """One of its own, or that of its chat."""
    site = make_site()
    site.upstream.answer = begin_only
    own = {"X-Session-Id": "session_1"}
    with site.ask(headers=own):
        for headers, body in ((own, b"{"), ({}, b'{"id": "chat_1"}')):
            refused = site.ask(data=body, headers=headers, content_type="application/json")
            assert (refused.status_code, refused.json["code"]) == (409, "session_active")


def test_without_an_owner_nothing_is_told(make_site: Any) -> None:
    site = make_site(owner=lambda: None)
    client = site.client
    asked, resumed = site.ask(), client.get("/api/chat/chat_1/stream")
    stopped = client.post("/api/chat/chat_1/stop")
    assert [each.status_code for each in (asked, resumed, stopped)] == [401] * 3
    assert site.upstream.accepted == 0


@pytest.mark.usefixtures("_plain_environment")
def test_the_guide_s_server_serves_those_who_are_logged_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guide = (ROOT / "docs" / "use-chat.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    monkeypatch.setenv("DEEPSEEK_BASE_URL", "http://127.0.0.1:1")
    given: dict[str, Any] = {"__name__": f"guide-{next(_names)}"}
    exec(code, given)
    app = given["app"]
    app.secret_key = "secret"
    LoginManager(app).user_loader(lambda _user_id: None)
    assert app.test_client().post("/api/chat", json=question()).status_code == 401
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    routes = re.findall(r"^\| `(?:GET|POST) (.*?)` \|", guide, re.MULTILINE)
    assert {route.replace("<chat id>", "<chat_id>") for route in routes} <= rules
    assert len(routes) == 3


def test_what_is_asked_of_a_chat_is_no_other_route_s(make_site: Any, tmp_path: Path) -> None:
    """For any id that a chat may have, and with all routes that there can be."""
    config = {"CHATPROXY_CONVERSATIONS": "1", "CHATPROXY_RECORDS": f"sqlite:///{tmp_path}/db"}
    site = make_site(config=config, owner=lambda: "ada")
    words = {word for rule in site.app.url_map.iter_rules() for word in rule.rule.split("/")}
    match = site.app.url_map.bind("localhost").match
    others = {
        word
        for word in words - {""}
        for method, last in (("GET", "stream"), ("POST", "stop"))
        if not match(f"/api/chat/{word}/{last}", method)[0].startswith("chatproxy_ai_sdk.")
    }
    assert others == set(TAKEN)


def test_a_page_of_another_origin_may_use_them_if_it_is_allowed(make_site: Any) -> None:
    origin = "https://chat.example.com"
    response = make_site(config={"CHATPROXY_CORS_ORIGINS": origin}).ask(headers={"Origin": origin})
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert "X-Session-Id" in response.headers["Access-Control-Expose-Headers"]


def test_a_failure_before_the_answer_has_its_status(make_site: Any) -> None:
    response = make_site(b'{"error": {"message": "No money."}}', status=b"402 No").ask()
    assert (response.status_code, response.json["code"]) == (502, "upstream_balance")
    assert response.content_type == "application/json"


@pytest.mark.parametrize(
    "blocks", [ANSWER[:1], [*ANSWER[:1], b'data: {"error": {"message": "Oh."}}']]
)
def test_an_answer_that_is_cut_or_fails_is_an_error(make_site: Any, blocks: list[bytes]) -> None:
    message = UiMessage(make_site(*blocks).ask().data)
    assert message.text == "Hel"
    assert message.error
    assert not message.done


#: Bodies of a Stop that name no answer.
NAMELESS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an empty object": {"json": {}},
    "null": {"json": {"activeStreamId": None, "assistantMessage": {"id": "m2"}}},
    "no string": {"json": {"activeStreamId": 5}},
    "no object": {"data": b"[]"},
    "no JSON": {"data": b"stop", "content_type": "text/plain"},
    "a form": {"data": {"activeStreamId": "session_1"}},
    "no UTF-8": {"data": b"\xff"},
    "nested too deeply": {"data": b"[" * 1500},
    "too much": {"json": {"assistantMessage": "x" * 3000, "activeStreamId": "an-earlier-one"}},
}


def test_a_stop_that_names_no_answer_stops_what_is_live_whatever_its_body(make_site: Any) -> None:
    site = make_site(config={"CHATPROXY_MAX_BODY_BYTES": 2000})
    site.upstream.answer = begin_only
    for case, body in NAMELESS.items():
        missed = site.client.post("/api/chat/chat_1/stop", **body)
        assert (case, missed.status_code, missed.json) == (case, 404, NOT_FOUND)
        live = site.ask()
        assert live.status_code == 200  # the Stop is not remembered
        stopped = site.client.post("/api/chat/chat_1/stop", **body)
        assert (case, stopped.status_code) == (case, 200)
        assert stopped.json["upstreamClosed"] is True
        assert UiMessage(live.data).finish_reason == "interrupted"


def test_a_stop_for_another_answer_is_a_success_and_stops_nothing(make_site: Any) -> None:
    site = make_site()
    site.upstream.answer = begin_only
    with site.ask(headers={"X-Session-Id": "session_1"}):
        missed, stopped = (
            site.client.post("/api/chat/chat_1/stop", json={"activeStreamId": name})
            for name in ("an-earlier-one", "session_1")
        )
        said = "That answer is not live; nothing was stopped."
        assert (missed.status_code, missed.json) == (200, {"success": True, "message": said})
        assert (stopped.status_code, stopped.json["upstreamClosed"]) == (200, True)


# --- any worker, any host


class Chat:
    """A chat of one user, whose requests go to workers that the test chooses."""

    def __init__(self, owner: str = "ada", chat_id: str | None = None) -> None:
        self.id = chat_id or new_id()
        self._headers = {
            "Authorization": f"Bearer {cluster.token_of(owner)}",
            "Content-Type": "application/json",
        }

    def _request(
        self, worker: Any, method: str, path: str, body: Any, **headers: str
    ) -> cluster.Stream:
        connection = worker.connect()
        text = json.dumps(body) if body else None
        connection.request(method, f"/api/chat{path}", text, {**self._headers, **headers})
        return cluster.Stream(connection, self.id)

    def ask(self, worker: Any, session_id: str | None = None, **simulate: Any) -> cluster.Stream:
        named = {"X-Session-Id": session_id} if session_id else {}
        body = question(self.id, simulate={"tag": self.id, **simulate})
        return self._request(worker, "POST", "", body, **named)

    def resume(self, worker: Any, session_id: str | None = None) -> cluster.Stream:
        return self._request(worker, "GET", f"/{session_id or self.id}/stream", None)

    def stop(self, worker: Any) -> tuple[int, Any]:
        stream = self._request(worker, "POST", f"/{self.id}/stop", None)
        return stream.status, json.loads(stream.read())


@pytest.fixture(scope="module")
def meet(deepseek: Any, logs: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Gives two workers that find each other in one of the ways."""
    settings = {
        "CHATPROXY_TOKENS": cluster.tokens("ada", "bob"),
        "CHATPROXY_CONNECT_TIMEOUT": 20,
    }
    with contextlib.ExitStack() as stack:

        @functools.cache
        def meet(way: str) -> Any:
            folder = tmp_path_factory.mktemp("u")
            servers = cluster.meeting(way, deepseek, logs, folder, workers=2, **settings)
            return stack.enter_context(servers).workers

        yield meet


@pytest.fixture(
    scope="module",
    params=[("local", "the same"), ("local", "another"), ("valkey", "another")],
    ids=", ".join,
)
def workers(request: pytest.FixtureRequest, meet: Any) -> Any:
    """The worker that makes the answer, and the one that the next request comes to."""
    way, which = request.param
    first, second = meet(way)
    return (first, first) if which == "the same" else (first, second)


def without_comments(body: bytes) -> bytes:
    return re.sub(rb"(?m)^:.*\n", b"", body)


LIVE = {"rate": 50, "tokens": 100_000}
SHORT = {"rate": 0, "tokens": 20}
#: One that says something, and lives until it is stopped.
SILENT = {"rate": 300, "tokens": 60, "reasoning_tokens": 20, "silence_after": 50}


def begin(chat: Chat, worker: Any, session_id: str | None = None) -> cluster.Stream:
    """An answer that goes on until it is stopped."""
    stream = chat.ask(worker, session_id, **LIVE)
    assert stream.status == 200
    stream.read_event()
    return stream


@pytest.mark.parametrize("named", [False, True], ids=["by the chat", "with an id of its own"])
def test_a_live_answer_is_replayed_from_its_start(workers: Any, named: bool) -> None:
    maker, other = workers
    chat = Chat()
    session_id = new_id() if named else chat.id
    first = chat.ask(maker, session_id if named else None, **SILENT)
    head = b"".join(first.read_event() + b"\n" for _ in range(8))
    again = chat.resume(other)
    by_session = chat.resume(other, session_id)
    assert (again.status, by_session.status) == (200, 200)
    assert chat.stop(other)[0] == 200
    whole = without_comments(head + first.read())
    assert UiMessage(whole).metadata["chatproxy"]["sessionId"] == session_id
    assert UiMessage(whole).finish_reason == "interrupted"
    for each in (again, by_session):
        assert without_comments(each.read()) == whole
        assert each.response().getheader("X-Session-Id") == session_id
        assert each.response().getheader("X-Vercel-AI-UI-Message-Stream") == "v1"


def test_an_answer_that_comes_at_once_is_whole(meet: Any) -> None:
    """What is more than a piece is encoded by the client's own thread, in its order."""
    maker, _ = meet("local")
    message = UiMessage(Chat().ask(maker, rate=0, tokens=2000, reasoning_tokens=100).read())
    assert (len(message.reasoning.split()), len(message.text.split())) == (100, 2000)
    assert message.done


def test_there_is_nothing_to_resume_if_nothing_lives(workers: Any) -> None:
    maker, other = workers
    live, ended = Chat(), Chat()
    stream = begin(live, maker)
    ended.ask(maker, **SHORT).read()
    for chat in (Chat(), ended, Chat("bob", live.id)):
        response = chat.resume(other)
        assert (response.status, response.read()) == (204, b"")
    assert live.stop(other)[0] == 200
    stream.read()


@pytest.mark.parametrize("named", [False, True], ids=["by the chat", "with an id of its own"])
def test_a_stop_hands_back_a_receipt_and_every_reader_sees_the_end(
    workers: Any, deepseek: Any, named: bool
) -> None:
    maker, other = workers
    chat, session_id = Chat(), new_id() if named else None
    stream = begin(chat, maker, session_id)
    reader = chat.resume(other)
    reader.read_event()
    assert Chat("bob", chat.id).stop(other) == (404, NOT_FOUND)
    status, receipt = chat.stop(other)
    assert status == 200
    assert receipt["sessionId"] == (session_id or chat.id)
    assert (receipt["phase"], receipt["upstreamClosed"]) == ("streaming", True)
    assert not deepseek.gone(chat.id)["finished"]
    assert chat.stop(other) == (404, NOT_FOUND)
    for each in (stream, reader):
        rest = each.read()
        assert b'"type":"data-chatproxy-stopped"' in rest
        assert rest.endswith(b"\n\nid: %d\ndata: [DONE]\n\n" % (receipt["events"] + 2))
        assert b'{"type":"finish","finishReason":"interrupted"}' in rest


def test_an_answer_can_be_read_in_the_other_protocol(workers: Any) -> None:
    maker, other = workers
    native, chat = maker.start(new_id(), **SILENT), Chat()
    native.read_event()
    chat.ask(maker, **SILENT).read_event()
    here, there = Chat(chat_id=native.id).resume(other), other.read(chat.id)
    assert (here.status, there.status) == (200, 200)
    assert chat.stop(other)[0] == other.cancel(native.id)[0] == 200
    message = UiMessage(here.read())
    assert said_natively(native.read()) == (message.reasoning, message.text) != ("", "")
    assert b"event: stopped" in there.read()


def said_natively(body: bytes) -> tuple[str, str]:
    """The reasoning and the text in a body of the native protocol."""
    transcript = Transcript()
    transcript.add([b"data: " + each["data"].encode() for each in events(body)])
    return transcript.reasoning_text, transcript.text
