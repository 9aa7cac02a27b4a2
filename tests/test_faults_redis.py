"""What holds over several hosts while the Valkey that they share is killed, frozen or cut off."""

import contextlib
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .support import cluster
from .support.cluster import begin
from .support.servers import data_events, new_id
from .support.valkey import Forwarder, Valkey
from .support.waiting import wait_for

#: Seconds in which all must be well again after Valkey's return, on a loaded machine.
MENDED_SECONDS = 15


class Hosts:
    """Two servers of two workers, and the Valkey between them, which can be broken in some way."""

    def __init__(self, valkey, forwarder, servers):
        self.valkey = valkey
        self.forwarder = forwarder
        self.servers = servers
        self.workers = servers.workers

    def break_(self, way):
        {"kill": self.valkey.kill, "freeze": self.valkey.freeze, "cut": self.forwarder.cut}[way]()

    def mend(self, way):
        mends = {
            "kill": self.valkey.start,
            "freeze": self.valkey.thaw,
            "cut": self.forwarder.restore,
        }
        mends[way]()


@pytest.fixture
def start(deepseek, logs, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(**settings):
            valkey = stack.enter_context(Valkey())
            forwarder = stack.enter_context(Forwarder(valkey.port))
            valkey.settle("chatproxy")
            settings = {
                "CHATPROXY_TOKENS": cluster.tokens("ada"),
                "CHATPROXY_MAX_SESSIONS_PER_OWNER": 1000,
                "CHATPROXY_PEERS": f"redis://127.0.0.1:{forwarder.port}/0",
                **settings,
            }
            sizes = {"servers": 2, "workers": 2}
            servers = cluster.start("gunicorn", deepseek, logs, tmp_path, **sizes, **settings)
            return Hosts(valkey, forwarder, stack.enter_context(servers))

        yield start


def begins(worker):
    stream = worker.start(new_id(), rate=0, tokens=1)
    body = stream.read()
    return stream.status == 200 and body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("way", ["kill", "freeze", "cut"])
def test_while_valkey_is_away_nothing_is_guessed_and_all_is_well_after_it(start, deepseek, way):
    hosts = start()
    here, _, there, _ = hosts.workers
    mine, another, watched = begin(here), begin(here), begin(here)
    hosts.break_(way)

    def stop_elsewhere(session_id):
        begun = time.monotonic()
        answer = there.cancel(session_id)
        assert time.monotonic() - begun < 4
        return answer

    for session_id in (another.id, new_id()):
        status, body = stop_elsewhere(session_id)
        assert (status, body["success"]) == (503, False)
    refused = there.start(new_id())
    assert (refused.status, b'"peers_unavailable"' in refused.read()) == (503, True)
    status, receipt = here.cancel(mine.id)
    assert (status, receipt["upstreamClosed"]) == (200, True)
    assert deepseek.gone(mine.id)
    watched.read_event()
    hosts.mend(way)

    def well():
        status, body = there.cancel(another.id)
        assert status != 404, "a live session was said not to be there"
        return status == 200 and body["upstreamClosed"]

    wait_for(well, MENDED_SECONDS, "a Stop from the other host")
    assert deepseek.gone(another.id)
    for worker in hosts.workers:
        wait_for(lambda w=worker: begins(w), MENDED_SECONDS, "a new stream")
    watched.read_event()
    assert there.cancel(watched.id)[0] == 200
    for proxy in hosts.servers.proxies:
        assert "Traceback" not in proxy.log()


def test_where_that_is_wished_streams_begin_while_valkey_is_away(start, deepseek):
    hosts = start(CHATPROXY_WITHOUT_PEERS="run")
    here, _, there, _ = hosts.workers
    hosts.break_("kill")
    mine, another = begin(here), begin(here)
    assert there.cancel(another.id)[0] == 503
    assert here.cancel(mine.id)[0] == 200
    hosts.mend("kill")

    def stopped():
        status, _ = there.cancel(another.id)
        assert status != 404
        return status == 200

    wait_for(stopped, MENDED_SECONDS, "a Stop from the other host")
    assert deepseek.gone(another.id)


def test_a_killed_worker_is_given_up_when_its_lease_is_over(start, deepseek):
    hosts = start(CHATPROXY_LEASE=3)
    victim, _, there, _ = hosts.workers
    lost = begin(victim)
    os.kill(victim.pid, signal.SIGKILL)
    deepseek.gone(lost.id)
    statuses = []

    def given_up():
        statuses.append(there.cancel(lost.id)[0])
        return statuses[-1] == 404

    wait_for(given_up, 15, "the end of the lease")
    assert set(statuses[:-1]) <= {503}


def test_a_storm_with_ten_seconds_without_valkey(start, deepseek):
    """200: it is closed. 404: nothing lives. 503: ask again. And in the end nothing runs on."""
    hosts = start()
    dice = random.Random(10)
    over = threading.Event()

    def live(number):
        results = []
        while not over.is_set():
            worker = cluster.Worker(hosts.workers[number % 4].proxy, hosts.workers[number % 4].pid)
            stream = worker.start(new_id(), **cluster.ENDLESS)
            stream.connection.sock.settimeout(60)
            if stream.status == 200:
                over.wait(dice.random())
                proxy = dice.choice(hosts.servers.proxies)
                answer = cluster.stop_anywhere(proxy, stream.id, seconds=30)
                if answer[0] == 404:
                    # A Stop that was told 503 may have arrived after all.
                    assert deepseek.entries(stream.id)[-1]["peer_gone_at"] is not None
                results.append((stream.id, answer, stream.read()))
            else:
                assert stream.status == 503
                assert b'"peers_unavailable"' in stream.read()
                over.wait(0.2)
        return results

    with ThreadPoolExecutor(12) as pool:
        lives = [pool.submit(live, number) for number in range(12)]
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > 2)
        hosts.break_("cut")
        wait_for(lambda: time.monotonic() - begun > 12, 20)
        hosts.mend("cut")
        wait_for(lambda: begins(hosts.workers[0]), MENDED_SECONDS)
        wait_for(lambda: time.monotonic() - begun > 16, 20)
        over.set()
        results = [each for life in lives for each in life.result()]
    assert sum(status == 200 for _, (status, _), _ in results) > 30
    for session_id, (status, receipt), body in results:
        assert b"event: stopped" in body
        if status == 200:
            assert receipt["upstreamClosed"] is True
            assert receipt["events"] == len(data_events(body))
        for entry in deepseek.entries(session_id):
            assert entry["peer_gone_at"] is not None
    for proxy in hosts.servers.proxies:
        proxy.wait_until_empty()
        assert "Traceback" not in proxy.log()
    for server in hosts.servers.workers:
        server.close()
