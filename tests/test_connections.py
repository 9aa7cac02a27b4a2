"""Connections to many upstreams: shared by all who ask one address, bounded over all addresses."""

from __future__ import annotations

import contextlib
import queue
import ssl
import time
import weakref
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import requests

from chatproxy.answers.upstream import Upstream
from chatproxy.config import Settings
from chatproxy.server.resolver import ThreadedResolver
from chatproxy.upstreams import connections as connections_module
from chatproxy.upstreams.chat_completions import ChatCompletions
from chatproxy.upstreams.connections import Connections
from chatproxy.upstreams.transport import connection as connection_module
from chatproxy.upstreams.transport import pool as pool_module
from chatproxy.upstreams.transport.idle import IdleConnections, Places

from .support.descriptors import is_shut
from .support.played import Connect, DeepSeek, Peer
from .support.waiting import at_once, wait_for_garbage
from .test_fallback import Asking, Outcome, answer, mid_stream

pytestmark = pytest.mark.usefixtures("_plain_environment")


@pytest.fixture
def services() -> Iterator[list[DeepSeek]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(DeepSeek()) for _ in range(4)]


def answered(caller: ChatCompletions, service: DeepSeek, key: str = "") -> Peer:
    """The service's end of a connection that is kept after a whole answer."""
    asking = Asking(caller, Upstream(service.url, key))
    peer = service.accept()
    answer(peer)
    assert asking.join() is Outcome.FINISHED
    return peer


def test_many_keys_share_the_connections_to_an_address(
    connect: Connect, services: list[DeepSeek]
) -> None:
    caller = connect()
    peer = answered(caller, services[0], "sk-0-0123456789")
    for number in range(1, 4):
        asking = Asking(caller, Upstream(services[0].url, f"sk-{number}-0123456789"))
        head, _ = peer.request()
        assert f"Authorization: Bearer sk-{number}-0123456789\r\n" in head
        peer.begin()
        peer.chunk(b"data: [DONE]\n\n")
        peer.send(b"0\r\n\r\n")
        assert asking.join() is Outcome.FINISHED
    assert services[0].is_left_alone()


def test_no_more_connections_are_idle_than_there_is_room_for_whatever_they_lead_to(
    connect: Connect, services: list[DeepSeek], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have been idle for longest make room."""
    monkeypatch.setattr(connections_module, "KEPT_CONNECTIONS", 2)
    caller = connect()
    peers = [answered(caller, service) for service in services]
    assert [is_shut(peer.socket) for peer in peers] == [True, True, False, False]
    again = Asking(caller, Upstream(services[3].url))
    answer(peers[3])
    assert again.join() is Outcome.FINISHED
    anew = Asking(caller, Upstream(services[0].url))
    answer(services[0].accept())
    assert anew.join() is Outcome.FINISHED


def test_a_connection_that_is_in_use_does_not_make_room(
    connect: Connect, services: list[DeepSeek], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "KEPT_CONNECTIONS", 1)
    caller = connect()
    busy = Asking(caller, Upstream(services[0].url))
    peer = services[0].accept()
    mid_stream(peer, busy)
    for service in services[1:]:
        answered(caller, service)
    assert not is_shut(peer.socket)
    busy.stop()
    assert peer.sees_the_end()


def test_a_connection_that_is_used_again_takes_no_room(
    connect: Connect, services: list[DeepSeek], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "KEPT_CONNECTIONS", 2)
    caller = connect()
    oldest, reused = (answered(caller, service) for service in services[:2])
    busy = Asking(caller, Upstream(services[1].url))
    mid_stream(reused, busy)
    answered(caller, services[2])
    assert not is_shut(oldest.socket)
    busy.stop()


def test_what_is_too_old_to_be_used_again_is_closed_when_another_comes_to_rest(
    connect: Connect, services: list[DeepSeek], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(connection_module, "KEPT_SECONDS", 0.0)
    caller = connect()
    first = answered(caller, services[0])
    time.sleep(0.001)
    answered(caller, services[1])
    assert is_shut(first.socket)


def test_what_is_known_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pool_module, connections_module):
        monkeypatch.setattr(module, "MOST_POOLS", 2)
    urls = [f"http://{number}.example/" for number in range(3)]
    connections = Connections(ThreadedResolver(), 1.0)
    ways = list(map(connections.way_to, urls))
    assert connections.way_to(urls[2]) is ways[2]
    assert connections.way_to(urls[0]) is not ways[0]
    idle = IdleConnections(9, 9.0)
    adapter = pool_module.AbortableAdapter(lambda url: ways[0].dialer, idle, Mock(), 9)

    def pool_for(url: str) -> Any:
        request = requests.Request("POST", url).prepare()
        return adapter.get_connection_with_tls_context(request, True)

    pools = list(map(pool_for, urls))
    assert pool_for(urls[2]) is pools[2]
    assert pool_for(urls[0]) is not pools[0]
    assert len(adapter.poolmanager.pools) <= 2


def test_an_upstream_that_nobody_keeps_is_forgotten_with_its_key(connect: Connect) -> None:
    caller = connect()
    upstream = Upstream("http://a.example", "sk-0123456789")
    assert caller.endpoint(upstream) is caller.endpoint(upstream)
    endpoint = weakref.ref(caller.endpoint(upstream))
    del upstream
    wait_for_garbage(lambda: endpoint() is None)


def test_tls_is_had_when_it_is_first_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []

    def load(verify: Any) -> ssl.SSLContext:
        loaded.append(verify)
        return ssl.create_default_context()

    monkeypatch.setattr(connections_module, "tls_context", load)
    connections = Connections(ThreadedResolver(), 1.0)
    connections.way_to("http://a.example")
    assert loaded == []
    for host in ("a", "b"):
        connections.way_to(f"https://{host}.example")
    assert loaded == [True]


# --- the account of idle connections


class Idle:
    """As much of a connection as the account needs."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def put(idle: IdleConnections, places: Places, connection: Idle) -> Idle:
    places.put(connection)
    idle.put(connection, places)
    return connection


def test_the_oldest_are_closed_and_leave_their_place_empty() -> None:
    idle, pools = IdleConnections(2, 60.0), [Places(9), Places(9)]
    first, second, third = (put(idle, pools[number % 2], Idle()) for number in range(3))
    assert [each.closed for each in (first, second, third)] == [1, 0, 0]
    assert [pools[0].get(), pools[0].get()] == [third, None]
    assert pools[1].get() is second


def test_one_that_was_taken_out_is_left_alone() -> None:
    """Also if whoever took it has not said so yet."""
    idle, places = IdleConnections(1, 60.0), Places(9)
    taken = put(idle, places, Idle())
    assert places.get() is taken
    last = put(idle, places, Idle())
    assert (taken.closed, last.closed) == (0, 0)


def test_places_are_as_urllib3_has_them() -> None:
    places = Places(1)
    with pytest.raises(queue.Empty):
        places.get(block=False)
    places.put(None)
    assert (places.full(), places.qsize()) == (True, 1)
    with pytest.raises(queue.Full):
        places.put(Idle(), block=False)
    assert places.get() is None


@pytest.mark.usefixtures("_close_races")
def test_none_is_both_used_and_closed() -> None:
    idle, places = IdleConnections(3, 60.0), Places(100)
    wrong: list[Idle] = []

    def use() -> None:
        for _ in range(200):
            connection = Idle()
            with contextlib.suppress(queue.Empty):
                connection = places.get(block=False) or connection  # type: ignore[assignment]
                idle.take(connection)
            if connection.closed:
                wrong.append(connection)
            with contextlib.suppress(queue.Full):
                put(idle, places, connection)

    at_once(*[use] * 6)
    assert wrong == []
    assert idle.number <= 3


def test_to_close_closes_the_idle_ones(services: list[DeepSeek]) -> None:
    caller = ChatCompletions(Settings(base_url=services[0].url), ThreadedResolver())
    peer = answered(caller, services[0])
    caller.close()
    assert peer.sees_the_end()
