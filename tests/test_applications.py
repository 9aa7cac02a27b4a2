"""Beside what applications have: each works, or docs/applications.md says what it wants.

The lines of that page are what is run here.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import requests
import sentry_sdk
import sentry_sdk.integrations.flask
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_wtf import CSRFProtect
from prometheus_flask_exporter import PrometheusMetrics
from sentry_sdk.transport import Transport
from werkzeug.test import TestResponse

from chatproxy import ChatProxy, stream_ended
from chatproxy.observability import metrics

from .support.servers import COMMANDS, ROOT, DeepSeek, Process, chat, clean_environment, new_id
from .support.waiting import wait_for

MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(deepseek: DeepSeek) -> MakeApp:
    """Makes an application, without ChatProxy yet."""

    def make(kind: type[Flask] = Flask, **config: Any) -> Flask:
        app = kind(f"application-{new_id()}")
        settings = {"DEEPSEEK_BASE_URL": deepseek.url}
        app.config.update({**settings, "SECRET_KEY": "x", **config})
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application with ChatProxy."""
    app = make_app()
    ChatProxy(app)
    return app


SHORT: dict[str, Any] = {"rate": 0, "tokens": 3}


def start(app: Flask, session_id: str | None = None, **simulate: Any) -> TestResponse:
    body, headers = chat(simulate={**SHORT, **simulate}), {"X-Session-Id": session_id or new_id()}
    return app.test_client().post("/api/chat/stream", json=body, headers=headers)


def complete(app: Flask) -> TestResponse:
    """Ask as OpenAI's clients do."""
    return app.test_client().post("/v1/chat/completions", json=chat(simulate=SHORT))


def ask(app: Flask) -> TestResponse:
    """Ask as the AI SDK's ``useChat`` does."""
    messages = [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}]
    body = {"id": new_id(), "messages": messages, "simulate": SHORT}
    return app.test_client().post("/api/chat", json=body)


def begin_run(app: Flask) -> TestResponse:
    """Ask for a run."""
    headers = {"X-Session-Id": new_id()}
    return app.test_client().post("/api/chat/runs/hello", json=chat(), headers=headers)


def stop(app: Flask, session_id: str = "nothing") -> TestResponse:
    return app.test_client().post(f"/api/chat/cancel/{session_id}")


def is_whole(response: TestResponse) -> bool:
    return response.get_data().endswith(b"data: [DONE]\n\n")


def lines(heading: str) -> str:
    """The code that docs/applications.md gives under a heading."""
    text = (ROOT / "docs" / "applications.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def test_the_endpoints_have_the_names_that_the_page_gives(app: Flask) -> None:
    ours = {each.endpoint for each in app.url_map.iter_rules() if each.endpoint != "static"}
    assert ours == {
        *(f"chatproxy.{each}" for each in ("stream", "run", "stream_again", "sessions", "budget")),
        "chatproxy.cancel",
        *(f"chatproxy_ai_sdk.{name}" for name in ("ask", "resume", "stop")),
        *(f"chatproxy_openai.{name}" for name in ("complete", "models", "model")),
    }
    text = (ROOT / "docs" / "applications.md").read_text()
    assert all(f"`{endpoint}`" in text for endpoint in ours)


# ---- middleware


def test_middleware_sees_the_status_when_the_response_begins(app: Flask) -> None:
    inner, seen = app.wsgi_app, []

    def log(environ: Any, start_response: Any) -> Any:
        def start(status: str, *more: Any) -> Any:
            seen.append(status)
            return start_response(status, *more)

        return inner(environ, start)

    app.wsgi_app = log  # type: ignore[method-assign]
    assert is_whole(start(app))
    assert start(app, status=402).status_code == 502
    assert seen == ["200 OK", "502 BAD GATEWAY"]


# ---- Flask-WTF


def test_flask_wtf_refuses_the_routes_until_they_are_exempt(
    make_app: MakeApp, tmp_path: Path
) -> None:
    records = f"sqlite:///{tmp_path}/db"
    app = make_app(CHATPROXY_RECORDS=records, CHATPROXY_CONVERSATIONS="1")
    csrf = CSRFProtect(app)
    ChatProxy(app, owner=lambda: "ann")
    app.post("/form")(lambda: "sent")

    def keep() -> int:
        return app.test_client().put("/api/chat/conversations/c1", json={}).status_code

    assert keep() == 400
    assert (start(app).status_code, stop(app).status_code) == (400, 400)
    assert (ask(app).status_code, complete(app).status_code) == (400, 400)
    exec(lines("Flask-WTF"), {"csrf": csrf, "app": app})
    assert is_whole(start(app))
    assert (ask(app).status_code, complete(app).status_code) == (200, 200)
    assert stop(app).status_code == 404
    assert keep() == 428  # as it does not say what it replaces
    assert app.test_client().post("/form").status_code == 400


# ---- Flask-Limiter


def test_flask_limiter_limits_starts_and_leaves_stops_alone(make_app: MakeApp) -> None:
    app = make_app()
    options = {"default_limits": ["3 per hour"], "storage_uri": "memory://"}
    limiter = Limiter(get_remote_address, app=app, headers_enabled=True, **options)
    ChatProxy(app).run("hello")(lambda run, payload: "Hello")
    exec(lines("Flask-Limiter"), {"limiter": limiter, "app": app})
    answers = [start(app) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert is_whole(answers[2])
    assert answers[2].headers["X-RateLimit-Remaining"] == "0"
    assert answers[3].headers["Retry-After"]
    for start_otherwise in (ask, complete, begin_run):
        statuses = [start_otherwise(app).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
    assert app.test_client().get("/v1/models").status_code == 200
    session_id = new_id()
    assert [stop(app).status_code for _ in range(9)] == [404] * 9
    again = app.test_client().get(f"/api/chat/stream/{session_id}")
    assert again.status_code == 404  # not 429: reading again costs nothing


# ---- APIFlask


def test_apiflask_describes_the_application_and_leaves_these_routes_out(make_app: MakeApp) -> None:
    # Every process of the tests imports this module, and this takes longer than all the rest.
    from apiflask import APIFlask

    app = make_app(APIFlask)
    ChatProxy(app)
    metrics.init_app(app)
    app.get("/own")(lambda: {"own": True})
    described = app.test_client().get("/openapi.json")
    assert described.status_code == 200
    assert "/own" in described.get_json()["paths"]
    assert not [path for path in described.get_json()["paths"] if "/chat" in path]
    assert is_whole(start(app))
    assert stop(app).get_json() == {"success": False, "message": "Session not found"}


# ---- prometheus-flask-exporter


def test_a_path_that_another_exporter_serves_is_refused_for_the_metrics(app: Flask) -> None:
    PrometheusMetrics(app, registry=prometheus_client.CollectorRegistry())
    with pytest.raises(RuntimeError, match="/metrics is taken"):
        metrics.init_app(app)
    metrics.init_app(app, "/metrics/chat")
    assert "chatproxy_info" in app.test_client().get("/metrics/chat").text


def test_any_route_may_stand_beside_that_of_the_metrics(app: Flask) -> None:
    app.add_url_rule("/<path:rest>", "rest", lambda rest: rest)
    metrics.init_app(app)
    assert "chatproxy_info" in app.test_client().get("/metrics").text


def test_the_other_exporter_may_show_these_metrics_among_its_own(app: Flask) -> None:
    exporter = PrometheusMetrics(app, registry=prometheus_client.CollectorRegistry())
    exec(lines("prometheus-flask-exporter"), {"exporter": exporter, "app": app})
    assert is_whole(start(app))
    text = app.test_client().get("/metrics").text
    assert "chatproxy_info" in text
    assert "flask_http_request_total" in text


# ---- Sentry


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Any) -> None:
        event = envelope.get_event() or envelope.get_transaction_event()
        if event is not None:
            self.events.append(event)


@pytest.fixture
def sentry() -> Iterator[Kept]:
    kept = Kept()
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(
            "http://key@127.0.0.1:1/1",
            transport=kept,
            traces_sample_rate=1.0,
            auto_enabling_integrations=False,
            integrations=[sentry_sdk.integrations.flask.FlaskIntegration()],
        )
        yield kept
        sentry_sdk.get_client().close()
        sentry_sdk.init()


def test_sentry_hears_what_fails_at_the_end_with_the_tags_of_its_request(
    app: Flask, sentry: Kept
) -> None:
    @app.before_request
    def tag() -> None:
        sentry_sdk.set_tag("customer", "ada")

    def fail(_app: Flask, **_: Any) -> None:
        raise ValueError("on purpose")

    with stream_ended.connected_to(fail, sender=app):
        assert is_whole(start(app))
        wait_for(lambda: [event for event in sentry.events if "exception" in event])
    [failure] = [event for event in sentry.events if "exception" in event]
    assert failure["tags"]["customer"] == "ada"
    assert failure["exception"]["values"][0]["value"] == "on purpose"


def test_sentry_is_told_of_no_answer_that_was_stopped(app: Flask, sentry: Kept) -> None:
    session_id = new_id()
    answer = start(app, session_id, rate=20, tokens=10_000)
    assert stop(app, session_id).get_json()["upstreamClosed"] is True
    assert is_whole(answer)
    assert [event for event in sentry.events if event.get("level") == "error"] == []


# ---- Flask-Login, Flask-SQLAlchemy, OpenTelemetry: a whole application in a process of its own

#: By the fork server that begins each.
NEIGHBOURS = {
    "gevent": [*COMMANDS["gunicorn"], "tests.support.neighbours:app"],
    "threads": [sys.executable, "-m", "tests.support.neighbours"],
}


class Neighbours(Process):
    """The application, and those who use it."""

    def ask(
        self, session_id: str, user: str | None = "ada", *, wait: float = 20.0, **simulate: Any
    ) -> requests.Response:
        headers = {"X-Session-Id": session_id, "X-Request-Id": f"request {session_id}"}
        headers["traceparent"] = f"00-{trace_of(session_id)}-00f067aa0ba902b7-01"
        if user:
            headers["X-User"] = user
        return requests.post(
            f"{self.url}/api/chat/stream",
            json=chat(simulate={**SHORT, "tag": session_id, **simulate}),
            headers=headers,
            stream=True,
            timeout=wait,
        )

    def stop_answer(self, session_id: str, user: str = "ada") -> requests.Response:
        url = f"{self.url}/api/chat/cancel/{session_id}"
        return requests.post(url, headers={"X-User": user}, timeout=20)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.url}/state", timeout=20).json()
        return found

    def told_of(self, session_id: str) -> dict[str, Any]:
        """What the receiver of ``stream_ended`` saw of an answer."""
        return wait_for(
            lambda: {each["id"]: each for each in self.state()["ended"]}.get(session_id) or {}
        )


def trace_of(session_id: str) -> str:
    """A trace id of one's own for each answer."""
    return session_id.encode().hex()[-32:]


@pytest.fixture(scope="module", params=NEIGHBOURS)
def neighbours(request: Any, logs: Any, deepseek: DeepSeek) -> Iterator[Neighbours]:
    command = NEIGHBOURS[request.param]
    environment = clean_environment(DEEPSEEK_BASE_URL=deepseek.url)
    with Neighbours(command, logs("neighbours"), environment, request.param) as server:
        wait_for(lambda: requests.get(f"{server.url}/healthz", timeout=20).ok)
        yield server


def test_silent_answers_hold_no_connection_to_the_database_of_the_login(
    neighbours: Neighbours, deepseek: DeepSeek
) -> None:
    """Fifteen of them, and a pool of two: a Stop has its login at once."""
    ids = [new_id() for _ in range(15)]
    with ThreadPoolExecutor(len(ids)) as pool:
        answers = [pool.submit(neighbours.ask, each, never="tokens") for each in ids]
        for each in ids:
            deepseek.entry(each)
        assert neighbours.state()["checked_out"] == 0
        began = time.monotonic()
        receipts = [neighbours.stop_answer(each) for each in ids]
        assert time.monotonic() - began < 10
        assert [receipt.json()["upstreamClosed"] for receipt in receipts] == [True] * len(ids)
        for answer in answers:
            answer.result().close()


def test_a_login_decides_whose_an_answer_is(neighbours: Neighbours) -> None:
    session_id = new_id()
    assert neighbours.ask(session_id, user=None).status_code == 401
    with neighbours.ask(session_id, rate=20, tokens=10_000) as answer:
        assert answer.status_code == 200
        assert neighbours.stop_answer(session_id, "bob").status_code == 404
        assert neighbours.stop_answer(session_id, "ada").status_code == 200


@pytest.mark.parametrize("simulate", [{}, {"rate": 50, "tokens": 20}, {"status": 402}], ids=repr)
def test_the_context_of_a_request_reaches_the_end_of_its_answer(
    neighbours: Neighbours, simulate: dict[str, Any]
) -> None:
    """A ContextVar and the present trace; the request itself does not."""
    ids = [new_id() for _ in range(3)]
    with ThreadPoolExecutor(len(ids)) as pool:
        for answer in pool.map(lambda each: neighbours.ask(each, **simulate), ids):
            answer.close() if simulate.get("rate") else answer.content
    for each in ids:
        told = neighbours.told_of(each)
        assert told["asked_by"] == f"request {each}"
        assert told["trace"] == trace_of(each)
        assert told["request"] is False
        assert told["users"] == 2


def test_the_call_of_the_upstream_is_part_of_the_trace(neighbours: Neighbours) -> None:
    session_id = new_id()
    assert neighbours.ask(session_id).content.endswith(b"[DONE]\n\n")
    neighbours.told_of(session_id)
    trace = f"0x{trace_of(session_id)}"
    spans = [each for each in neighbours.state()["spans"] if each["context"]["trace_id"] == trace]
    by_kind = {span["kind"]: span for span in spans}
    server, client = by_kind["SpanKind.SERVER"], by_kind["SpanKind.CLIENT"]
    assert client["parent_id"] == server["context"]["span_id"]
    assert server["attributes"]["http.route"] == "/api/chat/stream"
