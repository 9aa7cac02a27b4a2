"""The upstream's list of models: how it is asked for, kept, and done without."""

from __future__ import annotations

import contextlib
import json

import pytest
from responses import RequestsMock

from chatproxy.upstreams import documents
from chatproxy.upstreams.models import ModelList

from .support.descriptors import open_descriptors
from .support.played import FAR, KEY, Connect, DeepSeek, Peer
from .support.waiting import Background, HandClock, wait_for

MODELS = [b'{"id": "one",  "object":"model"}', b'{"id":"org/two","x":1e9}']
LIST = b'{"object":"list","data":[%b]}' % b",".join(MODELS)
BY_ID = {"one": MODELS[0], "org/two": MODELS[1]}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def listed(played: DeepSeek, connect: Connect, clock: HandClock) -> ModelList:
    """The list of the upstream that the test plays."""
    return ModelList(connect(f"{played.url}/beta"), "configured", timer=clock)


def reply(peer: Peer, body: bytes = LIST, status: str = "200 OK") -> tuple[str, bytes]:
    """Answer the next request; return it."""
    request = peer.request()
    peer.send(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body))
    return request


def answered(played: DeepSeek, listed: ModelList) -> Peer:
    """DeepSeek's end of the connection, after the first list has come."""
    asked = Background(listed.wait)
    peer = played.accept()
    reply(peer)
    assert asked.result() == BY_ID
    return peer


def test_each_model_is_the_text_that_came(played: DeepSeek, listed: ModelList) -> None:
    asked = Background(listed.wait)
    head, body = reply(played.accept())
    assert asked.result() == BY_ID
    assert head.startswith("GET /beta/models HTTP/1.1\r\n")
    assert f"\r\nAuthorization: Bearer {KEY}\r\n" in head
    assert body == b""


def test_it_is_asked_for_once_a_minute_on_the_same_connection(
    played: DeepSeek, listed: ModelList, clock: HandClock
) -> None:
    peer = answered(played, listed)
    clock.now += 59
    assert listed.get() == BY_ID
    clock.now += 2
    assert listed.get() == BY_ID
    reply(peer, b'{"data":[{"id":"three"}]}')
    wait_for(lambda: listed.get() == {"three": b'{"id":"three"}'})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (LIST, "404 Not Found"),
        (b"", "401 Unauthorized"),
        (b"<html>", "200 OK"),
        (b'{"data":[{"name":"x"}]}', "200 OK"),
        (b'{"data":[]}', "200 OK"),
        (b'{"data":[%b]}' % (b'{"id":"x"},' * 300_000), "200 OK"),
        (b'{"data":' + b"[" * 100_000, "200 OK"),
        (b'{"data":[{"id":"\xff"}]}', "200 OK"),
    ],
    ids=["404", "401", "page", "no ids", "empty", "too large", "nested", "no UTF-8"],
)
def test_an_upstream_without_a_list_has_the_configured_model(
    played: DeepSeek, listed: ModelList, body: bytes, status: str
) -> None:
    asked = Background(listed.wait)
    peer = played.accept()
    with contextlib.suppress(ConnectionError):  # what is too large is not read to its end
        reply(peer, body, status)
    assert json.loads(asked.result()["configured"])["id"] == "configured"
    assert listed.wait().keys() == {"configured"}
    assert played.is_left_alone()  # it is not asked again at once


def test_the_older_list_stays_while_the_upstream_fails(
    played: DeepSeek, listed: ModelList, clock: HandClock
) -> None:
    peer = answered(played, listed)
    clock.now += 61
    assert listed.wait() == BY_ID
    reply(peer, status="500 Oh")
    assert peer.sees_the_end()
    assert listed.get() == BY_ID


def test_one_that_does_not_come_in_time_is_given_up(
    played: DeepSeek, listed: ModelList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "SECONDS", 1.0)
    asked = Background(listed.wait)
    peer = played.accept()
    peer.request()
    assert asked.result().keys() == {"configured"}
    assert peer.sees_the_end()


def test_one_that_fails_keeps_no_descriptor(played: DeepSeek, connect: Connect) -> None:
    upstream = connect(played.url.replace("http:", "https:"))
    before = open_descriptors()
    for _ in range(3):
        asked = Background(ModelList(upstream, "configured").wait)
        peer = played.accept()
        peer.send(b"This is no TLS.")
        asked.result()
        peer.socket.close()
    wait_for(lambda: open_descriptors() <= before)


def test_whoever_waits_for_the_first_list_gets_it_when_it_is_asked_for_once(
    played: DeepSeek, listed: ModelList
) -> None:
    assert listed.get() is None
    first = Background(listed.wait)
    peer = played.accept()
    others = [Background(listed.wait) for _ in range(3)]
    assert all(each.still_runs() for each in others)
    assert played.is_left_alone()
    reply(peer)
    assert [each.result() for each in (first, *others)] == [BY_ID] * 4


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_nobody_waits_for_another_than_the_first(
    played: DeepSeek,
    listed: ModelList,
    clock: HandClock,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    """If it fails, that is known for now, too."""
    monkeypatch.setattr(documents, "SECONDS", 3600.0)
    first = Background(listed.wait)
    reply(played.accept(), status=status)
    known = first.result()
    clock.now += 61
    for _ in range(2):
        assert Background(listed.wait).result() == known == listed.get()


@pytest.mark.usefixtures("_plain_environment")
def test_a_mock_of_requests_may_answer(connect: Connect) -> None:
    listed = ModelList(connect(FAR), "configured")
    with RequestsMock() as mock:
        mock.get(f"{FAR}/models", body=LIST)
        assert listed.wait() == BY_ID
