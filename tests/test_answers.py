"""An answer reaches the client as DeepSeek sent it."""

import re

import pytest
import requests

from .support.servers import Client, ask, chat, events, new_id
from .support.waiting import wait_for


def _data_lines(body):
    """The data lines without what differs from answer to answer."""
    lines = re.findall(rb"^data: .*$", body, re.MULTILINE)
    return [re.sub(rb'"id":"[^"]*"|"created":\d+', b"", line) for line in lines]


@pytest.mark.parametrize("fields", [{}, {"thinking": {"type": "disabled"}}])
def test_data_lines_are_byte_for_byte_those_of_deepseek(proxy, deepseek, fields):
    body = chat(simulate={"rate": 0}, stream=True, model="deepseek-flash", **fields)
    direct = requests.post(f"{deepseek.url}/chat/completions", json=body, timeout=30)
    relayed = ask(proxy, simulate={"rate": 0}, **fields)
    assert len(_data_lines(direct.content)) > 10
    assert _data_lines(relayed.content) == _data_lines(direct.content)


@pytest.mark.parametrize(
    ("scenario", "comment"),
    [
        ({"never": "headers"}, b": heartbeat\n"),
        ({"never": "tokens"}, b": heartbeat\n"),
        ({"first_token_delay": 60, "keep_alive_every": 0.02}, b": keep-alive\n"),
    ],
)
def test_silence_gives_heartbeats_or_deepseeks_keep_alives_also_before_the_answer_began(
    kind, start_proxy, deepseek, scenario, comment
):
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_HEARTBEAT=0.1)
    client = proxy.start(new_id(), simulate=scenario)
    assert client.read_until(comment).startswith(b"HTTP/1.1 200")
    client.received = b""
    client.read_until(comment)


def test_a_slow_reader_loses_nothing(kind, start_proxy, deepseek):
    """Far more than the log and the sockets hold waits for a client that reads late."""
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_LOG_BYTES=50_000)
    session_id, newest = new_id(), [0]
    client = Client(proxy.port, receive_buffer=4096)
    client.post_stream(session_id, simulate={"rate": 0, "text": "x" * 5000, "tokens": 1_500})

    def is_stalled():
        held = requests.get(f"{proxy.url}/held", timeout=10).json()
        newest.append(held.get(session_id, 0))
        return len(newest) > 10 and newest[-10] == newest[-1] > 0

    wait_for(is_stalled)
    assert newest[-1] < 1_500
    status, body = client.read_answer()
    assert status == 200
    found = events(body)
    assert [int(event["id"]) for event in found] == list(range(1, len(found) + 1))
    assert len(found) > 1_500
    assert found[-1]["data"] == "[DONE]"


def test_whole_answers_over_tls(kind, start_proxy, deepseek_tls, ca_file):
    proxy = start_proxy(kind, deepseek_tls.url, REQUESTS_CA_BUNDLE=ca_file)
    for _ in range(3):
        status, body = proxy.start(new_id(), simulate={"rate": 0, "tokens": 50}).read_answer()
        assert status == 200
        assert events(body)[-1]["data"] == "[DONE]"
