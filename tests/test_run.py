"""Runs: what an application's function makes an answer with, and how each of them ends."""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import requests
from flask import Flask, current_app
from flask.globals import app_ctx
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from chatproxy import (
    Answer,
    ChatProxy,
    Refusal,
    Run,
    Stopped,
    current_run,
    sse,
    stream_ended,
    stream_started,
)
from chatproxy.answers.abort import AbortHandle
from chatproxy.answers.session import Reason, StreamSession
from chatproxy.errors import UpstreamError
from chatproxy.protocols import native
from chatproxy.runs.appender import Appender
from chatproxy.runs.tasks import Tasks
from chatproxy.runs.waits import Waits
from chatproxy.web.state import State

from .support.instant import HELLO, Instant, say
from .support.scripted import Scripted
from .support.servers import events
from .support.sessions import new_session
from .support.waiting import MOMENT, PATIENCE, Background, at_once, wait_for, wait_for_garbage

Chat = Callable[..., Answer]
#: As a client of the AI SDK asks.
UI_HELLO = {
    "id": "c",
    "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
}


# ---- what it makes -------------------------------------------------------------------------------


def yield_and_return(_run: Run, _payload: dict[str, Any]) -> Iterator[str]:
    yield "Hel"
    return "lo"


@pytest.mark.parametrize(
    "function",
    [
        lambda run, payload: run.ask(payload),
        lambda run, payload: (yield from run.ask(payload)),
        lambda run, payload: (yield from run.ask(payload, show=False)),
        lambda run, payload: run.ask(payload).read() and None,
        lambda run, payload: "Hello",
        lambda run, payload: iter(["Hel", "lo"]),
        yield_and_return,
    ],
    ids=["answer", "parts", "hidden parts", "read", "text", "texts", "both"],
)
def test_what_a_function_gives_is_shown_once(answer: Chat, function: Any) -> None:
    got = answer(function)
    assert [part.finish_reason for part in got][-1] == "stop"
    assert got.text == "Hello"
    assert got.wait() == "finished"


def question(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_several_answers_are_asked_at_once_and_one_after_the_other(
    answer: Chat, upstream: Instant
) -> None:
    def ask(run: Run, _payload: dict[str, Any]) -> Iterator[Any]:
        one, two = (run.ask(question(text), show=False) for text in ("one", "two"))
        assert (two.read(), one.read()) == ("two", "one")
        yield f"{one.text} and {two.text}, "
        yield from run.ask(question("three"))

    assert answer(ask).read() == "one and two, three"
    assert upstream.closed == 3


def test_events_of_its_own_reach_each_client_in_its_protocol(chat: ChatProxy, app: Flask) -> None:
    @chat.run("tell")
    def tell(run: Run, _payload: dict[str, Any]) -> str:
        run.emit("source", {"url": "/a"})
        run.tell_tool_call("c1", "f", {"at": 1})
        run.tell_tool_result("c1", {"seen": True})
        run.tell_tool_result("c2", error="No.")
        return "Hello"

    client = app.test_client()

    def post(path: str, **fields: Any) -> str:
        headers = {"X-Session-Id": f"s{path.count('/')}-{len(fields)}"}
        return client.post(path, json={**HELLO, **fields}, headers=headers).get_data(as_text=True)

    plain = events(post("/api/chat/runs/tell").encode())
    assert plain[0] == {"id": "1", "event": "source", "by": "run", "data": '{"url":"/a"}'}
    names = ["source", "tool-call", "tool-result", "tool-result", None, None, None]
    assert [each.get("event") for each in plain] == names
    said = post("/v1/chat/completions", model="run:tell", stream=True)
    chunks = [json.loads(each["data"]) for each in events(said.encode())[:-1]]
    assert all(chunk["choices"][0]["index"] == 0 for chunk in chunks)
    assert chunks[0]["chatproxy"] == {"event": "source", "data": {"url": "/a"}}
    whole = json.loads(post("/v1/chat/completions", model="run:tell"))
    assert whole["choices"][0]["message"]["content"] == "Hello"
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert "url" not in whole
    said = post("/api/chat", model="run:tell", **UI_HELLO)
    told = [json.loads(each["data"]) for each in events(said.encode())[:-1]]
    assert all(each.pop("dynamic") and each.pop("providerExecuted") for each in told[3:6])
    assert told[2:6] == [
        {"type": "data-source", "data": {"url": "/a"}},
        {"type": "tool-input-available", "toolCallId": "c1", "toolName": "f", "input": {"at": 1}},
        {"type": "tool-output-available", "toolCallId": "c1", "output": {"seen": True}},
        {"type": "tool-output-error", "toolCallId": "c2", "errorText": "No."},
    ]
    assert told[-1]["type"] == "finish"


@pytest.mark.parametrize("path", ["/api/chat/stream", "/v1/chat/completions", "/api/chat"])
def test_a_client_that_asks_for_it_is_told_of_each_call_in_its_protocol(
    chat: ChatProxy, app: Flask, upstream: Instant, path: str
) -> None:
    """Whoever does not ask has nothing of it before the first word, and gets a status instead."""

    @chat.run("plan")
    def plan(run: Run, payload: dict[str, Any]) -> Iterator[Any]:
        run.ask(payload, show=False, name="plan").read()
        with pytest.raises(ConnectionError):
            run.http.get("http://127.0.0.1:9")
        yield "Hello"

    def post(**headers: str) -> str:
        asked = UI_HELLO if path == "/api/chat" else {**HELLO, "stream": True}
        asking = {"json": {**asked, "model": "run:plan"}, "headers": headers}
        return app.test_client().post(path, **asking).get_data(as_text=True)

    told = events(post(**{"X-Session-Id": "s", "X-Calls": "1"}).encode())
    found = [
        (name, data["id"], data["name"], data.get("outcome"))
        for name, data in map(own_event, told)
        if name.startswith("call-")
    ]
    assert found == [
        ("call-begin", 1, "plan", None),
        ("call-end", 1, "plan", "finished"),
        ("call-begin", 2, "GET 127.0.0.1", None),
        ("call-end", 2, "GET 127.0.0.1", "failed"),
    ]
    assert "call-" not in post(**{"X-Session-Id": "t"})


def own_event(event: dict[str, str]) -> tuple[str, Any]:
    """The name and the data of an event of a run's own, in any protocol; "" if it is none."""
    data = json.loads(event["data"]) if event["data"] != "[DONE]" else {}
    if "by" in event:
        return event["event"], data
    if str(data.get("type", "")).startswith("data-"):
        return data["type"].removeprefix("data-"), data["data"]
    told = data.get("chatproxy", {})
    return told.get("event", ""), told.get("data")


def test_a_call_that_is_told_of_waits_for_a_client_that_lags(
    app: Flask, answer: Chat, upstream: Instant, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = State.prepare
    tells = {"tells_calls": True}
    monkeypatch.setattr(State, "prepare", lambda *given: prepare(*given)._replace(**tells))

    def ask(run: Run, payload: dict[str, Any]) -> None:
        while True:
            run.ask(payload, show=False, name="x" * 100).read()

    got = answer(ask)
    (session,) = app.extensions["chatproxy"].registry.live()
    wait_for(lambda: session.log.full)
    asked = len(upstream.asked)
    time.sleep(MOMENT)
    assert got.cancel() is not None
    assert len(upstream.asked) <= asked + 1


def test_a_stop_names_the_calls_that_it_has_ended(
    app: Flask, answer: Chat, upstream: Instant
) -> None:
    def ask(run: Run, payload: dict[str, Any]) -> None:
        run.ask(payload, show=False, name="plan").read()
        upstream.says = lambda _: None
        run.ask(payload, show=False, name="search")
        run.sleep(PATIENCE)

    got = answer(ask)
    (session,) = app.extensions["chatproxy"].registry.live()
    wait_for(lambda: len(upstream.asked) == 2)
    receipt = got.cancel()
    assert receipt is not None
    outcomes = [(each["id"], each["name"], each["outcome"]) for each in receipt.calls or ()]
    assert outcomes == [(1, "plan", "finished"), (2, "search", "stopped")]
    ending = native.stopped(session)[0]
    said = native.ending_of(ending)
    assert said is not None
    assert [each["name"] for each in said["calls"]] == ["search"]
    assert said["leftBehind"] == []


def test_the_function_has_the_application_s_context_and_what_prepare_has_put_into_its_own(
    chat: ChatProxy, app: Flask
) -> None:
    ended = []

    @chat.prepare
    def prepare(payload: dict[str, Any], context: dict[str, Any]) -> None:
        context["user"] = 7
        payload["temperature"] = 1

    @chat.run("look")
    def look(run: Run, payload: dict[str, Any]) -> str:
        assert current_app.name == app.name
        assert current_run() is run
        assert run.spawn(current_run).result() is run
        assert (run.session_id, run.owner, run.name) == ("s", "", "look")
        assert payload == {**HELLO, "temperature": 1}
        run.context["seen"] = True
        return f"user {run.context['user']}"

    @stream_ended.connect_via(app)
    def end(_app: Flask, **fields: Any) -> None:
        ended.append(fields)

    assert chat.start({**HELLO, "model": "run:look"}, session_id="s").read() == "user 7"
    wait_for(lambda: ended)
    assert ended[0]["context"] == {"user": 7, "seen": True}  # the run's own, too
    assert ended[0]["payload"] == {**HELLO, "temperature": 1}
    assert ended[0]["text"] == "user 7"
    with pytest.raises(RuntimeError, match="no run"):
        current_run()


def test_each_task_has_an_application_context_of_its_own(answer: Chat) -> None:
    """What an extension keeps there, such as a session of a database, is one thread's."""

    def look(run: Run, _payload: dict[str, Any]) -> str:
        both = threading.Barrier(2, timeout=PATIENCE)

        def context() -> int:
            both.wait()
            return id(app_ctx._get_current_object())  # type: ignore[attr-defined]

        tasks = [run.spawn(context) for _ in range(2)]
        mine = id(app_ctx._get_current_object())  # type: ignore[attr-defined]
        assert len({mine, *(run.wait(each) for each in tasks)}) == 3
        return "apart"

    assert answer(look).read() == "apart"


def test_of_several_choices_the_first_is_read(answer: Chat, upstream: Instant) -> None:
    second = say("B")
    second["choices"][0]["index"] = 1
    upstream.says = lambda _: [second, say("A"), {"choices": []}]
    assert answer(lambda run, payload: run.ask(payload)).read() == "A"


def test_the_path_names_the_run_whatever_model_a_preparer_chooses(
    chat: ChatProxy, app: Flask
) -> None:
    chat.prepare(lambda payload: payload.update(model="deepseek-flash"))
    chat.run("tell")(lambda run, payload: "by the run")
    got = app.test_client().post("/api/chat/runs/tell", json=HELLO, headers={"X-Session-Id": "s"})
    assert b"by the run" in got.data


def test_a_number_that_can_not_be_decoded_is_refused_and_its_end_is_told(
    chat: ChatProxy, app: Flask
) -> None:
    ended = []
    chat.run("tell")(lambda run, payload: "told")
    receive = stream_ended.connect_via(app)(lambda _app, **told: ended.append(told))
    body = json.dumps({**HELLO, "n": 1})[:-2] + "9" * 5000 + "}"
    for path, status in (("runs/tell", 400), ("stream", 200)):
        headers = {"X-Session-Id": path, "Content-Type": "application/json"}
        got = app.test_client().post(f"/api/chat/{path}", data=body, headers=headers)
        assert got.status_code == status
        assert got.data
    wait_for(lambda: ended)
    assert ended[0]["payload"] == {}
    del receive


def test_a_function_has_a_name_of_its_own_that_can_be_one_and_is_not_async(
    chat: ChatProxy,
) -> None:
    async def never(run: Run, payload: dict[str, Any]) -> None: ...

    for name in ("", "a/b", "x" * 65, "tell me"):
        with pytest.raises(ValueError, match="can't be called"):
            chat.run(name)
    with pytest.raises(TypeError, match="async"):
        chat.run("never")(never)
    chat.run("one")(lambda run, payload: None)
    with pytest.raises(ValueError, match="already"):
        chat.run("one")


def test_an_event_that_can_not_be_one_is_refused(answer: Chat) -> None:
    wrong: list[tuple[str, Any, type[Exception]]] = [
        ("Source", {}, ValueError),
        ("stopped", {}, ValueError),
        ("tool-call", {}, ValueError),
        ("chatproxy-stopped", {}, ValueError),
        ("a\nb", {}, ValueError),
        ("source", "x" * sse.MAX_EVENT_BYTES, ValueError),
        ("source", float("nan"), ValueError),
        ("source", object(), TypeError),
    ]

    def tell(run: Run, _payload: dict[str, Any]) -> str:
        for name, data, error in wrong:
            with pytest.raises(error):
                run.emit(name, data)
        return "refused"

    assert answer(tell).read() == "refused"


# ---- how it ends ---------------------------------------------------------------------------------


def fail(_run: Run, _payload: dict[str, Any]) -> None:
    raise ZeroDivisionError("secret")


def fail_later(_run: Run, _payload: dict[str, Any]) -> Iterator[str]:
    yield "Hel"
    raise ZeroDivisionError("secret")


def refuse(_run: Run, _payload: dict[str, Any]) -> None:
    raise Refusal("Nothing is known of that.", status=422, code="unknown")


def recurse(run: Run, payload: dict[str, Any]) -> None:
    recurse(run, payload)


ERROR = "The answer failed because of an error in the server."


@pytest.mark.parametrize(
    ("function", "status", "sentence"),
    [
        (refuse, 422, "Nothing is known of that."),
        (fail, 500, ERROR),
        (fail_later, 500, ERROR),
        (lambda run, payload: run.spawn(fail, run, payload) and None, 500, ERROR),
        (lambda run, payload: run.ask({"messages": []}), 500, ERROR),
        (lambda run, payload: (yield 7), 500, ERROR),
        (lambda run, payload: sys.exit(), 500, ERROR),
        (recurse, 500, ERROR),
    ],
    ids=["refusal", "error", "later", "beside", "no question", "no part", "exit", "recursion"],
)
def test_what_a_function_raises_is_a_failed_answer_with_one_sentence(
    answer: Chat, caplog: pytest.LogCaptureFixture, function: Any, status: int, sentence: str
) -> None:
    got = answer(function)
    with pytest.raises(Refusal) as refused:
        got.read()
    assert (refused.value.status, refused.value.message) == (status, sentence)
    assert got.wait() == "failed"
    assert ("Traceback" in caplog.text) == (sentence is ERROR)


def test_a_failure_or_the_silence_of_an_upstream_is_the_function_s_to_handle(
    app: Flask, upstream: Instant
) -> None:
    app.config["CHATPROXY_IDLE_TIMEOUT"] = 0.05
    chat = ChatProxy(app)

    def refuse(_session: StreamSession) -> None:
        raise UpstreamError("It is busy.", code="upstream_busy", status=503)

    @chat.run("ask")
    def ask(run: Run, payload: dict[str, Any]) -> str:
        upstream.on_open = refuse
        with pytest.raises(UpstreamError, match="busy"):
            run.ask(payload).read()
        upstream.on_open = upstream.says = lambda _: None
        with pytest.raises(UpstreamError, match="nothing in time"):
            run.ask(payload).read()
        return "handled"

    assert chat.start({**HELLO, "model": "run:ask"}).read() == "handled"


def test_a_stop_is_raised_wherever_the_function_waits_and_nothing_begins_after_it(
    chat: ChatProxy, answer: Chat, upstream: Instant
) -> None:
    """``except Exception`` does not keep it, and ``finally`` comes to its turn."""
    seen: list[str] = []
    upstream.says = lambda _: None

    def wait(run: Run, payload: dict[str, Any]) -> None:
        waits: list[Callable[[], object]] = [
            lambda: run.ask(payload).read(),
            lambda: run.ask(payload),
            lambda: chat.start(HELLO),
            lambda: run.sleep(0),
            lambda: run.wait(Future()),
            lambda: run.spawn(seen.append, "spawned"),
            lambda: run.emit("late", {}),
            lambda: run.http.get("http://127.0.0.1:9"),
            run.check,
        ]
        try:
            for each in waits:
                try:
                    each()
                except Exception:
                    seen.append("an error")
                except Stopped:
                    seen.append("stopped")
        finally:
            assert run.stopped
            seen.append("finally")

    got = answer(wait)
    wait_for(lambda: upstream.asked)
    receipt = got.cancel()
    assert receipt is not None
    assert receipt.upstream_closed
    assert receipt.left_behind == ()
    assert seen == [*["stopped"] * 9, "finally"]
    assert len(upstream.asked) == 1
    assert got.wait() == "stopped"
    assert got.text == ""


def test_a_function_does_not_begin_after_a_stop(
    answer: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    begin, ready = Run.begin, threading.Event()

    def stop_first(run: Run) -> None:
        begin(run)
        ready.wait()
        assert Background(got.cancel).still_runs()

    monkeypatch.setattr(Run, "begin", stop_first)
    monkeypatch.setattr(Run, "enter", lambda run: wait_for(lambda: run.stopped))
    got = answer(lambda run, payload: begun.append("the function"))
    ready.set()
    assert got.wait() == "stopped"
    assert begun == []


def test_a_receiver_that_fails_leaves_no_answer_behind(
    chat: ChatProxy, app: Flask, upstream: Instant
) -> None:
    upstream.says = lambda _: None

    def fail(_app: Flask, **_: Any) -> None:
        raise ZeroDivisionError

    with stream_started.connected_to(fail, app), pytest.raises(ZeroDivisionError):
        chat.start(HELLO)
    wait_for(lambda: upstream.closed == 1)


def test_a_traceback_forges_no_line(answer: Chat, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_run: Run, _payload: dict[str, Any]) -> None:
        raise ValueError("no\n2026-11-26 INFO [SSE] victim ended outcome=finished")

    assert answer(fail).wait() == "failed"
    assert "    2026-11-26 INFO [sse] victim ended" in caplog.text
    assert "[SSE] victim" not in caplog.text


def test_the_session_of_a_run_keeps_its_adapter(answer: Chat) -> None:
    def mount(run: Run, _payload: dict[str, Any]) -> str:
        with pytest.raises(TypeError, match="max_retries"):
            run.http.mount("https://", HTTPAdapter(max_retries=3))
        return "kept"

    assert answer(mount).read() == "kept"


@pytest.mark.parametrize("proxy", ["127.0.0.1:99999", "[::1", "#half@127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    answer: Chat, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, proxy: str
) -> None:
    monkeypatch.setenv("all_proxy", f"http://ann:s3cr3t-of-the-proxy@{proxy}")
    assert answer(lambda run, _: run.http.get("http://site.example").text).wait() == "failed"
    assert "InvalidProxyURL: The environment names a proxy that can't be used" in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"])
def test_a_request_that_is_tried_again_is_one_call_and_a_stop_ends_the_next_try(
    answer: Chat, first: bytes
) -> None:
    again, left = threading.Event(), threading.Event()

    def respond(connection: socket.socket, _body: bytes) -> None:
        if site.accepted == 1:
            connection.sendall(first)
            connection.shutdown(socket.SHUT_RDWR)
        else:
            again.set()
            assert connection.recv(1) == b""
            left.set()

    def ask(run: Run, _payload: dict[str, Any]) -> None:
        run.http.headers["Connection"] = "close"
        run.http.get_adapter(site.url).max_retries = Retry(3, status_forcelist=[503])
        run.http.get(site.url)

    with Scripted(respond) as site:
        got = answer(ask)
        assert again.wait(PATIENCE)
        receipt = got.cancel()
        assert left.wait(PATIENCE)
    assert receipt is not None
    assert (receipt.upstream_closed, receipt.left_behind) == (True, ())
    assert [each["outcome"] for each in receipt.calls or ()] == ["stopped"]


def test_a_request_whose_proxy_never_ends_its_reply_times_out(answer: Chat) -> None:
    """The timeout is for all that comes before the request, though a byte comes now and then."""

    def drip(connection: socket.socket, _body: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 Connected\r\nA: ")
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b"x")

    def ask(run: Run, _payload: dict[str, Any]) -> str:
        with pytest.raises(requests.ConnectTimeout):
            run.http.get("https://site.example", proxies={"https": proxy.url}, timeout=(0.3, 3600))
        return "timed out"

    with Scripted(drip) as proxy:
        assert answer(ask).read() == "timed out"


@pytest.mark.parametrize("header", [b"", b"Retry-After: 3600\r\n"])
def test_a_stop_ends_the_pause_before_another_try(answer: Chat, header: bytes) -> None:
    """A backoff, or what the other side has asked for; it is no code that is left behind."""
    paused = threading.Event()

    class Pausing(Retry):
        def get_backoff_time(self) -> float:
            paused.set()
            return 3600.0

        def get_retry_after(self, response: Any) -> float | None:
            paused.set()
            return super().get_retry_after(response)

    def respond(connection: Any, _body: bytes) -> None:
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n%b\r\n" % header)

    def ask(run: Run, _payload: dict[str, Any]) -> None:
        run.http.get_adapter(site.url).max_retries = Pausing(3, status_forcelist=[503])
        run.http.get(site.url)

    with Scripted(respond) as site:
        got = answer(ask)
        assert paused.wait(PATIENCE)
        receipt = got.cancel()
    assert receipt is not None
    assert receipt.left_behind == ()


@pytest.mark.parametrize("reason", [Reason.USER, Reason.DEADLINE, None])
def test_what_ends_with_a_run_is_stopped_for_the_runs_own_reason(
    app: Flask, chat: ChatProxy, upstream: Instant, reason: Reason | None
) -> None:
    """Its calls, and the answers that it has begun; if it is over, nobody reads them any more."""
    upstream.says = lambda _: None
    sessions: list[StreamSession] = []
    upstream.on_open = sessions.append

    def begin(run: Run, payload: dict[str, Any]) -> Any:
        (session,) = app.extensions["chatproxy"].registry.live()
        run.ask(payload), run.context.update(answer=chat.start(HELLO))
        wait_for(lambda: len(sessions) == 2)
        if reason is not None:
            session.cancel(reason)
            run.sleep(3600)

    chat.run("r")(begin)
    chat.start({**HELLO, "model": "run:r"}).wait()
    for session in sessions:
        assert session.closed.wait(PATIENCE)
    assert {each.reason for each in sessions} == {reason or Reason.DISCONNECT}


@pytest.mark.parametrize("body", [b"", b"Hello"])
def test_a_request_of_a_run_has_ended_when_its_response_has_been_read(
    app: Flask, answer: Chat, body: bytes
) -> None:
    listed: list[Any] = []
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)

    def ask(run: Run, _payload: dict[str, Any]) -> str:
        (session,) = app.extensions["chatproxy"].registry.live()
        text = run.http.get(site.url).text
        calls, _ = session.calls.listed()
        listed.extend((each["outcome"], each["closed"]) for each in calls)
        assert session.calls.live() == []
        return text or "nothing"

    with Scripted(lambda connection, _: connection.sendall(head + body)) as site:
        assert answer(ask).read() == (body.decode() or "nothing")
    assert listed == [("finished", True)]


def test_a_stop_is_raised_where_a_generator_yields(answer: Chat) -> None:
    reached, seen = threading.Event(), []

    def speak(_run: Run, _payload: dict[str, Any]) -> Iterator[str]:
        try:
            while True:
                reached.set()
                yield "x" * 1000
        except Stopped:
            seen.append("stopped")
            raise

    got = answer(speak)
    assert reached.wait(PATIENCE)
    assert got.cancel() is not None
    assert seen == ["stopped"]


def test_code_that_ignores_a_stop_is_left_behind_and_says_no_more(app: Flask, answer: Chat) -> None:
    go_on, done = threading.Event(), threading.Event()

    def ignore(run: Run, _payload: dict[str, Any]) -> None:
        run.emit("begun", {})
        go_on.wait(PATIENCE)
        for _ in range(3):
            with pytest.raises(Stopped):
                run.emit("late", {})
        done.set()

    got = answer(ignore)
    next(got)
    receipt = got.cancel()
    assert receipt is not None
    assert receipt.upstream_closed
    assert receipt.stop_ms < 1000 * app.config["CHATPROXY_RUN_GRACE"]  # it waits for no code
    assert receipt.left_behind == ("run-0",)
    go_on.set()
    assert done.wait(PATIENCE)
    assert list(got) == []


def test_a_question_after_the_end_of_its_run_is_refused(answer: Chat, upstream: Instant) -> None:
    kept: list[Run] = []
    assert answer(lambda run, payload: kept.append(run)).read() == ""
    with pytest.raises(Stopped):
        kept[0].ask(HELLO)
    assert upstream.asked == []


def test_what_is_not_read_to_its_end_is_aborted_at_the_end_of_the_run(
    answer: Chat, upstream: Instant
) -> None:
    upstream.says = lambda _: None

    def ask(run: Run, payload: dict[str, Any]) -> str:
        run.ask(payload)
        run.ask(payload).close()
        wait_for(lambda: upstream.closed == 1)
        upstream.on_close = lambda: time.sleep(MOMENT)
        return "done"

    assert answer(ask).read() == "done"
    assert upstream.closed == 2


def test_a_run_ends_when_all_that_it_has_spawned_has_ended(answer: Chat) -> None:
    def spawn(run: Run, _payload: dict[str, Any]) -> None:
        def child() -> None:
            run.spawn(run.emit, "grandchild", {})
            run.emit("child", {})

        run.spawn(child)

    assert {part.name for part in answer(spawn)} >= {"child", "grandchild"}


def test_an_error_of_a_task_that_somebody_has_asked_for_is_no_error_of_the_run(
    answer: Chat,
) -> None:
    def spawn(run: Run, payload: dict[str, Any]) -> str:
        with pytest.raises(ZeroDivisionError):
            run.wait(run.spawn(fail, run, payload))
        with pytest.raises(TimeoutError):
            run.wait(Future(), timeout=0.01)
        return "fine"

    assert answer(spawn).read() == "fine"


def test_many_events_wait_for_their_reader(app: Flask, answer: Chat) -> None:
    """From several threads at once; each one's are in its order, and none is lost."""
    many, size, most = 50, 2_000, 20_000

    def tell(run: Run, _payload: dict[str, Any]) -> None:
        def child(number: int) -> None:
            for at in range(many):
                run.emit("piece", [number, at, "x" * size])

        for number in range(4):
            run.spawn(child, number)

    got = answer(tell)
    (session,) = app.extensions["chatproxy"].registry.live()
    wait_for(lambda: session.log.full)
    time.sleep(MOMENT)
    assert session.log.size < most + 5 * (size + 100)
    seen: dict[int, list[int]] = {}
    for part in got:
        if part.name:
            seen.setdefault(part.data[0], []).append(part.data[1])
    assert seen == {number: list(range(many)) for number in range(4)}


@pytest.mark.usefixtures("_close_races")
def test_several_threads_append_one_at_a_time_and_nothing_after_the_close() -> None:
    appender = Appender(new_session())
    at_it, taken = threading.Lock(), []

    def step() -> None:
        assert at_it.acquire(blocking=False)
        taken.append(None)
        at_it.release()

    def append() -> None:
        for _ in range(2000):
            appender.append(step)

    at_once(*[append] * 4)
    assert len(taken) == 8000
    appender.close()
    appender.append(step)
    assert len(taken) == 8000


def test_a_task_that_has_not_begun_at_the_stop_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle, begun = AbortHandle(Stopped), []
    held: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        held.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    task = Tasks(handle, Waits(), nullcontext).spawn(lambda: begun.append(None), "late")
    handle.abort()
    held[0].run()
    assert isinstance(task.exception(), Stopped)
    assert begun == []


def test_a_run_that_has_told_something_has_begun(chat: ChatProxy, app: Flask) -> None:
    @chat.run("tell")
    def tell(run: Run, payload: dict[str, Any]) -> None:
        run.emit("source", {})
        refuse(run, payload)

    post = partial(app.test_client().post, headers={"X-Session-Id": "s"}, json=HELLO)
    got = post("/api/chat/runs/tell")
    assert got.status_code == 200
    assert [each.get("event") for each in events(got.data)] == ["source", "error"]
    assert post("/api/chat/runs/tell").status_code == 409  # its id is taken


def test_an_answer_that_is_closed_is_stopped(answer: Chat) -> None:
    with answer(lambda run, payload: run.sleep(PATIENCE)) as got:
        pass
    assert (got.wait(), got.reason) == ("stopped", "disconnect")


# ---- from Python ---------------------------------------------------------------------------------


def test_an_answer_is_stopped_from_the_web_by_its_id(
    chat: ChatProxy, app: Flask, upstream: Instant
) -> None:
    upstream.says = lambda _: None
    got = chat.start(HELLO, session_id="mine")
    receipt = app.test_client().post("/api/chat/cancel/mine").get_json()
    assert receipt["success"] is receipt["upstreamClosed"] is True
    assert "calls" not in receipt
    assert (got.wait(), got.reason, got.session_id) == ("stopped", "user", "mine")


def test_an_application_stops_and_lists_answers(chat: ChatProxy, upstream: Instant) -> None:
    """An owner is text, as on the routes."""
    upstream.says = lambda _: None
    seven: Any = 7
    answers = [chat.start(HELLO, session_id=each, owner=seven) for each in ("s0", "s1", None)]
    other = chat.start(HELLO, session_id="s0", owner="bob")
    listed = [each["sessionId"] for each in chat.sessions("7")]
    assert sorted(listed, key=str) == [None, "s0", "s1"]
    first = chat.cancel("s1", seven)
    assert first is not None
    assert first.session_id == "s1"
    assert chat.cancel("s1", "7") is None
    stopped = chat.stop_all(seven)
    assert sorted(each.session_id for each in stopped) == ["", "s0"]
    assert all(each.upstream_closed for each in stopped)
    assert [each.wait() for each in answers] == ["stopped"] * 3
    assert other.outcome is None
    assert other.cancel() is not None
    nobody: Any = None
    with pytest.raises(ValueError, match="None"):
        chat.stop_all(nobody)


def test_an_answer_that_nobody_has_any_more_ends_as_if_its_client_had_left(
    app: Flask, upstream: Instant
) -> None:
    app.config["CHATPROXY_DEADLINE"] = 5  # the watchdog looks twice a second
    chat = ChatProxy(app)
    upstream.says = lambda _: None
    kept, dropped = (chat.start(HELLO, session_id=each, owner="ada") for each in ("kept", "lost"))
    loop: list[Any] = [dropped]
    loop.append(loop)
    del dropped, loop
    wait_for_garbage(lambda: upstream.closed)
    (ended,) = [each for each in chat.sessions("ada") if each["sessionId"] == "lost"]
    assert ended["reason"] == "disconnect"
    assert kept.outcome is None


def test_it_must_be_clear_which_application_is_meant(upstream: Instant, tmp_path: Any) -> None:
    chat = ChatProxy()
    with pytest.raises(RuntimeError, match="app_context"):
        chat.start(HELLO)
    apps = []
    for name in ("one", "two"):
        apps.append(app := Flask(name))
        app.config.update(DEEPSEEK_BASE_URL="http://127.0.0.1:9", CHATPROXY_RUN_DIR=str(tmp_path))
        chat.init_app(app)
    with pytest.raises(RuntimeError, match="app_context"):
        chat.start(HELLO)
    with apps[1].app_context():
        assert chat.start(HELLO).read() == "Hello"


@pytest.mark.parametrize("names", [[], ["other"]], ids=["no run", "another"])
def test_a_run_that_nobody_can_have_is_not_found(
    chat: ChatProxy, app: Flask, upstream: Instant, names: list[str]
) -> None:
    for name in names:
        chat.run(name)(fail)
    for path, fields in (("/api/chat/runs/none", {}), ("/api/chat/stream", {"model": "run:none"})):
        got = app.test_client().post(path, json={**HELLO, **fields}, headers={"X-Session-Id": "s"})
        assert got.status_code == 404
        assert got.get_json()["code"] == "model_not_found"
    assert upstream.asked == []


# ---- no call begins after a Stop -----------------------------------------------------------------


@pytest.mark.usefixtures("_close_races")
def test_nothing_begins_after_a_stop_whenever_that_comes(
    chat: ChatProxy, upstream: Instant
) -> None:
    """Any schedule: each run does some of what it can, in threads, until it is stopped."""
    dice = random.Random(20)
    late: list[str] = []
    upstream.says = lambda asked: None if asked == "silence" else [say("x")]

    def act(run: Run, seed: int, depth: int = 0) -> None:
        own = random.Random(seed)
        steps: list[Callable[[], object]] = [
            lambda: run.ask(question("x")).read(),
            lambda: run.ask(question("silence")),
            lambda: run.emit("step", own.random()),
            lambda: run.spawn(act, run, own.randrange(1 << 30), depth + 1),
            lambda: run.sleep(own.random() / 1000),
            run.check,
        ]
        for _ in range(own.randrange(1, 6)):
            time.sleep(own.random() / 1000)  # it does not listen
            was_stopped, step = run.stopped, own.randrange(6)
            if step != 3 or depth < 3:
                steps[step]()
                late.extend([f"step {step} of {run.session_id}"] * was_stopped)

    chat.run("act")(lambda run, payload: act(run, payload["seed"]))
    for number in range(200):
        payload = {**HELLO, "model": "run:act", "seed": dice.randrange(1 << 30)}
        with chat.start(payload, session_id=f"s{number}") as got:
            time.sleep(dice.choice([0, 0, 0.0002, 0.001, 0.003]))
            receipt = got.cancel()
            assert receipt is None or receipt.upstream_closed
    assert late == []
