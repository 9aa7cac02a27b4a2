"""Several upstreams, and several questions of a chat, on real servers: the ledger has the word.

In front of whatever keeps a stream in its phase there is an upstream that refuses every question.
"""

import contextlib
import json
import re
from functools import partial

import pytest
import requests

from .support import cluster, servers
from .support.phases import Phases
from .support.scripted import Scripted
from .support.servers import events, new_id
from .support.waiting import wait_for


@pytest.fixture(scope="module")
def refusing():
    """Such an upstream."""
    refusal = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    with Scripted(lambda connection, _body: connection.sendall(refusal)) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def start_behind(start_proxy, refusing, tmp_path_factory):
    """Starts servers whose every question is refused first, and then put to DeepSeek."""
    path = tmp_path_factory.mktemp("upstreams") / "upstreams.toml"
    path.write_text(
        f'[upstreams.broken]\nbase_url = "{refusing.url}"\n'
        '[models]\ndeepseek-flash = ["broken", "DeepSeek"]\n'
    )
    return partial(start_proxy, CHATPROXY_UPSTREAMS=str(path))


@pytest.fixture(scope="module")
def phases(start_behind, deepseek):
    with contextlib.closing(Phases(start_behind, deepseek)) as phases:
        yield phases


@pytest.mark.parametrize(
    "phase",
    ["connecting", "tls_handshake", "before_headers", "silent", "between_retries", "mid_stream"],
)
def test_a_stop_ends_the_second_upstream_in_every_phase(phases, refusing, kind, phase):
    with phases.reach(phase, kind) as stream:
        passed_over = f"broken failed {stream.id}, DeepSeek next"
        wait_for(lambda: passed_over in stream.proxy.log())
        number = len(refusing.asked)
        status, receipt = stream.proxy.cancel(stream.id)
        assert (status, receipt["upstreamClosed"]) == (200, True)
        assert (receipt["phase"], receipt["upstream"]) == (stream.phase, "DeepSeek")
        entry = stream.upstream_gone()
        assert not (entry and entry["open"])
        assert len(refusing.asked) == number  # nobody is asked afterwards


def test_a_stop_ends_the_second_upstream_behind_tls(
    start_behind, refusing, kind, deepseek_tls, ca_file
):
    proxy = start_behind(kind, deepseek_tls.url, REQUESTS_CA_BUNDLE=ca_file)
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, "rate": 50, "tokens": 100_000})
    client.read_until(b"id: 3\n")
    status, receipt = proxy.cancel(session_id)
    assert (status, receipt["upstreamClosed"], receipt["upstream"]) == (200, True, "DeepSeek")
    assert not deepseek_tls.gone(session_id)["finished"]
    assert sum(session_id.encode() in body for body in refusing.asked) == 1


def test_the_metrics_tell_which_upstream_failed_and_which_answered(start_behind, deepseek, kind):
    proxy = start_behind(kind, deepseek.url)

    def counted(upstream, outcome):
        text = requests.get(f"{proxy.url}/metrics", timeout=10).text
        name = f'chatproxy_upstream_calls_total{{outcome="{outcome}",upstream="{upstream}"}}'
        found = re.search(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    cases = (("broken", "passed_on"), ("DeepSeek", "finished"))
    before = [counted(*each) for each in cases]
    assert servers.ask(proxy, simulate={"rate": 0, "tokens": 2}).ok
    wait_for(lambda: [counted(*each) for each in cases] == [number + 1 for number in before])


# --- several questions of a chat


@pytest.fixture(scope="module", params=["replace", "enqueue"])
def on_active(request):
    return request.param


@pytest.fixture(scope="module")
def workers(on_active, deepseek, logs, tmp_path_factory):
    """Two workers of one gunicorn."""
    settings = {"CHATPROXY_TOKENS": cluster.tokens("ada"), "CHATPROXY_ON_ACTIVE": on_active}
    folder = tmp_path_factory.mktemp("r")
    with cluster.start("gunicorn", deepseek, logs, folder, workers=2, **settings) as started:
        yield started.workers


def ask(worker, chat):
    """A question that is answered without end, in this chat or in none."""
    headers = {"X-Chat-Id": chat} if chat else {}
    return worker.start(new_id(), headers=headers, rate=50, tokens=100_000)


@pytest.mark.parametrize("on_active", ["replace"], indirect=True)
@pytest.mark.parametrize("chat", ["chat_1", None], ids=["of a chat", "of an owner"])
def test_a_new_question_replaces_the_live_one_on_another_worker(workers, deepseek, chat):
    first = ask(workers[0], chat)
    first.read_event()
    second = ask(workers[1], chat)
    assert second.status == 200
    assert not deepseek.gone(first.id)["finished"]
    *_, stopped, done = events(first.read())
    assert json.loads(stopped["data"])["reason"] == "replaced"
    assert done["data"] == "[DONE]"
    (line,) = workers[0].proxy.lines(f"{first.id} replaced by")
    assert line.startswith(f"[SSE] {first.id} replaced by {second.id} phase=streaming events=")
    assert "upstreamClosed=true" in line
    assert workers[0].cancel(second.id)[0] == 200


@pytest.mark.parametrize("on_active", ["replace"], indirect=True)
def test_questions_of_two_chats_are_not_in_each_others_way(workers):
    streams = [ask(worker, f"chat_{number}") for number, worker in enumerate(workers)]
    for stream in streams:
        stream.read_event()
    assert [workers[0].cancel(stream.id)[0] for stream in streams] == [200, 200]


@pytest.mark.parametrize("on_active", ["enqueue"], indirect=True)
def test_a_new_question_waits_for_the_live_one_on_another_worker(workers, deepseek):
    first = ask(workers[0], "chat_1")
    first.read_event()
    second, third = ask(workers[1], "chat_1"), ask(workers[1], "chat_1")
    for waiting in (second, third):
        assert waiting.response().readline() == b": queued\n"
        assert deepseek.entries(waiting.id) == []
    status, receipt = workers[0].cancel(second.id)
    assert (status, receipt["phase"], receipt["upstream"]) == (200, "connecting", None)
    assert workers[1].cancel(first.id)[0] == 200
    wait_for(lambda: deepseek.entries(third.id))
    assert deepseek.entries(second.id) == []
    assert workers[0].cancel(third.id)[0] == 200


@pytest.mark.parametrize("on_active", ["enqueue"], indirect=True)
def test_whoever_leaves_while_waiting_is_out(workers, deepseek):
    first = ask(workers[0], "chat_1")
    first.read_event()
    second = ask(workers[1], "chat_1")
    assert second.response().readline() == b": queued\n"
    second.leave()
    wait_for(lambda: workers[0].proxy.lines(f"{second.id} ended outcome=stopped"))
    assert workers[1].cancel(first.id)[0] == 200
    assert deepseek.entries(second.id) == []
