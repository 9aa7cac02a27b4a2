"""A server that is told to stop lets running answers end, and can still be told to stop them."""

import json
import signal
from pathlib import Path

import pytest
import requests

from .support.servers import Proxy, chat, events, new_id
from .support.waiting import wait_for


@pytest.fixture
def start(logs, deepseek):
    """Starts a server of its own for the test."""
    running = []

    def start(kind="gunicorn", **settings):
        running.append(Proxy(kind, deepseek.url, logs("draining"), **settings))
        return running[-1]

    yield start
    for proxy in running:
        with proxy:
            pass


def _terminate(proxy):
    proxy.process.send_signal(signal.SIGTERM)
    wait_for(lambda: requests.get(f"{proxy.url}/readyz", timeout=5).status_code == 503)


def test_running_answers_may_finish_and_no_new_one_begins(start):
    proxy = start()
    client = proxy.start(new_id(), simulate={"rate": 50, "tokens": 100})
    client.read_until(b"id: 2\n")
    _terminate(proxy)
    assert requests.get(f"{proxy.url}/healthz", timeout=5).ok
    refused = requests.post(
        f"{proxy.url}/api/chat/stream",
        json=chat(),
        headers={"X-Session-Id": new_id()},
        timeout=5,
    )
    assert refused.status_code == 503
    assert refused.json()["code"] == "shutting_down"
    assert events(client.read_answer()[1])[-2]["data"].count("finish_reason") == 1
    assert proxy.stop() == 0
    assert proxy.lines("ended outcome=finished")
    assert "Traceback" not in proxy.log()


def test_stop_works_while_the_server_drains(start, deepseek):
    proxy = start()
    session_id = new_id()
    proxy.start(session_id, simulate={"tag": session_id, "never": "tokens"})
    deepseek.entry(session_id)
    _terminate(proxy)
    status, receipt = proxy.cancel(session_id)
    assert (status, receipt["upstreamClosed"]) == (200, True)
    deepseek.gone(session_id)
    assert proxy.process.wait(10) == 0


@pytest.mark.parametrize("kind", ["gunicorn", "gunicorn-threads"])
def test_what_still_runs_after_the_grace_time_is_stopped_and_told(start, deepseek, kind):
    proxy = start(kind, CHATPROXY_GRACE=0.5)
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, "rate": 20, "tokens": 10_000})
    client.read_until(b"id: 2\n")
    proxy.process.send_signal(signal.SIGTERM)
    stopped, done = events(client.read_answer()[1])[-2:]
    assert json.loads(stopped["data"])["reason"] == "shutdown"
    assert done["data"] == "[DONE]"
    deepseek.gone(session_id)
    assert proxy.process.wait(10) == 0
    assert proxy.lines(f"{session_id} ended outcome=stopped")


def test_a_server_that_exits_at_once_closes_and_logs_every_answer(start, deepseek):
    proxy = start()
    ids = [new_id() for _ in range(3)]
    for session_id in ids:
        proxy.start(session_id, simulate={"tag": session_id, "never": "tokens"})
        deepseek.entry(session_id)
    assert proxy.stop(signal.SIGINT) == 0
    for session_id in ids:
        deepseek.gone(session_id)
        assert proxy.lines(f"{session_id} ended outcome=stopped")
    assert "Traceback" not in proxy.log()


def test_the_application_can_keep_what_came_until_the_shutdown(start, deepseek, tmp_path):
    """A receiver that takes its time, as a database does, is waited for."""
    kept = tmp_path / "kept"
    proxy = start(CHATPROXY_GRACE=0.2, TEST_KEEP_IN=str(kept))
    client = proxy.start(new_id(), simulate={"rate": 50, "tokens": 10_000})
    client.read_until(b"id: 5\n")
    assert proxy.stop() == 0
    assert Path(kept).read_text().startswith("stopped amber birch")
