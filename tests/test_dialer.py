"""Connecting: the first address to answer wins, and a Stop ends all attempts."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from chatproxy.answers.abort import AbortHandle
from chatproxy.errors import Aborted
from chatproxy.sockets import Address
from chatproxy.upstreams.transport import dialer as dialer_module
from chatproxy.upstreams.transport.dialer import DEAD_AFTER, Dialer, interleaved
from chatproxy.upstreams.transport.exchange import Exchange, Step, Unreachable

from .support.another import under_gevent
from .support.descriptors import open_descriptors
from .support.servers import black_hole
from .support.waiting import PATIENCE, Background, wait_for

HOST = "several.test"


def at(sockaddr: tuple[Any, ...]) -> Address:
    """An address as ``getaddrinfo`` has it."""
    family = socket.AF_INET6 if ":" in sockaddr[0] else socket.AF_INET
    return (family, socket.SOCK_STREAM, 6, "", sockaddr)


class Net:
    """Places to connect to; as a resolver, it knows one name, and addresses."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.addresses: list[Address] = []

    def listening(self, host: str = "127.0.0.1") -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, 0), family=family)
        listener.settimeout(PATIENCE)
        return self._stack.enter_context(listener)

    def silent(self) -> tuple[str, int]:
        parts = urlsplit(self._stack.enter_context(black_hole()))
        return parts.hostname or "", parts.port or 0

    @staticmethod
    def refusing(host: str = "127.0.0.1") -> tuple[Any, ...]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as closed:
            sockaddr: tuple[Any, ...] = closed.getsockname()
        return sockaddr

    def leads_to(self, *sockaddrs: tuple[Any, ...]) -> None:
        self.addresses[:] = map(at, sockaddrs)

    def resolve(
        self, handle: AbortHandle, host: str, port: int, timeout: float | None
    ) -> list[Address]:
        handle.check()
        return list(self.addresses) if host == HOST else [at((host, port))]


@pytest.fixture
def net() -> Iterator[Net]:
    with contextlib.ExitStack() as stack:
        yield Net(stack)


@pytest.fixture
def in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address is not tried but for a failure of the first."""
    monkeypatch.setattr(dialer_module, "ATTEMPT_DELAY", PATIENCE * 6)


def dial(dialer: Dialer, exchange: Exchange | None = None, timeout: float = PATIENCE) -> Any:
    """The address that was reached; the connection is closed."""
    exchange = exchange or Exchange()
    try:
        with dialer.dial(exchange, HOST, 443, timeout) as sock:
            return sock.getpeername()
    finally:
        exchange.close()


def test_the_families_take_turns_beginning_with_the_systems_first_choice() -> None:
    """RFC 8305, section 4."""
    six = [at((f"2001:db8::{number}", 443, 0, 0)) for number in range(3)]
    four = [at((f"192.0.2.{number}", 443)) for number in range(2)]
    assert interleaved(six + four) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleaved(four + six) == [four[0], six[0], four[1], six[1], six[2]]
    assert interleaved([]) == []


def test_a_first_address_that_does_not_answer_costs_a_quarter_of_a_second_once(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = net.listening().getsockname()
    net.leads_to(net.silent(), net.silent(), good)
    dialer = Dialer(net)
    begun = time.monotonic()
    assert dial(dialer) == good
    assert 0.5 <= time.monotonic() - begun < PATIENCE / 2
    monkeypatch.setattr(dialer_module, "ATTEMPT_DELAY", PATIENCE * 6)
    assert dial(dialer) == good


def test_the_address_that_won_is_not_preferred_for_ever(
    net: Net, in_no_hurry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = net.listening().getsockname(), net.listening().getsockname()
    net.leads_to(second)
    dialer = Dialer(net)
    assert dial(dialer) == second
    net.leads_to(first, second)
    assert dial(dialer) == second
    monkeypatch.setattr(dialer_module, "WINNER_SECONDS", 0.0)
    assert dial(dialer) == second
    assert dial(dialer) == first


def test_an_address_that_won_and_is_no_longer_there_is_forgotten(
    net: Net, in_no_hurry: None
) -> None:
    dialer = Dialer(net)
    for _ in range(2):
        good = net.listening().getsockname()
        net.leads_to(good)
        assert dial(dialer) == good


def test_addresses_that_bring_no_response_go_last_and_of_those_the_first_to_fail_first(
    net: Net, in_no_hurry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while, though they connect: the one that won last is not tried for ever."""
    three = [net.listening().getsockname() for _ in range(3)]
    net.leads_to(*three)

    def fail(dialer: Dialer) -> object:
        exchange = Exchange()
        with dialer.dial(exchange, HOST, 443, PATIENCE) as sock:
            exchange.fail()
            return sock.getpeername()

    dialer = Dialer(net)
    assert [fail(dialer) for _ in range(6)] == three * 2
    assert dial(dialer) == three[0]
    monkeypatch.setattr(dialer_module, "WINNER_SECONDS", 0.0)
    dialer = Dialer(net)
    assert [fail(dialer) for _ in range(2)] == three[:1] * 2


def test_one_that_won_and_fails_is_left_for_another_that_stays(net: Net, in_no_hurry: None) -> None:
    bad, good = net.listening().getsockname(), net.listening().getsockname()
    net.leads_to(bad, good)
    dialer, exchange = Dialer(net), Exchange()
    assert dial(dialer) == bad
    with dialer.dial(exchange, HOST, 443, PATIENCE):
        exchange.fail()
    for order in ([bad, good], [good, bad]):
        net.leads_to(*order)
        assert dial(dialer) == good


@pytest.mark.parametrize("refusing", ["127.0.0.1", "::1"])
@pytest.mark.usefixtures("in_no_hurry")
def test_after_a_refusal_the_next_address_is_tried_at_once(net: Net, refusing: str) -> None:
    good = net.listening().getsockname()
    net.leads_to(net.refusing(refusing), net.refusing(), good)
    assert dial(Dialer(net)) == good


def test_if_all_refuse_each_is_named_and_the_exchange_knows_what_was_tried_last(net: Net) -> None:
    exchange = Exchange()
    net.leads_to(net.refusing(), net.refusing("::1"))
    with pytest.raises(Unreachable) as caught:
        dial(Dialer(net), exchange)
    assert str(caught.value) == "127.0.0.1 Connection refused; ::1 Connection refused"
    assert (exchange.step, exchange.peer) == (Step.CONNECT, f"{HOST}:443")


def test_a_name_without_an_address_is_a_failure(net: Net) -> None:
    with pytest.raises(Unreachable, match="no address"):
        dial(Dialer(net))


def test_all_attempts_together_take_no_longer_than_the_time_that_is_given(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer_module, "ATTEMPT_DELAY", 0.02)
    net.leads_to(*(net.silent() for _ in range(3)))
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="timed out") as caught:
        dial(Dialer(net), timeout=0.1)
    assert time.monotonic() - begun < PATIENCE / 2
    assert "127.0.0.1 does not answer" in str(caught.value)


def test_losers_and_failures_leave_nothing_open(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer_module, "ATTEMPT_DELAY", 0.01)
    net.leads_to(net.silent(), net.refusing(), net.silent(), net.listening().getsockname())
    before = open_descriptors()
    for _ in range(5):
        dial(Dialer(net))
    assert open_descriptors() == before


def test_a_stop_ends_every_attempt_at_once(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer_module, "ATTEMPT_DELAY", 0.01)
    net.leads_to(*(net.silent() for _ in range(3)))
    stop_while(net, running=3)


def stop_while(net: Net, running: int) -> None:
    """Stop when so many attempts are running; the call ends, and nothing stays open."""
    before, exchange = open_descriptors(), Exchange()
    dialing = Background(lambda: dial(Dialer(net), exchange, timeout=PATIENCE * 6))
    wait_for(lambda: open_descriptors() == before + running)
    exchange.abort()
    with pytest.raises(Aborted):
        dialing.result()
    wait_for(lambda: open_descriptors() <= before)


def a_race_under_gevent() -> None:
    dialer_module.ATTEMPT_DELAY = 0.01
    with contextlib.ExitStack() as stack:
        net = Net(stack)
        good = net.listening().getsockname()
        net.leads_to(net.silent(), net.refusing(), good)
        import gevent

        turns = list[int]()
        counting = gevent.spawn(lambda: [gevent.sleep(0) or turns.append(1) for _ in range(10**6)])
        dialer = Dialer(net)
        assert dial(dialer) == good
        assert turns, "other greenlets did not run"
        counting.kill()
        net.leads_to(net.silent(), net.silent())
        with pytest.raises(Unreachable):
            dial(dialer, timeout=0.05)
        stop_while(net, running=2)


def test_under_gevent_a_race_and_its_stop_go_the_same_way() -> None:
    under_gevent(a_race_under_gevent)


def test_a_stop_at_any_moment_leaves_no_connection(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either it comes first and the call ends, or the connection is there and it shuts that."""
    monkeypatch.setattr(dialer_module, "ATTEMPT_DELAY", 0.0005)
    net.leads_to(net.silent(), net.refusing(), net.listening().getsockname())
    dice, before = random.Random(11), open_descriptors()
    for _ in range(60):
        exchange = Exchange()
        timer = threading.Timer(dice.uniform(0, 0.003), exchange.abort)
        timer.start()
        try:
            sock = Dialer(net).dial(exchange, HOST, 443, PATIENCE)
        except Aborted:
            pass
        else:
            with sock:
                timer.join()
                assert sock.recv(1) == b""
        exchange.close()
        timer.join()
    assert open_descriptors() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_dead_peer_is_noticed_within_half_a_minute(net: Net, host: str) -> None:
    """By probes if the connection is idle (it begins, then every few), else by what is not
    acknowledged."""
    exchange = Exchange()
    with Dialer(net).dial(exchange, host, net.listening(host).getsockname()[1], PATIENCE) as sock:
        tcp = socket.IPPROTO_TCP
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle = sock.getsockopt(tcp, socket.TCP_KEEPIDLE)
        probes = sock.getsockopt(tcp, socket.TCP_KEEPCNT)
        assert idle + probes * sock.getsockopt(tcp, socket.TCP_KEEPINTVL) == DEAD_AFTER == 30
        assert sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == DEAD_AFTER * 1000
        assert sock.getsockopt(tcp, socket.TCP_NODELAY) == 1
        assert sock.gettimeout() == PATIENCE
    exchange.close()
