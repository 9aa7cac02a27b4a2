"""What holds when workers are killed, frozen and reloaded, and when what they share is broken."""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from .support import cluster
from .support.cluster import begin
from .support.servers import Proxy, events, new_id
from .support.waiting import wait_for

#: So slow that many of them leave the machine to what is tested.
SLOW = {"rate": 2}
#: What a Stop may take that can't be answered: two seconds, and what a loaded machine adds.
HONEST_SECONDS = 3.5


@pytest.fixture
def start(deepseek, logs, tmp_path):
    """Starts servers of its own for the test."""
    usual = {
        "CHATPROXY_TOKENS": cluster.tokens("ada"),
        "CHATPROXY_MAX_SESSIONS_PER_OWNER": 1000,
    }
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            cluster.start("gunicorn", deepseek, logs, tmp_path, **usual, **settings)
        )


def test_a_killed_worker_takes_its_sessions_along_and_nothing_else(start, deepseek):
    """Another can use their ids, unless they were stopped meanwhile."""
    servers = start(workers=3)
    victim, *others = servers.workers
    free, *lost = [begin(victim) for _ in range(3)]
    kept = [begin(worker) for worker in others]
    early = new_id()
    assert victim.cancel(early)[0] == 404
    os.kill(victim.pid, signal.SIGKILL)
    for stream in lost:
        deepseek.gone(stream.id)
        for worker in others:
            assert worker.cancel(stream.id)[0] == 404
    for session_id in (early, free.id):
        again = others[0].start(session_id, rate=0, tokens=1)
        assert again.status == 200
        assert again.read().endswith(b"data: [DONE]\n\n")
    for stream, worker in zip(kept, reversed(others), strict=True):
        stream.read_event()
        status, receipt = worker.cancel(stream.id)
        assert (status, receipt["upstreamClosed"]) == (200, True)
    assert len(servers.sockets()) <= 3
    names = {path.name for path in servers.sockets()}
    assert {os.readlink(link) for link in servers.links()} <= names


def metrics(proxy):
    """What a scrape of any worker tells."""
    text = requests.get(f"{proxy.url}/metrics", timeout=10).text
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_metrics_are_those_of_all_workers_the_dead_ones_too(start, deepseek):
    servers = start(workers=3)
    proxy, victim = servers.proxies[0], servers.workers[0]
    streams = [begin(worker) for worker in servers.workers for _ in range(2)]
    for stream in streams[::2]:
        assert servers.workers[1].cancel(stream.id)[0] == 200
    assert servers.workers[1].cancel(new_id())[0] == 404
    for _ in range(4):  # by whichever worker
        found = metrics(proxy)
        assert found["chatproxy_sessions_live"] == 3
        assert found["chatproxy_sessions_total stopped streaming user"] == 3
        assert found["chatproxy_cancels_total self stopped"] == 1
        assert found["chatproxy_cancels_total peer stopped"] == 2
        assert found["chatproxy_stop_seconds_count peer"] == 2
        assert found["chatproxy_first_event_seconds_count"] == 3
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(lambda: metrics(proxy)["chatproxy_sessions_live"] == 2)
    later = metrics(proxy)
    counts = {name for name in found if "_total" in name or "_count" in name}
    assert not [name for name in counts if later[name] < found[name]]


def test_a_frozen_worker_is_an_honest_503_until_it_goes_on(start, deepseek):
    servers = start(workers=3)
    frozen, *others = servers.workers
    stream, mine = begin(frozen), begin(others[0])
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        for worker in others:
            begun = time.monotonic()
            status, body = worker.cancel(stream.id)
            assert time.monotonic() - begun < HONEST_SECONDS
            assert (status, body["success"]) == (503, False)
            assert body["message"]
        assert others[1].cancel(mine.id)[0] == 200
        assert others[1].cancel(new_id())[0] == 404
        refused = others[0].start(stream.id)
        assert (refused.status, b'"peers_unavailable"' in refused.read()) == (503, True)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    wait_for(lambda: deepseek.entries(stream.id)[-1]["tokens"] > 0)
    status, _ = others[0].cancel(stream.id)
    # What was asked while it was frozen may have stopped the answer by now: then nothing lives.
    assert status in (200, 404)
    assert deepseek.gone(stream.id)


def test_a_reload_ends_no_answer_and_every_one_can_still_be_stopped(start, deepseek):
    servers = start(workers=2, CHATPROXY_GRACE=60)
    proxy = servers.proxies[0]
    old = {worker.pid for worker in servers.workers}
    streams = [begin(worker, **SLOW) for worker in servers.workers for _ in range(4)]
    finishing = [begin(worker, tokens=60) for worker in servers.workers]
    proxy.process.send_signal(signal.SIGHUP)

    def only_new_ones_answer():
        new = set(cluster.children(proxy)) - old
        asked = [cluster.who_answers(proxy) for _ in range(10)]
        return len(new) == 2 and set(asked) <= new

    wait_for(only_new_ones_answer, 40, "the new workers to take over")
    for stream in finishing:
        assert stream.read().endswith(b"data: [DONE]\n\n")
    servers.workers.extend(cluster.Worker(proxy, pid) for pid in set(cluster.children(proxy)) - old)
    new = servers.workers[2:]
    fresh = begin(new[0])
    for number, stream in enumerate([*streams, fresh]):
        status, receipt = new[number % 2].cancel(stream.id)
        assert (status, receipt["upstreamClosed"]) == (200, True)
        assert events(stream.read())[-2]["event"] == "stopped"
    for worker in servers.workers:
        worker.close()
    wait_for(lambda: not old & set(cluster.children(proxy)), 15, "the end of the old workers")
    assert "Traceback" not in proxy.log()
    assert proxy.stop() == 0
    assert servers.sockets() == servers.links() == []


def test_a_server_that_is_told_to_stop_ends_every_answer_in_its_way(start, deepseek):
    servers = start(workers=2, CHATPROXY_GRACE=4)
    proxy = servers.proxies[0]
    streams = [begin(worker, **SLOW) for worker in servers.workers for _ in range(4)]
    finishing = [begin(worker, tokens=40) for worker in servers.workers]
    proxy.process.send_signal(signal.SIGTERM)
    first, second = servers.workers

    def refuses():
        refused = first.start(new_id(), rate=0, tokens=1)
        return b'"shutting_down"' in refused.read() and refused.status == 503

    wait_for(refuses)
    wait_for(lambda: requests.get(f"{proxy.url}/readyz", timeout=5).status_code == 503)
    assert requests.get(f"{proxy.url}/healthz", timeout=5).ok
    for stopper, stream in [(second, streams[0]), (first, streams[-1])]:
        assert stopper.cancel(stream.id)[0] == 200
        stream.read()
    for stream in finishing:
        assert stream.read().endswith(b"data: [DONE]\n\n")
        assert deepseek.entries(stream.id)[-1]["finished"]
    for stream in streams[1:-1]:
        assert json.loads(events(stream.read())[-2]["data"])["reason"] == "shutdown"
        deepseek.gone(stream.id)
    for worker in servers.workers:
        worker.close()
    assert proxy.process.wait(20) == 0
    assert "Traceback" not in proxy.log()
    assert servers.sockets() == servers.links() == []


def test_two_servers_in_one_run_directory_act_as_one(start, deepseek, logs, tmp_path):
    here = start(workers=2)
    environment = {
        "CHATPROXY_TOKENS": cluster.tokens("ada"),
        "CHATPROXY_RUN_DIR": str(here.run_dirs[0]),
    }
    second = Proxy("gunicorn", deepseek.url, logs("second"), cluster.OPTIONS, **environment)
    with cluster.Cluster([second]) as there:
        (visitor,) = there.workers
        stream, other = begin(visitor), begin(here.workers[0])
        assert here.workers[1].cancel(stream.id)[0] == 200
        assert here.workers[0].start(stream.id).status == 409
        assert visitor.cancel(other.id)[0] == 200
        lost = begin(visitor)
    deepseek.gone(lost.id)
    # Until its last socket is closed a worker that dies looks like one that does not answer.
    wait_for(lambda: here.workers[0].cancel(lost.id)[0] == 404)
    begin(here.workers[1])
    assert len(here.sockets()) <= 2
    assert here.run_dirs[0].exists()


def test_what_a_killed_server_left_behind_is_cleaned_up_by_the_next(start, deepseek):
    first = start(workers=2)
    streams = [begin(worker, **SLOW) for worker in first.workers]
    with first:
        pass
    for stream in streams:
        deepseek.gone(stream.id)
    assert len(first.sockets()) == 2
    second = start(workers=1)
    begin(second.workers[0])
    assert len(second.sockets()) == 1
    assert len(second.links()) == 2  # the id, and a place of its owner
    assert second.workers[0].cancel(streams[0].id)[0] == 404


def test_stops_from_all_sides_while_workers_are_killed_are_answered_truly(start, deepseek):
    """200: it is closed. 404: nothing lives. 503: ask again."""
    servers = start(workers=4)
    proxy = servers.proxies[0]
    streams = [begin(servers.workers[number % 4], **SLOW) for number in range(32)]
    victims = servers.workers[:2]
    presses = Counter()

    def press(stream):
        presses[stream.id] += 1
        return cluster.press_stop(proxy, stream.id)

    with ThreadPoolExecutor(8) as pool:
        stops = [pool.submit(wait_for, partial(press, stream)) for stream in streams]
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        answers = [stop.result() for stop in stops]
    for number, (stream, (status, receipt)) in enumerate(zip(streams, answers, strict=True)):
        assert status in (200, 404)
        assert status == 404 or receipt["upstreamClosed"]
        # A Stop whose answer was lost with a worker may have been carried out by the holder.
        if servers.workers[number % 4] not in victims and presses[stream.id] == 1:
            assert status == 200
        deepseek.gone(stream.id, 2)
