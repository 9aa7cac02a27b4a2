"""Readers that are slow or stalled: they hold up no other, hold no more memory than they may, and
are dropped when they take nothing at all."""

import json
import os
import re
import signal
import socket
import time

import pytest
import requests

from .support.servers import Client, Proxy, events, new_id
from .support.waiting import wait_for

#: Each event is about that large, so that a few fill the system's buffers too.
EVENT = 10_000
LONG = {"rate": 0, "text": "x" * EVENT + " ", "tokens": 400, "reasoning_tokens": 0}
ENDLESS = {**LONG, "tokens": 1_000_000}
LOG_BYTES = 200_000
#: Seconds in which a client may take nothing; short.
TIMEOUT = 1
IMPATIENT = {"CHATPROXY_READER_TIMEOUT": TIMEOUT, "CHATPROXY_LOG_BYTES": LOG_BYTES}


def read_again(port, session_id, after=None, receive_buffer=4096):
    """A further reader of an answer, that takes in little by itself."""
    client = Client(port, receive_buffer=receive_buffer)
    last = f"Last-Event-ID: {after}\r\n" if after is not None else ""
    client.send(
        f"GET /api/chat/stream/{session_id} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n".encode()
    )
    client.read_until(b"\r\n\r\n")
    return client


def numbers(body):
    return [int(number) for number in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)]


def check_told_that_events_are_gone(body):
    """It has events without a gap, each whole, then is told, and nothing more."""
    *found, last = events(body)
    assert numbers(body) == list(range(1, len(found) + 1))
    assert all(json.loads(event["data"])["choices"] for event in found)
    assert last["event"] == "error"
    error = json.loads(last["data"])["error"]
    assert error["code"] == "events_gone"
    assert error["message"] == f"The events after number {len(found)} are no longer held."
    assert b"[DONE]" not in body


def start_late(proxy, session_id, **simulate):
    """Begin an answer whose first event comes when further readers are there."""
    late = {**LONG, "tokens": 700, "first_token_delay": 1.0}
    client = proxy.start(session_id, simulate={**late, **simulate})
    wait_for(lambda: session_id in proxy.live())
    return client


def test_a_stalled_second_reader_holds_up_neither_the_first_nor_the_answer(
    kind, start_proxy, deepseek
):
    """It falls behind, and past the bound it is told."""
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_LOG_BYTES=LOG_BYTES)
    session_id = new_id()
    first = start_late(proxy, session_id)
    stalled = read_again(proxy.port, session_id)
    status, body = first.read_answer()
    assert status == 200
    assert events(body)[-1]["data"] == "[DONE]"
    assert "outcome=finished" in proxy.closing_line(session_id)
    status, body = stalled.read_answer()
    check_told_that_events_are_gone(body)
    url = f"{proxy.url}/api/chat/stream/{session_id}"
    after = str(numbers(body)[-1])
    answer = requests.get(url, headers={"Last-Event-ID": after}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (410, "events_gone")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("readers") / "run"


@pytest.fixture(scope="module")
def maker(deepseek, logs, run_dir):
    """A worker that makes answers, and waits long for a reader on the other."""
    settings = {**IMPATIENT, "CHATPROXY_READER_TIMEOUT": 1000, "CHATPROXY_RUN_DIR": run_dir}
    with Proxy("gunicorn", deepseek.url, logs("maker"), **settings) as proxy:
        yield proxy


@pytest.fixture
def other(own_proxy, run_dir):
    """Another worker beside it."""
    return own_proxy(CHATPROXY_RUN_DIR=run_dir)


def test_a_stalled_reader_on_another_worker_is_told_too(maker, other):
    session_id = new_id()
    first = start_late(maker, session_id)
    stalled = read_again(other.port, session_id)
    assert events(first.read_answer()[1])[-1]["data"] == "[DONE]"
    check_told_that_events_are_gone(stalled.read_answer()[1])
    assert "Traceback" not in maker.log() + other.log()


def test_an_answer_whose_last_reader_was_on_a_worker_that_was_killed_is_stopped(
    maker, other, deepseek
):
    """It does not go on, and cost, for as long as a reader may take nothing."""
    session_id = new_id()
    first = maker.start(session_id, simulate={"tag": session_id, "rate": 5, "tokens": 10_000})
    first.read_until(b"data:")
    read_again(other.port, session_id).read_until(b"data:")
    first.leave()
    wait_for(lambda: maker.lines(f"{session_id} client disconnected"))
    os.killpg(other.process.pid, signal.SIGKILL)
    deepseek.gone(session_id, 20)
    assert "outcome=stopped" in maker.closing_line(session_id)


def read_from_the_earliest(port, session_id, newest):
    """A further reader, from the earliest event that is still held; and the number before that."""
    for after in range(newest - 60, newest):
        client = read_again(port, session_id, max(after, 0), receive_buffer=None)
        if client.received.startswith(b"HTTP/1.1 200"):
            return client, max(after, 0)
    raise AssertionError(f"no event up to {newest} is held")


def test_a_second_reader_goes_on_where_the_first_one_is_stalled(kind, start_proxy, deepseek):
    """It becomes the one that is furthest ahead, and sets the pace."""
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_LOG_BYTES=LOG_BYTES)
    session_id = new_id()
    client = Client(proxy.port, receive_buffer=4096)
    client.post_stream(session_id, simulate={**LONG, "tokens": 700})
    seen = [0]

    def is_stalled():
        found = requests.get(f"{proxy.url}/held", timeout=10).json().get(session_id, 0)
        seen.append(found)
        return len(seen) > 20 and seen[-20] == found > 0

    wait_for(is_stalled, 20, "a stalled answer")
    second, after = read_from_the_earliest(proxy.port, session_id, seen[-1])
    body = second.read_answer()[1]
    assert events(body)[-1]["data"] == "[DONE]"
    assert numbers(body)[0] == after + 1
    check_told_that_events_are_gone(client.read_answer()[1])


# --- a client that takes nothing


@pytest.mark.parametrize("server", ["gunicorn", "gunicorn-threads", "pywsgi", "werkzeug"])
def test_a_client_that_takes_nothing_has_gone_after_a_while(server, start_proxy, deepseek):
    """Nothing of it stays, although it keeps its connection open."""
    proxy = start_proxy(server, deepseek.url, **IMPATIENT)
    proxy.start(new_id(), simulate={"rate": 0, "tokens": 1}).read_answer()
    before = proxy.resources()
    session_id = new_id()
    client = Client(proxy.port, receive_buffer=4096)
    client.post_stream(session_id, simulate={"tag": session_id, **ENDLESS})
    deepseek.gone(session_id)
    assert "outcome=stopped" in proxy.closing_line(session_id)
    assert f"[SSE] {session_id} client disconnected" in proxy.lines(session_id)

    def is_as_before():
        state = proxy.resources()
        return all(state[name] <= before[name] for name in ("descriptors", "greenlets"))

    wait_for(is_as_before, 15, "the end of whoever was blocked in writing to it")
    assert "Traceback" not in proxy.log()
    client.leave()


def test_a_client_behind_a_unix_socket_that_takes_nothing_has_gone_too(deepseek, logs, tmp_path):
    """The system's own timer for a peer that takes nothing is one of TCP alone."""
    path = str(tmp_path / "socket")
    options = ["--bind", f"unix:{path}"]
    with Proxy("gunicorn", deepseek.url, logs("unix"), options, **IMPATIENT) as proxy:
        session_id = new_id()
        client = Client(proxy.port)
        client.socket.close()
        client.socket = socket.socket(socket.AF_UNIX)
        client.socket.connect(path)
        client.post_stream(session_id, simulate={"tag": session_id, **ENDLESS})
        deepseek.gone(session_id)
        assert f"[SSE] {session_id} client disconnected" in proxy.lines(session_id)
        proxy.wait_until_empty()
        assert "Traceback" not in proxy.log()


def test_a_client_that_takes_little_at_a_time_stays(kind, start_proxy, deepseek):
    proxy = start_proxy(kind, deepseek.url, **IMPATIENT)
    session_id = new_id()
    client = Client(proxy.port, receive_buffer=4096)
    client.post_stream(session_id, simulate=LONG)
    end = time.monotonic() + 2.5 * TIMEOUT
    while time.monotonic() < end:
        client.received += client.socket.recv(4096)
        time.sleep(TIMEOUT / 10)
    assert events(client.read_answer()[1])[-1]["data"] == "[DONE]"


def test_a_client_that_has_nothing_to_take_stays(kind, start_proxy, deepseek):
    proxy = start_proxy(kind, deepseek.url, **IMPATIENT)
    simulate = {"rate": 0, "tokens": 3, "first_token_delay": 2 * TIMEOUT}
    answer = proxy.start(new_id(), simulate=simulate).read_answer()[1]
    assert events(answer)[-1]["data"] == "[DONE]"


# --- what is held of ended answers


def resident(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_slow_readers_of_ended_answers_hold_no_more_than_is_allowed(deepseek, logs):
    """10 of them ask for 8 MB each, of which the system holds 3; 9 MB may be held."""
    settings = dict.fromkeys(("CHATPROXY_LOG_BYTES", "CHATPROXY_RETAIN_BYTES"), 9_000_000)
    with Proxy("gunicorn", deepseek.url, logs("memory"), CHATPROXY_RETAIN=1, **settings) as proxy:
        pid = requests.get(f"{proxy.url}/pid", timeout=10).json()
        simulate = {"tokens": 800, "first_token_delay": 0.3}
        start_late(proxy, new_id(), **simulate).read_answer()
        before = resident(pid)
        stalled = []
        for _ in range(10):
            session_id = new_id()
            first = start_late(proxy, session_id, **simulate)
            stalled.append(read_again(proxy.port, session_id))
            assert events(first.read_answer()[1])[-1]["data"] == "[DONE]"
            first.leave()
        wait_for(lambda: resident(pid) < before + 30_000_000, 5, "no more than is allowed")
        check_told_that_events_are_gone(stalled[0].read_answer()[1])
        assert events(stalled[-1].read_answer()[1])[-1]["data"] == "[DONE]"
