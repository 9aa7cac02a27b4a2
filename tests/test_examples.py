"""The examples: each does what it says, and a Stop in its middle ends all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask import Flask

from chatproxy.testing import DeepSeek, StopReachesUpstream, wait_for
from examples import rag, saved_answers, side_by_side, tool_loop

from .support.servers import ROOT, clean_environment, events, mute_listener
from .support.valkey import Valkey
from .support.waiting import Background

Make = Callable[..., Flask]

pytestmark = pytest.mark.usefixtures("_plain_environment")


@pytest.fixture
def make(simulated_deepseek: DeepSeek, tmp_path: Path) -> Make:
    def make(example: ModuleType, **config: Any) -> Flask:
        settings = {"CHATPROXY_RUN_DIR": str(tmp_path / "run")}
        app: Flask = example.create_app({**simulated_deepseek.settings, **settings, **config})
        return app

    return make


def ask(app: Flask, path: str, text: str = "Hello", **fields: Any) -> list[dict[str, str]]:
    """The events of an answer."""
    asked = {"messages": [{"role": "user", "content": text}], **fields}
    response = app.test_client().post(path, json=asked, headers={"X-Session-Id": "session_1"})
    assert response.status_code == 200, response.text
    return events(response.data)


def told(answer: list[dict[str, str]], name: str) -> list[Any]:
    return [json.loads(each["data"]) for each in answer if each.get("event") == name]


def test_each_is_in_the_list() -> None:
    text = (ROOT / "examples" / "README.md").read_text()
    files = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
    assert [name for name in files if f"[{name}]({name})" not in text] == []


def test_an_answer_from_the_passages_that_fit(
    make: Make, simulated_deepseek: DeepSeek, stop_reaches_upstream: StopReachesUpstream
) -> None:
    app, path = make(rag), "/api/chat/runs/library"
    answer = ask(app, path, 'Which Prometheus metrics and "alerts" are there for Grafana?')
    sources = told(answer, "source")
    assert sources[0]["file"] == "metrics.md"
    [question] = simulated_deepseek.questions
    passages = question["messages"][0]["content"]
    assert f"[metrics.md: {sources[0]['heading']}]" in passages
    assert question["messages"][1]["content"].startswith("Which Prometheus")
    assert told(ask(make(rag), path, "?!"), "source") == []
    stop_reaches_upstream(app, path)


def test_a_tool_and_a_stop_while_it_waits(make: Make, simulated_deepseek: DeepSeek) -> None:
    call = {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}
    simulated_deepseek.simulate(tool_calls=[call], text="Bring a coat.")
    with mute_listener() as service:
        url = "http://{}:{}/".format(*service.getsockname())
        app = make(tool_loop, WEATHER_URL=url)

        def begin() -> Any:
            answer = Background(lambda: ask(app, "/api/chat/runs/assistant"))
            connection = service.accept()[0]
            assert b"GET /?city=Oslo&days=2 " in connection.recv(65536)
            return answer, connection

        answer, connection = begin()
        with connection:
            body = b'{"snow": "2 m"}'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            [result] = told(answer.result(), "tool-result")
        assert result["output"] == {"snow": "2 m"}
        assert simulated_deepseek.questions[1]["messages"][-1]["content"] == '{"snow":"2 m"}'
        app = make(tool_loop, WEATHER_URL=url)
        answer, connection = begin()
        with connection:
            receipt = app.test_client().post("/api/chat/cancel/session_1").get_json()
            assert connection.recv(1) == b""
        calls = [(call["name"], call["closed"]) for call in receipt["calls"]]
        assert calls == [("deepseek-flash", True), ("GET 127.0.0.1", True)]
        assert receipt["leftBehind"] == []
        assert answer.result()[-2]["event"] == "stopped"
    assert len(simulated_deepseek.questions) == 3  # none after the Stop


def test_two_models_side_by_side(
    make: Make, simulated_deepseek: DeepSeek, stop_reaches_upstream: StopReachesUpstream
) -> None:
    app, path = make(side_by_side), "/api/chat/runs/both"
    pieces = told(ask(app, path), "piece")
    for model in side_by_side.MODELS:
        text = "".join(piece["text"] for piece in pieces if piece["model"] == model)
        assert text == "This is a simulated answer."
    receipt = stop_reaches_upstream(app, path, answers=2)
    assert {call["name"] for call in receipt["calls"]} == set(side_by_side.MODELS)


def test_the_text_so_far_is_saved(
    make: Make,
    tmp_path: Path,
    simulated_deepseek: DeepSeek,
    stop_reaches_upstream: StopReachesUpstream,
) -> None:
    app = make(saved_answers, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/db")
    db, message = saved_answers.db, saved_answers.Message

    def saved(count: int) -> list[Any]:
        def look() -> list[Any]:
            db.session.rollback()
            found = db.session.scalars(db.select(message).order_by(message.id)).all()
            return [(m.conversation, m.role, m.text, m.outcome) for m in found]

        return wait_for(lambda: len(look()) == count and look())

    with app.app_context():
        ask(app, "/api/chat/stream", conversation="c1")
        assert saved(2) == [
            ("c1", "user", "Hello", None),
            ("c1", "assistant", "This is a simulated answer.", "finished"),
        ]
        assert "conversation" not in simulated_deepseek.questions[0]
        stop_reaches_upstream(app)
        *_, (conversation, _, text, outcome) = saved(4)
        assert (conversation, outcome) == (None, "stopped")
        assert text.startswith("This is")
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def celery_task(
    simulated_deepseek: DeepSeek, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The example, with a Celery worker."""
    pytest.importorskip("celery")
    command = [sys.executable, "-m", "celery", "--app", "examples.celery_task:queue", "worker"]
    options = ["--concurrency=1", "--without-gossip", "--without-mingle", "--loglevel=INFO"]
    log = tmp_path / "log"
    with Valkey() as valkey:
        valkey.settle("celery_task")
        settings = {
            "BROKER": valkey.url,
            "DEEPSEEK_BASE_URL": simulated_deepseek.url,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        example = import_module("examples.celery_task")
        environment = clean_environment(**settings, PYTHONPATH=ROOT)
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [*command, *options], cwd=tmp_path, env=environment, stdout=output, stderr=output
            )
        try:
            wait_for(lambda: " ready." in log.read_text(), 60)
            yield example
            worker.terminate()
            assert worker.wait(20) == 0
        finally:
            worker.kill()
            worker.wait()
            example.app.extensions["chatproxy"].registry.close()
            print(log.read_text())


@pytest.mark.slow
def test_a_celery_task_is_read_and_stopped_in_the_web_application(
    celery_task: Any, stop_reaches_upstream: StopReachesUpstream
) -> None:
    app = celery_task.app
    question = {"topic": "Stop buttons"}
    receipt = stop_reaches_upstream(
        app, "/reports/report_1", json=question, session_id="report_1", within=5.0
    )
    assert receipt["events"] >= 3
    read = app.test_client().get("/api/chat/stream/report_1")
    assert events(read.data)[-2]["event"] == "stopped"
