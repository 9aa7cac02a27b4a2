"""A process that is forked from this one begins with nothing of what runs here."""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable

import pytest

from chatproxy import forks
from chatproxy.answers.session import SessionKey
from chatproxy.answers.watchdog import Watchdog
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import BodyTimeout
from chatproxy.server.arrivals import BodyTimer
from chatproxy.server.disconnect import DisconnectWatcher
from chatproxy.server.stalled_clients import StalledClients
from chatproxy.upstreams.transport.idle import IdleConnections, Places

from .support.another import in_a_child, under_gevent
from .support.table import TablePeers
from .support.waiting import wait_for, wait_for_garbage

KEY = SessionKey("", "session_1")


def the_watchdog_looks_in_a_child_too() -> None:
    """Also if it looks just when the process forks."""
    looks, gate, ended = threading.Event(), threading.Event(), threading.Event()
    looked_in: list[int] = []

    def is_done() -> bool:
        looks.set()
        gate.wait()
        return ended.is_set()

    watchdog = Watchdog(0.1, 0.1, list, [lambda: looked_in.append(os.getpid())], is_done)
    watchdog.start()
    wait_for(looks.is_set)

    def claim() -> None:
        nonlocal gate
        gate = threading.Event()
        gate.set()
        watchdog.start()
        wait_for(lambda: os.getpid() in looked_in)

    in_a_child(claim)
    ended.set()
    gate.set()


def clients_are_watched_in_a_child_too() -> None:
    watcher = DisconnectWatcher(timeout=60)
    sockets = [socket.socketpair() for _ in range(2)]
    watches = [watcher.watch({"werkzeug.socket": sockets[0][0]}, int)]

    def claim() -> None:
        gone = threading.Event()
        ours, theirs = sockets[1]
        assert watcher.watch({"werkzeug.socket": ours}, gone.set)
        theirs.shutdown(socket.SHUT_RDWR)
        wait_for(gone.is_set)

    in_a_child(claim)
    for watch in watches:
        assert watch
        watch.stop()
    for each in sum(sockets, ()):
        each.close()


def a_client_that_takes_nothing_is_disconnected_in_a_child_too() -> None:
    stalled = StalledClients(0.2)
    sockets = [socket.socketpair() for _ in range(2)]
    stalled.watch(sockets[0][0].fileno())

    def claim() -> None:
        ours = sockets[1][0]
        ours.sendall(b"not taken")
        stalled.watch(ours.fileno())
        with pytest.raises(BrokenPipeError):
            wait_for(lambda: ours.send(b""))

    in_a_child(claim)
    for each in sum(sockets, ()):
        each.close()


def a_body_has_its_time_in_a_child_too() -> None:
    timer = BodyTimer(1.0, lambda *_: None)
    ours, theirs = socket.socketpair()

    def claim() -> None:
        with pytest.raises(BodyTimeout), timer.limit(ours):
            ours.recv(1)

    with ours, theirs:
        with timer.limit(theirs):
            pass  # which leaves the thread there for a while
        in_a_child(claim)


def the_answers_of_a_process_are_not_those_of_its_child() -> None:
    registry = Registry(Settings(), object(), TablePeers())
    session = registry.claim(KEY)

    def claim() -> None:
        assert (registry.idle, registry.all(), registry.find(KEY)) == (True, [], None)
        registry.close()
        assert not session.flag.is_set()

    in_a_child(claim)
    assert registry.live() == [session]


def a_connection_that_is_idle_is_not_used_by_a_child() -> None:
    class Kept:
        def close(self) -> None:
            raise AssertionError("it would be shut for the parent, too")

    idle, places = IdleConnections(most=10, seconds=60.0), Places(2)
    kept = Kept()
    places.put(None)
    places.put(kept)
    idle.put(kept, places)

    def claim() -> None:
        assert (idle.number, places.qsize()) == (0, 2)
        assert [places.get(), places.get()] == [None, None]
        idle.close()

    in_a_child(claim)
    assert places.get() is kept


CLAIMS = [
    the_watchdog_looks_in_a_child_too,
    clients_are_watched_in_a_child_too,
    a_client_that_takes_nothing_is_disconnected_in_a_child_too,
    a_body_has_its_time_in_a_child_too,
    the_answers_of_a_process_are_not_those_of_its_child,
    a_connection_that_is_idle_is_not_used_by_a_child,
]

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # from 3.12 on


@pytest.mark.parametrize("claim", CLAIMS)
def test_with_plain_threads(claim: Callable[[], None]) -> None:
    claim()


def all_but_that_of_a_body() -> None:
    for claim in CLAIMS:
        if claim is not a_body_has_its_time_in_a_child_too:
            claim()


def test_under_gevent() -> None:
    under_gevent(all_but_that_of_a_body)


class Counted:
    """Counts how often it has begun, in this process."""

    def __init__(self) -> None:
        self.begun = 0
        forks.begin(self.begin)

    def begin(self) -> None:
        self.begun += 1

    def has_begun_twice(self) -> None:
        assert self.begun == 2


def test_what_begins_again_in_a_child_is_not_kept_alive_for_that() -> None:
    counted = Counted()
    for _ in range(2):
        in_a_child(counted.has_begun_twice)
    assert counted.begun == 1
    reference = weakref.ref(counted)
    del counted
    wait_for_garbage(lambda: reference() is None)
