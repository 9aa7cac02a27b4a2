"""The routes of OpenAI's protocol, in an application, with a DeepSeek of our own."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, request
from responses import RequestsMock
from werkzeug.test import TestResponse

from chatproxy import ChatProxy, create_app, sse, stream_ended
from chatproxy.protocols import completion

from .support.scripted import Repeating
from .support.servers import Client, DeepSeek, Proxy, new_id
from .support.spoken import chunk, delta
from .support.waiting import PATIENCE, Background, wait_for

PATH = "/v1/chat/completions"
CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
ANSWER = [delta(content="Hel"), chunk({"content": "lo"}, finish_reason="stop", usage=USAGE)]
NOT_FOUND = {"error": "There is nothing at this address.", "code": "not_found"}
TOKEN = "0123456789abcdef"


@pytest.fixture
def upstream() -> Iterator[Repeating]:
    with Repeating(*ANSWER, sse.DONE) as server:
        yield server


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(upstream: Repeating) -> Iterator[MakeApp]:
    with contextlib.ExitStack() as stack:

        def make_app(app: Flask | None = None, *, owner: Any = None, **config: Any) -> Flask:
            settings = {"DEEPSEEK_BASE_URL": upstream.url, **config}
            if app is None:
                app = create_app(settings)
            else:
                app.config.update(settings)
                ChatProxy(app, owner=owner)
            state = app.extensions["chatproxy"]
            stack.callback(state.upstream.close)
            stack.callback(state.registry.drain.run, 0.0)
            return app

        yield make_app


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


def ask(app: Flask, headers: dict[str, str] | None = None, **fields: Any) -> TestResponse:
    return app.test_client().post(PATH, headers=headers, json={**CHAT, **fields})


def stop(app: Flask, session_id: str) -> dict[str, Any]:
    response = app.test_client().post(f"/api/chat/cancel/{session_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    return found


def error_of(response: TestResponse) -> dict[str, Any]:
    assert response.mimetype == "application/json"
    error: dict[str, Any] = response.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def live(app: Flask) -> list[Any]:
    return list(app.extensions["chatproxy"].registry.live())


# --- streamed


def test_a_streamed_answer_is_the_chunks_byte_for_byte_with_their_numbers(app: Flask) -> None:
    response = ask(app, stream=True)
    assert response.status_code == 200
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert response.headers["X-Accel-Buffering"] == "no"
    blocks = enumerate([*ANSWER, sse.DONE], 1)
    assert response.data == b"".join(sse.numbered(*each) for each in blocks)


def test_the_question_goes_on_as_it_came(app: Flask, upstream: Repeating) -> None:
    fields = {
        "model": "m",
        "n": 2,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_object"},
        "logprobs": True,
        "stop": None,
        "stream": True,
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]},
            {"role": "assistant", "content": "So ", "prefix": True},
        ],
    }
    upstream.blocks = [chunk({}, index=1, finish_reason="stop"), *ANSWER, sse.DONE]
    ask(app, **fields).close()
    assert upstream.received == [{**fields, "stream_options": {"include_usage": True}}]


def test_the_usage_of_a_stream_is_always_asked_for_and_told_to_who_wants_it(
    app: Flask, upstream: Repeating
) -> None:
    count = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    upstream.blocks = [*ANSWER, count, sse.DONE]
    for wanted in (True, False):
        said = ask(app, stream=True, stream_options={"x": 1, "include_usage": wanted}).data
        assert upstream.received[-1]["stream_options"] == {"x": 1, "include_usage": True}
        assert (count in said) is wanted


def test_a_stopped_stream_ends_with_a_whole_chunk(app: Flask, upstream: Repeating) -> None:
    upstream.blocks, upstream.end = ANSWER[:1], "silence"
    response = ask(app, {"X-Session-Id": "one"}, stream=True)
    assert response.headers["X-Session-Id"] == "one"
    pieces = response.iter_encoded()
    while not next(pieces):
        pass
    assert stop(app, "one")["phase"] == "streaming"
    last, done = sse.Decoder().feed(b"".join(pieces))
    assert json.loads(sse.data_of(last))["choices"][0]["finish_reason"] == "cancelled"
    assert sse.is_done(done)
    assert upstream.left.get(timeout=PATIENCE) == b""


def begun_whole(
    app: Flask, upstream: Repeating, headers: dict[str, str] | None = None
) -> Iterator[bytes]:
    """The pieces of an answer that has ended, of which its client has taken one."""
    upstream.blocks = [delta(content="x" * 200_000), sse.DONE]
    pieces = ask(app, headers, stream=False).iter_encoded()
    assert next(pieces)
    wait_for(lambda: not live(app))
    return pieces


def has_let_go(app: Flask) -> bool:
    registry = app.extensions["chatproxy"].registry
    registry.sweep()
    return bool(registry.idle)


def test_a_whole_answer_counts_until_its_client_has_taken_it(
    app: Flask, upstream: Repeating
) -> None:
    pieces = begun_whole(app, upstream, {"X-Session-Id": "one"})
    (ended,) = app.extensions["chatproxy"].registry.all()
    assert ended.log.footprint > ended.log.withheld > 100_000
    assert len(b"".join(pieces)) > 100_000
    assert ended.log.withheld == 0


def test_a_whole_answer_that_there_is_no_room_for_breaks_off(
    make_app: MakeApp, upstream: Repeating
) -> None:
    app = make_app(CHATPROXY_RETAIN_BYTES=100_000)
    pieces = begun_whole(app, upstream)
    wait_for(lambda: has_let_go(app))
    with pytest.raises(BrokenPipeError):
        next(pieces)


def test_a_cut_stream_ends_with_an_error(app: Flask, upstream: Repeating) -> None:
    upstream.blocks, upstream.end = ANSWER[:1], "cut"
    *_, last = sse.Decoder().feed(ask(app, stream=True).data)
    error = json.loads(sse.data_of(last))["error"]
    assert error["code"] == "upstream_failed"
    assert error["message"] == "The connection to DeepSeek broke off."


# --- whole


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"stream": None}])
def test_an_answer_that_is_not_to_be_streamed_is_one_object(
    app: Flask, upstream: Repeating, fields: dict[str, Any]
) -> None:
    response = ask(app, **fields)
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert response.json["object"] == "chat.completion"
    assert response.json["choices"][0]["message"]["content"] == "Hello"
    assert response.json["usage"] == USAGE
    (asked,) = upstream.received
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize(("phase", "said"), [("streaming", "Hel"), ("waiting", None)])
def test_a_stopped_answer_is_the_text_so_far(
    app: Flask, upstream: Repeating, phase: str, said: str | None
) -> None:
    upstream.blocks, upstream.end = ANSWER[:1] if said else [], "silence"
    asked = Background(lambda: ask(app, {"X-Session-Id": "one"}, model="m"))
    wait_for(lambda: [each for each in live(app) if each.phase == phase])
    assert asked.still_runs()
    stop(app, "one")
    response = asked.result()
    assert response.status_code == 200
    assert response.headers["X-Session-Id"] == "one"
    choice = response.json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (said, "cancelled")
    assert response.json["model"] == "m"
    assert response.json["chatproxy"]["stopped"]["reason"] == "user"


def test_a_cut_answer_has_the_status_of_the_failure(app: Flask, upstream: Repeating) -> None:
    upstream.blocks, upstream.end = ANSWER[:1], "cut"
    response = ask(app, {"X-Session-Id": "one"})
    assert response.status_code == 502
    assert error_of(response)["code"] == "upstream_failed"
    assert response.headers["X-Should-Retry"] == "false"
    assert response.headers["X-Session-Id"] == "one"


def test_an_answer_that_is_too_large_ends_at_once(
    app: Flask, upstream: Repeating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "MOST_BYTES", 1000)
    upstream.blocks, upstream.end = [delta(content="x" * 1000)], "silence"
    response = ask(app)
    assert response.status_code == 502
    assert error_of(response)["code"] == "answer_too_large"
    response.close()
    assert upstream.left.get(timeout=PATIENCE) == b""


def test_a_whole_answer_in_which_nothing_comes_has_a_status_of_its_own(
    make_app: MakeApp, upstream: Repeating
) -> None:
    upstream.blocks, upstream.end = [], "silence"
    response = ask(make_app(CHATPROXY_IDLE_TIMEOUT=0.1))
    assert response.status_code == 504
    assert error_of(response)["code"] == "upstream_timeout"


def test_a_client_that_leaves_before_its_whole_answer_ends_it(
    proxy: Proxy, deepseek: DeepSeek
) -> None:
    """On a real server, under gevent and under plain threads."""
    tag = new_id()
    body = json.dumps({**CHAT, "simulate": {"tag": tag, "rate": 50, "tokens": 100_000}}).encode()
    client = Client(proxy.port)
    client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    deepseek.entry(tag, lambda entry: entry["tokens"] > 3)
    client.leave()
    assert not deepseek.gone(tag)["finished"]


# --- ids


def test_the_id_is_the_clients_or_there_is_none(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chatproxy")
    cases: list[tuple[dict[str, str], str | None]] = [
        ({"X-Client-Request-Id": "two"}, "two"),
        ({"X-Client-Request-Id": "two", "X-Session-Id": "one"}, "one"),
        ({"X-Client-Request-Id": "", "X-Session-Id": ""}, None),
        ({}, None),
    ]
    for headers, expected in cases:
        caplog.clear()
        response = ask(app, headers, stream=True)
        assert response.data
        assert response.headers.get("X-Session-Id") == expected
        ended = f"[SSE] {expected or '-'} ended outcome=finished"
        wait_for(lambda ended=ended: ended in caplog.text)


def test_the_log_of_an_answer_is_the_same_for_all_protocols(app: Flask) -> None:
    asked = ask(app, {"X-Session-Id": "one"}, stream=True)
    again = app.test_client().get("/api/chat/stream/one")
    assert asked.data == again.data


def test_an_id_of_a_wrong_form_is_refused(app: Flask, upstream: Repeating) -> None:
    for name in ("X-Session-Id", "X-Client-Request-Id"):
        response = ask(app, {name: "a b"})
        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_session_id")
    assert upstream.asked == []


def test_an_id_that_is_taken_is_refused_for_good(app: Flask, upstream: Repeating) -> None:
    ask(app, {"X-Session-Id": "one"}).close()
    response = ask(app, {"X-Session-Id": "one"})
    assert (response.status_code, error_of(response)["code"]) == (409, "session_active")
    assert response.headers["X-Should-Retry"] == "false"
    assert len(upstream.asked) == 1


def test_a_client_without_an_id_that_leaves_ends_its_answer_at_once(
    make_app: MakeApp, upstream: Repeating
) -> None:
    """Nobody could come back to it."""
    app = make_app(CHATPROXY_ON_DISCONNECT=300)
    upstream.blocks, upstream.end = ANSWER[:1], "silence"
    response = ask(app, stream=True)
    next(response.iter_encoded())
    response.close()
    assert upstream.left.get(timeout=PATIENCE) == b""


def test_the_application_hears_of_an_answer_without_an_id(app: Flask) -> None:
    heard: list[dict[str, Any]] = []

    def hear(_app: Flask, **told: Any) -> None:
        heard.append(told)

    with stream_ended.connected_to(hear, app):
        ask(app).close()
        wait_for(lambda: heard)
    assert (heard[0]["session_id"], heard[0]["text"]) == (None, "Hello")


# --- refused


@pytest.mark.parametrize("stream", [True, False])
def test_what_the_upstream_refuses_is_told_and_not_tried_again(
    app: Flask, upstream: Repeating, stream: bool
) -> None:
    upstream.blocks = [b'{"error":{"message":"No such thing."}}']
    refused = [(400, 400, "upstream_rejected"), (401, 502, "upstream_auth")]
    for theirs, ours, code in [*refused, (500, 502, "upstream_failed")]:
        upstream.status = b"%d No" % theirs
        response = ask(app, stream=stream)
        assert (response.status_code, error_of(response)["code"]) == (ours, code)
        assert response.headers["X-Should-Retry"] == "false"
    assert len(upstream.asked) == 3


def test_a_question_that_cannot_be_used_is_refused(app: Flask, upstream: Repeating) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"stream": "yes"}, "'stream' must be true or false."),
        ({"stream": 1}, "'stream' must be true or false."),
        ({"messages": []}, "'messages' must be a list with at least one message."),
        ({"model": 5}, "'model' must be a name."),
    ]
    for fields, message in wrong:
        response = ask(app, **fields)
        assert (response.status_code, error_of(response)["message"]) == (400, message)
    assert upstream.asked == []


def test_no_form_of_another_page_can_ask(app: Flask, upstream: Repeating) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        response = app.test_client().post(PATH, data=json.dumps(CHAT), content_type=kind)
        assert (response.status_code, error_of(response)["code"]) == (415, "not_json")
    assert upstream.asked == []


def test_what_is_not_there_is_told_in_the_same_shape_and_elsewhere_in_another(app: Flask) -> None:
    client = app.test_client()
    for method, path, status, code in (
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/responses", 404, "not_found"),
        ("GET", PATH, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ):
        response = client.open(path, method=method)
        assert (response.status_code, error_of(response)["code"]) == (status, code)
        assert ("Allow" in response.headers) == (status == 405)
    for path in ("/nothing", "/v1x/models"):
        assert client.get(path).json == NOT_FOUND


def test_a_body_that_is_too_large_is_told_in_the_same_shape(make_app: MakeApp) -> None:
    response = ask(make_app(CHATPROXY_MAX_BODY_BYTES=50))
    assert (response.status_code, error_of(response)["code"]) == (413, "body_too_large")


def test_a_host_that_is_not_allowed_is_told_in_the_same_shape(make_app: MakeApp) -> None:
    client = make_app(CHATPROXY_HOSTS="chat.example.com").test_client()
    refused = client.get("/v1/models", base_url="http://rebound.example")
    assert (refused.status_code, error_of(refused)["code"]) == (421, "host_not_allowed")
    assert client.get("/v1/models", base_url="http://chat.example.com").status_code == 200


def test_what_the_application_refuses_is_told_in_the_same_shape(make_app: MakeApp) -> None:
    app = make_app(Flask("site"))

    @app.before_request
    def refuse() -> None:
        if request.path.startswith("/v1/"):
            abort(int(request.headers["X-Refused"]), "Not today.")

    for status in (403, 429, 500):
        response = ask(app, {"X-Refused": str(status)})
        assert (response.status_code, error_of(response)["message"]) == (status, "Not today.")


def test_without_a_token_nothing_is_to_be_had(make_app: MakeApp) -> None:
    app = make_app(CHATPROXY_TOKENS=f"ann:{TOKEN}")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for response in (ask(app), app.test_client().get("/v1/models")):
        assert response.status_code == 401
        assert error_of(response)["type"] == "authentication_error"
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert ask(app, headers).status_code == 200


def test_in_an_application_its_owners_are_asked(make_app: MakeApp, upstream: Repeating) -> None:
    app = make_app(Flask("site"), owner=lambda: request.headers.get("X-User"))
    assert error_of(ask(app))["code"] == "unauthorized"
    upstream.end = "silence"
    upstream.blocks = ANSWER[:1]
    ann = ask(app, {"X-User": "ann", "X-Session-Id": "one"}, stream=True)
    next(ann.iter_encoded())
    (session,) = live(app)
    assert session.key == ("ann", "one")
    ann.close()


def test_a_page_of_a_listed_origin_may_ask(make_app: MakeApp) -> None:
    origin = "https://chat.example.com"
    app = make_app(CHATPROXY_CORS_ORIGINS=origin)
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-session-id, x-stainless-os",
    }
    allowed = app.test_client().options(PATH, headers=headers).headers
    assert allowed["Access-Control-Allow-Origin"] == origin
    assert "x-stainless-os" in allowed["Access-Control-Allow-Headers"]
    assert "X-Session-Id" in ask(app, {"Origin": origin}).headers["Access-Control-Expose-Headers"]


# --- where


def test_the_prefix_can_be_another(make_app: MakeApp) -> None:
    app = make_app(CHATPROXY_OPENAI_PREFIX="/openai/v1/")
    client = app.test_client()
    assert client.post("/openai/v1/chat/completions", json=CHAT).status_code == 200
    assert client.post(PATH, json=CHAT).status_code == 404


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_prefix_switches_the_routes_off(make_app: MakeApp, empty: str) -> None:
    assert ask(make_app(CHATPROXY_OPENAI_PREFIX=empty)).json == NOT_FOUND


# --- models


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models", 200, b'{"object":"list","data":[{"id": "org/m"}]}'),
        ("/v1/models/org/m", 200, b'{"id": "org/m"}'),
        ("/v1/models/other", 404, b"model_not_found"),
    ],
)
def test_the_first_list_is_awaited_after_the_teardown(
    app: Flask, path: str, status: int, text: bytes
) -> None:
    """So whoever waits for it holds nothing of the application's."""
    torn_down = threading.Event()
    app.teardown_appcontext(lambda _error: torn_down.set())

    @app.after_request
    def add_a_header(response: Response) -> Response:
        response.headers["X-Added"] = "1"
        return response

    def after_the_teardown(_request: object) -> tuple[int, dict[str, str], bytes]:
        assert torn_down.wait(PATIENCE)
        return 200, {}, b'{"data": [{"id": "org/m"}]}'

    with RequestsMock() as mock:
        mock.add_callback("GET", f"{app.config['DEEPSEEK_BASE_URL']}/models", after_the_teardown)
        told = app.test_client().get(path)
    assert told.status_code == status
    assert text in told.data
    assert (told.content_type, told.headers["X-Added"]) == ("application/json", "1")
