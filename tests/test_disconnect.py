"""A client that has gone is noticed by the next heartbeat if its socket is not known, else at once.

``test_servers`` has the latter under each server.
"""

import os
import socket
import threading

import pytest

from chatproxy.server.disconnect import DisconnectWatcher

from .support.many import pair
from .support.servers import new_id
from .support.waiting import wait_for

SCENARIOS = {
    "before_headers": {"never": "headers"},
    "silent": {"never": "tokens"},
    "mid_stream": {"rate": 20, "tokens": 10_000},
}


@pytest.fixture(params=SCENARIOS)
def scenario(request):
    return SCENARIOS[request.param]


def test_noticed_by_heartbeat_where_the_socket_is_not_known(kind, scenario, start_proxy, deepseek):
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_HEARTBEAT=0.2, TEST_HIDE_SOCKET=1)
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, **scenario})
    deepseek.entry(session_id)
    client.leave()
    deepseek.gone(session_id, seconds=3)
    assert "outcome=stopped" in proxy.closing_line(session_id)
    assert proxy.lines(session_id)[0] == f"[SSE] {session_id} client disconnected"


def test_a_half_closed_client_counts_as_gone(proxy, deepseek):
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, "never": "tokens"})
    deepseek.entry(session_id)
    client.socket.shutdown(socket.SHUT_WR)
    deepseek.gone(session_id)


def test_a_client_that_sends_early_is_not_taken_for_gone(kind, start_proxy, deepseek):
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_HEARTBEAT=0.1)
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, "never": "tokens"})
    deepseek.entry(session_id)
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.read_until(b": heartbeat")
    assert session_id in proxy.live()
    client.leave()
    deepseek.gone(session_id)


@pytest.fixture
def watcher():
    return DisconnectWatcher(timeout=60)


def test_a_socket_that_the_server_closes_under_the_watch_counts_as_gone(watcher):
    """Werkzeug does so where a client resets its connection: no selector tells of it."""
    gone = threading.Event()
    with pair() as (ours, _theirs):
        watcher.watch({"werkzeug.socket": ours}, gone.set)
        ours.close()
        assert gone.wait(5)


def test_a_descriptor_that_is_used_again_is_watched_anew(watcher):
    first, second = threading.Event(), threading.Event()
    with pair() as (ours, _theirs), pair() as (other, its_peer):
        watcher.watch({"werkzeug.socket": ours}, first.set)
        descriptor = ours.detach()
        os.dup2(other.fileno(), descriptor)
        with socket.socket(fileno=descriptor) as again:
            watch = watcher.watch({"werkzeug.socket": again}, second.set)
            assert first.wait(5)
            assert not second.is_set()
            its_peer.close()
            assert second.wait(5)
            watch.stop()


def test_a_watch_that_was_stopped_is_silent(watcher):
    gone, other_gone = threading.Event(), threading.Event()
    with pair() as (ours, theirs), pair() as (other, its_peer):
        watcher.watch({"werkzeug.socket": ours}, gone.set).stop()
        theirs.close()
        watcher.watch({"werkzeug.socket": other}, other_gone.set)
        its_peer.close()
        assert other_gone.wait(5)
        assert not gone.is_set()


def test_a_callback_that_fails_does_not_end_the_watch_on_the_others(watcher, caplog):
    gone = threading.Event()

    def fail():
        raise ValueError("on purpose")

    with pair() as (ours, theirs), pair() as (other, its_peer):
        watcher.watch({"werkzeug.socket": ours}, fail)
        watcher.watch({"werkzeug.socket": other}, gone.set)
        theirs.close()
        wait_for(lambda: "on purpose" in caplog.text)
        its_peer.close()
        assert gone.wait(5)
