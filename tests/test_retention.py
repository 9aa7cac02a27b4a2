"""Ended answers are kept within bounds."""

import subprocess
import sys

import pytest
import requests

from .support.servers import ROOT, Proxy, ask, new_id
from .support.waiting import wait_for

ENDLESS = {"rate": 100, "tokens": 1_000_000}


@pytest.mark.slow
def test_ended_answers_take_no_more_memory_than_they_may():
    """In a process of its own, as a worker keeps them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.retain"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    allowed, number, grown, kept, first, last = map(int, done.stdout.split())
    assert grown < 1.25 * allowed
    assert number > kept > 0.8 * allowed / 220_000
    assert (first, last) == (0, 1), "the oldest go first"


@pytest.mark.parametrize("kind", ["gunicorn", "pywsgi", "werkzeug"])
def test_an_ended_answer_leaves_nothing_to_the_garbage_collector(kind, deepseek, logs):
    """However it ended: that looks at everything only seldom, and these may be large."""
    settings = {"CHATPROXY_RETAIN": 0.1, "TEST_WITHOUT_COLLECTOR": 1}
    with Proxy(kind, deepseek.url, logs(kind), **settings) as proxy:

        def answers():
            return requests.get(f"{proxy.url}/answers", timeout=10).json()

        for simulate in (ENDLESS, {"never": "tokens"}):
            session_id = new_id()
            client = proxy.start(session_id, simulate={**simulate, "tag": session_id})
            wait_for(lambda tag=session_id: deepseek.entries(tag))
            assert proxy.cancel(session_id)[0] == 200
            client.read_answer()
            client.leave()
        left = proxy.start(new_id(), simulate=ENDLESS)
        left.read_until(b"id: 2\n")
        assert "StreamSession" in answers()
        left.leave()
        for simulate in ({"rate": 0}, {"status": 401}, {"rate": 0, "end": "cut"}):
            assert ask(proxy, simulate=simulate).status_code in (200, 502)
        wait_for(lambda: answers() == [], message="no answer to be there")


def test_many_answers_do_not_have_everything_searched_for_garbage(deepseek, logs):
    """With a thousand streams that would take 100 ms, in which nobody's Stop is heard."""
    with Proxy("gunicorn", deepseek.url, logs("gunicorn")) as proxy:

        def full_collections():
            return requests.get(f"{proxy.url}/full-collections", timeout=10).json()

        before = full_collections()
        clients = [proxy.start(new_id(), simulate={**ENDLESS, "rate": 1}) for _ in range(500)]
        for client in clients:
            client.read_until(b"id: 1\n")
        assert full_collections() == before
