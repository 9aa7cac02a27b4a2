"""What can't be had for a moment (a thread, a descriptor, a reply) is missing for no longer."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chatproxy.answers.session import SessionKey
from chatproxy.answers.watchdog import Watchdog
from chatproxy.cluster.local.control_socket import ControlSocket
from chatproxy.cluster.local.run_dir import RunDir
from chatproxy.cluster.redis.peers import RedisPeers
from chatproxy.config import Settings
from chatproxy.errors import PeersUnavailable, TooManySessions
from chatproxy.server import capabilities
from chatproxy.server.arrivals import BodyTimer
from chatproxy.server.capabilities import ServerCapabilities
from chatproxy.server.stalled_clients import StalledClients

from .support.descriptors import is_shut
from .support.table import Table, service_of
from .support.valkey import Valkey
from .support.waiting import MOMENT, Background, wait_for
from .test_registry import new_registry


@contextmanager
def threads(left: int = 0) -> Iterator[None]:
    """While so many more threads can be had, and then none: the system is at its limit."""
    tried, start = itertools.count(), threading.Thread.start
    with pytest.MonkeyPatch.context() as patch:

        def start_if_possible(thread: threading.Thread) -> None:
            if next(tried) >= left:
                raise RuntimeError("can't start new thread")
            start(thread)

        patch.setattr(threading.Thread, "start", start_if_possible)
        yield


def test_the_watchdog_begins_when_there_is_a_thread() -> None:
    looked = threading.Event()
    watchdog = Watchdog(1.0, 1.0, list, [looked.set], looked.is_set)
    with threads(), pytest.raises(RuntimeError):
        watchdog.start()
    watchdog.start()
    wait_for(looked.is_set)


def test_a_body_that_no_thread_could_time_does_not_end_a_later_connection() -> None:
    timer = BodyTimer(0.02, lambda *_what: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with threads(), pytest.raises(RuntimeError), timer.limit(ours):
            pass
        late, its_client = socket.socketpair()
        with late, its_client, suppress(Exception), timer.limit(late):
            wait_for(lambda: is_shut(late))
        assert not is_shut(ours)


def test_a_stalled_client_is_shut_when_there_is_a_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = threading.Event()
    dup = os.dup

    def no_dup(descriptor: int) -> int:
        if tried.is_set():
            return dup(descriptor)
        tried.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", no_dup)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                ours.send(b"x" * 65536)
        StalledClients(0.05).watch(ours.fileno())
        wait_for(tried.is_set)
        wait_for(lambda: is_shut(ours))


def test_the_threads_of_a_server_are_known_before_a_stream_can_take_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on = threading.Event()

    def threads_of(_environ: object) -> int:
        goes_on.wait()
        return 2

    monkeypatch.setattr(capabilities, "threads_of", threads_of)
    server = ServerCapabilities(Settings(base_url="http://127.0.0.1:1"))
    first = Background(lambda: server.inspect({}))

    def take_two() -> bool:
        server.inspect({})
        server.take_thread()
        try:
            server.take_thread()
        except TooManySessions:
            return True
        return False

    second = Background(take_two)
    second.join(MOMENT)
    goes_on.set()
    assert second.result()
    first.join()


def test_a_reader_whose_worker_does_not_reply_is_let_go_there() -> None:
    table = Table()
    here, there = new_registry(table=table), new_registry(table=table)
    key = SessionKey("", "session_1")
    session = there.claim(key)
    holder = table.holders[("id", *key)]
    answer, asked = table.members[holder].answer, []

    def lose_replies(request: dict[str, object]) -> dict[str, object]:
        asked.append(request["ask"])
        reply = answer(request)
        if request["ask"] == "read":
            raise PeersUnavailable("The reply is lost.")
        return reply

    table.members[holder].answer = lose_replies
    with pytest.raises(PeersUnavailable):
        service_of(here).follow(key, 0)
    wait_for(lambda: "leave" in asked)
    wait_for(lambda: not session.log.followed)


def test_who_the_others_are_can_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control_socket = ControlSocket(RunDir(str(tmp_path)), "app")

    def fail(_path: object) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(PeersUnavailable):
        control_socket.others()


def test_a_worker_without_threads_for_redis_listens_once_when_it_has_them() -> None:
    with Valkey() as valkey:
        peers = RedisPeers(valkey.url, "app", 20.0)
        other = RedisPeers(valkey.url, "app", 20.0)
        for each in (peers, other):
            each.serve(lambda _request: {"state": "ready"}, lambda _key: None)
        with threads(left=1), pytest.raises(RuntimeError):
            peers.open()
        try:
            peers.open()
            wait_for(lambda: can_take(peers))
            wait_for(lambda: can_take(other))
            for _ in range(10):  # a second mailbox would take some of the replies
                assert peers.ask(other.name, {"ask": "ready"}, 10.0) == {"state": "ready"}
        finally:
            peers.close()
            other.close()


def can_take(peers: RedisPeers) -> bool:
    with suppress(PeersUnavailable):
        return peers.take(("id", "", "session_1")) is not None or True
    return False
