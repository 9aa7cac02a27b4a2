"""Peers by Redis, against a real Valkey: what a worker may rely on, and what outages do."""

import contextlib
import gc
import itertools
import json
import logging
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from redis import Redis
from redis.exceptions import RedisError
from redis.sentinel import Sentinel as SentinelClient

from chatproxy.answers.session import SessionKey
from chatproxy.cluster.redis import keeper as keeper_module
from chatproxy.cluster.redis.client import RedisClient, Uncertain
from chatproxy.cluster.redis.leases import LATEST, Lease, LeaseStore
from chatproxy.cluster.redis.peers import RedisPeers
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import ConfigError, PeersUnavailable, SessionCancelled

from .support.another import Another
from .support.table import sit_down
from .support.valkey import Forwarder, Sentinel, Valkey
from .support.waiting import PATIENCE, Background, wait_for

LEASE = 2.0
#: A lease that no test lives to see the end of.
LONG = 600.0
KEY = ("id", "", "session_1")
FREED = ("id", "", "session_2")

_scopes = map("scope-{}".format, itertools.count(1))


class Worker(RedisPeers):
    """Peers that answer with the question and remember what they lost."""

    def __init__(self, url, scope, lease=LEASE, answer=None):
        super().__init__(url, scope, lease)
        self.lost = []
        self.serve(answer or (lambda question: {"got": question}), self.lost.append)

    def try_take(self, key=KEY):
        """The result of ``take``, or "away"."""
        try:
            return self.take(key)
        except PeersUnavailable:
            return "away"

    def refusal(self):
        """Why nothing can be taken; empty if it can."""
        try:
            self.take(("any",))
        except PeersUnavailable as refusal:
            return refusal.message
        return ""

    def try_ask(self, holder, question, seconds=1.0):
        try:
            return self.ask(holder, question, seconds)
        except PeersUnavailable:
            return "away"

    def has_looked(self):
        """Whether Redis has been looked at, and is settled."""
        with contextlib.suppress(PeersUnavailable):
            self.check()
            return True


@pytest.fixture(scope="module")
def server():
    """A Valkey that is always there."""
    with Valkey() as valkey:
        yield valkey


@pytest.fixture
def own_server():
    """A Valkey that may be treated badly."""
    with Valkey() as valkey:
        yield valkey


@pytest.fixture
def scope():
    return next(_scopes)


@pytest.fixture
def start(scope):
    """Starts workers of one application, for which the server has been there for long."""
    with contextlib.ExitStack() as stack:

        def start_worker(server, lease=LEASE, answer=None, url=None, settled=True):
            if settled:
                server.settle(scope)
            worker = Worker(url or server.url, scope, lease, answer)
            stack.callback(worker.close)
            return worker

        yield start_worker


@pytest.fixture
def forwarder(own_server):
    with Forwarder(own_server.port) as network:
        network.url = f"redis://127.0.0.1:{network.port}"
        yield network


@contextlib.contextmanager
def hammering(worker, key=KEY):
    """Try to take a key all the time; yields the list of the answers."""
    answers, over = [], threading.Event()

    def hammer():
        while not over.wait(0.01):
            answers.append(worker.try_take(key))

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        wait_for(lambda: answers, message="the first answer")
        yield answers
    finally:
        over.set()
        thread.join()


def names_of_keys(server, scope):
    return {name for name in server.names(scope) if ":key:" in name}


def rewrite(server, name, token):
    """Change what is kept under a name behind the workers' backs."""
    with server.client() as client:
        client.set(name, token) if token else client.delete(name)


def begin_an_epoch(server, scope):
    """Have all workers renew what they hold at their next look."""
    with server.client() as client:
        run = client.info("server")["run_id"]
        client.set(f"chatproxy:{scope}:memory", f"{run} 2")


# ---- the table ----------------------------------------------------------------------------------


def test_only_one_of_many_takes_a_key(server, start):
    workers = [start(server) for _ in range(4)]
    keys = [("id", "", f"session_{number}") for number in range(40)]

    with ThreadPoolExecutor(32) as pool:
        jobs = [(worker, key) for key in keys for worker in workers * 2]
        results = list(pool.map(lambda job: job[0].take(job[1]), jobs))

    for key in keys:
        answers = [answer for (_, taken), answer in zip(jobs, results, strict=True) if taken == key]
        (holder,) = {answer for answer in answers if answer is not None}
        assert answers.count(None) == 1
        assert holder in {worker.name for worker in workers}


def test_no_take_fails_for_want_of_a_connection(server, start):
    worker = start(server)
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda number: worker.take((str(number),)), range(600)))
    assert answers == [None] * 600


def test_only_its_holder_frees_a_key_and_then_another_can_take_it(server, start):
    one, other = start(server), start(server)
    one.take(KEY)
    assert other.take(KEY) == one.name
    other.free([KEY])
    assert other.take(KEY) == one.name
    one.free([KEY, ("unknown",)])
    assert other.take(KEY) is None


def test_more_keys_than_one_script_takes_are_renewed_and_freed(server, start, scope):
    one, other = start(server), start(server)
    keys = [(str(number),) for number in range(501)]
    for key in keys:
        one.take(key)
    wait_for(one.has_looked, message="the first look")
    with server.client() as client:
        for name in list(client.scan_iter(f"chatproxy:{scope}:key:*")):
            client.delete(name)
    wait_for(lambda: len(names_of_keys(server, scope)) == 501, message="the renewal")
    assert {other.take(key) for key in keys} == {one.name}
    one.free(keys)
    assert names_of_keys(server, scope) == set()


def test_what_is_left_of_a_worker_is_not_in_its_own_way(server, start, scope):
    one = start(server)
    one.take(KEY)
    (name,) = names_of_keys(server, scope)
    one.free([KEY])
    rewrite(server, name, f"{one.name}/0")
    assert one.take(KEY) is None


def test_a_renewal_that_comes_late_does_not_undo_a_later_take(server, scope):
    redis = RedisClient(server.url)
    store = LeaseStore(redis, f"chatproxy:{scope}:", LONG, 3.0)
    name = store.name(KEY)
    with server.client() as client:
        for before, after in [("one/7", "one/7"), ("one/3", "one/5"), (None, "one/5")]:
            client.delete(name)
            if before:
                client.set(name, before)
            assert list(store.renew("one", [Lease(name, "one/5")])) == [
                (Lease(name, "one/5"), True)
            ]
            assert client.get(name).decode() == after
        client.set(name, "other/7")
        assert list(store.renew("one", [Lease(name, "one/5")])) == [(Lease(name, "one/5"), False)]
        assert client.get(name) == b"other/7"
        client.set(name, "one/7")
        assert store.free([Lease(name, "one/5")]) == []
        assert client.get(name) == b"one/7"
    redis.close()


STRANGE_KEYS = [
    ("a", "b"),
    ("ab",),
    ("a,b",),
    ('a", "b',),
    ("a", "", "b"),
    (),
    ("",),
    ("\x00\n*?[",),
    ("\ud800",),
    ("é",),
    ("e\u0301",),
    ("x" * 100_000,),
]


def test_every_key_is_one_of_its_own_and_has_a_short_name(server, start, scope):
    worker = start(server)
    assert [worker.take(key) for key in STRANGE_KEYS] == [None] * len(STRANGE_KEYS)
    names = names_of_keys(server, scope)
    assert len(names) == len(STRANGE_KEYS)
    assert {len(name.removeprefix(f"chatproxy:{scope}:key:")) for name in names} == {40}


def test_applications_are_not_in_the_way_of_each_other(server):
    for scope in ("one", "two"):
        server.settle(scope)
    with (
        contextlib.closing(Worker(server.url, "one")) as one,
        contextlib.closing(Worker(server.url, "two")) as two,
    ):
        assert [one.take(KEY), two.take(KEY)] == [None, None]


TAKE_AND_WAIT = """
import sys, time
from chatproxy.cluster.redis.peers import RedisPeers
peers = RedisPeers(sys.argv[1], sys.argv[2], float(sys.argv[3]))
print(peers.take(("id", "", "session_1")), peers.name, flush=True)
time.sleep(600)
"""


def test_a_key_outlives_its_worker_by_one_lease_and_no_more(server, start, scope):
    other = start(server)
    process = Another(TAKE_AND_WAIT, server.url, scope, LEASE)
    taken, holder = process.read().split()
    process.kill()
    assert taken == "None"
    assert other.take(KEY) == holder
    wait_for(lambda: other.take(KEY) is None, LEASE + 5, "the end of the lease")


def test_a_worker_that_lives_keeps_its_key_beyond_the_lease(server, start):
    one, other = start(server), start(server)
    one.take(KEY)
    with hammering(other) as answers:
        time.sleep(1.2 * LEASE)
    assert set(answers) == {one.name}


@pytest.mark.parametrize("is_there", [True, False])
def test_a_key_that_is_freed_while_it_is_renewed_stays_free(
    server, start, scope, monkeypatch, is_there
):
    """Also while it is made anew as Redis had lost it, whatever order Redis does the two in."""
    one, other = start(server, LONG), start(server, LONG)
    one.take(KEY)
    reach, done = RedisClient.reach, []

    def free_before(client, script, keys, args):
        """Free the key just before the step that extends, or that makes anew, reaches Redis."""
        renews = keys and args[1:2] == [f"{one.name}/"]
        due = renews and (args[2] == "0") == is_there and not done
        if due:
            one.free([KEY])
        answer = reach(client, script, keys, args)
        if due:
            done.append(names_of_keys(server, scope))
        return answer

    if not is_there:
        wait_for(one.has_looked, message="the first look")
        rewrite(server, *names_of_keys(server, scope), None)
    monkeypatch.setattr(RedisClient, "reach", free_before)
    begin_an_epoch(server, scope)
    assert wait_for(lambda: done, message="the renewal") == [set()] or not is_there
    wait_for(lambda: not names_of_keys(server, scope), message="the end of the key")
    assert other.take(KEY) is None


def test_what_would_make_a_key_does_nothing_when_it_comes_too_late(
    server, scope, start, monkeypatch
):
    """As after an outage of the network, when whoever has sent it has long given up and freed."""
    server.settle(scope)
    redis = RedisClient(server.url)
    store = LeaseStore(redis, f"chatproxy:{scope}:", LONG, 3.0)
    lease = Lease(store.name(KEY), "one/1")
    assert store.take(lease) is None  # nothing is known of the clock yet
    store.free([lease])
    store.look()
    for late, made in [(LATEST / 2, True), (LATEST + 0.5, False)]:
        # As if the script were sent now, and the clock had gone on before it arrives.
        now = store.time() - late
        monkeypatch.setattr(store, "time", lambda now=now: now)
        with contextlib.nullcontext() if made else pytest.raises(PeersUnavailable):
            store.take(lease)
        assert bool(names_of_keys(server, scope)) == made
        rewrite(server, lease.name, None)
        assert list(store.renew("one", [lease])) == [(lease, True)]
        assert bool(names_of_keys(server, scope)) == made
        store.free([lease])
        monkeypatch.undo()
    redis.close()


def test_what_is_left_of_an_uncertain_take_is_freed_again_and_again_until_nothing_is_late(
    server, start, scope, monkeypatch
):
    monkeypatch.setattr(keeper_module, "LATEST", 1.0)
    take, free, taken, freed = LeaseStore.take, LeaseStore.free, [], []

    def lose_the_answer(store, lease, *arguments):
        taken.append(lease)
        take(store, lease, *arguments)
        raise Uncertain("lost")

    def note(store, leases):
        freed.append(leases)
        return free(store, leases)

    monkeypatch.setattr(LeaseStore, "take", lose_the_answer)
    monkeypatch.setattr(LeaseStore, "free", note)
    assert start(server).try_take() == "away"
    (lease,) = taken
    wait_for(lambda: not names_of_keys(server, scope), message="the end of the key")
    rewrite(server, *lease)  # as if the network had kept it
    wait_for(lambda: not names_of_keys(server, scope), message="the end of the key")
    wait_for(lambda: freed[-1] == [], message="the end of the leftovers")


def test_what_another_worker_left_in_redis_refuses_and_delays_nothing(server, start, scope):
    """Neither a claim, nor a Stop: keys of the one are there, that it has no use for."""
    peers = start(server, LONG), start(server, LONG)
    one, other = (sit_down(Registry(Settings(), object(), each), each) for each in peers)
    for each in peers:
        each.take(("any",))
    known = names_of_keys(server, scope)
    sessions = [SessionKey("", "session_1"), SessionKey("", "session_2")]
    for each in sessions:
        peers[0].take(("id", *each))
    left = names_of_keys(server, scope) - known
    peers[0].free([("id", *each) for each in sessions])
    for name in left:
        rewrite(server, name, f"{peers[0].name}/0")
    begun = time.monotonic()
    assert other.claim(sessions[0]).id == "session_1"
    assert time.monotonic() - begun < 1
    assert other.cancel(sessions[1], time.monotonic()) is None
    with pytest.raises(SessionCancelled):
        one.claim(sessions[1])


def test_what_was_taken_anew_is_not_lost_by_an_earlier_holds_loss(
    server, start, scope, monkeypatch
):
    one, told = start(server, LONG), []

    def lose_all(_store, _worker, leases, _restore):
        """Another had it when Redis was asked; it has been freed and taken since."""
        one.free([KEY])
        one.take(KEY)
        yield from ((lease, False) for lease in leases)
        told.append(leases)

    one.take(KEY)
    monkeypatch.setattr(LeaseStore, "renew", lose_all)
    begin_an_epoch(server, scope)
    wait_for(lambda: told, message="the renewal")
    monkeypatch.undo()
    assert one.lost == []
    assert one.take(KEY) == one.name


def test_another_that_holds_a_key_by_now_is_noticed(server, start, scope, caplog):
    """An error of whoever is told so does not end the renewals."""
    one, lost = start(server), []

    def fail(key):
        lost.append(key)
        raise ZeroDivisionError

    one.serve(lambda _question: {}, fail)
    one.take(KEY)
    (name,) = names_of_keys(server, scope)
    rewrite(server, name, "another/7")
    wait_for(lambda: "could not be given up" in caplog.text, message="the loss")
    assert lost == [KEY]
    assert one.take(KEY) == "another"
    one.take(("two",))
    (name,) = names_of_keys(server, scope) - {name}
    rewrite(server, name, None)
    wait_for(lambda: name in names_of_keys(server, scope), message="the renewal")


# ---- questions ----------------------------------------------------------------------------------


def test_many_questions_at_once_both_ways_are_answered_each_by_its_own_answer(server, start):
    one, other = start(server), start(server)
    one.take(("1",))
    other.take(("2",))
    with ThreadPoolExecutor(100) as pool:
        ways = itertools.cycle([(one, other), (other, one)])
        jobs = [
            pool.submit(asking.ask, asked.name, {"n": number}, 15)
            for number, (asking, asked) in zip(range(300), ways, strict=False)
        ]
        answers = [job.result() for job in jobs]
    assert answers == [{"got": {"n": number}} for number in range(300)]


def test_a_slow_answer_is_in_nobodys_way(server, start):
    slow = threading.Event()
    one = start(server)
    other = start(
        server, answer=lambda question: {"waited": slow.wait(20)} if question["slow"] else {}
    )
    other.take(KEY)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.ask, other.name, {"slow": True}, 20)
        assert one.ask(other.name, {"slow": False}, 10) == {}
        slow.set()
        assert waiting.result() == {"waited": True}


def test_a_request_that_no_thread_can_be_had_for_is_answered_with_the_next(
    server, start, monkeypatch
):
    one, other = start(server), start(server)
    other.open()
    begin, refused = threading.Thread.start, []

    def refuse_one(thread):
        if thread.name == "chatproxy-peers-reply" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_one)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.ask, other.name, {"n": 1}, 15)
        wait_for(lambda: refused, message="the thread that can't be had")
        assert one.ask(other.name, {"n": 2}, 15) == {"got": {"n": 2}}
        assert first.result() == {"got": {"n": 1}}


def test_no_answer_is_unavailable_and_never_a_guess(server, start, scope, caplog):
    """Whether it comes too late, or an error does instead of it, or there is nobody."""
    over = threading.Event()
    one, mute = start(server), start(server, answer=lambda _question: {"late": over.wait(20)})
    failing = start(server, answer=lambda _question: {"n": 1 / 0})
    for worker in (mute, failing):
        worker.open()
    for holder in (mute.name, failing.name, "nobody"):
        started = time.monotonic()
        with pytest.raises(PeersUnavailable, match="did not answer") as refusal:
            one.ask(holder, {}, 0.3)
        assert 0.3 <= time.monotonic() - started < 3
        assert refusal.value.retry_after == 1
    over.set()
    assert one.try_ask(mute.name, {}, 5) == {"late": True}
    wait_for(lambda: "ZeroDivisionError" in caplog.text, message="what is said of the error")
    with server.client() as client:
        assert 0 < client.pttl(f"chatproxy:{scope}:inbox:nobody") < 30_000


def test_of_a_question_without_an_answer_nothing_is_kept(server, start):
    worker, many = start(server), 300
    worker.try_ask("nobody", {}, 0)
    gc.collect()
    before = len(gc.get_objects())
    assert {worker.try_ask("nobody", {}, 0) for _ in range(many)} == {"away"}
    gc.collect()
    assert len(gc.get_objects()) < before + many


def push(server, scope, worker, *items):
    with server.client() as client:
        client.rpush(f"chatproxy:{scope}:inbox:{worker.name}", *items)


def question(number, until="9999999999999"):
    message = {"id": number, "from": "tester", "question": {"n": number}}
    return f"{until} {json.dumps(message)}"


def test_a_question_that_nobody_waits_for_any_more_is_not_answered(server, start, scope):
    asked = []
    worker = start(server, answer=lambda message: asked.append(message["n"]) or {})
    wait_for(worker.has_looked, message="the first look")
    push(server, scope, worker, question(1, "1700000000000"), question(2))
    wait_for(lambda: asked == [2], message="the answer")


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"9999999999999",
    b"9999999999999 ",
    b"9999999999999 nonsense",
    b"9999999999999 []",
    b"9999999999999 7",
    b"9999999999999 {}",
    b'9999999999999 {"id": "1", "answer": {}}',
    b'9999999999999 {"id": 1, "answer": []}',
    b'9999999999999 {"id": 1, "from": 2, "question": {}}',
    b'9999999999999 {"id": 1, "from": "x", "question": null}',
    b'9999999999999 {"id": 12345678, "answer": {"late": true}}',
    b"9999999999999 " + b"[" * 100_000,
    b"9999999999999 " + b"1" * 100_000,
    b"9" * 5000 + b" {}",
    b"-1 {}",
    "\u0663 {}".encode(),
    b'9999999999999 {"id": 1, "from": "x", "question": {"x": "' + b"x" * (1 << 24) + b'"}}',
]


def test_garbage_in_the_inbox_does_no_harm(server, start, scope, caplog):
    asked = []
    one, other = start(server), start(server, answer=lambda message: asked.append(message) or {})
    other.take(KEY)
    push(server, scope, other, *GARBAGE)
    assert one.ask(other.name, {"n": 1}, 20) == {}
    assert asked == [{"n": 1}]
    assert caplog.text == ""


def test_more_questions_than_can_be_answered_are_dropped(server, start, scope, monkeypatch):
    monkeypatch.setattr("chatproxy.cluster.redis.mailbox.MOST_WORKING", 3)
    monkeypatch.setattr("chatproxy.cluster.redis.mailbox.MOST_WAITING", 5)
    threads, asked, over = Counter(), [], threading.Event()

    def answer(message):
        asked.append(message["n"])
        threads[threading.get_ident()] += 1
        over.wait(20)
        return {}

    worker = start(server, answer=answer)
    worker.take(KEY)
    push(server, scope, worker, *(question(number) for number in range(20)))
    with server.client() as client:
        mailbox = f"chatproxy:{scope}:inbox:{worker.name}"
        wait_for(lambda: not client.exists(mailbox) and len(asked) == 3, message="the questions")
    over.set()
    wait_for(lambda: asked[-1] == 7 or len(asked) == 8, message="the answers")
    assert len(threads) <= 3


# ---- Redis goes away and comes back -------------------------------------------------------------


@pytest.mark.parametrize("snapshot", [False, True])
def test_after_a_restart_no_held_key_is_ever_taken_by_another(
    own_server, start, forwarder, scope, snapshot
):
    """Not even if the others are back before the holder is, nor by what a snapshot remembers."""
    one, other = start(own_server, LONG, url=forwarder.url), start(own_server, LONG)
    other.take(("other",))
    if snapshot:
        with own_server.client() as client:
            client.save()
    one.take(KEY)
    with hammering(other) as answers:
        own_server.kill()
        wait_for(lambda: answers[-1] == "away", message="the outage")
        forwarder.cut()
        own_server.start()
        assert bool(names_of_keys(own_server, scope)) == snapshot
        wait_for(lambda: "just come back" in other.refusal(), message="the return")
        forwarder.restore()
        wait_for(lambda: answers[-1] == one.name, message="the end of the outage")
    assert set(answers) == {one.name, "away"}
    assert one.lost == []


def test_a_memory_that_is_lost_without_a_word_is_noticed(own_server, start):
    one, other = start(own_server, LONG), start(own_server, LONG)
    one.take(KEY)
    with hammering(other) as answers:
        for worker in (one, other):
            wait_for(worker.has_looked, message="the first look")
        with own_server.client() as client:
            client.flushall()
        wait_for(lambda: answers[-1] == "away", message="the loss")
        wait_for(lambda: answers[-1] == one.name, message="the end of the settling")
    assert set(answers) == {one.name, "away"}


def test_a_redis_that_nobody_knows_settles_within_seconds(server, start):
    worker = start(server, LONG, settled=False)
    with pytest.raises(PeersUnavailable, match=r"Redis is new .*; try again") as refusal:
        worker.take(KEY)
    assert 1 <= refusal.value.retry_after <= 3
    wait_for(lambda: worker.try_take() is None, message="a settled Redis")


def test_while_redis_is_away_all_fails_at_once_and_soon_after_it_is_back_all_works(
    own_server, start, caplog
):
    caplog.set_level(logging.INFO, "chatproxy")
    one, other = start(own_server, LONG), start(own_server, LONG)
    one.take(KEY)
    own_server.freeze()
    started = time.monotonic()
    assert other.try_take() == "away"
    assert time.monotonic() - started < 3
    started = time.monotonic()
    assert {other.try_take() for _ in range(100)} == {"away"}
    assert {other.try_ask(one.name, {}) for _ in range(100)} == {"away"}
    assert time.monotonic() - started < 1
    own_server.thaw()
    wait_for(lambda: other.try_take() == one.name, 4, "the table")
    wait_for(lambda: other.try_ask(one.name, {"n": 1}) == {"got": {"n": 1}}, 4, "an answer")
    wait_for(lambda: caplog.text.count("is back") == caplog.text.count("is away"), 4, "the news")
    assert 1 <= caplog.text.count("Redis is away") <= 2  # of each worker, once


def test_who_is_asked_before_it_knows_that_redis_is_back_answers_all_the_same(
    own_server, start, forwarder, monkeypatch
):
    """Else a Stop that has been carried out would be told that it has not."""
    one, other = start(own_server, LONG, url=forwarder.url), start(own_server, LONG)
    one.take(KEY)
    other.take(FREED)
    blind = set()

    def look(store):
        blind.add(store)
        raise PeersUnavailable("Redis is away.")

    monkeypatch.setattr(LeaseStore, "look", look)
    wait_for(lambda: len(blind) == 2, message="the looks in vain")
    forwarder.cut()
    assert one.try_take(("two",)) == "away"
    forwarder.restore()
    wait_for(lambda: other.try_ask(one.name, {"n": 1}, 5.0) == {"got": {"n": 1}})
    assert one.try_take(("two",)) == "away"


def test_a_failure_that_began_before_an_outage_that_is_over_is_no_new_one(caplog, monkeypatch):
    redis, begun = RedisClient("redis://127.0.0.1:1"), []
    fails = {number: threading.Event() for number in range(3)}

    def run(keys, args):
        begun.append(keys)
        assert fails[keys].wait(PATIENCE)
        raise RedisError("late")

    def reach(number):
        with pytest.raises(PeersUnavailable):
            redis.reach("", number, [])

    monkeypatch.setattr(Redis, "register_script", lambda _redis, _script: run)
    reaching = [Background(partial(reach, number)) for number in fails]
    wait_for(lambda: len(begun) == len(fails))
    for number, thread in enumerate(reaching):
        fails[number].set()
        thread.result()
        assert redis.away == (number == 0)
        redis.mend()
    assert caplog.text.count("Redis is away") == 1


def test_many_requests_at_once_notice_an_outage_together(own_server, start):
    worker = start(own_server)
    worker.take(KEY)
    own_server.freeze()
    started = time.monotonic()
    with ThreadPoolExecutor(400) as pool:
        answers = set(pool.map(lambda number: worker.try_take((str(number),)), range(400)))
    assert answers == {"away"}
    assert time.monotonic() - started < PATIENCE  # one after the other they would take minutes
    own_server.thaw()


@pytest.mark.parametrize("lease", [LONG, LEASE])
def test_a_worker_that_was_cut_off_loses_what_another_could_take_when_its_lease_was_over(
    own_server, start, forwarder, lease
):
    """Also what is free again: whoever had it may have said that it stands for nothing.

    Nothing, if its lease was not over.
    """
    one, other = start(own_server, lease, url=forwarder.url), start(own_server, lease)
    for key in (KEY, FREED):
        one.take(key)
    forwarder.cut()
    if lease == LEASE:
        for key in (KEY, FREED):
            wait_for(lambda key=key: other.take(key) is None, message="the end of the lease")
        other.free([FREED])
    else:
        assert one.try_take(("two",)) == "away"
        assert other.take(KEY) == one.name
    forwarder.restore()
    lost = [KEY, FREED] if lease == LEASE else []
    wait_for(lambda: one.try_take(("three",)) is None and one.lost == lost, message="the return")
    assert one.take(KEY) == (other if lost else one).name
    assert other.take(FREED) == (None if lost else one.name)
    wait_for(lambda: other.try_ask(one.name, {}) == {"got": {}}, message="an answer")


def test_an_outage_that_outlasts_the_leases_costs_no_worker_a_key(
    own_server, start, forwarder, scope
):
    """If it is one for all of them: then nobody could have taken any."""
    one, other = (start(own_server, url=forwarder.url) for _ in range(2))
    one.take(KEY)
    with hammering(other) as answers:
        wait_for(one.has_looked, message="the first look")
        forwarder.cut()
        wait_for(lambda: not names_of_keys(own_server, scope), message="the end of the lease")
        forwarder.restore()
        wait_for(lambda: answers[-1] == one.name, message="the end of the outage")
    assert set(answers) <= {one.name, "away"}
    assert one.lost == []


def test_a_key_is_adopted_while_redis_is_away_and_one_of_two_loses_it(own_server, start):
    """Whoever has adopted a key alone takes it when Redis is back."""
    one, other = workers = [start(own_server), start(own_server)]
    one.take(("before",))
    own_server.kill()
    for worker in workers:
        wait_for(lambda worker=worker: worker.try_take() == "away", message="the outage")
        assert worker.take(KEY, allow_offline=True) is None
    assert one.take(("alone",), allow_offline=True) is None
    assert one.take(KEY) == one.take(KEY, allow_offline=True) == one.name
    own_server.start()
    with hammering(other, ("alone",)) as answers:
        wait_for(lambda: answers[-1] == one.name, message="the claim")
    wait_for(lambda: one.lost + other.lost == [KEY], message="the loss")
    loser, holder = sorted(workers, key=lambda worker: not worker.lost)
    wait_for(lambda: loser.try_take() == holder.name, message="a settled Redis")


def test_what_was_freed_while_redis_was_away_is_free_when_it_is_back(own_server, start):
    """So is what Redis takes after the worker has given up; without a lease that ends in time."""
    one, other = start(own_server, LONG), start(own_server, LONG)
    one.take(KEY)
    own_server.freeze()
    assert one.try_take(("late",)) == "away"
    one.take(("alone",), allow_offline=True)
    one.free([KEY, ("alone",)])
    own_server.thaw()
    for key in (KEY, ("alone",), ("late",)):
        wait_for(lambda key=key: other.try_take(key) is None, message="the key")


def test_redis_need_not_be_there_at_the_start(own_server, start):
    own_server.kill()
    worker = start(own_server, settled=False)
    assert "cannot be reached" in worker.refusal()
    own_server.start()
    wait_for(lambda: "Redis is new" in worker.refusal(), message="Redis")


# ---- ways to Redis ------------------------------------------------------------------------------

SECRET = "s3cr3t/wörd?#@:%"
QUOTED = "s3cr3t%2Fw%C3%B6rd%3F%23%40%3A%25"


def test_a_password_is_given_and_never_told(start, caplog):
    caplog.set_level(logging.DEBUG)
    with Valkey(password="s3cr3tw0rd") as server:
        good = start(server)
        assert good.take(KEY) is None
        bad = start(server, url=f"redis://:wr0ngw0rd@127.0.0.1:{server.port}")
        with pytest.raises(PeersUnavailable) as refusal:
            bad.take(KEY)
        wait_for(lambda: "AuthenticationError" in caplog.text, message="the warning")
        client = RedisClient(server.url)
        told = [caplog.text, *map(repr, (good, bad, client, refusal.value))]
        assert not [text for text in told if "s3cr3tw0rd" in text or "wr0ngw0rd" in text]
        good.close()


def test_no_password_is_told_where_the_error_holds_it(monkeypatch, caplog):
    """Some versions of redis-py describe a Sentinel by all its options."""
    url = "redis+sentinel://:s3cr%33t@127.0.0.1:1/main?sentinel_password=s3cr3t%21"

    def fail(*_):
        raise RedisError("password=s3cr3t\n,password=s3cr3t!")

    worker = Worker(url, "scope")
    monkeypatch.setattr(Redis, "register_script", fail)
    assert worker.try_take() == "away"
    told = "RedisError: password=*** ,password=***"
    wait_for(lambda: told in caplog.text, message="the warning")
    worker.close()


def test_a_password_may_hold_anything_if_it_is_quoted(start):
    with Valkey(f'user odd on ~* +@all ">{SECRET}"') as server:
        worker = start(server, url=f"redis://odd:{QUOTED}@127.0.0.1:{server.port}/3")
        assert "Redis is new" in worker.refusal()
        with server.client() as client:
            assert set(client.info("keyspace")) == {"db0", "db3"}
        worker.close()


def test_a_unix_socket_will_do(server, start, scope):
    worker = start(server, url=f"unix://{server.unix_socket}?db=0")
    assert worker.take(KEY) is None


def test_tls_will_do(own_server, start, authority, ca_file):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Forwarder(own_server.port, context) as network:
        url = f"rediss://127.0.0.1:{network.port}"
        one = start(own_server, url=f"{url}?ssl_ca_certs={ca_file}")
        other = start(own_server, url=f"{url}?ssl_ca_certs={ca_file}")
        assert one.take(KEY) is None
        assert other.take(KEY) == one.name
        assert other.ask(one.name, {"n": 1}, 10) == {"got": {"n": 1}}
        distrusting = start(own_server, url=url)
        assert distrusting.try_take() == "away"
        for worker in (one, other):
            worker.close()


def check_the_sentinels(url, monkeypatch):
    """The one that answered is asked first from then on; no list changes while others read it."""
    discover, lists, asked = SentinelClient.discover_master, [], []

    def note(manager, service):
        lists.append(manager.sentinels)
        asked.append([each.connection_pool.connection_kwargs["port"] for each in lists[-1]])
        return discover(manager, service)

    with monkeypatch.context() as patch:
        patch.setattr(SentinelClient, "discover_master", note)
        client = RedisClient(url)
        for _ in range(2):
            client.reach("return 1", [], [])
            client.close()
    assert asked[0] == asked[1][::-1]
    assert lists[0] is not lists[1]


def test_a_failover_by_a_sentinel_keeps_what_is_held(start, scope, monkeypatch):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Valkey(password="s3cr3tw0rd"))
        second = stack.enter_context(
            Valkey(
                f"replicaof 127.0.0.1 {first.port}",
                "masterauth s3cr3tw0rd",
                "repl-diskless-sync-delay 0",
                password="s3cr3tw0rd",
            )
        )
        with first.client() as client:  # else Sentinel asks for it again after ten seconds
            wait_for(lambda: client.info("replication")["connected_slaves"], 30, "the replica")
        sentinel = stack.enter_context(Sentinel(first))
        with sentinel.client() as client:
            wait_for(lambda: client.sentinel_slaves("main"), 30, "the replica")
        url = f"redis+sentinel://:s3cr3tw0rd@127.0.0.1:1,127.0.0.1:{sentinel.port}/main/0"
        check_the_sentinels(url, monkeypatch)
        one, other = start(first, url=url), start(first, url=url)
        assert one.take(KEY) is None
        wait_for(lambda: second.names(scope), 30, "the replication")
        first.kill()
        with hammering(other) as answers:
            wait_for(lambda: answers[-1:] == [one.name], 60, "the end of the outage")
        assert set(answers) <= {one.name, "away"}
        assert one.lost == []
        with second.client() as client:
            assert client.role()[0] == b"master"
        for worker in (one, other):
            worker.close()
        assert second.names(scope) == set()


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr3t/word@127.0.0.1:6379/0",
        "redis://:s3cr3t?word@127.0.0.1:6379/0",
        "redis://:s3cr3t#word@127.0.0.1:6379/0",
        "redis://:123/s3cr3t@127.0.0.1",
        "redis://:s3cr3t@127.0.0.1:0x17/0",
        "redis://:s3cr3t@127.0.0.1:99999/0",
        "redis://:s3cr3t@127.0.0.1/main",
        "redis://:s3cr3t@[::1/0",
        "redis://:s3cr3t@127.0.0.1/0?unknown=1",
        "redis://:s3cr3t@127.0.0.1/0?socket_timeout=x",
        "redis://:s3cr3t@127.0.0.1/0?connection_class=x",
        "http://:s3cr3t@127.0.0.1/0",
        "unix://:s3cr3t@",
        "unix+sentinel://:s3cr3t@127.0.0.1/main",
        "redis+other://:s3cr3t@127.0.0.1/main",
        "redis+sentinel://:s3cr3t@127.0.0.1",
        "redis+sentinel://:s3cr3t@127.0.0.1/main/x",
        "redis+sentinel://:s3cr3t@,127.0.0.1/main",
        "redis+sentinel://:s3cr3t@127.0.0.1:x/main",
        "redis+sentinel://:s3cr3t@127.0.0.1/main?unknown=1",
        "rediss://:s3cr3t@127.0.0.1/0?ssl_cert_reqs=s3cr3t",
    ],
)
def test_a_url_that_will_not_do_is_said_without_its_password(url):
    with pytest.raises(ConfigError, match=r"^CHATPROXY_PEERS is not a URL of Redis") as error:
        RedisPeers(url, "scope", LEASE)
    assert "s3cr3t" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis:///0",
        "redis://user:word@[::1]:6379/0?client_name=chat",
        "rediss://127.0.0.1:6380/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
        "unix://user:word@/run/redis.sock",
        "redis+sentinel://127.0.0.1/main",
        "redis+sentinel://:word@a,b:1,[::1]:2/main/1?sentinel_username=x&sentinel_password=y",
        "rediss+sentinel://a/main?ssl_ca_certs=/etc/ca.pem",
        "redis://127.0.0.1?socket_timeout=100&retry_on_timeout=yes&decode_responses=yes",
    ],
)
def test_a_url_of_any_kind_is_understood(url):
    RedisPeers(url, "scope", LEASE)


def test_a_lease_that_one_failure_would_end_is_refused():
    with pytest.raises(ConfigError, match=r"^CHATPROXY_LEASE must be at least 2 with Redis\.$"):
        RedisPeers("redis://localhost", "scope", 1.9)


# ---- beginning and end --------------------------------------------------------------------------


def test_nothing_is_opened_before_the_first_use(own_server, start):
    threads = set(threading.enumerate())
    worker = start(own_server)
    assert worker.name
    assert set(threading.enumerate()) <= threads
    with own_server.client() as client:
        assert len(client.client_list()) == 1
    worker.take(KEY)
    new = {thread.name for thread in set(threading.enumerate()) - threads}
    assert new == {"chatproxy-peers-mailbox", "chatproxy-peers-keeper"}
    assert all(thread.daemon for thread in set(threading.enumerate()) - threads)


def test_nothing_is_left_of_a_worker_that_was_closed(own_server, start, scope):
    threads = set(threading.enumerate())
    one, other = start(own_server), start(own_server)
    keys = [(str(number),) for number in range(300)]
    for key in keys:
        one.take(key)
    other.take(KEY)
    assert one.try_ask("nobody", {}, 0.01) == "away"
    assert one.try_ask(other.name, {}, 5) == {"got": {}}
    one.close()
    one.close()
    assert {name.split(":")[2] for name in own_server.names(scope)} == {"inbox", "key", "workers"}
    assert not [name for name in own_server.names(scope) if one.name in name]
    assert len(names_of_keys(own_server, scope)) == 1
    other.close()
    assert names_of_keys(own_server, scope) == set()
    assert set(threading.enumerate()) <= threads  # some of other tests may have ended meanwhile
    with own_server.client() as client:
        assert len(client.client_list()) == 1


def test_a_closed_worker_takes_and_asks_nothing(server, start):
    worker = start(server)
    worker.take(KEY)
    worker.close()
    worker.free([KEY])
    for use in (lambda: worker.take(KEY, allow_offline=True), lambda: worker.ask("nobody", {}, 1)):
        with pytest.raises(PeersUnavailable, match="shutting down"):
            use()


def test_whoever_waits_for_an_answer_at_the_close_is_told_at_once(server, start, scope):
    worker = start(server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.try_ask, "nobody", {}, 60)
        inbox = f"chatproxy:{scope}:inbox:nobody"
        wait_for(lambda: inbox in server.names(scope), message="the question")
        worker.close()
        assert waiting.result(10) == "away"


def test_the_close_does_not_wait_for_a_redis_that_is_away(own_server, start):
    worker = start(own_server)
    worker.take(KEY)
    own_server.freeze()
    started = time.monotonic()
    worker.close()
    assert time.monotonic() - started < 5
    own_server.thaw()


FORK = """
import os, sys
from chatproxy.cluster.redis.peers import RedisPeers
peers = RedisPeers(sys.argv[1], sys.argv[2], 2.0)
peers.serve(lambda question: {"pid": os.getpid()}, print)
before = peers.take(("parent",)) if sys.argv[3] else None
assert (before, bool(peers.name)) == (None, True)
for number in range(2):
    if not os.fork():
        assert peers.ask(peers.name, {}, 10.0) == {"pid": os.getpid()}
        line = f"{peers.take((str(number),))} {peers.name}\\n"
        os.write(1, line.encode())  # at once, as the other writes too
        peers.close()
        os._exit(0)
for _ in range(2):
    os.wait()
"""


@pytest.mark.parametrize("used", ["", "used"])
def test_processes_that_fork_are_workers_of_their_own(server, scope, used):
    server.settle(scope)
    lines = [line.split() for line in Another(FORK, server.url, scope, used).rest().splitlines()]
    assert [taken for taken, _name in lines] == ["None", "None"]
    assert len({name for _taken, name in lines}) == 2


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from chatproxy.errors import PeersUnavailable
from tests.test_peers_redis import KEY, Worker
from tests.support.waiting import wait_for
url, scope = sys.argv[1:]
one, other = Worker(url, scope, 20.0), Worker(url, scope, 20.0)  # none ends, however slow it is
with ThreadPoolExecutor(100) as pool:
    answers = list(pool.map(lambda n: (one, other)[n % 2].take((str(n // 2),)), range(200)))
    assert answers.count(None) == 100, answers
    asked = list(pool.map(lambda n: one.ask(other.name, {"n": n}, 20), range(100)))
    assert asked == [{"got": {"n": n}} for n in range(100)]
one.take(KEY)
print("freeze", flush=True)
wait_for(lambda: other.try_take() == "away", 10)
print("thaw", flush=True)
wait_for(lambda: other.try_take() == one.name, 10)
wait_for(lambda: other.try_ask(one.name, {}) == {"got": {}}, 10)
one.close()
other.close()
assert not [t for t in threading.enumerate() if t.name.startswith("chatproxy-peers")]
print("done", flush=True)
"""


def test_it_runs_under_gevent(own_server, scope):
    own_server.settle(scope)
    process = Another(GEVENT, own_server.url, scope)
    try:
        assert process.read() == "freeze"
        own_server.freeze()
        assert process.read() == "thaw"
        own_server.thaw()
        assert process.read() == "done"
        assert process.process.wait(PATIENCE) == 0
    finally:
        process.kill()
    assert own_server.names(scope) == set()
