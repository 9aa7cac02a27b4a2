"""A gunicorn worker that has served its requests is replaced: nothing is cut, nobody refused."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from chatproxy.server.gunicorn.rotation import Rotation

from .support.cluster import children
from .support.servers import Client, data_events, events, new_id
from .support.waiting import PATIENCE, wait_for

AFTER = 5


@pytest.fixture
def signals(monkeypatch):
    """The signals that a master was sent."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_the_old_goes_only_when_the_new_is_ready(signals):
    rotation, turns = Rotation(), iter([True, True])

    def wait():
        if len(signals) == 2:
            return False  # it is this one that goes
        assert signals == [(7, signal.SIGTTIN)]
        if not next(turns, False):
            rotation.note_ready()
        return True

    assert rotation.replace(7, wait)
    assert signals == [(7, signal.SIGTTIN), (7, signal.SIGTTOU)]


def test_a_worker_that_is_told_to_stop_meanwhile_asks_for_nothing_more(signals):
    assert Rotation().replace(7, lambda: False)
    assert signals == [(7, signal.SIGTTIN)]


def test_one_worker_at_a_time_is_replaced(signals):
    """A worker is a process, and so is the lock's owner."""
    rotation = Rotation()

    def wait():
        child = os.fork()
        if not child:
            os._exit(rotation.replace(7, lambda: False))
        assert os.waitpid(child, 0)[1] == 0
        rotation.note_ready()
        return len(signals) < 2

    assert rotation.replace(7, wait)


def test_the_next_does_not_begin_before_the_one_that_goes_can_have_been_told(signals, monkeypatch):
    monkeypatch.setattr("chatproxy.server.gunicorn.rotation._TELLING_SECONDS", PATIENCE)
    rotation, tried = Rotation(), []

    def wait():
        rotation.note_ready()
        if len(signals) == 2:
            child = os.fork()
            if not child:
                os._exit(rotation.replace(7, lambda: False))
            tried.append(os.waitpid(child, 0)[1])
        return len(tried) < 3

    assert rotation.replace(7, wait)
    assert tried == [0, 0, 0]


def pid(server):
    return requests.get(f"{server.url}/pid", timeout=10).json()


def serve_until(server, condition):
    """Send requests, none of which may fail, until ``condition`` holds for the worker's pid."""
    return wait_for(lambda: (found := pid(server)) and condition(found) and found, 20)


@pytest.fixture
def rotating(own_proxy):
    """Starts a server whose workers serve few requests."""

    def start(workers, **settings):
        options = ["-w", str(workers), "--max-requests", str(AFTER)]
        return own_proxy(options=options, **settings)

    return start


def test_an_answer_runs_to_its_own_end_while_its_worker_is_replaced(rotating):
    server = rotating(1, CHATPROXY_GRACE=20)
    running = server.start(new_id(), simulate={"rate": 20, "tokens": 60})
    running.read_until(b"data:")
    before = children(server)
    serve_until(server, lambda found: found not in before)
    status, body = running.read_answer()
    assert status == 200
    assert len(data_events(body)) > 60
    assert events(body)[-1]["data"] == "[DONE]"
    assert not [each for each in events(body) if "event" in each]


def test_an_answer_of_a_worker_that_ends_can_be_read_and_stopped_on_the_next(rotating):
    """The next one serves while it runs."""
    server = rotating(1, CHATPROXY_GRACE=20)
    session_id, before = new_id(), children(server)
    running = server.start(session_id, simulate={"rate": 20, "tokens": 10_000})
    running.read_until(b"data:")
    serve_until(server, lambda found: found not in before)
    again = Client(server.port)
    again.send(b"GET /api/chat/stream/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % session_id.encode())
    again.read_until(b"id: 1\n")
    status, receipt = server.cancel(session_id)
    assert (status, receipt["upstreamClosed"]) == (200, True)
    running.read_until(b'"reason":"user"')


def test_at_the_end_of_the_grace_an_answer_is_told_that_the_server_stops(rotating):
    server = rotating(1, CHATPROXY_GRACE=0.5)
    session_id, before = new_id(), pid(server)
    running = server.start(session_id, simulate={"rate": 20, "tokens": 10_000})
    running.read_until(b"data:")
    serve_until(server, lambda found: found != before)
    _, body = running.read_answer()
    assert [each["event"] for each in events(body) if "event" in each] == ["stopped"]
    assert b'"reason":"shutdown"' in body
    assert "outcome=stopped" in server.closing_line(session_id)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_start_is_refused_while_workers_are_replaced(rotating, workers):
    """And there are as many of them afterwards as before."""
    server = rotating(workers, CHATPROXY_GRACE=20)

    def answer():
        running = server.start(new_id(), simulate={"rate": 100, "tokens": 5})
        status, body = running.read_answer()
        running.leave()
        return status, events(body)[-1]["data"]

    def hold(_number):
        found = set()
        while server.log().count("is being replaced") < 2:
            found.add(answer())
        return found

    with ThreadPoolExecutor(3) as clients:
        assert set().union(*clients.map(hold, range(3))) == {(200, "[DONE]")}
    wait_for(lambda: len(children(server)) == workers, 20, f"{workers} workers")
