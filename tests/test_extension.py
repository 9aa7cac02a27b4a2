"""What ChatProxy adds to a Flask application, with a DeepSeek of our own on a real socket."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import ANY

import pytest
from flask import Flask, Response, abort, current_app, request
from werkzeug.test import TestResponse

from chatproxy import ChatProxy, ConfigError, Refusal, sse, stream_ended, stream_started

from .support.instant import HELLO
from .support.scripted import Repeating
from .support.spoken import chunk, delta
from .support.waiting import PATIENCE, Background, wait_for

USAGE = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
NOT_FOUND = {"success": False, "message": "Session not found"}
ORIGIN = "https://chat.example.com"


ANSWER = [
    delta(reasoning_content="Hm."),
    delta(content="Hel"),
    delta(content="lo"),
    chunk({}, finish_reason="stop"),
]
#: What DeepSeek gets beside the client's fields.
ADDED = {
    "model": "deepseek-flash",
    "stream": True,
    "stream_options": {"include_usage": True},
}
#: What a receipt says of an estimate.
ACCOUNT = ("usage", "usageSource", "usageSpread", "cost")
#: What only those get who have asked for it.
COUNT = chunk(None, choices=[], usage=USAGE)
WHOLE = [*ANSWER, sse.DONE]


@pytest.fixture
def deepseek() -> Iterator[Repeating]:
    with Repeating(*ANSWER, COUNT, sse.DONE) as server:
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
            options.setdefault("json", HELLO)
        return self.app.test_client().post(f"{self.prefix}/stream", headers=headers, **options)

    def stop(self, session_id: str = "session_1", **headers: str) -> TestResponse:
        path = f"{self.prefix}/cancel/{session_id}"
        return self.app.test_client().post(path, headers=headers)

    @property
    def live(self) -> list[str]:
        return [session.id for session in self.app.extensions["chatproxy"].registry.live()]


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(deepseek: Repeating) -> Iterator[MakeSite]:
    """Makes applications; what they leave running is stopped after the test."""
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
def silent(deepseek: Repeating) -> Repeating:
    """DeepSeek falls silent after three events."""
    deepseek.blocks, deepseek.end = ANSWER[:3], "silence"
    return deepseek


def wire(blocks: list[bytes]) -> bytes:
    return b"".join(b"id: %d\n%b\n\n" % pair for pair in enumerate(blocks, 1))


def error_of(response: TestResponse) -> tuple[int, str]:
    """The status and the code of a refusal, which always has a sentence too."""
    body = response.get_json()
    assert isinstance(body["error"], str)
    return response.status_code, body["code"]


# --- setting up


def test_tokens_do_not_stand_in_for_the_owners_of_an_application(make_site: MakeSite) -> None:
    """Whoever sets them counts on nobody else getting in."""
    tokens = {"CHATPROXY_TOKENS": "ada:0123456789abcdef"}
    with pytest.raises(ConfigError, match="CHATPROXY_TOKENS"):
        make_site(**tokens)
    make_site(ChatProxy(owner=lambda: "ada"), **tokens)


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


def test_an_unknown_setting_is_warned_about_and_no_more(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CHATPROXY_MODLE", "deepseek-pro")
    assert make_site(CHATPROXY_GRAZE=5).stream().get_data() == wire(WHOLE)
    warned = [each for each in caplog.records if each.levelno == logging.WARNING]
    in_config, in_environment = sorted(each.getMessage() for each in warned)
    assert in_config.startswith("CHATPROXY_GRAZE is not a setting")
    assert in_environment.startswith("CHATPROXY_MODLE is not a setting")
    assert "deepseek-pro" not in in_environment


def test_the_routes_and_the_settings_are_those_of_the_application(
    make_site: MakeSite, deepseek: Repeating
) -> None:
    site = make_site(ChatProxy(url_prefix="/ai"), "/ai", CHATPROXY_MODEL="deepseek-pro")
    assert site.stream().get_data() == wire(WHOLE)
    assert deepseek.received[0]["model"] == "deepseek-pro"
    assert site.app.test_client().post("/api/chat/stream").status_code == 404


def test_the_applications_own_checks_come_first(site: Site, deepseek: Repeating) -> None:
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


def test_deepseek_gets_the_clients_fields_and_a_stream(site: Site, deepseek: Repeating) -> None:
    fields = {**HELLO, "new_field": {"x": 1}}
    site.stream(json={**fields, "stream": False}).get_data()
    assert deepseek.received == [{**fields, **ADDED}]


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
    deepseek: Repeating,
    request_details: dict[str, Any],
    status: int,
    code: str,
) -> None:
    site = make_site(CHATPROXY_MAX_BODY_BYTES=1000)
    refused = site.stream(**request_details)
    assert error_of(refused) == (status, code)
    assert code != "missing_session_id" or refused.get_json()["error"] == "Missing sessionId"
    assert not deepseek.received
    assert not site.live


def test_a_body_that_says_it_is_too_large_is_not_read_and_one_of_the_limit_is(
    make_site: MakeSite,
) -> None:
    body = json.dumps(HELLO).encode()
    site = make_site(CHATPROXY_MAX_BODY_BYTES=len(body))
    assert site.stream(data=body).status_code == 200
    larger = io.BytesIO(b" " * 5000)
    response = site.stream("session_2", input_stream=larger, content_length=5000)
    assert error_of(response) == (413, "body_too_large")
    assert larger.tell() == 0


# --- a Stop


def test_a_stop_closes_the_connection_and_gives_a_receipt(site: Site, silent: Repeating) -> None:
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
    assert [*events, done] == [*ANSWER[:3], sse.DONE]
    assert stopped == {
        "sessionId": "session_1",
        "reason": "user",
        "phase": "streaming",
        "events": 3,
        **{name: body[name] for name in ACCOUNT},
    }


def test_a_stop_for_what_does_not_exist_finds_nothing(site: Site) -> None:
    for session_id in ("session_9", "a/b", "a%00b", "x" * 129, "%20"):
        response = site.stop(session_id)
        assert (response.status_code, response.get_json()) == (404, NOT_FOUND)


# --- several applications


def test_two_applications_of_one_extension_do_not_meet(
    make_site: MakeSite, silent: Repeating
) -> None:
    chat = ChatProxy()
    here, there = make_site(chat), make_site(chat)
    streams = [here.stream(), there.stream()]
    assert here.stop().status_code == 200
    assert (here.live, there.live) == ([], ["session_1"])
    for stream in streams:
        stream.close()


def test_two_extensions_have_preparers_of_their_own(make_site: MakeSite) -> None:
    assert make_site(preparing(lambda payload: abort(403))).stream().status_code == 403
    assert make_site().stream().status_code == 200


# --- owners


def current_user() -> str | None:
    return request.headers.get("X-User")


@pytest.fixture
def owned(make_site: MakeSite) -> Site:
    return make_site(ChatProxy(owner=current_user))


@pytest.mark.parametrize("headers", [{}, {"X-User": ""}])
def test_nobody_gets_an_answer_or_a_stop(
    owned: Site, deepseek: Repeating, headers: dict[str, str]
) -> None:
    """The request is not even looked at."""
    assert error_of(owned.stream(headers=headers)) == (401, "unauthorized")
    assert error_of(owned.stream(None, data=b"{", headers=headers)) == (401, "unauthorized")
    assert error_of(owned.stop(**headers)) == (401, "unauthorized")
    assert not deepseek.received


def test_the_same_id_of_two_owners_is_two_answers(owned: Site, silent: Repeating) -> None:
    streams = [owned.stream(headers={"X-User": user}) for user in ("ada", "bob")]
    assert [stream.status_code for stream in streams] == [200, 200]
    assert owned.stop(**{"X-User": "ada"}).status_code == 200
    assert owned.live == ["session_1"]
    for stream in streams:
        stream.close()


def test_an_owner_may_be_a_number(make_site: MakeSite, silent: Repeating) -> None:
    site = make_site(ChatProxy(owner=lambda: 7))
    with ended_of(site.app) as ended, site.stream():
        site.stop()
        assert ended.get(timeout=PATIENCE)["owner"] == "7"


# --- preparers


def preparing(*preparers: Callable[[dict[str, Any]], Any]) -> ChatProxy:
    chat = ChatProxy()
    for preparer in preparers:
        assert chat.prepare(preparer) is preparer
    return chat


def test_preparers_run_in_the_request_each_on_what_the_last_one_left(
    make_site: MakeSite, deepseek: Repeating
) -> None:
    """One changes the payload, or returns another."""

    def add_system_prompt(payload: dict[str, Any]) -> None:
        payload["messages"].insert(0, {"role": "system", "content": "Be brief."})

    chat = preparing(
        add_system_prompt,
        lambda payload: {"messages": payload["messages"], "trail": "a"},
        lambda payload: payload.update(trail=payload["trail"] + "b"),
        lambda payload: {**payload, "trail": payload["trail"] + "c", "user": request.path},
    )
    asked = make_site(chat).stream(json={**HELLO, "temperature": 1})
    assert asked.get_data() == wire(WHOLE)
    (sent,) = deepseek.received
    assert [each["role"] for each in sent.pop("messages")] == ["system", "user"]
    assert (sent.pop("trail"), sent.pop("user")) == ("abc", "/api/chat/stream")
    assert sent == ADDED


@pytest.mark.parametrize("wrong", [["a list"], "text", {"messages": object()}])
def test_a_preparer_that_returns_something_wrong_is_not_blamed_on_the_client(
    make_site: MakeSite, wrong: Any
) -> None:
    site = make_site(preparing(lambda payload: wrong))
    assert site.stream().status_code == 500
    assert not site.live


@pytest.mark.parametrize("preparers", [[], [lambda payload: payload.update(user="u")]])
def test_what_nobody_changes_goes_to_deepseek_as_the_text_that_came(
    make_site: MakeSite, deepseek: Repeating, preparers: list[Callable[[dict[str, Any]], Any]]
) -> None:
    messages = rb'[ {"role": "user", "content": "\u00e9"} ]'
    body = b'{"messages": %b, "seed": 1e9, "top_p": 1.10}' % messages
    response = make_site(preparing(*preparers)).stream(json=None, data=body)
    assert response.get_data() == wire(WHOLE)
    (sent,) = deepseek.asked
    assert b'"messages":%b,"seed":1e9,"top_p":1.10' % messages in sent


def test_a_preparer_does_not_see_what_cannot_be_sent(make_site: MakeSite) -> None:
    seen: list[dict[str, Any]] = []
    site = make_site(preparing(seen.append))
    assert site.stream(json={"messages": "Hello"}).status_code == 400
    assert not seen


def test_a_preparer_may_refuse_and_that_leaves_the_id_free(
    make_site: MakeSite, deepseek: Repeating
) -> None:
    """By a refusal of its own, or by Flask's ``abort``."""

    def refuse_some(payload: dict[str, Any]) -> None:
        if payload.get("user") == "poor":
            raise Refusal("No budget is left.", status=402, code="no_budget", retry_after=60)
        if payload.get("user") == "banned":
            abort(403)

    site = make_site(preparing(refuse_some))
    refused = site.stream(json={**HELLO, "user": "poor"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (402, "60")
    assert refused.get_json() == {"error": "No budget is left.", "code": "no_budget"}
    assert site.stream(json={**HELLO, "user": "banned"}).status_code == 403
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


def test_a_finished_answer_is_told_once_with_all_that_it_said(site: Site) -> None:
    with ended_of(site.app) as ended:
        site.stream("session_1").get_data()
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
            "payload": {**HELLO, "model": "deepseek-flash", "stream": True},
            "context": {},
        }
        site.stream("session_2").get_data()
        assert ended.get(timeout=PATIENCE)["session_id"] == "session_2"


def test_a_stopped_answer_is_told_with_what_had_come(site: Site, silent: Repeating) -> None:
    with ended_of(site.app) as ended, site.stream():
        site.stop()
        told = ended.get(timeout=PATIENCE)
    assert (told["outcome"], told["reason"]) == ("stopped", "user")
    assert (told["text"], told["reasoning_text"]) == ("Hello", "Hm.")
    assert told["usage_source"] == "estimated"
    assert told["usage"]["completion_tokens"] == 2
    assert told["events"] == 3


def test_all_of_an_answer_is_told_although_few_of_its_events_are_kept(
    make_site: MakeSite, deepseek: Repeating
) -> None:
    """Neither while it runs nor at its end."""
    deepseek.blocks = [*(delta(content=f"{n} ") for n in range(1000)), *ANSWER[-1:], sse.DONE]
    site = make_site(CHATPROXY_LOG_BYTES=20_000, CHATPROXY_RETAIN_BYTES=1)
    with ended_of(site.app) as ended:
        site.stream().get_data()
        told = ended.get(timeout=PATIENCE)
    assert told["outcome"] == "finished"
    assert told["text"] == "".join(f"{n} " for n in range(1000))


def test_a_failed_answer_is_told_too(site: Site, deepseek: Repeating) -> None:
    deepseek.status = b"402 No"
    with ended_of(site.app) as ended:
        site.stream()
        told = ended.get(timeout=PATIENCE)
    assert (told["outcome"], told["reason"], told["events"]) == ("failed", None, 0)
    assert told["text"] == ""


def test_the_start_is_told_with_the_id_and_the_owner_and_that_of_a_refusal_is_not(
    owned: Site,
) -> None:
    started: list[dict[str, Any]] = []

    def receive(sender: Flask, **details: Any) -> None:
        started.append({**details, "sender": sender})

    user = {"X-User": "ada"}
    with stream_started.connected_to(receive, sender=owned.app):
        owned.stream(None, headers=user)
        owned.stream(headers=user).get_data()
    assert started == [{"sender": owned.app, "session_id": "session_1", "owner": "ada"}]


def fail(_app: Flask, **_details: Any) -> None:
    raise ValueError("the database is away")


def test_a_receiver_of_the_end_that_fails_harms_no_answer(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_ended.connected_to(fail, sender=site.app):
        for number in range(2):
            assert site.stream(f"session_{number}").get_data() == wire(WHOLE)
        wait_for(lambda: len([each for each in caplog.records if each.exc_info]) == 2)
    assert not site.live


def test_a_receiver_of_the_start_that_fails_leaves_nothing_running(
    site: Site, silent: Repeating
) -> None:
    with stream_started.connected_to(fail, sender=site.app):
        assert site.stream().status_code == 500
    wait_for(lambda: not site.live)


# --- log lines


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [r.getMessage() for r in caplog.records if r.name == "chatproxy"]
    return [message for message in messages if message.startswith("[SSE]")]


def test_a_stopped_answer_leaves_the_three_agreed_lines(
    site: Site, silent: Repeating, caplog: pytest.LogCaptureFixture
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
    site: Site, silent: Repeating, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chatproxy")
    site.stream().close()
    wait_for(lambda: len(lines(caplog)) == 2)
    left, ended = lines(caplog)
    assert left == "[SSE] session_1 client disconnected"
    assert ended.startswith("[SSE] session_1 ended outcome=stopped phase=streaming events=3 ms=")


def test_an_id_cannot_forge_a_line(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chatproxy")
    for session_id in ("x%0A[SSE]%20y%20aborted", "x%0D[SSE]", "x%E2%80%A8y"):
        site.stop(session_id)
    assert lines(caplog) == []


# --- other origins


@pytest.fixture
def shared(make_site: MakeSite) -> Site:
    """Another origin's pages may call."""
    return make_site(CHATPROXY_CORS_ORIGINS=ORIGIN)


def preflight(site: Site, origin: str, method: str, path: str, header: str) -> TestResponse:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": f"content-type, {header}",
    }
    return site.app.test_client().options(f"{site.prefix}/{path}", headers=headers)


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
    asked = preflight(shared, ORIGIN, method, path, header)
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert method in asked.headers["Access-Control-Allow-Methods"].split(", ")
    assert header.lower() in asked.headers["Access-Control-Allow-Headers"].lower().split(", ")


def test_a_page_of_a_listed_origin_can_read_what_a_client_goes_by(make_site: MakeSite) -> None:
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
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"X-Session-Id", "Retry-After", "X-Should-Retry"} <= {*exposed}
        response.close()


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://chat.example.com",
        f"{ORIGIN}.evil.example",
        f"{ORIGIN}:8443",
        ORIGIN.replace(".", "x"),
    ],
)
def test_a_page_of_any_other_origin_may_not(shared: Site, origin: str) -> None:
    assert_closed_to(shared, origin)


def test_without_listed_origins_none_may(site: Site) -> None:
    assert_closed_to(site, ORIGIN)


def assert_closed_to(site: Site, origin: str) -> None:
    asked = preflight(site, origin, "POST", "stream", "X-Session-Id")
    assert "Access-Control-Allow-Origin" not in asked.headers
    assert "Access-Control-Allow-Origin" not in site.stop(Origin=origin).headers


def test_the_applications_own_routes_are_not_opened(shared: Site) -> None:
    shared.app.add_url_rule("/private", view_func=lambda: "private", endpoint="private")
    answer = shared.app.test_client().get("/private", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers


# --- what an application may do to a response


def test_an_answer_whose_response_fails_after_the_view_is_ended(
    site: Site, silent: Repeating
) -> None:
    @site.app.after_request
    def fail(response: Any) -> Any:
        raise ValueError("on purpose")

    assert site.stream().status_code == 500
    wait_for(lambda: site.live == [])


def test_the_callbacks_of_a_response_are_called(site: Site) -> None:
    called: list[bool] = []

    @site.app.after_request
    def note(response: Any) -> Any:
        response.call_on_close(lambda: called.append(True))
        return response

    with site.stream() as answer:
        answer.get_data()
    assert called == [True]


def test_what_a_request_took_is_given_back_while_its_answer_is_awaited(
    site: Site, deepseek: Repeating
) -> None:
    """As with a pool of connections to a database, which the login takes one of."""
    deepseek.blocks, deepseek.end = [], "silence"
    pool = threading.BoundedSemaphore(2)

    @site.app.before_request
    def take() -> tuple[str, int] | None:
        return None if pool.acquire(timeout=0.1) else ("no connection", 500)

    site.app.teardown_request(lambda _error: pool.release())
    asking = []
    for name in ("session_1", "session_2", "session_3"):
        asking.append(Background(partial(site.stream, name)))
        wait_for(lambda name=name: name in site.live)
    assert [site.stop(name).status_code for name in site.live] == [200, 200, 200]
    for each in asking:
        each.result()


def test_a_failure_before_the_first_event_has_its_status_and_the_applications_headers(
    site: Site, deepseek: Repeating
) -> None:
    deepseek.status = b"422 No"

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
    site: Site, deepseek: Repeating
) -> None:
    deepseek.status = b"422 No"

    @site.app.after_request
    def wrap(response: Any) -> Any:
        response.response = (piece for piece in response.response)
        return response

    answer = site.stream()
    assert answer.status_code == 200
    assert b"event: error\n" in answer.get_data()


# --- what is refused costs nothing else


def test_what_is_refused_without_a_look_at_the_body_is_refused_before_it_is_read(
    make_site: MakeSite, silent: Repeating
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
