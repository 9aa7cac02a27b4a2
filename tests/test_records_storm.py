"""Records under a real server: each answer has a row, once, whatever the database does."""

import asyncio
import re
import threading
import time
from collections import Counter

import pytest

from .support import storm
from .support.postgresql import query
from .support.servers import DeepSeek, Proxy
from .support.waiting import wait_for

ENDED = re.compile(r"\[SSE\] (\S+) ended outcome=(\w+) phase=(\w+) events=(\d+)")


def endings_in(proxy):
    """What the log tells of each answer that has ended."""
    return Counter(ENDED.findall(proxy.log()))


def rows_in(url):
    found = query(url, "SELECT session_id, outcome, phase, events FROM chatproxy_answers")
    return Counter(tuple(map(str, row)) for row in found)


def run_storm(proxy, number, prefix):
    sessions = storm.plan(1, number, prefix)
    asyncio.run(storm.run(proxy.port, sessions))


@pytest.fixture
def deepseek_alone(logs):
    with DeepSeek(logs("deepseek")) as deepseek:
        yield deepseek


def test_a_database_that_dies_in_a_storm_and_comes_back_has_each_answer_once(
    logs, postgresql, deepseek_alone
):
    """Plain threads have the same in ``test_records``."""
    url = postgresql.new_database()
    with Proxy("gunicorn", deepseek_alone.url, logs("storm"), CHATPROXY_RECORDS=url) as proxy:
        over = threading.Event()

        def kill_again_and_again():
            while not over.wait(0.4):
                postgresql.kill()
                time.sleep(0.3)  # in which answers end
                postgresql.start()

        killer = threading.Thread(target=kill_again_and_again)
        killer.start()
        try:
            run_storm(proxy, 80, "records")
        finally:
            over.set()
            killer.join()
        proxy.wait_until_empty()
        wait_for(lambda: rows_in(url) == endings_in(proxy), 60, "a row for each answer")
        assert len(endings_in(proxy)) > 40
        assert "wait to be recorded" in proxy.log()
        assert "Traceback" not in proxy.log()
        assert postgresql.password not in proxy.log()


def test_two_workers_write_to_one_file_up_to_their_end(logs, tmp_path, deepseek_alone):
    url = f"sqlite:///{tmp_path}/records.db"
    with Proxy(
        "gunicorn", deepseek_alone.url, logs("two"), ["--workers", "2"], CHATPROXY_RECORDS=url
    ) as proxy:
        run_storm(proxy, 60, "two")
        assert proxy.stop() == 0
    assert rows_in(url) == endings_in(proxy)
    assert len(endings_in(proxy)) > 30
    assert "Traceback" not in proxy.log()
    assert "wait to be recorded" not in proxy.log()
