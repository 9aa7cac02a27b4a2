"""Behind a real nginx, with the site file that operators get: a Stop stops, a stream flows."""

import contextlib
import json
import re
import socket
import time

import pytest
import requests

from chatproxy.config import Settings

from .support.nginx import NGINX, SITE, Http2Client, Nginx, TlsClient, tls_context
from .support.scripted import Scripted
from .support.servers import ROOT, black_hole, chat, data_events, events, mute_listener, new_id
from .support.valkey import free_port
from .support.waiting import Background

pytestmark = pytest.mark.skipif(not NGINX, reason="nginx is not installed")

LIMIT = Settings().max_body_bytes

#: The endless answers that a client may leave.
SCENARIOS = {
    "before_headers": {"never": "headers"},
    "silent": {"first_token_delay": 60, "keep_alive_every": 0.1},
    "mid_stream": {"rate": 20, "tokens": 10_000},
}


def least_site():
    """The lines that docs/deployment.md gives for a site of one's own, in such a site."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    lines = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)[1]
    assert lines.count("http://127.0.0.1:8000") == 1
    return (
        "upstream chatproxy { server 127.0.0.1:8000; }\n"
        "server { listen 443 ssl http2;\n"
        "ssl_certificate /etc/nginx/tls/fullchain.pem;\n"
        "ssl_certificate_key /etc/nginx/tls/privkey.pem;\n"
        f"{lines.replace('127.0.0.1:8000', 'chatproxy')}}}\n"
    )


@pytest.fixture(scope="module")
def start_nginx(certificate, tmp_path_factory):
    """Starts an nginx in front of some servers; it must have had nothing to complain about."""
    with contextlib.ExitStack() as running:

        def start(*urls, **options):
            servers = [url.removeprefix("http://") for url in urls]
            folder = tmp_path_factory.mktemp("nginx")
            found = Nginx(folder, certificate, servers, **options)
            running.callback(_check_log, found)
            running.callback(found.close)
            return found

        yield start


def _check_log(nginx):
    assert not re.search(r"\[(crit|alert|emerg)\]", nginx.log()), nginx.log()


@pytest.fixture(scope="module")
def proxy(start_proxy, deepseek):
    """chatproxy under gunicorn, in front of the simulated DeepSeek."""
    return start_proxy("gunicorn", deepseek.url)


@pytest.fixture(scope="module")
def nginx(start_nginx, proxy):
    """nginx with the site file, in front of that."""
    return start_nginx(proxy.url)


@pytest.fixture(scope="module", params=["site", "least"])
def either(request, start_nginx, nginx, proxy):
    """nginx with the site file, and with the least that a site of one's own needs."""
    if request.param == "site":
        return nginx
    return start_nginx(proxy.url, site=least_site(), context="")


@pytest.fixture(params=["http/1.1", "h2"])
def connect(request, ca_file):
    """Opens a connection to an nginx, in either protocol."""
    kind = {"http/1.1": TlsClient, "h2": Http2Client}[request.param]
    return lambda nginx: kind(nginx.port, tls_context(ca_file))


@pytest.fixture
def connect_h2(ca_file):
    return lambda nginx: Http2Client(nginx.port, tls_context(ca_file))


@pytest.fixture
def ask(ca_file):
    """Sends a request in HTTP/1.1, with the authority's certificate."""

    def ask(method, url, **options):
        return requests.request(method, url, verify=ca_file, timeout=30, **options)

    return ask


def test_each_event_goes_through_as_it_comes(either, deepseek, connect):
    """At two a second; nginx would otherwise hold back a dozen or more until a buffer is full."""
    session_id = new_id()
    client = connect(either).post_stream(
        session_id, simulate={"tag": session_id, "rate": 2, "tokens": 1_000}
    )
    for number in (1, 2, 3):
        client.read_until(b"id: %d\n" % number)
        assert deepseek.entry(session_id)["tokens"] < number + 6


def test_an_answer_is_the_same_and_not_compressed(nginx, proxy, ask):
    def answer(url):
        response = ask(
            "POST",
            f"{url}/api/chat/stream",
            json=chat(simulate={"rate": 0}),
            headers={"X-Session-Id": new_id(), "Accept-Encoding": "gzip"},
        )
        assert "Content-Encoding" not in response.headers
        return [
            {**json.loads(each["data"]), "id": None, "created": None}
            for each in data_events(response.content)
        ]

    assert len(answer(nginx.url)) > 10
    assert answer(nginx.url) == answer(proxy.url)


def test_a_question_of_the_ai_sdk_goes_through(either, ask):
    """nginx redirects it if the location ends with a slash, and its client then sends a GET."""
    messages = [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}]
    question = {"id": new_id(), "messages": messages, "simulate": {"rate": 0}}
    answer = ask("POST", f"{either.url}/api/chat", json=question, allow_redirects=False)
    assert answer.status_code == 200
    assert answer.content.endswith(b"data: [DONE]\n\n")


def test_a_stop_gets_its_receipt_and_ends_the_stream(nginx, proxy, deepseek, connect, ask):
    session_id = new_id()
    client = connect(nginx).post_stream(session_id, simulate={"tag": session_id, "rate": 20})
    client.read_until(b"id: 3\n")
    answer = ask("POST", f"{nginx.url}/api/chat/cancel/{session_id}")
    assert (answer.status_code, answer.json()["upstreamClosed"]) == (200, True)
    assert b'"reason":"user"' in client.read_until(b"data: [DONE]")
    assert deepseek.gone(session_id)["finished"] is False
    assert proxy.lines(f"{session_id} aborted by client")


def test_a_stop_may_share_the_connection_of_its_stream(nginx, deepseek, connect_h2):
    """As a browser sends it, in HTTP/2; also while nothing was heard of the stream yet."""
    session_id = new_id()
    client = connect_h2(nginx).post_stream(
        session_id, simulate={"tag": session_id, "never": "headers"}
    )
    stream = client.stream
    deepseek.entry(session_id)
    client.send("POST", f"/api/chat/cancel/{session_id}")
    status, body = client.read_answer()
    assert (status, json.loads(body)["upstreamClosed"]) == (200, True)
    assert events(client.read_answer(stream)[1])[-1]["data"] == "[DONE]"
    deepseek.gone(session_id)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("way", ["leave", "reset"])
def test_a_client_that_goes_away_ends_its_answer(nginx, deepseek, connect, way, scenario):
    """It closes its connection, or resets it; in HTTP/2 it resets the stream alone.

    What came before has come through: also a keep-alive.
    """
    session_id = new_id()
    client = connect(nginx).post_stream(
        session_id, simulate={"tag": session_id, **SCENARIOS[scenario]}
    )
    deepseek.entry(session_id)
    if scenario != "before_headers":
        client.read_until(b": keep-alive" if scenario == "silent" else b"id: 2\n")
    left_at = time.monotonic()
    getattr(client, way)()
    assert deepseek.gone(session_id)["peer_gone_mono"] - left_at < 1


def test_a_stream_that_is_reset_leaves_the_others_of_its_connection(nginx, deepseek, connect_h2):
    stays, goes = new_id(), new_id()
    client = connect_h2(nginx).post_stream(stays, simulate={"tag": stays, "rate": 20, "tokens": 20})
    first = client.stream
    client.post_stream(goes, simulate={"tag": goes, "rate": 20})
    client.read_until(b"id: 2\n")
    client.reset()
    deepseek.gone(goes)
    assert deepseek.entry(stays)["open"] is True
    assert events(client.read_answer(first)[1])[-1]["data"] == "[DONE]"


def test_silence_is_bridged_by_heartbeats(start_nginx, start_proxy, deepseek, connect_h2):
    """nginx would cut it short; here its patience is one second instead of sixty."""

    def begin(heartbeat):
        proxy = start_proxy("gunicorn", deepseek.url, CHATPROXY_HEARTBEAT=heartbeat)
        impatient = {"proxy_read_timeout 60s;": "proxy_read_timeout 1s;"}
        nginx = start_nginx(proxy.url, values=impatient)
        scenario = {"tag": f"{nginx.port}", "first_token_delay": 3, "tokens": 1}
        return connect_h2(nginx).post_stream(new_id(), simulate=scenario), scenario["tag"]

    cut, kept = begin(heartbeat=30), begin(heartbeat=0.2)
    deepseek.gone(cut[1])
    assert b": heartbeat\n" in kept[0].read_until(b"data: [DONE]")


def test_the_site_waits_far_longer_than_a_heartbeat():
    patience = re.search(r"proxy_read_timeout (\d+)s;", SITE.read_text())[1]
    assert int(patience) >= 3 * Settings().heartbeat


def _body_of(size):
    """A question of exactly ``size`` bytes, of which DeepSeek's simulation takes no long look."""
    empty = json.dumps(chat(simulate={"rate": 0, "tokens": 1}, pad="")).encode()
    return empty.replace(b'"pad": ""', b'"pad": "%b"' % (b"x" * (size - len(empty))))


@pytest.fixture
def post_body(ask):
    """Sends a body to the stream route."""

    def post_body(url, body):
        headers = {"X-Session-Id": new_id(), "Content-Type": "application/json"}
        return ask("POST", f"{url}/api/chat/stream", data=body, headers=headers)

    return post_body


def test_the_largest_body_passes_and_is_not_written_to_a_disk(nginx, post_body):
    assert post_body(nginx.url, _body_of(LIMIT)).status_code == 200
    assert "temporary file" not in nginx.log()


def test_a_body_over_the_limit_is_refused_in_the_same_words(nginx, proxy, post_body):
    refused, direct = (post_body(url, _body_of(LIMIT + 1)) for url in (nginx.url, proxy.url))
    assert refused.status_code == direct.status_code == 413
    assert refused.headers["Content-Type"] == direct.headers["Content-Type"]
    assert refused.json() == direct.json()
    assert "too large body" in nginx.log()


def test_a_conversation_may_be_larger(nginx, ask):
    for size, allowed in ((2 << 20, True), (4 << 20, False)):
        answer = ask("PUT", f"{nginx.url}/api/chat/conversations/c1", data=b"x" * size)
        # Nothing is kept here: that it is a 404 is the word of the server behind.
        assert (answer.status_code == 413) is not allowed
        assert allowed or answer.json()["code"] == "body_too_large"
    assert "temporary file" not in nginx.log()


def test_a_body_over_the_limit_is_refused_before_it_is_sent(nginx, connect_h2):
    client = connect_h2(nginx)
    length = ("content-length", str(LIMIT + 1))
    client.announce("POST", "/api/chat/stream", [length, ("x-session-id", new_id())])
    status, body = client.read_answer()
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/metrics", "/metrics?x=1", "//metrics", "/%6detrics"])
def test_metrics_are_not_for_the_world(nginx, connect_h2, path):
    client = connect_h2(nginx)
    client.send("GET", path)
    assert client.read_answer()[0] == 403


def test_the_page_and_the_health_checks_pass(nginx, ask):
    assert "<title>" in ask("GET", nginx.url).text
    assert ask("GET", f"{nginx.url}/healthz").json() == {"status": "ok"}
    assert ask("GET", f"{nginx.url}/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("simulate", "status"), [(None, 409), ({"status": 503}, 503), ({"status": 401}, 502)]
)
def test_refusals_pass_unchanged(nginx, proxy, ask, simulate, status):
    """The first is of a question whose Stop has come before it, and has found nothing."""

    def refusal(url):
        session_id = new_id()
        if simulate is None:
            stop = ask("POST", f"{url}/api/chat/cancel/{session_id}")
            assert stop.status_code == 404
            assert stop.json() == {"success": False, "message": "Session not found"}
        return ask(
            "POST",
            f"{url}/api/chat/stream",
            json=chat(simulate=simulate or {}),
            headers={"X-Session-Id": session_id},
        )

    through, direct = refusal(nginx.url), refusal(proxy.url)
    assert through.status_code == direct.status_code == status
    assert through.json() == direct.json()
    for name in ("Content-Type", "X-Should-Retry"):
        assert through.headers.get(name) == direct.headers.get(name)


def hang_up(connection, _body):
    connection.shutdown(socket.SHUT_RDWR)


def test_a_post_that_was_sent_is_not_sent_again(start_nginx, post_body):
    """Another host would begin the answer a second time."""
    with Scripted(hang_up) as one, Scripted(hang_up) as other:
        nginx = start_nginx(one.url, other.url)
        assert post_body(nginx.url, b"{}").status_code == 502
        assert one.asked + other.asked == [b"{}"]


@pytest.fixture(params=["refuses", "is_silent"])
def unreachable(request):
    """The address of a host that can't be reached."""
    if request.param == "is_silent":
        with black_hole() as url:
            yield url
    else:
        yield f"http://127.0.0.1:{free_port()}"


def test_a_host_that_cannot_be_reached_is_passed_over(start_nginx, unreachable, proxy, post_body):
    quick = {"proxy_connect_timeout 5s;": "proxy_connect_timeout 1s;"}
    nginx = start_nginx(unreachable, proxy.url, values=quick)
    for _ in range(2):
        assert post_body(nginx.url, _body_of(200)).status_code == 200


def test_who_asks_and_how_is_told_in_http_1_1_and_cannot_be_made_up(start_nginx, ask):
    """In HTTP/1.0 an answer that was cut off would look like a whole one."""
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "Host": "test:1"}
    with mute_listener() as listener:
        nginx = start_nginx("http://{}:{}".format(*listener.getsockname()))
        url = f"{nginx.url}/api/chat/cancel/x"
        asking = Background(lambda: ask("POST", url, headers=forged))
        with listener.accept()[0] as connection:
            head = connection.recv(65536).decode()
        asking.result()
    assert head.startswith("POST /api/chat/cancel/x HTTP/1.1\r\n")
    forwarded = sorted(line for line in head.split("\r\n") if line.startswith(("X-For", "Host")))
    assert forwarded == [
        "Host: test",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: test",
        "X-Forwarded-Proto: https",
    ]


def test_the_name_that_the_browser_asks_for_must_be_one_of_chatproxys(
    start_nginx, start_proxy, deepseek, ask
):
    named = start_proxy("gunicorn", deepseek.url, CHATPROXY_HOSTS="chat.example.com")
    nginx = start_nginx(named.url)
    for host, status in [("chat.example.com", 200), ("CHAT.example.com:443", 200), ("a.test", 421)]:
        answer = ask("GET", f"{nginx.url}/page.json", headers={"Host": host})
        assert answer.status_code == status, host
