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
from .test_run_dir_lost import stop_without_a_guess

#: Seconds in which all must be well again after Valkey's return, on a loaded machine.
MENDED_SECONDS = 15
#: Longer than anybody waits for a Valkey that does not answer.
OUTAGE_SECONDS = 4


class Hosts:
    """Two servers, and the Valkey between them, which can be broken in some way."""

    def __init__(self, valkey, forwarder, servers):
        self.servers = servers
        self.workers = servers.workers
        self._ways = {
            "kill": (valkey.kill, valkey.start),
            "freeze": (valkey.freeze, valkey.thaw),
            "cut": (forwarder.cut, forwarder.restore),
        }

    def break_(self, way):
        self._ways[way][0]()

    def mend(self, way):
        self._ways[way][1]()


@contextlib.contextmanager
def started(deepseek, logs, folder, workers=1, **settings):
    """Hosts of so many workers each."""
    with Valkey() as valkey, Forwarder(valkey.port) as forwarder:
        valkey.settle("chatproxy")
        settings = {
            "CHATPROXY_TOKENS": cluster.tokens("ada"),
            "CHATPROXY_MAX_SESSIONS_PER_OWNER": 1000,
            "CHATPROXY_PEERS": f"redis://127.0.0.1:{forwarder.port}/0",
            **settings,
        }
        sizes = {"servers": 2, "workers": workers}
        with cluster.start("gunicorn", deepseek, logs, folder, **sizes, **settings) as servers:
            yield Hosts(valkey, forwarder, servers)


@pytest.fixture(scope="module")
def hosts(deepseek, logs, tmp_path_factory):
    """Two workers on each; each test leaves them with a Valkey that is there."""
    with started(deepseek, logs, tmp_path_factory.mktemp("r"), workers=2) as hosts:
        yield hosts


def begins(worker):
    stream = worker.start(new_id(), rate=0, tokens=1)
    body = stream.read()
    return stream.status == 200 and body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("way", ["kill", "freeze", "cut"])
def test_while_valkey_is_away_nothing_is_guessed_and_all_is_well_after_it(hosts, deepseek, way):
    here, _, there, _ = hosts.workers
    mine, another, watched = begin(here), begin(here), begin(here)
    hosts.break_(way)
    for session_id in (another.id, new_id()):
        begun = time.monotonic()
        status, body = there.cancel(session_id)
        assert time.monotonic() - begun < 4
        assert (status, body["success"]) == (503, False)
    refused = there.start(new_id())
    assert (refused.status, b'"peers_unavailable"' in refused.read()) == (503, True)
    status, receipt = here.cancel(mine.id)
    assert (status, receipt["upstreamClosed"]) == (200, True)
    assert deepseek.gone(mine.id)
    watched.read_event()
    hosts.mend(way)
    stop_without_a_guess(there, another.id)
    assert deepseek.gone(another.id)
    for worker in hosts.workers:
        wait_for(lambda w=worker: begins(w), MENDED_SECONDS, "a new stream")
    watched.read_event()
    assert there.cancel(watched.id)[0] == 200


def test_a_storm_with_seconds_without_valkey(hosts, deepseek):
    """200: it is closed. 404: nothing lives. 503: ask again. And in the end nothing runs on."""
    dice, over, ended = random.Random(10), threading.Event(), []

    def live(number):
        mine = hosts.workers[number % 4]
        worker = cluster.Worker(mine.proxy, mine.pid)
        while not over.is_set():
            stream = worker.start(new_id(), **cluster.ENDLESS)
            stream.connection.sock.settimeout(60)
            if stream.status == 200:
                over.wait(dice.random() / 2)
                proxy = dice.choice(hosts.servers.proxies)
                answer = cluster.stop_anywhere(proxy, stream.id, seconds=30)
                if answer[0] == 404:
                    # A Stop that was told 503 may have arrived after all.
                    assert deepseek.entries(stream.id)[-1]["peer_gone_at"] is not None
                ended.append((stream.id, answer, stream.read()))
            else:
                assert stream.status == 503
                assert b'"peers_unavailable"' in stream.read()
                over.wait(0.2)

    def wait_for_more():
        before = len(ended)
        wait_for(lambda: len(ended) > before + 12, MENDED_SECONDS, "more Stops")

    with ThreadPoolExecutor(6) as pool:
        lives = [pool.submit(live, number) for number in range(6)]
        try:
            wait_for_more()
            hosts.break_("cut")
            time.sleep(OUTAGE_SECONDS)
            hosts.mend("cut")
            wait_for(lambda: begins(hosts.workers[0]), MENDED_SECONDS)
            wait_for_more()
        finally:
            over.set()
        for life in lives:
            life.result()
    assert sum(status == 200 for _, (status, _), _ in ended) > 12
    for session_id, (status, receipt), body in ended:
        assert b"event: stopped" in body
        if status == 200:
            assert receipt["upstreamClosed"] is True
            assert receipt["events"] == len(data_events(body))
        for entry in deepseek.entries(session_id):
            assert entry["peer_gone_at"] is not None
    for proxy in hosts.servers.proxies:
        proxy.wait_until_empty()
        assert "Traceback" not in proxy.log()


def test_where_that_is_wished_streams_begin_while_valkey_is_away(deepseek, logs, tmp_path):
    with started(deepseek, logs, tmp_path, CHATPROXY_WITHOUT_PEERS="run") as hosts:
        here, there = hosts.workers
        hosts.break_("kill")
        mine, another = begin(here), begin(here)
        assert there.cancel(another.id)[0] == 503
        assert here.cancel(mine.id)[0] == 200
        hosts.mend("kill")
        stop_without_a_guess(there, another.id)
        assert deepseek.gone(another.id)


def test_a_killed_worker_is_given_up_when_its_lease_is_over(deepseek, logs, tmp_path):
    with started(deepseek, logs, tmp_path, CHATPROXY_LEASE=3) as hosts:
        victim, there = hosts.workers
        lost = begin(victim)
        os.kill(victim.pid, signal.SIGKILL)
        deepseek.gone(lost.id)
        statuses = []

        def given_up():
            statuses.append(there.cancel(lost.id)[0])
            return statuses[-1] == 404

        wait_for(given_up, 15, "the end of the lease")
        assert set(statuses[:-1]) <= {503}
