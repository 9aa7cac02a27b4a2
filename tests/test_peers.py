"""What holds on any number of workers and hosts: one suite, run by each way to find the others."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from .support import cluster
from .support.cluster import begin
from .support.servers import data_events, events, new_id
from .support.waiting import wait_for

MOST_OF_OWNER = 10


@pytest.fixture(scope="module", params=cluster.WAYS)
def workers(request, deepseek, logs, tmp_path_factory):
    """Four workers."""
    settings = {
        "CHATPROXY_TOKENS": cluster.tokens("ada", "bob", "eve"),
        "CHATPROXY_MAX_SESSIONS_PER_OWNER": MOST_OF_OWNER,
        "CHATPROXY_CONNECT_TIMEOUT": 20,
        "TEST_RUNS": 1,
    }
    folder = tmp_path_factory.mktemp("r")
    with cluster.meeting(request.param, deepseek, logs, folder, workers=4, **settings) as servers:
        yield servers.workers


@pytest.fixture(scope="module")
def pairs(workers):
    """Each worker in both parts: with itself, with one of its host, and with one of another's."""
    first, second, third, fourth = workers
    return [(first, first), (second, third), (third, fourth), (fourth, second)]


@pytest.fixture(autouse=True)
def _nothing_runs_on(workers):
    yield
    for worker in workers:
        worker.proxy.wait_until_empty()


def test_a_stop_works_from_every_worker_to_every_worker_and_a_second_finds_nothing(
    workers, pairs, deepseek
):
    for starter, stopper in pairs:
        stream = begin(starter)
        status, receipt = stopper.cancel(stream.id)
        assert status == 200, receipt
        assert receipt["success"] is receipt["upstreamClosed"] is True
        assert (receipt["sessionId"], receipt["phase"]) == (stream.id, "streaming")
        assert 0 < receipt["stopMs"] < 1000
        assert deepseek.entry(stream.id)["peer_gone_at"] is not None
        body = stream.read()
        assert events(body)[-2]["event"] == "stopped"
        assert len(data_events(body)) + 1 == receipt["events"]
        nothing = 404, {"success": False, "message": "Session not found"}
        assert [worker.cancel(stream.id) for worker in workers] == [nothing] * len(workers)
        assert len(starter.proxy.lines(f"{stream.id} aborted by client")) == 1


def test_a_stop_of_a_run_works_from_every_worker_to_every_worker(pairs, deepseek):
    for starter, stopper in pairs:
        stream = begin(starter, model="run:both")
        _, receipt = stopper.cancel(stream.id)
        assert receipt["upstreamClosed"] is True
        assert [each["closed"] for each in receipt["calls"]] == [True] * 3
        assert receipt["leftBehind"] == []
        assert deepseek.entries(stream.id)
        assert all(entry["peer_gone_at"] for entry in deepseek.entries(stream.id))


def test_of_many_stops_at_once_exactly_one_gets_the_receipt(workers):
    stream = begin(workers[0])
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda worker: worker.cancel(stream.id)[0], workers))
    assert sorted(answers) == [200] + [404] * (len(workers) - 1)


def test_a_stop_that_comes_first_holds_on_every_worker(pairs, deepseek):
    for stopper, starter in pairs:
        session_id = new_id()
        assert stopper.cancel(session_id)[0] == 404
        stream = starter.start(session_id)
        assert stream.status == 409
        assert b'"session_cancelled"' in stream.read()
        assert stream.response().getheader("X-Should-Retry") == "false"
        assert deepseek.entries(session_id) == []


def test_an_id_that_lives_or_whose_answer_has_ended_is_taken_on_every_worker(pairs, deepseek):
    for starter, other in pairs:
        ended = starter.start(new_id(), rate=0, tokens=1)
        ended.read()
        live = begin(starter)
        for stream in (live, ended):
            refused = other.start(stream.id)
            assert (refused.status, b'"session_active"' in refused.read()) == (409, True)
            assert len(deepseek.entries(stream.id)) == 1
        assert [other.cancel(stream.id)[0] for stream in (live, ended)] == [200, 404]


def test_an_id_whose_start_was_refused_is_free_on_every_worker(pairs):
    for starter, other in pairs:
        stream = starter.start(new_id(), status=402)
        assert stream.status == 502
        stream.read()
        again = other.start(stream.id, rate=0, tokens=1)
        assert again.status == 200
        assert again.read().endswith(b"data: [DONE]\n\n")


def test_of_many_starts_at_once_exactly_one_gets_the_id(workers, deepseek):
    for _ in range(3):
        session_id = new_id()
        connections = [(worker, worker.connect()) for worker in workers for _ in range(3)]
        barrier = threading.Barrier(len(connections))

        def start(reached, session_id=session_id, barrier=barrier):
            barrier.wait(20)
            fields = {"rate": 50, "tokens": 100_000}
            return cluster.Stream(reached[1], session_id).post(fields).status

        with ThreadPoolExecutor(len(connections)) as pool:
            statuses = sorted(pool.map(start, connections))
        assert statuses == [200] + [409] * (len(connections) - 1)
        assert workers[0].cancel(session_id)[0] == 200
        assert len(deepseek.entries(session_id)) == 1


def test_another_owners_session_can_be_neither_stopped_nor_told_from_an_unknown_id(pairs):
    for starter, other in pairs:
        stream = begin(starter)
        assert other.cancel(stream.id, owner="bob") == other.cancel(new_id(), owner="bob")
        stream.read_event()
        refused = other.start(stream.id, owner="bob")
        assert (refused.status, b"session_cancelled" in refused.read()) == (409, True)
        assert other.cancel(stream.id, owner="ada")[0] == 200


def test_an_owners_limit_holds_over_all_workers(workers):
    turns = itertools.cycle(workers)
    streams = [
        next(turns).start(new_id(), owner="eve", never="tokens", keep_alive_every=0.05)
        for _ in range(MOST_OF_OWNER)
    ]
    assert {stream.status for stream in streams} == {200}
    for worker in workers:
        refused = worker.start(new_id(), owner="eve")
        assert (refused.status, b'"too_many_sessions"' in refused.read()) == (429, True)
        assert refused.response().getheader("Retry-After") == "1"
        mine = worker.start(new_id(), owner="bob", rate=0, tokens=1)
        assert mine.status == 200
        mine.read()
    assert workers[-1].cancel(streams[0].id, owner="eve")[0] == 200
    streams[0].read()

    def fits():
        again = workers[0].start(new_id(), owner="eve", rate=0, tokens=1)
        again.read()
        return again.status == 200

    wait_for(fits)
    for stream in streams:
        stream.leave()
