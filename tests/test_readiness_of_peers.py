"""/readyz with Redis: 503 with the reason while a stream would not be accepted, else 200."""

import time

import pytest
import requests

from .support import cluster
from .support.servers import Proxy, new_id
from .support.valkey import Valkey
from .support.waiting import wait_for


@pytest.fixture
def valkey():
    with Valkey() as server:
        yield server


@pytest.fixture
def start(deepseek, logs, valkey):
    """Starts a server of one worker."""
    proxies = []

    def start(**settings):
        settings = {"CHATPROXY_PEERS": valkey.url, **settings}
        proxies.append(
            Proxy("gunicorn", deepseek.url, logs("ready"), ("--keep-alive", "60"), **settings)
        )
        return proxies[-1]

    yield start
    for proxy in proxies:
        with proxy:
            pass


def ready(proxy):
    """The status, the reason, and whether the answer came quickly."""
    begun = time.monotonic()
    answer = requests.get(f"{proxy.url}/readyz", timeout=10)
    assert time.monotonic() - begun < 2
    return answer.status_code, answer.json().get("reason", "")


def begins(proxy):
    stream = cluster.Stream.begin(proxy, new_id(), rate=0, tokens=1)
    stream.read()
    return stream.status == 200


def test_with_an_empty_redis_it_is_not_ready_until_a_stream_would_begin(start, valkey):
    with start() as proxy:
        status, reason = ready(proxy)
        assert (status, reason.partition(",")[0]) == (503, "Redis is new to this application")
        assert not begins(proxy)
        wait_for(lambda: ready(proxy)[0] == 200, message="readiness")
        assert begins(proxy)


def test_the_wait_for_a_new_redis_begins_with_the_server_and_not_with_its_first_user(start, valkey):
    with start(), valkey.client() as redis:
        # The fixture has asked for /healthz alone, which concerns no other worker.
        wait_for(lambda: redis.exists("chatproxy:chatproxy:memory"), message="a first look")


@pytest.mark.parametrize("way", ["kill", "freeze"])
def test_without_redis_it_is_not_ready_and_is_again_when_a_stream_would_begin(start, valkey, way):
    valkey.settle("chatproxy")
    with start() as proxy:
        wait_for(lambda: ready(proxy)[0] == 200, message="readiness")
        getattr(valkey, way)()
        wait_for(lambda: ready(proxy)[0] == 503, message="the outage")
        assert "cannot be reached" in ready(proxy)[1]
        valkey.start() if way == "kill" else valkey.thaw()

        def is_ready_or_says_why():
            status, reason = ready(proxy)
            assert status == 200 or "cannot be reached" in reason or "just come back" in reason
            return status == 200

        wait_for(is_ready_or_says_why, message="readiness")
        assert begins(proxy)


def test_once_a_stream_was_refused_after_a_flush_it_is_not_ready(start, valkey):
    """It does not wait for this worker's next look at Redis."""
    valkey.settle("chatproxy")
    with start() as proxy:
        wait_for(lambda: ready(proxy)[0] == 200, message="readiness")
        with valkey.client() as redis:
            redis.flushall()
        assert not begins(proxy)
        status, reason = ready(proxy)
        assert (status, reason.partition(";")[0]) == (
            503,
            "What the workers share has just come back",
        )


def test_it_stays_ready_without_redis_while_streams_may_begin_unasked(start, valkey):
    with start(CHATPROXY_WITHOUT_PEERS="run") as proxy:
        assert ready(proxy) == (200, "")  # an empty Redis, not settled yet
        assert begins(proxy)
        valkey.kill()
        for _ in range(3):
            assert begins(proxy)
            assert ready(proxy) == (200, "")


def test_a_server_that_has_never_reached_its_redis_is_not_ready(start, valkey):
    valkey.kill()
    with start() as proxy:
        status, reason = ready(proxy)
        assert status == 503
        assert "cannot be reached" in reason
        valkey.start()
        wait_for(lambda: ready(proxy)[0] == 200, message="readiness")
