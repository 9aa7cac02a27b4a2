"""A Stop ends the connection to DeepSeek at once, in every phase, and says so."""

import contextlib
import json
import re
import socket
import time
from functools import partial

import pytest
import requests

from .support.attackers import ATTACKS, Attackers
from .support.phases import PHASES
from .support.servers import events, new_id
from .support.waiting import Background, wait_for


@pytest.fixture(params=PHASES)
def stream(request, kind, reach):
    with reach(request.param, kind) as stream:
        yield stream


def test_stop_hands_back_a_receipt_after_the_close(stream):
    """And the answer says so at its end."""
    if stream.client.received:
        stream.client.read_until(b"\r\n\r\n")
    stopped_at = time.monotonic()
    status, receipt = stream.proxy.cancel(stream.id)
    assert status == 200
    assert receipt == {
        "success": True,
        "sessionId": stream.id,
        "phase": stream.phase,
        "upstreamClosed": True,
        "stopMs": receipt["stopMs"],
        "events": receipt["events"],
        "upstream": "DeepSeek",
        "billingStops": "unknown",
        **account_in(receipt),
    }
    was_sent = stream.phase != "connecting"
    assert (receipt["usageSource"] in ("counted", "estimated")) == was_sent
    assert 0 <= receipt["stopMs"] < 1000
    assert (receipt["events"] > 0) == (stream.phase == "streaming")

    entry = stream.upstream_gone()
    if entry and entry["peer_gone_mono"]:
        assert entry["peer_gone_mono"] - stopped_at < 1
        assert entry["last_token_mono"] is None or entry["last_token_mono"] - stopped_at < 1
        assert not entry["finished"]
        assert not entry["open"]

    assert re.fullmatch(
        rf"\[SSE\] {stream.id} ended outcome=stopped phase={stream.phase} "
        rf"events={receipt['events']} ms=\d+( tokens=\d+\+\d+ usage=\w+ cost=[\d.]+ USD)?",
        stream.proxy.closing_line(stream.id),
    )
    assert stream.proxy.lines(stream.id)[:-1] == [
        f"[SSE] Cancel request received for {stream.id}",
        f"[SSE] {stream.id} aborted by client",
    ]
    assert stream.id not in stream.proxy.live()

    http_status, body = stream.client.read_answer()
    assert http_status == 200
    last, done = events(body)[-2:]
    assert last["event"] == "stopped"
    assert done["data"] == "[DONE]"
    assert f'"sessionId":"{stream.id}","reason":"user","phase":"{stream.phase}"' in last["data"]
    assert f'"events":{receipt["events"]},' in last["data"]
    assert account_in(json.loads(last["data"])) == account_in(receipt)


def account_in(told):
    """What an answer came to, in a receipt or an ending."""
    names = ("usage", "usageSource", "usageSpread", "cost")
    return {name: told[name] for name in names if name in told}


def test_a_client_that_leaves_ends_the_upstream(stream):
    left_at = time.monotonic()
    stream.client.leave()
    line = stream.proxy.closing_line(stream.id)
    assert f"outcome=stopped phase={stream.phase}" in line
    assert stream.proxy.lines(stream.id)[0] == f"[SSE] {stream.id} client disconnected"
    entry = stream.upstream_gone()
    if entry and entry["peer_gone_mono"]:
        assert entry["peer_gone_mono"] - left_at < 1
    stream.proxy.wait_until_empty()
    assert stream.proxy.cancel(stream.id)[0] == 404


@pytest.mark.parametrize("phase", ["before_headers", "mid_stream", "client_does_not_read"])
def test_a_client_that_resets_its_connection_ends_the_upstream(phase, kind, reach):
    with reach(phase, kind) as stream:
        stream.client.reset()
        assert "outcome=stopped" in stream.proxy.closing_line(stream.id)
        stream.upstream_gone()


#: Attacks of each kind.
DISTURBING = ("small chunks", "pipelined requests", "an unread body", "1 MiB of no JSON")


#: Phases of streams that one server can have at once; the last are all that follow a connection.
ATTACKED = {
    "connecting": ["connecting"],
    "tls_handshake": ["tls_handshake"],
    "connected": [*PHASES][[*PHASES].index("before_headers") :],
}


@pytest.fixture(params=ATTACKED)
def attacked(request, reach):
    """Streams, and how each is to end, beside clients that would keep the worker to themselves."""
    with contextlib.ExitStack() as stack:
        streams = [
            (stack.enter_context(reach(phase, "gunicorn")), way)
            for phase in ATTACKED[request.param]
            for way in ("stop", "leave")
        ]
        port = streams[0][0].proxy.port
        for name in DISTURBING:
            attackers = stack.enter_context(Attackers(port, ATTACKS[name]))
            wait_for(partial(getattr, attackers, "sent"))
        yield streams


def test_beside_attackers_a_stop_or_a_client_that_leaves_ends_the_upstream(attacked):
    """In nearly every phase: those before a connection end as *connecting* and *tls_handshake*."""
    for stream, way in attacked:
        ended_at = time.monotonic()
        if way == "stop":
            status, receipt = stream.proxy.cancel(stream.id)
            assert (status, receipt["upstreamClosed"]) == (200, True)
        else:
            stream.client.leave()
        assert "outcome=stopped" in stream.proxy.closing_line(stream.id)
        entry = stream.upstream_gone()
        if entry and entry["peer_gone_mono"]:
            assert entry["peer_gone_mono"] - ended_at < 1


@pytest.mark.parametrize("scenario", [{"never": "headers"}, {"rate": 50, "tokens": 10_000}])
def test_stop_reaches_an_upstream_behind_tls(kind, start_proxy, deepseek_tls, ca_file, scenario):
    proxy = start_proxy(kind, deepseek_tls.url, REQUESTS_CA_BUNDLE=ca_file)
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, **scenario})
    if "rate" in scenario:
        client.read_until(b"id: 5\n")
    deepseek_tls.entry(session_id)
    stopped_at = time.monotonic()
    assert proxy.cancel(session_id)[1]["upstreamClosed"] is True
    assert deepseek_tls.gone(session_id)["peer_gone_mono"] - stopped_at < 1


def test_stop_works_on_a_pooled_connection(proxy, deepseek):
    first, second = new_id(), new_id()
    proxy.start(first, simulate={"rate": 0, "tokens": 3}).read_answer()
    proxy.closing_line(first)
    accepted = deepseek.ledger()["connections"]["accepted"]
    proxy.start(second, simulate={"tag": second, "never": "headers"})
    deepseek.entry(second)
    assert deepseek.ledger()["connections"]["accepted"] == accepted
    assert proxy.cancel(second)[1]["upstreamClosed"] is True
    deepseek.gone(second)


def test_stop_is_heard_beside_streams_that_never_pause(proxy, deepseek):
    """Their sockets always have something to read, and their clients take it at once."""
    busy = [proxy.start(new_id(), simulate={"rate": 0, "tokens": 10_000_000}) for _ in range(3)]

    def read(client):
        with contextlib.suppress(OSError):
            while client.socket.recv(1 << 20):
                continue

    readers = [Background(partial(read, client)) for client in busy]
    for _ in range(3):
        session_id = new_id()
        proxy.start(session_id, simulate={"never": "tokens", "tag": session_id})
        deepseek.entry(session_id)
        status, receipt = proxy.cancel(session_id)
        assert (status, receipt["upstreamClosed"]) == (200, True)
        assert receipt["stopMs"] < 1000
    for client, reader in zip(busy, readers, strict=True):
        client.socket.shutdown(socket.SHUT_RDWR)
        reader.result()


def test_stop_needs_no_body_and_accepts_any(proxy):
    """``navigator.sendBeacon`` and ``fetch`` with ``keepalive`` send what they like."""
    url = f"{proxy.url}/api/chat/cancel/{new_id()}"
    for data in (None, b"", b"text", b"\xff" * 1000):
        assert requests.post(url, data=data, timeout=10).status_code == 404
