"""``chatproxy.testing``: the fixtures that an application's own tests have."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

from chatproxy import ChatProxy, Receipt
from chatproxy.testing import DeepSeek, StopReachesUpstream
from chatproxy.testing import deepseek as waiting

from .support.guides import files_in
from .support.instant import HELLO
from .support.servers import ROOT, clean_environment


@pytest.fixture
def app(simulated_deepseek: DeepSeek, tmp_path: Path) -> Iterator[Flask]:
    """An application with two runs; what is left of its answers is ended after the test."""
    app = Flask("tested")
    app.config.update(simulated_deepseek.settings, CHATPROXY_RUN_DIR=str(tmp_path))
    app.config["CHATPROXY_RUN_GRACE"] = 0.05
    chat = app.extensions["chat"] = ChatProxy(app)
    chat.run("one")(lambda run, payload: run.ask(payload))

    @chat.run("two")
    def two(run: Any, payload: Any) -> None:
        for _ in range(2):
            run.spawn(run.ask(payload, show=False).read)

    yield app
    for session in app.extensions["chatproxy"].registry.live():
        app.extensions["chatproxy"].service.cancel_session(session)


# ---- deepseek ------------------------------------------------------------------------------------


def ask(app: Flask, session_id: str = "s", **simulate: Any) -> str:
    asked = {**HELLO, "simulate": simulate} if simulate else HELLO
    headers = {"X-Session-Id": session_id}
    response = app.test_client().post("/api/chat/stream", json=asked, headers=headers)
    return response.get_data(as_text=True)


def test_it_answers_as_it_is_told_and_tells_what_it_saw(
    app: Flask, simulated_deepseek: DeepSeek
) -> None:
    simulated_deepseek.simulate(text="Always")
    simulated_deepseek.simulate_next(text="First")
    simulated_deepseek.simulate_next(text="Second")
    for number, text in enumerate(["First", "Second", "Always", "Always"]):
        assert f'"content":"{text}"' in ask(app, str(number))
    assert '"content":"Own"' in ask(app, "own", text="Own")
    with simulated_deepseek.simulating(text="Within"):
        assert '"content":"Within"' in ask(app, "within")
    assert '"content":"Always"' in ask(app, "again")
    assert simulated_deepseek.questions[0]["messages"][0]["content"] == "Hello"
    assert "simulate" not in simulated_deepseek.questions[0]
    assert [each["finished"] for each in simulated_deepseek.requests] == [True] * 7
    # A process that counts tokens would outlive the test.
    assert simulated_deepseek.settings["CHATPROXY_TOKENIZER"] == "none"
    assert simulated_deepseek.connections["accepted"] >= 1


def test_nothing_that_the_environment_names_is_reached(
    simulated_deepseek: DeepSeek, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a developer's environment has it, whose ``.env`` is that of the real server."""
    (tmp_path / "upstreams.toml").write_text(
        """
        [upstreams.real]
        base_url = "http://127.0.0.1:9"
        api_key_env = "REAL_KEY"
        [models]
        deepseek-flash = ["real"]
        """
    )
    for name, value in {
        "REAL_KEY": "sk-real",
        "CHATPROXY_UPSTREAMS": f"{tmp_path}/upstreams.toml",
        "CHATPROXY_RECORDS": f"sqlite:///{tmp_path}/records.db",
        "CHATPROXY_CONVERSATIONS": "1",
        "CHATPROXY_TOKENS": "ann:0123456789abcdef",
        "CHATPROXY_RUN_DIR": f"{tmp_path}/run",
        "CHATPROXY_PEERS": "redis://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    app = Flask("tested")
    app.config.update(simulated_deepseek.settings)
    ChatProxy(app)
    assert '"content":"This"' in ask(app)
    assert [each.name for each in tmp_path.iterdir()] == ["upstreams.toml"]


def test_it_forgets_the_test_before(app: Flask, simulated_deepseek: DeepSeek) -> None:
    assert simulated_deepseek.questions == simulated_deepseek.requests == []
    assert '"content":"This"' in ask(app)


def test_what_it_can_not_do_is_refused_where_it_is_said(simulated_deepseek: DeepSeek) -> None:
    for say in (simulated_deepseek.simulate, simulated_deepseek.simulate_next):
        with pytest.raises(ValueError, match="no field 'txt'"):
            say(txt="Hello")


# ---- stop_reaches_upstream -----------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["waiting", "thinking", "streaming"])
@pytest.mark.parametrize("path", ["/api/chat/stream", "/api/chat/runs/one"])
def test_a_stop_reaches_the_upstream(
    app: Flask, stop_reaches_upstream: StopReachesUpstream, path: str, phase: str
) -> None:
    receipt = stop_reaches_upstream(app, path, phase=phase)
    assert receipt["success"] is True
    assert receipt["phase"] == ("waiting" if phase == "waiting" else "streaming")


def test_so_it_does_in_every_protocol_from_python_and_for_two_answers_of_a_run_at_once(
    app: Flask, stop_reaches_upstream: StopReachesUpstream
) -> None:
    parts = [{"type": "text", "text": "Hello"}]
    asked = {"id": "chat", "messages": [{"id": "m", "role": "user", "parts": parts}]}
    stop_reaches_upstream(app, "/api/chat", json=asked, stop="/api/chat/chat/stop")
    stop_reaches_upstream(app, "/v1/chat/completions", json=HELLO)
    receipt = stop_reaches_upstream(app, stop=app.extensions["chat"].cancel)
    assert receipt["upstreamClosed"] is True
    receipt = stop_reaches_upstream(app, "/api/chat/runs/two", answers=2)
    assert len(receipt["calls"]) == 2


def test_a_client_in_a_with_that_has_logged_in(
    app: Flask, stop_reaches_upstream: StopReachesUpstream
) -> None:
    app.before_request(lambda: None if request.cookies.get("user") else ("No.", 401))
    with app.test_client() as client:
        client.set_cookie("user", "ann")
        stop_reaches_upstream(client)
        assert client.get("/nothing").status_code == 404
    with pytest.raises(AssertionError, match="did not begin the answer: 401: No"):
        stop_reaches_upstream(app)


def test_a_server_by_its_address(app: Flask, stop_reaches_upstream: StopReachesUpstream) -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        stop_reaches_upstream(url)
        with pytest.raises(AssertionError, match="did not begin the answer: 404"):
            stop_reaches_upstream(url, "/api/chat/runs/none")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lie(_session_id: str) -> Receipt:
    return Receipt("s", "streaming", upstream_closed=True, stop_ms=1.0, events=0)  # type: ignore[arg-type]


def test_a_stop_that_does_not_reach_it_is_one_sentence(
    app: Flask, stop_reaches_upstream: StopReachesUpstream
) -> None:
    app.post("/stop")(lambda: jsonify(success=True))
    for stop, sentence in (
        ("/nothing", "The Stop was answered with 404"),
        ("/stop", "The Stop was answered without a receipt"),
        (lambda _: None, "There was nothing to stop"),
        (lie, "0.05 s after the Stop DeepSeek's answer still goes on"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            stop_reaches_upstream(app, stop=stop, within=0.05)


def test_a_run_that_ignores_it_is_one_sentence(
    app: Flask, stop_reaches_upstream: StopReachesUpstream
) -> None:
    go_on = threading.Event()

    def deaf(run: Any, payload: Any) -> None:
        run.ask(payload)
        go_on.wait(10)

    app.extensions["chat"].run("deaf")(deaf)
    with pytest.raises(AssertionError, match="Code of the run was left behind"):
        stop_reaches_upstream(app, "/api/chat/runs/deaf")
    go_on.set()


@pytest.mark.parametrize("when", ["before the Stop is answered", "at any time after it"])
def test_an_answer_that_goes_on_with_another_question_is_one_sentence(
    app: Flask,
    simulated_deepseek: DeepSeek,
    stop_reaches_upstream: StopReachesUpstream,
    when: str,
) -> None:
    """As one does that is made by calls which know nothing of one another."""
    app.post("/own")(lambda: [ask(app, f"again-{number}") for number in range(2)])

    def stop(_session_id: str) -> Receipt | None:
        receipt: Receipt | None = app.extensions["chat"].cancel("again-0")
        if when == "before the Stop is answered":
            simulated_deepseek.wait_for(lambda each: each["open"])
        return receipt

    with pytest.raises(AssertionError, match="A question was sent after the Stop"):
        stop_reaches_upstream(app, "/own", stop=stop)


def test_another_upstream_is_one_sentence(
    app: Flask, stop_reaches_upstream: StopReachesUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.1)
    app.post("/own")(lambda: "Hello")
    with pytest.raises(AssertionError, match="Is the application's upstream another"):
        stop_reaches_upstream(app, "/own")
    with pytest.raises(AssertionError, match="was not asked for 2 answers at once"):
        stop_reaches_upstream(app, answers=2)


# ---- as others use it ----------------------------------------------------------------------------

#: The application of docs/testing.md.
MYAPP = """
from flask import Flask
from chatproxy import ChatProxy, stream_ended

chat = ChatProxy()
kept = []

@chat.prepare
def prepare(payload):
    payload["messages"].insert(0, {"role": "system", "content": "Be brief."})

@chat.run("research")
def research(run, payload):
    run.ask(payload, show=False, name="plan").read()
    yield from run.ask(payload, name="answer")

def keep(app, *, text, **_):
    kept.append(text)

def create_app(config=None):
    app = Flask(__name__)
    app.config.from_mapping(config)
    chat.init_app(app)
    stream_ended.connect(keep, app)
    return app
"""


@pytest.mark.slow
def test_the_guide_says_what_is_so(tmp_path: Path) -> None:
    """Its files are the tests of an application, whose environment has a key and another URL."""
    for name, text in files_in("docs/testing.md").items():
        (tmp_path / name).write_text(text)
    (tmp_path / "myapp.py").write_text(MYAPP)
    real = {"DEEPSEEK_API_KEY": "sk-real", "DEEPSEEK_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "chatproxy.testing"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env=clean_environment(**real, PYTHONPATH=ROOT),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout


def test_to_load_it_costs_nothing() -> None:
    """It is loaded in the tests of everybody who has both installed."""
    code = "m = sys.modules; had = {*m}; import chatproxy.testing; print(sorted({*m} - had))"
    command = [sys.executable, "-c", f"import pytest, sys; {code}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "['chatproxy', 'chatproxy.testing']\n"
