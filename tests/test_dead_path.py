"""An upstream that is gone without a word is noticed soon, in every phase; on a real network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from urllib3.connection import HTTPConnection

from chatproxy.upstreams.transport import dialer
from chatproxy.upstreams.transport.exchange import TAKEN_UNREAD

from .support import networks
from .support.networks import Elsewhere
from .support.played import (
    BODY,
    Calling,
    DeepSeek,
    Peer,
    answered,
    before_the_headers,
    mid_stream,
    silent,
)
from .support.waiting import wait_for

pytestmark = pytest.mark.skipif(not networks.can_be_made(), reason="needs root and iproute2")

#: The shortest that the system's timers can be.
SOON = 10.0


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    monkeypatch.setattr(dialer, "PROBE_AFTER", 1)
    monkeypatch.setattr(dialer, "PROBE_EVERY", 1)
    monkeypatch.setattr(dialer, "DEAD_AFTER", 2)
    with networks.elsewhere() as network:
        yield network


@pytest.fixture
def far(network: Elsewhere) -> Iterator[DeepSeek]:
    """DeepSeek in another network."""
    with DeepSeek(listener=network.listener()) as deepseek:
        yield deepseek


@pytest.mark.parametrize("reach", [before_the_headers, silent, mid_stream])
def test_a_dead_upstream_is_noticed_and_not_asked_again(
    network: Elsewhere, far: DeepSeek, reach: Callable[[Peer, Calling], None]
) -> None:
    """By probes: this side has nothing to send. The request may have been processed."""
    calling, peer = far.asked()
    reach(peer, calling)
    network.cut()
    begun = time.monotonic()
    error = calling.failure()
    assert time.monotonic() - begun < SOON
    assert (error.code, "Connection timed out" in error.reason) == ("upstream_failed", True)
    assert far.is_left_alone()


def test_a_dead_connection_in_the_pool_is_dropped_there(
    network: Elsewhere, far: DeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the next question finds out at once that it must connect."""
    made, connect_plainly = list[HTTPConnection](), HTTPConnection.connect

    def note(connection: HTTPConnection) -> None:
        made.append(connection)
        connect_plainly(connection)

    monkeypatch.setattr(HTTPConnection, "connect", note)
    upstream = far.upstream(connect_timeout=2.0, tries=1)
    answered(upstream, far)
    (pooled,) = made
    assert pooled.is_connected
    network.cut()
    wait_for(lambda: not pooled.is_connected, SOON, "the end of the pooled connection")
    error = Calling(upstream).failure()
    assert "does not answer" in error.reason


@pytest.mark.parametrize("before", [BODY, b"{%b}" % (b" " * TAKEN_UNREAD)], ids=["small", "large"])
def test_what_a_dead_upstream_does_not_acknowledge_is_given_up(
    network: Elsewhere, far: DeepSeek, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    """By TCP_USER_TIMEOUT: with data on the way, no probes are sent. Whatever went before."""
    monkeypatch.setattr(dialer, "PROBE_AFTER", 1000)
    upstream = far.upstream()
    first = Calling(upstream, before)
    far.accept().answer()
    assert first.join() is None
    network.cut()
    begun = time.monotonic()
    error = Calling(upstream).failure()
    assert time.monotonic() - begun < SOON
    assert error.code == "upstream_failed"


def test_a_host_that_does_not_answer_is_given_up_after_the_connect_timeout(
    network: Elsewhere, far: DeepSeek
) -> None:
    network.cut()
    error = Calling(far.upstream(connect_timeout=0.1, tries=2)).failure()
    assert error.code == "upstream_unreachable"
    Calling(far.upstream()).stop()
