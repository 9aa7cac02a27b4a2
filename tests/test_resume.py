"""An answer is read again from any point, on any worker, while it runs and for a while after."""

import json
import os
import random
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from .support import cluster
from .support.cluster import begin
from .support.servers import events, new_id
from .support.waiting import wait_for

TEXT = "".join(f"w{number} " for number in range(60))
#: One that has not ended when it is stopped, however busy the machine is.
LONG_TEXT = "".join(f"w{number} " for number in range(9000))
GRACE = 3
HEAD = b"id: "


@pytest.fixture(scope="module", params=cluster.WAYS)
def servers(request, deepseek, logs, tmp_path_factory):
    """Four workers."""
    settings = {
        "CHATPROXY_TOKENS": cluster.tokens("ada", "bob"),
        "CHATPROXY_MAX_SESSIONS_PER_OWNER": 1000,
        "CHATPROXY_ON_DISCONNECT": GRACE,
        "CHATPROXY_CONNECT_TIMEOUT": 20,
    }
    folder = tmp_path_factory.mktemp("r")
    with cluster.meeting(request.param, deepseek, logs, folder, workers=4, **settings) as servers:
        yield servers


@pytest.fixture
def pairs(servers):
    """The first worker with each."""
    return [(servers.workers[0], other) for other in servers.workers]


def deltas(body):
    """The text in a body."""
    found = [json.loads(each["data"]) for each in events(body) if each["data"].startswith('{"id"')]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in found)


def numbers(body):
    return [int(number) for number in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)]


def without_comments(body):
    return re.sub(rb"^:.*\n", b"", body, flags=re.MULTILINE)


def test_a_reader_gets_what_comes_after_the_event_that_it_names_on_every_worker(pairs):
    for maker, other in pairs:
        first = maker.start(new_id(), rate=300, text=TEXT)
        whole = b"".join(first.read_event() + b"\n" for _ in range(8))
        again = other.read(first.id)
        later = other.read(first.id, after=7)
        whole += first.read()
        assert without_comments(again.read()) == whole
        assert numbers(whole) == list(range(1, len(numbers(whole)) + 1))
        assert deltas(whole) == TEXT
        assert without_comments(later.read()) == whole[whole.index(b"id: 8\n") :]
        assert again.response().getheader("Content-Type") == "text/event-stream; charset=utf-8"
        assert again.response().getheader("X-Session-Id") == first.id


def test_an_ended_answer_can_be_read_whole_or_in_part_on_every_worker(pairs):
    for maker, other in pairs:
        first = maker.start(new_id(), rate=0, text=TEXT)
        whole = first.read()
        last = numbers(whole)[-1]
        assert other.read(first.id).read() == whole
        assert other.read(first.id, after=last - 1).read() == b"id: %d\ndata: [DONE]\n\n" % last
        assert other.read(first.id, after=last).status == 204
        for wrong in (last + 1, "x"):
            refused = other.read(first.id, after=wrong)
            assert (refused.status, b'"invalid_request"' in refused.read()) == (400, True)


def test_what_is_unknown_or_anothers_is_not_found_on_every_worker(pairs):
    for maker, other in pairs:
        mine = begin(maker)
        anothers, unknown = other.read(mine.id, owner="bob"), other.read(new_id(), owner="bob")
        assert anothers.status == unknown.status == 404
        assert anothers.read() == unknown.read()
        assert other.cancel(mine.id)[0] == 200


def test_a_stopped_answer_ends_alike_for_every_reader(servers):
    maker, stopper = servers.workers[0], servers.workers[-1]
    first = begin(maker)
    readers = [worker.read(first.id) for worker in servers.workers]
    for reader in readers:
        reader.read_event()
    assert stopper.cancel(first.id)[0] == 200
    whole = first.read()
    assert events(whole)[-2]["event"] == "stopped"
    for reader in readers:
        body = without_comments(reader.read())
        assert whole.endswith(body)
        assert body.endswith(b"data: [DONE]\n\n")


def test_a_reader_that_comes_back_in_time_finds_the_answer_running(pairs, deepseek):
    readers = []
    for maker, other in pairs:
        first = maker.start(new_id(), rate=100, text=TEXT)
        first.read_event()
        first.leave()
        wait_until_left(maker, first)
        readers.append(other.read(first.id, after=1))
    for again in readers:
        assert deltas(again.read()) == TEXT
        assert deepseek.entries(again.id)[0]["finished"]


def wait_until_left(worker, stream):
    wait_for(lambda: worker.proxy.lines(f"{stream.id} client disconnected"))


def test_an_answer_that_nobody_comes_back_to_is_stopped_after_the_grace(pairs, deepseek):
    """Even if its request has asked for more."""
    left = {}
    for maker, other in pairs:
        first = begin(maker, headers={"X-On-Disconnect": "1000"})
        reader = other.read(first.id)
        assert reader.status == 200
        first.leave()
        reader.read_event()
        reader.leave()
        left[first.id] = other, deepseek.entries(first.id)[0]["last_token_mono"]
    for session_id, (other, when) in left.items():
        # Where the other worker's goodbye is lost, its silence tells after ten seconds.
        gone = deepseek.gone(session_id, GRACE + 15)
        assert gone["peer_gone_mono"] - when > GRACE - 1.5
        tail = events(other.read(session_id).read())[-2]
        assert json.loads(tail["data"])["reason"] == "disconnect"


def test_an_answer_without_a_reader_can_be_stopped_from_anywhere(pairs, deepseek):
    for maker, other in pairs:
        first = begin(maker)
        first.leave()
        wait_until_left(maker, first)
        status, receipt = other.cancel(first.id)
        assert (status, receipt["upstreamClosed"]) == (200, True)
        assert deepseek.entries(first.id)[0]["peer_gone_at"] is not None


def test_a_request_may_ask_for_less_than_the_grace(servers, deepseek):
    worker = servers.workers[0]
    at_once = worker.start(new_id(), headers={"X-On-Disconnect": "stop"}, never="tokens")
    deepseek.entry(at_once.id)
    at_once.leave()
    deepseek.gone(at_once.id, 2)
    refused = worker.start(new_id(), headers={"X-On-Disconnect": "later"})
    assert (refused.status, b'"invalid_request"' in refused.read()) == (400, True)


def test_an_owners_sessions_are_listed_from_every_worker(servers):
    live = [begin(worker, owner="bob") for worker in servers.workers]
    ended = [worker.start(new_id(), "bob", rate=0, tokens=1) for worker in servers.workers]
    for stream in ended:
        stream.read()
    for worker in servers.workers:
        listed = {each["sessionId"]: each for each in worker.sessions("bob")}
        for stream in live:
            assert (listed[stream.id]["phase"], listed[stream.id]["outcome"]) == ("streaming", None)
            assert listed[stream.id]["events"] >= 1
            assert 0 <= listed[stream.id]["ageSeconds"] < 60
        for stream in ended:
            assert listed[stream.id]["outcome"] == "finished"
        assert not {stream.id for stream in live} & {
            each["sessionId"] for each in worker.sessions("ada")
        }
    for stream in live:
        assert servers.workers[0].cancel(stream.id, "bob")[0] == 200


def test_sessions_whose_readers_drop_and_resume_at_random_lose_no_byte(servers, deepseek):
    dice = random.Random(5)
    plan = [(new_id(), dice.random() < 0.3, dice.random()) for _ in range(16)]

    def live(planned):
        session_id, stops, seed = planned
        mine = random.Random(seed)
        text = LONG_TEXT if stops else TEXT
        stream = cluster.Stream.begin(mine.choice(servers.proxies), session_id, rate=300, text=text)
        assert stream.status == 200
        pieces, last, receipt = [], 0, None
        for drop in range(10):
            ended = False
            for _ in range(mine.randrange(16)):
                piece = stream.read_event()
                ended = not piece.startswith(HEAD)
                if ended:
                    break
                pieces.append(piece + b"\n")
                last = numbers(piece)[0]
            if ended:
                break
            stream.leave()
            if stops and drop == 1:
                receipt = cluster.stop_anywhere(mine.choice(servers.proxies), session_id)
            stream = cluster.Stream.again(mine.choice(servers.proxies), session_id, after=last)
            if stream.status == 204:
                break
        else:
            pieces.append(without_comments(stream.read()))
        stream.leave()
        return b"".join(pieces), receipt

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(live, plan))
    for (session_id, _, _), (body, receipt) in zip(plan, results, strict=True):
        assert numbers(body) == list(range(1, len(numbers(body)) + 1)), session_id
        assert body.endswith(b"data: [DONE]\n\n"), (session_id, body[-300:])
        retained = cluster.Stream.again(servers.proxies[-1], session_id)
        assert retained.read() == body
        (entry,) = deepseek.entries(session_id)
        if receipt is None:
            assert deltas(body) == TEXT
            assert entry["finished"]
        else:
            assert receipt[0] == 200
            assert LONG_TEXT.startswith(deltas(body))
            assert events(body)[-2]["event"] == "stopped"
            assert entry["peer_gone_at"] is not None
    assert sum(receipt is not None for _, receipt in results) > len(plan) / 10
    for proxy in servers.proxies:
        assert "Traceback" not in proxy.log()


def test_a_reader_on_another_worker_is_told_that_the_answer_was_lost(deepseek, logs, tmp_path):
    settings = {"CHATPROXY_TOKENS": cluster.tokens("ada")}
    with cluster.start("gunicorn", deepseek, logs, tmp_path, workers=2, **settings) as servers:
        maker, other = servers.workers
        first = begin(maker)
        reader = other.read(first.id)
        while not reader.read_event().startswith(HEAD):
            continue
        os.kill(maker.pid, signal.SIGKILL)
        body = reader.read()
        last = events(body)[-1]
        assert last["event"] == "error"
        error = json.loads(last["data"])["error"]
        assert error["code"] == "answer_lost"
        assert f"after event {numbers(body)[-1]}:" in error["message"]
        assert b"[DONE]" not in body
        assert other.read(first.id).status == 404
