"""/readyz with Redis: 503 with the reason while a stream would not be accepted, else 200."""

import time
from functools import partial

import pytest
import requests

from .support.servers import ask
from .support.valkey import Valkey
from .support.waiting import wait_for


@pytest.fixture
def valkey():
    with Valkey() as server:
        yield server


@pytest.fixture
def start(own_proxy, valkey):
    """Starts a server of one worker."""
    return partial(own_proxy, options=("--keep-alive", "60"), CHATPROXY_PEERS=valkey.url)


def ready(proxy):
    """The status, the reason, and whether the answer came quickly."""
    begun = time.monotonic()
    answer = requests.get(f"{proxy.url}/readyz", timeout=10)
    assert time.monotonic() - begun < 2
    return answer.status_code, answer.json().get("reason", "")


def begins(proxy):
    return ask(proxy, simulate={"rate": 0, "tokens": 1}).status_code == 200


def test_with_a_redis_that_remembers_nothing_it_is_not_ready_until_a_stream_would_begin(
    start, valkey
):
    """Whether Redis is new, for which the wait begins with the server, or was emptied."""
    proxy = start()
    with valkey.client() as redis:
        # The fixture has asked for /healthz alone, which concerns no other worker.
        wait_for(lambda: redis.exists("chatproxy:chatproxy:memory"), message="a first look")
        status, reason = ready(proxy)
        assert (status, reason.partition(",")[0]) == (503, "Redis is new to this application")
        assert not begins(proxy)
        wait_for(lambda: ready(proxy)[0] == 200, message="readiness")
        assert begins(proxy)
        redis.flushall()
        assert not begins(proxy)
        # It does not wait for this worker's next look at Redis.
        status, reason = ready(proxy)
        lost = "What the workers share has just come back"
        assert (status, reason.partition(";")[0]) == (503, lost)


def test_without_redis_it_is_not_ready_and_is_again_when_a_stream_would_begin(start, valkey):
    """Whether it never reached it, or it was killed, or hangs."""
    valkey.kill()
    proxy = start()

    def is_ready_or_says_why():
        status, reason = ready(proxy)
        why = ("cannot be reached", "just come back", "Redis is new")
        assert status == 200 or any(each in reason for each in why), reason
        return status == 200

    for leave, come_back in (
        (lambda: None, valkey.start),
        (valkey.kill, valkey.start),
        (valkey.freeze, valkey.thaw),
    ):
        leave()
        wait_for(lambda: ready(proxy)[0] == 503, message="the outage")
        assert "cannot be reached" in ready(proxy)[1]
        come_back()
        wait_for(is_ready_or_says_why, message="readiness")
        assert begins(proxy)


def test_it_stays_ready_without_redis_while_streams_may_begin_unasked(start, valkey):
    proxy = start(CHATPROXY_WITHOUT_PEERS="run")
    assert ready(proxy) == (200, "")  # an empty Redis, not settled yet
    assert begins(proxy)
    valkey.kill()
    for _ in range(3):
        assert begins(proxy)
        assert ready(proxy) == (200, "")
