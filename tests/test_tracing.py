"""Spans: one for each answer and for each call under a run, whatever becomes of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from flask import Flask
from opentelemetry import baggage, metrics, trace
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from chatproxy import Answer, ChatProxy, Run, signals, tools
from chatproxy.answers.session import Reason, StreamSession
from chatproxy.errors import UpstreamError
from chatproxy.observability import genai
from chatproxy.observability.call_trace import CallTrace
from chatproxy.observability.tracing import Tracing

from .support.instant import HELLO, Instant, say
from .support.played import DeepSeek
from .support.scripted import Scripted
from .support.waiting import PATIENCE, Background, wait_for

Chat = Callable[..., Answer]


class Spans(InMemorySpanExporter):
    """Those that have ended, and how many have begun."""

    begun = 0

    def all(self) -> dict[str, ReadableSpan]:
        """All of them by name, when none is open any more."""
        wait_for(lambda: len(self.get_finished_spans()) == self.begun, message="the last end")
        return {span.name: span for span in self.get_finished_spans()}

    def one(self) -> ReadableSpan:
        (span,) = self.all().values()
        return span


class Counting(SimpleSpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        everything.begun += 1


everything = Spans()
reader = InMemoryMetricReader()


@pytest.fixture(scope="module", autouse=True)
def _an_application_that_has_set_it_up() -> None:
    provider = TracerProvider()
    provider.add_span_processor(Counting(everything))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))


@pytest.fixture
def spans() -> Spans:
    everything.clear()
    everything.begun = 0
    return everything


@pytest.fixture
def app(app: Flask) -> Flask:
    app.config["CHATPROXY_TELEMETRY"] = "1"
    return app


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent and span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


# ---- one answer ----------------------------------------------------------------------------------


def test_an_answer_is_a_span_of_the_conventions_and_little_of_it_is_kept(
    chat: ChatProxy, upstream: Instant, spans: Spans
) -> None:
    upstream.says = lambda _: [say("Hello", id="chatcmpl-1", model="deepseek-flash-1124")]
    sessions: list[StreamSession] = []
    upstream.on_open = sessions.append
    asked = {**HELLO, "model": "deepseek-flash", "max_tokens": 50, "temperature": 1, "top_p": "x"}
    around = trace.get_current_span()
    chat.start(asked, session_id="session_1", owner="ada").wait()
    assert trace.get_current_span() is around
    span = spans.one()
    ended = sessions[0].trace
    assert isinstance(ended, CallTrace)
    assert not ended.span.is_recording()
    assert not hasattr(ended.span, "attributes")  # it is retained, and what it has told is not
    assert ended.question is None
    assert (span.name, span.kind, span.status.status_code) == (
        "chat deepseek-flash",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    found = dict(attributes_of(span))
    assert 0 <= found.pop("gen_ai.response.time_to_first_chunk") < PATIENCE
    assert json.loads(found.pop("langfuse.observation.completion_start_time"))
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "deepseek",
        "gen_ai.request.model": "deepseek-flash",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "deepseek-flash-1124",
        "gen_ai.response.finish_reasons": ("stop",),
        "server.address": "127.0.0.1",
        "server.port": 9,
        "user.id": "ada",
        "langfuse.observation.type": "generation",
        "chatproxy.session.id": "session_1",
        "chatproxy.outcome": "finished",
        "chatproxy.phase": "streaming",
        "chatproxy.events": 1,
        **genai.of_account(sessions[0].account),
    }


def silent(upstream: Instant, end: Callable[[StreamSession], object]) -> None:
    """An upstream that says nothing, while something ends the answer."""
    upstream.says = lambda _: None
    upstream.on_open = lambda session: Background(partial(end, session))


def broken(upstream: Instant, error: Exception) -> None:
    def fail(_: StreamSession) -> None:
        raise error

    upstream.on_open = fail


def stopped_for(reason: Reason) -> Callable[[Instant], None]:
    return lambda upstream: silent(upstream, lambda session: session.cancel(reason))


REFUSED = UpstreamError("DeepSeek is busy.", code="upstream_busy")
#: Why an answer is stopped although nobody wanted that: the ``error.type`` of its span.
ERRORS = {
    Reason.IDLE: "upstream_timeout",
    Reason.DEADLINE: "upstream_timeout",
    Reason.LOST: "lost",
}
#: How an answer ends: what is done, its outcome, and the ``error.type`` of its span, if any.
ENDS: dict[str, tuple[Callable[[Instant], object], str, str | None]] = {
    "finished": (lambda _: None, "finished", None),
    "no finish reason": (lambda found: setattr(found, "says", lambda _: []), "finished", None),
    **{each.value: (stopped_for(each), "stopped", ERRORS.get(each)) for each in Reason},
    "refused": (lambda found: broken(found, REFUSED), "failed", "upstream_busy"),
    "our fault": (lambda found: broken(found, ZeroDivisionError()), "failed", "upstream_failed"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_span_is_ended_in_whatever_way_its_answer_ends(
    chat: ChatProxy, upstream: Instant, spans: Spans, case: str
) -> None:
    """And only what nobody wanted is an error."""
    act, outcome, error = ENDS[case]
    status = StatusCode.ERROR if error else StatusCode.UNSET
    act(upstream)
    chat.start(HELLO).wait()
    found = attributes_of(spans.one())
    assert (found["chatproxy.outcome"], spans.one().status.status_code) == (outcome, status)
    assert found.get("error.type") == error
    tells_tokens = any(name.startswith("gen_ai.usage") for name in found)
    assert tells_tokens == (found["chatproxy.usage.source"] != "none")
    if outcome == "finished":
        assert "chatproxy.stop.reason" not in found
        return
    assert found["gen_ai.response.finish_reasons"] == ("error",)
    level = "ERROR" if error else "WARNING"
    assert found["langfuse.observation.level"] == level
    if outcome == "stopped":
        assert found["chatproxy.stop.reason"] == case
        assert 0 <= found["chatproxy.stop.duration"] < PATIENCE
        words = "stopped by user" if case == "user" else f"stopped: {case}"
        assert found["langfuse.observation.status_message"] == words


def test_an_answer_that_can_not_begin_is_ended_too(
    chat: ChatProxy, upstream: Instant, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise REFUSED

    monkeypatch.setattr(upstream, "call", refuse)
    with pytest.raises(UpstreamError):
        chat.start(HELLO)
    assert attributes_of(spans.one())["error.type"] == "upstream_busy"


def test_it_is_part_of_what_its_request_is_part_of_and_the_rest_is_part_of_it(
    app: Flask, chat: ChatProxy, upstream: Instant, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """What other instrumentations make meanwhile is beneath it, and its closing line names it."""
    caplog.set_level("INFO", "chatproxy")
    FlaskInstrumentor().instrument_app(app)
    tracer = trace.get_tracer("another")
    upstream.on_open = lambda _: tracer.start_span("request to the upstream").end()
    begun = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"X-Session-Id": "session_1", "traceparent": f"00-{begun}-00f067aa0ba902b7-01"}
    client = app.test_client()
    assert client.post("/api/chat/stream", json=HELLO, headers=headers).get_data()
    found = spans.all()
    answer, request = found["chat deepseek-flash"], found["POST /api/chat/stream"]
    assert parent_of(answer) == id_of(request)
    assert parent_of(found["request to the upstream"]) == id_of(answer)
    context = answer.get_span_context()
    assert context is not None
    assert f"{context.trace_id:032x}" == begun
    assert any(each.endswith(f" trace={begun}") for each in caplog.messages)


@pytest.mark.parametrize("is_told", [False, True])
def test_each_try_is_an_event_of_the_span_without_words_unless_they_are_asked_for(
    app: Flask, upstream: Instant, spans: Spans, is_told: bool
) -> None:
    """The words of the provider may quote what it was asked; so may those of the last failure."""
    app.config["CHATPROXY_TELEMETRY_CONTENT"] = str(int(is_told))
    words = "It can't say: Hello."

    def fail(session: StreamSession) -> None:
        told = {"code": "upstream_busy", "reason": words, "following": "second", "pause": 0.5}
        signals.try_failed.send(None, session=session, upstream="first", **told)
        raise UpstreamError(words, code="upstream_rejected")

    upstream.on_open = fail
    ChatProxy(app).start(HELLO).wait()
    (event,) = spans.one().events
    assert (event.name, dict(event.attributes or {})) == (
        "chatproxy.try_failed",
        {
            "chatproxy.upstream": "first",
            "error.type": "upstream_busy",
            "chatproxy.following": "second",
            "chatproxy.pause": 0.5,
            **({"chatproxy.reason": words} if is_told else {}),
        },
    )
    assert spans.one().status.description == (words if is_told else "upstream_rejected")


def test_a_conversation_is_what_the_client_calls_one(
    app: Flask, chat: ChatProxy, spans: Spans
) -> None:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    asked = {"id": "chat_7", "messages": [message], "trigger": "submit-message"}
    assert app.test_client().post("/api/chat", json=asked).get_data()
    found = attributes_of(spans.one())
    assert (found["gen_ai.conversation.id"], found["session.id"]) == ("chat_7", "chat_7")


def test_two_applications_tell_only_of_their_own(
    app: Flask, chat: ChatProxy, spans: Spans, tmp_path: Any
) -> None:
    other = Flask("other")
    other.config.update(app.config)
    ChatProxy(other, name="other")
    chat.run("r")(lambda run, payload: run.ask(payload).read())
    chat.start({**HELLO, "model": "run:r"}).wait()
    assert sorted(spans.all()) == ["chat deepseek-flash", "invoke_agent r"]
    assert spans.begun == 2


# ---- a run ---------------------------------------------------------------------------------------


def weather(run: Run, city: str) -> str:
    """The weather."""
    if city == "Atlantis":
        raise ValueError(city)
    if city == "nowhere":
        run.sleep(3600)
    return run.http.get(f"{city}/now", timeout=PATIENCE).text


@pytest.fixture
def site() -> Iterator[Scripted]:
    def serve(connection: Any, _body: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsunny")

    with Scripted(serve) as site:
        yield site


def wanting(*cities: str) -> Callable[[str], list[dict[str, Any]]]:
    """Says which tools it wants, and then what it was told."""
    calls = [
        {
            "index": at,
            "id": f"c{at}",
            "function": {"name": "weather", "arguments": json.dumps({"city": city})},
        }
        for at, city in enumerate(cities)
    ]
    choice = {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    return lambda asked: [{"choices": [choice]}] if asked == "Hello" else [say(asked)]


def ask_with_tools(run: Run, payload: dict[str, Any]) -> Any:
    yield from tools.ask(run, payload, [weather])


def test_calls_tools_and_requests_are_children_of_their_run(
    answer: Chat, upstream: Instant, spans: Spans, site: Scripted
) -> None:
    upstream.says = wanting(site.url)
    assert answer(ask_with_tools).read() == "sunny"
    found = spans.all()
    assert spans.begun == 5
    run, tool, request = (
        found[name] for name in ("invoke_agent run-0", "execute_tool weather", "GET 127.0.0.1")
    )
    chats = [each for each in spans.get_finished_spans() if each.name.startswith("chat ")]
    assert {parent_of(each) for each in (*chats, tool)} == {id_of(run)}
    assert parent_of(request) == id_of(tool)
    assert attributes_of(run)["gen_ai.agent.name"] == "run-0"
    reasons = {attributes_of(each)["gen_ai.response.finish_reasons"] for each in chats}
    assert reasons == {("tool_calls",), ("stop",)}
    assert attributes_of(tool)["gen_ai.tool.call.id"] == "c0"
    assert attributes_of(request)["http.response.status_code"] == 200
    for each in spans.get_finished_spans():
        assert each.status.status_code is StatusCode.UNSET


def test_a_stop_ends_all_that_is_open_under_a_run_and_is_no_error(
    answer: Chat, upstream: Instant, spans: Spans
) -> None:
    """A tool that sleeps, a request without an answer, and a call of a silent upstream."""

    def run_all(run: Run, payload: dict[str, Any]) -> Any:
        run.spawn(run.ask({"messages": [{"role": "user", "content": "?"}]}).read)
        run.spawn(run.http.get, mute.url)
        yield from tools.ask(run, payload, [weather])

    says = wanting("nowhere")
    upstream.says = lambda asked: None if asked == "?" else says(asked)
    with Scripted(lambda *_: None) as mute:
        running = answer(run_all)
        wait_for(lambda: spans.begun == 5)
        running.cancel()
    found = spans.all()
    assert {each.status.status_code for each in found.values()} == {StatusCode.UNSET}
    assert attributes_of(found["GET 127.0.0.1"])["chatproxy.outcome"] == "stopped"
    assert attributes_of(found["invoke_agent run-0"])["chatproxy.stop.reason"] == "user"
    last = [each for each in spans.get_finished_spans() if each.name.startswith("chat ")][-1]
    assert attributes_of(last)["chatproxy.outcome"] == "stopped"
    assert attributes_of(last)["chatproxy.stop.reason"] == "user"


def test_a_tool_or_a_request_that_fails_says_of_what_and_its_run_is_no_error(
    answer: Chat, upstream: Instant, spans: Spans
) -> None:
    upstream.says = wanting("Atlantis")

    def ask(run: Run, payload: dict[str, Any]) -> Any:
        with pytest.raises(OSError, match="refused"):
            run.http.get("http://127.0.0.1:1/")
        yield from ask_with_tools(run, payload)

    answer(ask).wait()
    found = spans.all()
    assert attributes_of(found["execute_tool weather"])["error.type"] == "tool_failed"
    assert attributes_of(found["GET 127.0.0.1"])["error.type"] == "ConnectionError"
    assert found["GET 127.0.0.1"].status.status_code is StatusCode.ERROR
    assert found["invoke_agent run-0"].status.status_code is StatusCode.UNSET


def test_what_follows_a_tool_is_no_part_of_it_and_a_thread_of_a_run_is_part_of_that(
    answer: Chat, spans: Spans
) -> None:
    """Also if the application calls the tool, or begins the thread, by itself."""

    def ask(run: Run, payload: dict[str, Any]) -> str:
        run.tell_tool_call("c0", "search", {})
        run.ask({"messages": [{"role": "user", "content": "?"}], "model": "within"}).read()
        run.tell_tool_result("c0", "found")
        Background(lambda: run.ask({**payload, "model": "beside"}).read()).result()
        return run.ask(payload).read()

    answer(ask).wait()
    found = spans.all()
    assert parent_of(found["chat within"]) == id_of(found["execute_tool search"])
    for name in ("chat beside", "chat deepseek-flash"):
        assert parent_of(found[name]) == id_of(found["invoke_agent run-0"])


def test_a_tool_that_begins_after_the_end_is_ended_at_once(
    answer: Chat, spans: Spans, upstream: Instant
) -> None:
    """By code that was left behind."""
    runs: list[Run] = []
    answer(lambda run, _payload: runs.append(run)).wait()
    late = {"call_id": "c0", "name": "late", "arguments": None}
    signals.tool_begun.send(within=runs[0]._session.trace, **late)
    assert sorted(spans.all()) == ["execute_tool late", "invoke_agent run-0"]


# ---- what is told of it --------------------------------------------------------------------------

SECRETS = ("What I ask", "What it says", "What it thinks", "What a tool gets", "What it gives")


@pytest.mark.parametrize("is_told", [False, True])
def test_what_is_said_is_told_only_if_that_is_asked_for(
    app: Flask, upstream: Instant, spans: Spans, is_told: bool
) -> None:
    if is_told:
        app.config["CHATPROXY_TELEMETRY_CONTENT"] = "1"
    asked, said, thought, given, result = SECRETS
    choice = {"index": 0, "delta": {"reasoning_content": thought, "content": said}}
    upstream.says = lambda _: [{"choices": [{**choice, "finish_reason": "stop"}]}]
    chat = ChatProxy(app)

    def ask(run: Run, payload: dict[str, Any]) -> str:
        run.tell_tool_call("c0", "search", given)
        run.tell_tool_result("c0", result)
        return run.ask({**payload, "model": "m"}).read()

    chat.run("r")(ask)
    chat.start({"messages": [{"role": "user", "content": asked}], "model": "run:r"}).wait()
    all_of_them = json.dumps([dict(attributes_of(each)) for each in spans.all().values()])
    assert [secret in all_of_them for secret in SECRETS] == [is_told] * len(SECRETS)
    if is_told:
        found = attributes_of(spans.all()["chat m"])
        assert json.loads(found["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": asked}]}
        ]
        assert json.loads(found["gen_ai.output.messages"]) == [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": thought},
                    {"type": "text", "content": said},
                ],
                "finish_reason": "stop",
            }
        ]


def head_of_the_request(played: DeepSeek, tmp_path: Any, **settings: str) -> str:
    """Of one that has come with baggage."""
    app = Flask(f"app{len(settings)}")
    app.config.update(
        DEEPSEEK_BASE_URL=played.url, CHATPROXY_RUN_DIR=str(tmp_path / app.name), **settings
    )
    token = contexts.attach(baggage.set_baggage("user", "ada"))
    answer = ChatProxy(app).start(HELLO)
    contexts.detach(token)
    peer = played.accept()
    head, _body = peer.request()
    answer.cancel()
    return head


def test_an_upstream_hears_of_the_trace_only_if_that_is_asked_for(
    played: DeepSeek, tmp_path: Any, spans: Spans
) -> None:
    """Otherwise the request is the same to the byte."""
    off = head_of_the_request(played, tmp_path)
    assert head_of_the_request(played, tmp_path, CHATPROXY_TELEMETRY="1") == off
    settings = {"CHATPROXY_TELEMETRY": "1", "CHATPROXY_PROPAGATE_TRACE": "1"}
    told = head_of_the_request(played, tmp_path, **settings)
    spans.all()
    context = spans.get_finished_spans()[-1].get_span_context()
    assert context is not None
    (line,) = set(told.split("\r\n")) - set(off.split("\r\n"))
    assert line.startswith(f"traceparent: 00-{context.trace_id:032x}-{context.span_id:016x}-")


def test_no_text_from_outside_keeps_spans_from_being_sent(
    app: Flask, upstream: Instant, spans: Spans
) -> None:
    """Half a surrogate pair, which UTF-8 can't have, loses all spans that are sent with it."""
    app.config["CHATPROXY_TELEMETRY_CONTENT"] = "1"
    half = "half \ud83d"
    chunk = {"choices": [{"index": 0, "delta": {"content": half}, "finish_reason": half}]}
    upstream.says = lambda _: [{"id": half, "model": half, **chunk}]
    chat = ChatProxy(app)

    @chat.run("r")
    def ask(run: Run, payload: dict[str, Any]) -> None:
        run.tell_tool_call(half, half, {half: half})
        run.tell_tool_result(half, half)
        with pytest.raises(OSError, match="refused"):
            run.http.request(half, "http://127.0.0.1:1/")
        run.ask({"messages": [{"role": "user", "content": half}]}).read()

    chat.start({**HELLO, "model": "run:r"}, owner=half).wait()
    assert len(spans.all()) == 4
    sent = encode_spans(spans.get_finished_spans()).SerializeToString()
    assert sent.count(b"half ?") > 10


RECEIVERS = [name for name in vars(Tracing) if re.match("_.*_(begun|ended|closed|failed)$", name)]


@pytest.mark.parametrize("failing", [["_take_question"], RECEIVERS])
def test_what_fails_in_tracing_fails_no_answer(
    app: Flask, upstream: Instant, spans: Spans, monkeypatch: pytest.MonkeyPatch, failing: list[str]
) -> None:
    app.config["CHATPROXY_TELEMETRY_CONTENT"] = "1"

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    for name in failing:
        monkeypatch.setattr(Tracing, name, fail)
    chat = ChatProxy(app)
    chat.run("r")(ask_with_tools)
    upstream.says = wanting("Atlantis")
    assert chat.start({**HELLO, "model": "run:r"}).read() == "Error: The tool failed."
    if failing != RECEIVERS:
        spans.all()  # they have ended all the same


def points() -> Iterator[tuple[str, dict[str, Any], int]]:
    """Each series: its name, its labels, and its value or how often it was observed."""
    data = reader.get_metrics_data()
    for resource in () if data is None else data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    amount = getattr(point, "value", None) or getattr(point, "count", 0)
                    yield metric.name, dict(point.attributes or {}), int(amount)


def test_what_is_counted_is_told_as_metrics(
    chat: ChatProxy, upstream: Instant, spans: Spans
) -> None:
    """Each answer once, with the labels of ``/metrics``; each call by the GenAI conventions."""

    def counts() -> Counter[str]:
        found = Counter[str]()
        for name, labels, amount in points():
            said = [labels[each] for each in ("outcome", "code") if each in labels]
            found[" ".join([name, *said])] += amount
        return found

    before = counts()
    for _ in range(3):
        chat.start(HELLO).wait()
    broken(upstream, UpstreamError("No.", code="of_a_new_kind"))
    chat.start(HELLO).wait()
    spans.all()
    counted = counts()
    counted.subtract(before)
    assert counted["chatproxy.sessions finished"] == 3
    assert counted["chatproxy.events"] == 3
    assert counted["chatproxy.sessions_live"] == 0
    assert counted["chatproxy.first_event"] == 3
    assert counted["chatproxy.upstream_errors other"] == 1
    assert counted["gen_ai.client.operation.duration"] == 4


def test_clients_can_not_make_any_number_of_series(chat: ChatProxy, spans: Spans) -> None:
    for number in range(60):
        chat.start({**HELLO, "model": f"of-a-client-{number}"}).wait()
    spans.all()
    models = {
        labels["gen_ai.request.model"]
        for name, labels, _ in points()
        if name == "gen_ai.client.operation.duration"
    }
    assert len([each for each in models if each.startswith("of-a-client-")]) == 50
    assert "other" in models
