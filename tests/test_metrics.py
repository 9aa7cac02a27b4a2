"""The metrics: what each signal counts, and that the sums over all workers are right."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import chatproxy
from chatproxy import ConfigError, create_app, signals
from chatproxy.answers.session import Outcome, Phase, Reason
from chatproxy.errors import UpstreamError
from chatproxy.observability.counters_by_name import MOST_NAMES
from chatproxy.observability.families import BY_UPSTREAM, FAMILIES, UPSTREAM_CODES
from chatproxy.observability.metrics import Metrics, init_app

from .support.another import Another
from .support.counting import answer, close, new_app, open_session, scraped, stop
from .support.servers import ROOT
from .support.sessions import new_session
from .support.waiting import at_once

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]
CALLS = "upstream_calls_total"


@pytest.fixture(autouse=True)
def _without_a_directory_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


def numbers(text: str) -> Numbers:
    """Every sample in an exposition, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def all_of(source: Flask | Numbers) -> Numbers:
    return numbers(scraped(source)) if isinstance(source, Flask) else source


def value(source: Flask | Numbers, name: str, **labels: str) -> float:
    return all_of(source)[f"chatproxy_{name}", frozenset(labels.items())]


def nonzero(source: Flask | Numbers, name: str) -> dict[str, float]:
    """The series of a metric that have counted something, by their labels' values."""
    return {
        " ".join(text for _, text in sorted(labels)): number
        for (metric, labels), number in all_of(source).items()
        if metric == f"chatproxy_{name}" and number
    }


def test_everything_is_there_from_the_start_and_is_zero() -> None:
    found = numbers(scraped(new_app()))
    assert {name for name, _ in found} == {
        "chatproxy_info",
        "chatproxy_sessions_live",
        "chatproxy_sessions_total",
        *(f"chatproxy_stop_seconds_{part}" for part in ("bucket", "count", "sum")),
        "chatproxy_cancels_total",
        *(f"chatproxy_first_event_seconds_{part}" for part in ("bucket", "count", "sum")),
        "chatproxy_events_total",
        "chatproxy_received_bytes_total",
        "chatproxy_tokens_total",
        "chatproxy_saved_tokens_total",
        "chatproxy_cost_total",
        "chatproxy_upstream_errors_total",
        "chatproxy_peer_requests_total",
        "chatproxy_early_cancels_forgotten_total",
        "chatproxy_requests_unfinished_total",
        "chatproxy_records_total",
    }
    assert {number for (name, _), number in found.items() if name != "chatproxy_info"} == {0}
    assert value(found, "info", version=chatproxy.__version__) == 1
    assert not [labels for _, labels in found if "other" in dict(labels).values()]


def test_an_answer_is_live_from_its_claim_to_its_end() -> None:
    app = new_app()
    for number, session in ((2, open_session(app)), (1, open_session(app))):
        assert value(app, "sessions_live") == number
        close(app, session)
    assert value(app, "sessions_live") == 0
    assert value(app, "first_event_seconds_count") == 0  # no event came


def test_an_answer_that_ended_is_counted_with_all_that_came() -> None:
    app = new_app()
    answer(app, events=3)
    answer(app, events=4)
    found = numbers(scraped(app))
    assert nonzero(found, "sessions_total") == {"finished streaming none": 2}
    assert value(found, "events_total") == 7
    assert value(found, "received_bytes_total") == 700
    assert value(found, "first_event_seconds_count") == 2
    assert value(found, "first_event_seconds_sum") == pytest.approx(0.6)
    assert value(found, "first_event_seconds_bucket", le="0.25") == 0
    assert value(found, "first_event_seconds_bucket", le="0.5") == 2


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("phase", Phase)
def test_a_stopped_answer_says_where_and_why(phase: Phase, reason: Reason) -> None:
    app = new_app()
    session = open_session(app)
    session.phase = phase
    session.cancel(reason)
    close(app, session)
    expected = {f"stopped {phase.value} {reason.value}": 1}
    assert nonzero(app, "sessions_total") == expected


@pytest.mark.parametrize("phase", Phase)
def test_a_failed_answer_says_where_and_by_which_error(phase: Phase) -> None:
    """And an error that nobody knows has no name, as it might be an id or an owner's."""
    app = new_app()
    for code in ("upstream_busy", "session_of_ada"):
        session = open_session(app)
        session.phase = phase
        session.refusal = UpstreamError("Ada's secret.", code=code)
        close(app, session, Outcome.FAILED)
    found = numbers(scraped(app))
    assert nonzero(found, "sessions_total") == {f"failed {phase.value} none": 2}
    assert nonzero(found, "upstream_errors_total") == {"upstream_busy": 1, "other": 1}
    assert "ada" not in scraped(app).lower()


def test_a_stop_is_counted_with_its_time_by_who_had_to_be_asked() -> None:
    """A bucket holds its bound, and all below."""
    app = new_app()
    for seconds in (0.0004, 0.001, 0.0011, 2.0, 2.1):
        stop(app, seconds)
    stop(app, 0.0011, by="peer")
    signals.cancel_answered.send(app, result="not_found", by="self", seconds=None)
    found = numbers(scraped(app))
    assert nonzero(found, "cancels_total") == {
        "self stopped": 5,
        "peer stopped": 1,
        "self not_found": 1,
    }
    assert value(found, "stop_seconds_count", by="self") == 5
    assert value(found, "stop_seconds_sum", by="peer") == 0.0011
    bounds = {"0.0005": 1, "0.001": 2, "0.0025": 3, "1.0": 3, "2.0": 4, "+Inf": 5}
    counts = {le: value(found, "stop_seconds_bucket", by="self", le=le) for le in bounds}
    assert counts == bounds


def test_requests_to_other_workers_forgotten_stops_and_unfinished_requests_are_counted() -> None:
    """A request that no application has had is one of each."""
    app, other = new_app(), new_app()
    signals.peer_asked.send(app, operation="take", result="ok")
    signals.peer_asked.send(app, operation="ask", result="unavailable")
    signals.cancel_forgotten.send(app)
    signals.request_unfinished.send(app, part="body", why="timeout")
    signals.request_unfinished.send(other, part="body", why="timeout")
    signals.request_unfinished.send(None, part="head", why="room")
    found = numbers(scraped(app))
    assert nonzero(found, "peer_requests_total") == {"take ok": 1, "ask unavailable": 1}
    assert value(found, "early_cancels_forgotten_total") == 1
    assert nonzero(found, "requests_unfinished_total") == {"body timeout": 1, "head room": 1}


def test_what_nobody_has_foreseen_is_one_series_more_and_no_other() -> None:
    app = new_app()
    before = len(numbers(scraped(app)))
    for number in range(20):
        signals.peer_asked.send(app, operation=f"operation-{number}", result="ok")
    found = numbers(scraped(app))
    assert value(found, "peer_requests_total", operation="other", result="other") == 20
    assert len(found) == before + 1


def test_calls_are_counted_for_the_upstream_that_was_asked_last() -> None:
    """Those of a run, too, and each try that was passed on for the one that failed."""
    app, caller = new_app(), object()
    app.extensions["chatproxy"].metrics.watch(caller)
    assert nonzero(app, CALLS) == {}
    answer(app, upstream="first")
    told = {"reason": "", "following": "second", "pause": 0.0}
    signals.try_failed.send(caller, session=None, upstream="first", **told)
    signals.try_failed.send(object(), session=None, upstream="of another", **told)
    call = new_session()
    call.upstream = "second"
    call.end(Outcome.FAILED)
    signals.call_ended.send(app, call=call)
    signals.call_ended.send(app, call=object())  # a request of the run's own
    close(app, open_session(app))  # it has asked nobody
    assert nonzero(app, CALLS) == {"finished first": 1, "passed_on first": 1, "failed second": 1}
    seconds = nonzero(app, "upstream_first_event_seconds_sum")
    assert seconds == {"first": pytest.approx(0.1)}


def test_the_calls_of_an_upstream_are_summed_over_workers_that_agree_on_nothing(
    tmp_path: Path,
) -> None:
    """Each worker has met them in an order of its own, and one has met none."""
    workers = [new_app(directory=tmp_path) for _ in range(3)]
    for worker, names in zip(workers, (("one", ".."), ("..", "zwei/2", "one")), strict=False):
        for name in names:
            answer(worker, upstream=name)
    sums = {"finished one": 2, "finished ..": 2, "finished zwei/2": 1}
    assert [nonzero(worker, CALLS) for worker in workers] == [sums] * 3
    assert {each.name for each in tmp_path.iterdir()} == {"chatproxy-chat"}


def test_every_worker_tells_the_same_sums_to_the_last_digit(tmp_path: Path) -> None:
    """A sum that is a little less in another order would look like a counter that began anew."""
    workers = [new_app(directory=tmp_path) for _ in range(3)]
    for worker, seconds in zip(workers, (0.1, 0.2, 0.3), strict=True):
        stop(worker, seconds)
    assert {value(each, "stop_seconds_sum", by="self") for each in workers} == {0.6}


def test_upstreams_beyond_a_number_are_counted_together(tmp_path: Path) -> None:
    one, two = (new_app(directory=tmp_path) for _ in range(2))
    for number in range(MOST_NAMES):
        answer((one, two)[number % 2], upstream=f"upstream-{number}")
    for number in range(5):
        answer(one, upstream=f"more-{number}")
        answer(two, upstream="upstream-0")
    found = nonzero(one, CALLS)
    assert len(found) == MOST_NAMES + 1
    assert (found["finished other"], found["finished upstream-0"]) == (5, 6)
    assert found == nonzero(two, CALLS)


def test_each_code_of_an_upstream_error_has_its_series() -> None:
    codes = {UpstreamError.code}
    sources = [path.read_text() for path in Path(chatproxy.__file__).parent.rglob("*.py")]
    for source in sources:
        for node in ast.walk(ast.parse(source if "UpstreamError(" in source else "")):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "UpstreamError":
                given = {each.arg: each.value for each in node.keywords}
                if isinstance(code := given.get("code"), ast.Constant):
                    codes.add(str(code.value))
    assert codes == set(UPSTREAM_CODES)


def test_two_applications_in_one_process_have_each_their_own(tmp_path: Path) -> None:
    """Also where they share a directory."""
    for directory in (None, tmp_path):
        one, two = new_app("one", directory), new_app("two", directory)
        answer(one)
        answer(one)
        answer(two)
        assert value(one, "events_total") == 6
        assert value(two, "events_total") == 3


@pytest.mark.parametrize("name", ["..", "a/b", "\N{GREEK SMALL LETTER ALPHA}"])
def test_the_name_of_an_application_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    answer(new_app(name, tmp_path / "metrics"))
    assert [each.name for each in tmp_path.iterdir()] == ["metrics"]
    assert len(list((tmp_path / "metrics").glob("chatproxy-*/*"))) == 1


def test_no_number_is_lost_between_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread writes at a time, so that no older numbers come after newer ones."""
    writing = threading.Lock()
    overlaps = []

    def slow(*given: Any) -> int:
        alone = writing.acquire(blocking=False)
        overlaps.append(not alone)
        time.sleep(0.001)
        if alone:
            writing.release()
        return pwrite(*given)

    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", slow)
    app = new_app(directory=tmp_path)
    at_once(*[lambda: [stop(app, 0.01) for _ in range(20)]] * 4)
    assert not any(overlaps)
    assert value(app, "stop_seconds_count", by="self") == 80


def test_what_cannot_be_counted_is_logged_and_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = new_app()
    signals.stream_opened.send(app)
    signals.peer_asked.send(app)
    signals.cancel_answered.send(app, result=None, by=[], seconds="long")
    assert len(caplog.records) == 2
    assert value(app, "sessions_live") == 1


def no_directory() -> str:
    raise RuntimeError("The run directory cannot be used.")


@pytest.mark.parametrize("directory", ["/dev/null/metrics", no_directory])
def test_without_a_directory_that_works_each_worker_counts_by_itself(
    directory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(directory=directory)
    answer(app)
    answer(app)
    assert value(app, "events_total") == 6
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_operators_directory_goes_before_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "operator"))
    answer(new_app(directory=tmp_path / "ours"))
    assert [each.name for each in tmp_path.iterdir()] == ["operator"]


def test_the_directory_may_be_made_after_the_application_and_is_for_its_owner_alone(
    tmp_path: Path,
) -> None:
    known: list[Path] = []
    app = new_app(directory=lambda: known[0])
    known.append(tmp_path)
    answer(app)
    (file,) = tmp_path.glob("*/*-0")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


#: Tells the sums each time it has done what a line says: "a b" calls ``a(app)``, then ``b(app)``.
WORKER = """
import json, sys
from tests.support.counting import ACTIONS, new_app, scraped
app = new_app(directory=sys.argv[1])
for line in sys.stdin:
    for action in line.split():
        ACTIONS[action](app)
    print(json.dumps(scraped(app)), flush=True)
"""


class Worker(Another):
    """A process that sends signals when it is told to."""

    def __init__(self, directory: Path | str) -> None:
        super().__init__(WORKER, directory, prepared="threads")

    def heard(self) -> Numbers:
        """What it scrapes when it is done."""
        return numbers(json.loads(self.read()))

    def do(self, *actions: str) -> Numbers:
        """Tell it, and wait until it is done."""
        self.tell(" ".join(actions))
        return self.heard()


Start = Callable[[], Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers of one application."""
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(tmp_path))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("chatproxy-*/*"))


def test_each_worker_tells_the_sums_over_all_and_has_a_file_of_its_own(
    start: Start, tmp_path: Path
) -> None:
    workers = [start() for _ in range(4)]
    for worker in workers:
        worker.tell("open answer stop")  # all at once
    for worker in workers:
        worker.heard()
    for worker in workers:
        found = worker.do()
        assert value(found, "sessions_live") == 4
        assert value(found, "events_total") == 12
        assert value(found, "stop_seconds_count", by="self") == 4
        assert value(found, "stop_seconds_sum", by="self") == pytest.approx(0.04)
        assert value(found, "stop_seconds_bucket", by="self", le="0.01") == 4
        assert value(found, "stop_seconds_bucket", by="self", le="0.005") == 0
    assert len(files(tmp_path)) == 4


def test_a_killed_worker_takes_its_live_answers_along_and_the_next_one_counts_on(
    start: Start, tmp_path: Path
) -> None:
    """Nothing goes backwards, gauges begin at zero, and the files stay as few as the workers."""
    one, two = start(), start()
    one.do("open", "open", "answer", "stop")
    assert value(two.do("open", "answer"), "sessions_live") == 3
    for number in range(3):
        one.kill()
        found = two.do()
        assert value(found, "sessions_live") == 1
        assert value(found, "events_total") == 6 + 3 * number
        assert value(found, "stop_seconds_count", by="self") == 1
        one = start()
        found = one.do("open", "answer")
        assert value(found, "sessions_live") == 2
        assert value(found, "events_total") == 9 + 3 * number
        assert len(files(tmp_path)) == 2


def test_a_fork_counts_for_itself(start: Start) -> None:
    """As where the application is made, or has even counted, before its server forks."""
    worker = start()
    found = worker.do("answer-in-a-child", "open", "answer-in-a-child", "open-in-a-child")
    assert value(found, "events_total") == 6
    assert value(found, "sessions_live") == 1
    assert value(worker.do("answer"), "events_total") == 9


def test_without_a_directory_a_fork_does_not_count_what_its_parent_did() -> None:
    worker = Worker("")
    assert value(worker.do("answer", "answer-alone-in-a-child"), "events_total") == 3
    worker.kill()


def test_no_scrape_ever_sees_a_counter_go_backwards(start: Start) -> None:
    """While workers come, count, and are killed at any moment."""
    watcher, seen = start(), 0.0
    for _ in range(3):
        victim = start()
        victim.tell("answer " * 2000)
        before = seen
        while seen == before:
            now = value(watcher.do(), "events_total")
            assert now >= seen
            seen = now
        victim.kill()
    assert value(watcher.do(), "events_total") >= seen


@pytest.mark.parametrize("size", [0, 1, 80])
def test_a_file_that_is_not_complete_counts_nothing(tmp_path: Path, size: int) -> None:
    """As that of a worker which has only just made it."""
    answer(new_app(directory=tmp_path))
    (file,) = files(tmp_path)
    file.with_name(file.name.replace("-0", "-9")).write_bytes(b"\1" * size)
    assert value(new_app(directory=tmp_path), "events_total") == 3


def test_the_numbers_of_another_layout_are_left_alone(tmp_path: Path) -> None:
    answer(new_app(directory=tmp_path))
    (file,) = files(tmp_path)
    kept = file.rename(file.with_name("00000000-0"))
    before = kept.read_bytes()
    assert value(new_app(directory=tmp_path), "events_total") == 0
    assert kept.read_bytes() == before


@pytest.mark.parametrize("accept", [None, "application/openmetrics-text;version=new"])
def test_prometheus_and_who_asks_strangely_get_a_text_form(accept: str | None) -> None:
    headers = {"Accept": accept} if accept else {}
    answered = new_app().test_client().get("/metrics", headers=headers)
    assert answered.status_code == 200
    assert answered.headers["Cache-Control"] == "no-store"
    if accept is None:
        assert answered.content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_who_asks_for_openmetrics_gets_that() -> None:
    app = new_app()
    answer(app)
    stop(app, 0.01)
    answered = app.test_client().get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain"}
    )
    assert answered.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {
        each.name: each for each in openmetrics.text_string_to_metric_families(answered.text)
    }
    assert families["chatproxy_stop_seconds"].unit == "seconds"
    assert families["chatproxy_received_bytes"].unit == "bytes"


def test_the_path_is_the_applications_choice() -> None:
    app = Flask("chat")
    app.extensions["chatproxy"] = SimpleNamespace(metrics=Metrics(app))
    init_app(app, "/internal/numbers")
    assert app.test_client().get("/internal/numbers").status_code == 200
    assert app.test_client().get("/metrics").status_code == 404


def test_an_application_without_chatproxy_has_no_metrics() -> None:
    with pytest.raises(RuntimeError, match="ChatProxy must be set up"):
        init_app(Flask("chat"))


def test_without_prometheus_client_it_counts_and_the_route_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("chat")
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "prometheus_client", None)
        app.extensions["chatproxy"] = SimpleNamespace(metrics=Metrics(app))
        answer(app)
        assert caplog.text == ""
        with pytest.raises(ConfigError, match=r"pip install 'chatproxy\[metrics\]'"):
            init_app(app)
    init_app(app)
    assert value(app, "events_total") == 3


def test_the_standalone_server_runs_without_prometheus_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    app = create_app({"DEEPSEEK_BASE_URL": "http://127.0.0.1:1"})
    assert app.test_client().get("/metrics").status_code == 404
    assert "There is no /metrics: " in caplog.text


def test_a_registry_of_the_applications_own_can_have_them() -> None:
    app = new_app()
    registry = CollectorRegistry()
    registry.register(app.extensions["chatproxy"].metrics)
    answer(app)
    assert numbers(generate_latest(registry).decode()) == numbers(scraped(app))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Metrics(Flask("another")))


def test_the_application_can_still_choose_prometheus_clients_mode() -> None:
    """It is fixed by the first import, so that must not be ours; counting needs none."""
    assert Another(_COUNTING, prepared="threads").rest() == "False\n"


_COUNTING = """
import sys
from flask import Flask
from chatproxy import ConfigError, create_app, signals
from chatproxy.observability.metrics import Metrics
app = Flask("chat")
metrics = Metrics(app)
signals.cancel_forgotten.send(app)
print("prometheus_client" in sys.modules)
"""


DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
DOCUMENT = ROOT / "docs" / "metrics.md"

#: What Prometheus adds to every series.
_TARGET_LABELS = {"job", "instance"}
_SELECTOR = re.compile(r"\b(chatproxy_\w+)(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@functools.cache
def known_labels() -> dict[str, set[str]]:
    """The labels of every name that can be asked for."""
    app = new_app()
    answer(app, upstream="DeepSeek")
    found: dict[str, set[str]] = {}
    for name, labels in numbers(scraped(app)):
        found.setdefault(name, set()).update(dict(labels))
    return found


def unknown(expression: str) -> set[str]:
    """The names and labels in a PromQL expression that do not exist."""
    known = known_labels()
    wrong, allowed = set(), set(_TARGET_LABELS)
    for name, matchers in _SELECTOR.findall(expression):
        allowed |= known.get(name, set())
        if name not in known:
            wrong.add(name)
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        wrong |= used - known.get(name, set()) - _TARGET_LABELS
    for group in _GROUPING.findall(expression):
        wrong |= {label.strip() for label in group.split(",")} - allowed
    return wrong


def test_this_file_knows_a_wrong_expression() -> None:
    assert unknown("chatproxy_nothing") == {"chatproxy_nothing"}
    assert unknown('chatproxy_cancels_total{why="no"}') == {"why"}
    assert unknown("sum by (owner) (chatproxy_sessions_total)") == {"owner"}


def panels() -> list[dict[str, Any]]:
    return [each for each in json.loads(DASHBOARD.read_text())["panels"] if each["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_every_expression_of_the_dashboard_asks_for_what_exists() -> None:
    assert {each: wrong for each in expressions() if (wrong := unknown(each))} == {}


def test_the_dashboard_shows_every_metric() -> None:
    text = " ".join(expressions())
    every = (*FAMILIES, *BY_UPSTREAM)
    assert [family.name for family in every if family.name not in text] == []
    assert "chatproxy_info" in text


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """Its panels have the chosen data source, a unit, and a place of their own."""
    board = json.loads(DASHBOARD.read_text())
    assert board["schemaVersion"] >= 39
    assert board["id"] is None
    assert board["templating"]["list"][0]["type"] == "datasource"
    ids = [each["id"] for each in board["panels"]]
    assert len(ids) == len(set(ids))
    places = [tuple(each["gridPos"][key] for key in "xywh") for each in board["panels"]]
    cells = [(i, j) for x, y, w, h in places for i in range(x, x + w) for j in range(y, y + h)]
    assert len(cells) == len(set(cells))
    for panel in panels():
        for place in (panel, *panel["targets"]):
            assert place["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"]


def documented() -> dict[str, tuple[str, str, str]]:
    """The table of the document: name → type, unit, labels."""
    rows = re.findall(
        r"^\| `(chatproxy_\w+)` \| (\w+) \| (\w*) \| (.*?) \|", DOCUMENT.read_text(), re.MULTILINE
    )
    return {name: (kind, unit, labels.replace("`", "")) for name, kind, unit, labels in rows}


def test_the_document_lists_exactly_the_metrics_that_there_are() -> None:
    exposed = {
        family.name: (family.type, family.unit, ", ".join((*more, *family.labels)))
        for families, more in ((FAMILIES, ()), (BY_UPSTREAM, ("upstream",)))
        for family in families
    }
    listed = documented()
    assert listed.pop("chatproxy_info") == ("info", "", "version")
    assert listed == exposed
    assert list(listed) == list(exposed)


def test_every_expression_of_the_document_asks_for_what_exists() -> None:
    text = DOCUMENT.read_text()
    blocks = re.findall(r"```(?:promql|yaml)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "chatproxy_" in line]
    assert len(lines) >= len(FAMILIES)
    assert {each: wrong for each in lines if (wrong := unknown(each))} == {}
    told = " ".join(lines)
    assert [family.name for family in FAMILIES if family.name not in told] == []
