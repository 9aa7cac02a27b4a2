"""Bad input gets one clear sentence and the right status, and costs nobody else anything."""

import json

import pytest
import requests

from .support.servers import Client, chat, new_id

#: One of each kind; :mod:`tests.test_chat_request` has them all.
BODIES = {
    b"": (400, "invalid_json"),
    b'{"messages": "\xff\xfe"}': (400, "invalid_json"),
    b'{"messages": %b}' % (b"[" * 100_000 + b"]" * 100_000): (400, "invalid_json"),
    b"[]": (400, "invalid_request"),
    b'{"messages": [{"content": "hello"}]}': (400, "invalid_request"),
    b'{"messages": "' + b"x" * (1 << 20) + b'"}': (413, "body_too_large"),
}

WRONG_IDS = ["x" * 129, "../../etc/passwd", "a%0d%0ab", "sessi\xf6n"]


@pytest.fixture
def post(proxy):
    def post(data, session_id=None, path="/api/chat/stream"):
        headers = {"X-Session-Id": new_id() if session_id is None else session_id}
        return requests.post(f"{proxy.url}{path}", data=data, headers=headers, timeout=30)

    return post


@pytest.fixture
def neighbour(proxy):
    """A stream beside, which must go on."""
    session_id = new_id()
    client = proxy.start(session_id, simulate={"rate": 50, "tokens": 100_000})
    client.read_until(b"id: 2\n")
    yield client
    client.received = b""
    client.read_until(b"data: ")
    assert proxy.cancel(session_id)[0] == 200
    assert "Traceback" not in proxy.log()


def test_what_can_not_be_used_gets_one_sentence(post, neighbour):
    for body, expected in BODIES.items():
        assert refused_with(post(body)) == expected
    assert refused_with(post(iter([b" " * 65536] * 32))) == (413, "body_too_large")
    for session_id in WRONG_IDS:
        response = post(json.dumps(chat()), session_id.encode("latin-1"))
        assert refused_with(response) == (400, "invalid_session_id")


def refused_with(response):
    """The status and the code of a refusal, which has one sentence."""
    assert response.json()["error"].endswith(".")
    assert "\n" not in response.json()["error"]
    return response.status_code, response.json()["code"]


def test_an_id_that_a_stop_could_not_name_is_refused_and_unknown_to_one(post, proxy):
    for session_id in (".", ".."):
        response = post(json.dumps(chat()), session_id)
        assert refused_with(response) == (400, "invalid_session_id")
        client = Client(proxy.port)
        client.send(
            f"POST /api/chat/cancel/{session_id} HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        answer = client.read_until(b"}")
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"Session not found" in answer


def test_a_stop_for_a_wrong_id_is_not_found_and_forges_no_line(post, proxy, neighbour):
    before = proxy.log().count("Cancel request received")
    for path in (
        *("x" * 129, "a%0d[SSE]%20forged", "..%2F..%2Fetc%2Fpasswd", "%2e%2e/secret"),
        *("%C3%B6", "a%00b", "%", "a b"),
    ):
        response = post(b"", path=f"/api/chat/cancel/{path}")
        assert response.status_code == 404
        assert response.json() == {"success": False, "message": "Session not found"}
    assert post(b"", path="/api/chat/cancel/a%0d%0a[SSE]%20forged").status_code == 404
    assert proxy.log().count("Cancel request received") == before
    assert not any("] forged" in line for line in proxy.log().splitlines())


def test_a_wrong_method_and_an_unknown_address(proxy, neighbour):
    for method, path in (
        *((method, "/api/chat/stream") for method in ("GET", "PUT", "DELETE")),
        *(("GET", "/api/chat/cancel/x"), ("POST", "/healthz")),
    ):
        response = requests.request(method, proxy.url + path, timeout=10)
        assert response.status_code == 405
        assert response.json()["error"] == "This method is not allowed here."
        assert "Allow" in response.headers
    assert refused_with(requests.get(f"{proxy.url}/nothing", timeout=10)) == (404, "not_found")


def test_bytes_that_are_not_http(proxy, neighbour):
    client = Client(proxy.port)
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    client.leave()
