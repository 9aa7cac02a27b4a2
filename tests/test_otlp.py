"""The standalone server sends its spans and metrics by OTLP: a real one, to a collector."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from chatproxy.observability.otlp import SECONDS_TO_FLUSH

from .support.collector import Collector
from .support.servers import DeepSeek, Proxy, ask, new_id
from .support.waiting import PATIENCE, wait_for

Serve = Callable[..., Proxy]
#: Of a span (opentelemetry-proto, trace.proto).
UNSET, ERROR = 0, 2


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def serve(own_proxy: Serve, collector: Collector) -> Serve:
    """Starts servers that tell the collector."""
    return partial(
        own_proxy,
        CHATPROXY_TELEMETRY="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="50",
    )


#: How each server is told to end in such a way that it tells its answers.
TOLD_TO_END = {"gunicorn": signal.SIGTERM, "werkzeug": signal.SIGINT}


@pytest.mark.parametrize("kind", TOLD_TO_END)
def test_spans_are_whole_after_a_stop_and_at_the_end_of_the_server(
    serve: Serve, collector: Collector, deepseek: DeepSeek, kind: str
) -> None:
    """One that is stopped, one that is silent at the end of the server, one that ends itself."""
    server = serve(kind, CHATPROXY_GRACE="0.1")
    ended, stopped, cut = new_id(), new_id(), new_id()
    ask(server, ended, simulate={"rate": 0, "tokens": 3})
    server.start(stopped, simulate={"never": "headers", "tag": stopped})
    deepseek.entry(stopped)
    assert server.cancel(stopped)[1]["upstreamClosed"] is True
    wait_for(lambda: {ended, stopped} <= collector.spans().keys())
    server.start(cut, simulate={"rate": 5, "tokens": 1000, "tag": cut})
    server.wait_for_phase(cut, "streaming")
    server.stop(TOLD_TO_END[kind])
    found = collector.spans()
    outcomes = {each: found[each]["chatproxy.outcome"] for each in (ended, stopped, cut)}
    assert outcomes == {ended: "finished", stopped: "stopped", cut: "stopped"}
    assert found[cut]["chatproxy.stop.reason"] == "shutdown"
    assert {found[each]["status"] for each in outcomes} == {UNSET}
    assert found[stopped]["gen_ai.response.finish_reasons"] == ["error"]
    assert found[ended]["gen_ai.response.finish_reasons"] == ["stop"]
    assert server.closing_line(cut).endswith(f" trace={found[cut]['trace']}")
    assert {each["service.name"] for each in collector.resources()} == {"chatproxy"}


def test_each_worker_tells_what_it_has_counted_itself(serve: Serve, collector: Collector) -> None:
    """The instances add up to what ``/metrics`` has, which sums over the workers."""
    server = serve(options=("--workers", "2"), OTEL_METRIC_EXPORT_INTERVAL="100")
    answers = 8
    for _ in range(answers):
        assert ask(server, simulate={"rate": 0, "tokens": 2}).ok
    counted = requests.get(f"{server.url}/metrics", timeout=PATIENCE).text
    assert f'outcome="finished",phase="streaming",reason="none"}} {answers}' in counted
    wait_for(lambda: sum(collector.sums("chatproxy.sessions").values()) == answers)
    server.stop()
    assert sum(collector.sums("chatproxy.sessions").values()) == answers
    assert set(collector.sums("chatproxy.sessions_live").values()) == {0}


def test_a_collector_that_does_not_answer_delays_no_answer_no_stop_and_the_end_within_a_bound(
    serve: Serve, collector: Collector
) -> None:
    collector.answers.clear()
    server = serve()
    ask(server, simulate={"rate": 0, "tokens": 2})
    wait_for(lambda: collector.requests)
    assert ask(server, simulate={"rate": 0, "tokens": 2}).ok
    stopped = new_id()
    server.start(stopped, simulate={"never": "tokens", "tag": stopped})
    server.wait_for_phase(stopped, "waiting")
    assert server.cancel(stopped)[1]["stopMs"] < 1000
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < SECONDS_TO_FLUSH + 5


def test_the_environment_can_do_without_metrics_name_the_service_and_have_its_log_in_json(
    serve: Serve, collector: Collector
) -> None:
    """Each line of the log is an object, gunicorn's own among them."""
    environment = {"OTEL_METRICS_EXPORTER": "none", "OTEL_SERVICE_NAME": "chat"}
    server = serve("gunicorn-cold", CHATPROXY_LOG_FORMAT="json", **environment)
    session_id = new_id()
    ask(server, session_id, simulate={"rate": 0, "tokens": 2})
    wait_for(lambda: f"{session_id} ended" in server.log())
    wait_for(lambda: session_id in collector.spans())
    server.stop()
    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    assert {each["service.name"] for each in collector.resources()} == {"chat"}
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {line["logger"] for line in lines} >= {"gunicorn.error", "chatproxy"}
    (closing,) = (line for line in lines if f"{session_id} ended" in line["message"])
    assert closing["trace"] == collector.spans()[session_id]["trace"]
    assert (closing["sessionId"], closing["outcome"]) == (session_id, "finished")
