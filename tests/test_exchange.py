"""The hold of an exchange on its connection. ``test_upstream`` aborts calls at each step."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from chatproxy.errors import Aborted
from chatproxy.upstreams.transport.exchange import Exchange, Step, Unreachable

from .support import many
from .support.descriptors import is_shut, open_descriptors
from .support.waiting import PATIENCE, wait_for

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection, and the other end of it."""
    with many.pair() as pair:
        yield pair


def test_an_abort_reaches_a_connection_whose_descriptor_another_socket_has_taken_over(
    pair: Pair,
) -> None:
    """As TLS does while it shakes hands."""
    ours, theirs = pair
    exchange = Exchange()
    exchange.hold(ours)
    with socket.socket(fileno=ours.detach()):
        exchange.abort()
        assert is_shut(theirs)
    exchange.close()


def test_while_the_connection_is_used_there_is_one_descriptor(pair: Pair) -> None:
    ours, theirs = pair
    before, exchange = open_descriptors(), Exchange()
    exchange.hold(ours)
    exchange.use(ours, "deepseek.example:443")
    assert open_descriptors() == before
    assert (exchange.step, exchange.peer) == (Step.SEND, "deepseek.example:443")
    exchange.abort()
    assert is_shut(theirs)


def test_a_connection_that_was_let_go_is_not_shut_down_and_one_that_was_closed_is_no_error(
    pair: Pair,
) -> None:
    ours, theirs = pair
    exchange = Exchange()
    exchange.hold(ours)
    exchange.use(ours, "")
    exchange.close()
    exchange.abort()
    assert not is_shut(theirs)
    exchange = Exchange()
    exchange.use(ours, "")
    ours.close()
    exchange.abort()


def test_after_an_abort_no_connection_is_used(pair: Pair) -> None:
    before, exchange = open_descriptors(), Exchange()
    exchange.abort()
    with pytest.raises(Aborted):
        exchange.hold(pair[0])
    with pytest.raises(Aborted):
        exchange.use(pair[0], "")
    exchange.close()
    assert open_descriptors() == before


def test_a_handshake_that_takes_too_long_is_ended_and_nothing_that_comes_after_it(
    pair: Pair,
) -> None:
    ours, theirs = pair
    used, late = Exchange(), Exchange()
    for exchange in (used, late):
        exchange.limit(0.05)
        exchange.hold(ours)
        exchange.shake_hands(Step.TLS, "deepseek.example:443")
        if exchange is used:
            exchange.use(ours, "")
            exchange.close()
    wait_for(lambda: is_shut(theirs))
    assert (used.overdue, late.overdue, late.aborted) == (False, True, False)
    late.close()


def test_a_handshake_without_a_thread_for_its_timer_is_not_begun(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", fail)
    exchange = Exchange()
    exchange.limit(PATIENCE)
    exchange.hold(pair[0])
    with pytest.raises(Unreachable, match="thread"):
        exchange.shake_hands(Step.PROXY, "")
    exchange.close()


@pytest.mark.parametrize("end", ["failed", "aborted", "begun again"])
def test_who_chose_a_connection_is_blamed_if_it_brings_no_response(pair: Pair, end: str) -> None:
    blamed = list[str]()
    exchange = Exchange()
    exchange.hold(pair[0], lambda: blamed.append(end))
    exchange.use(pair[0], "")
    if end == "aborted":
        exchange.abort()
    if end == "begun again":
        exchange.begin()
    exchange.fail()
    exchange.fail()
    assert blamed == ["failed"] * (end == "failed")


def test_each_request_that_has_been_sent_is_told_of() -> None:
    sent = list[Step]()
    exchange = Exchange(on_sent=lambda: sent.append(exchange.step))
    exchange.sent()
    exchange.begin()
    assert (exchange.step, exchange.peer, exchange.response) == (Step.LOOK_UP, "", None)
    exchange.sent()
    assert sent == [Step.ANSWER] * 2
