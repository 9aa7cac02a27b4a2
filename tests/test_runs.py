"""A Stop ends whatever a run waits for, in every phase, and its receipt lists each call."""

import signal
import time

import pytest

from .support.phases import PHASES
from .support.runs import FUNCTIONS
from .support.servers import Proxy, events, new_id
from .support.waiting import wait_for

#: A run's own request is in each phase, but it is not tried again, a keep-alive is a line like any
#: other, and a slow client is nothing to it. What it asks an upstream is a call like any other.
OF_A_CALL = ("resolving", "queued", "between_retries", "mid_stream", "client_does_not_read")
NOT_OF_A_REQUEST = {"queued", "between_retries", "client_does_not_read"}
REACHED = [
    *(("gunicorn", phase, "ask") for phase in OF_A_CALL),
    *(("gunicorn", phase, "request") for phase in PHASES if phase not in NOT_OF_A_REQUEST),
    ("gunicorn", "mid_stream", "closing_request"),
    ("werkzeug", "silent_mid_stream", "closing_request"),
    *(("werkzeug", phase, "ask") for phase in ("before_headers", "mid_stream")),
    *(("werkzeug", phase, "request") for phase in ("resolving", "tls_handshake", "mid_stream")),
]
#: What waits for no call of its own.
WITHOUT_CALLS = [name for name, (_, calls, _) in FUNCTIONS.items() if not calls]


def assert_stopped(proxy, session_id, receipt, run):
    """What is true whatever it has waited for."""
    _, calls, left_behind = FUNCTIONS[run]
    assert receipt["upstreamClosed"] is True
    assert receipt["stopMs"] < 1000
    assert len(receipt["calls"]) == calls
    assert all(each["closed"] for each in receipt["calls"])
    assert sorted(receipt["leftBehind"]) == left_behind
    line = proxy.closing_line(session_id)
    assert "outcome=stopped" in line
    assert f" calls={calls} " in f"{line} "


@pytest.mark.parametrize(("server", "phase", "run"), REACHED)
def test_a_stop_ends_a_call_of_a_run_in_every_phase(reach, server, phase, run):
    with reach(phase, server, run) as stream:
        stopped_at = time.monotonic()
        status, receipt = stream.proxy.cancel(stream.id)
        assert status == 200
        assert_stopped(stream.proxy, stream.id, receipt, run)
        begun = run == "request" and phase == "silent"  # its head has come
        assert receipt["calls"][0]["phase"] == ("streaming" if begun else PHASES[phase])
        entry = stream.upstream_gone()
        if entry and entry["peer_gone_mono"]:
            assert entry["peer_gone_mono"] - stopped_at < 1
        _, body = stream.client.read_answer()
        assert events(body)[-2]["event"] == "stopped"


@pytest.fixture
def runs(kind, start_proxy, deepseek):
    """chatproxy with the runs of the tests, waiting for little."""
    return start_proxy(kind, deepseek.url, TEST_RUNS=1, CHATPROXY_RUN_GRACE=0.2)


@pytest.mark.parametrize("run", WITHOUT_CALLS)
def test_a_stop_ends_a_run_that_waits_for_no_call(runs, run):
    session_id = new_id()
    client = runs.start(session_id, f"runs/{run}")
    if FUNCTIONS[run][2]:  # a Stop before that would find nothing to leave behind
        client.read_until(b"event: begun")
    else:
        runs.wait_for_phase(session_id, "waiting")
    status, receipt = runs.cancel(session_id)
    assert status == 200
    assert_stopped(runs, session_id, receipt, run)
    assert events(client.read_answer()[1])[-2]["event"] == "stopped"


def begin_both(proxy, deepseek):
    """A run that waits for two answers and a request of its own, all at once."""
    session_id = new_id()
    simulate = {"tag": session_id, "rate": 20, "tokens": 10_000}
    client = proxy.start(session_id, "runs/both", simulate=simulate)
    client.read_until(b"id: 3\n")
    wait_for(lambda: [bool(each["tokens"]) for each in deepseek.entries(session_id)] == [True] * 3)
    return session_id, client


def assert_all_gone(deepseek, tag):
    deepseek.gone(tag)
    assert len(deepseek.entries(tag)) == 3
    for entry in deepseek.entries(tag):
        assert entry["peer_gone_at"] is not None


def test_a_stop_ends_all_that_a_run_waits_for_at_once(runs, deepseek):
    session_id, _ = begin_both(runs, deepseek)
    _, receipt = runs.cancel(session_id)
    assert_stopped(runs, session_id, receipt, "both")
    assert {each["name"] for each in receipt["calls"]} == {"deepseek-flash", "POST 127.0.0.1"}
    assert_all_gone(deepseek, session_id)


def test_so_does_a_client_that_leaves(runs, deepseek):
    session_id, client = begin_both(runs, deepseek)
    client.leave()
    assert "outcome=stopped" in runs.closing_line(session_id)
    assert_all_gone(deepseek, session_id)


def test_and_so_do_the_deadline_and_a_shutdown(deepseek, logs):
    settings = {"TEST_RUNS": 1, "CHATPROXY_DEADLINE": 2, "CHATPROXY_GRACE": 0.1}
    with Proxy("gunicorn", deepseek.url, logs("runs"), **settings) as proxy:
        late, client = begin_both(proxy, deepseek)
        assert b'"reason":"deadline"' in client.read_answer()[1]
        assert_all_gone(deepseek, late)
        session_id, client = begin_both(proxy, deepseek)
        proxy.process.send_signal(signal.SIGTERM)
        assert b'"reason":"shutdown"' in client.read_answer()[1]
        assert_all_gone(deepseek, session_id)
        proxy.process.wait(20)
