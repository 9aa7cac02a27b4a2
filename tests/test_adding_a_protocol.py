"""docs/adding-a-protocol.md: its protocol, plain text, written here and spoken by a route."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response

from chatproxy import ChatProxy, Refusal, sse
from chatproxy.answers.session import SessionKey
from chatproxy.answers.transcript import chunk_of
from chatproxy.protocols import chat_request
from chatproxy.protocols.headers import check_session_id
from chatproxy.web import streaming
from chatproxy.web.state import current_state

from .support.servers import ROOT, DeepSeek, chat, new_id
from .support.spoken import ERROR, STOPPED, delta, numbered

GUIDE = ROOT / "docs" / "adding-a-protocol.md"

# --- the protocol


class TextEncoder:
    """An ``Encoder``: the plain text of an answer."""

    heartbeat = b""
    refusal = withheld = None

    def __init__(self) -> None:
        self._decoder = sse.Decoder()

    def encode(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        return b"".join(map(self._text_of, self._decoder.feed(data)))

    def fail(self, refusal: Refusal) -> bytes:
        """See ``Encoder``."""
        return f"\n[{refusal.message}]\n".encode()

    def _text_of(self, block: bytes) -> bytes:
        if sse.is_comment(block) or sse.is_done(block):
            return b""
        said = chunk_of(block)
        with suppress(LookupError, TypeError, AttributeError):  # what is not understood is left out
            if "error" in said:
                return f"\n[{said['error']['message']}]\n".encode()
            if block.startswith(b"event: stopped"):
                return f"\n[stopped: {said['reason']}]\n".encode()
            deltas = [choice["delta"].get("content") or "" for choice in said["choices"]]
            return "".join(deltas).encode("utf-8", "replace")
        return b""


# --- the route


FORM = streaming.Form(Refusal.as_json, {"Content-Type": "text/plain; charset=utf-8"})


def blueprint(url_prefix: str) -> Blueprint:
    """The routes of this protocol."""
    routes = streaming.routes("text", url_prefix, FORM)
    routes.post("/<session_id>")(text)
    return routes


def text(session_id: str) -> Response:
    """Ask, and answer in plain text."""
    state = current_state()
    key = SessionKey(state.establish_owner(), check_session_id(session_id))
    state.registry.check_claim(key)
    payload = chat_request.parse(streaming.read_body(state))
    return streaming.begin(state, key, payload, 0.0, encoder=TextEncoder(), form=FORM)


# --- what it does


@pytest.fixture
def app(deepseek: DeepSeek) -> Flask:
    app = Flask("texts")
    app.config["DEEPSEEK_BASE_URL"] = deepseek.url
    ChatProxy(app, name=new_id())
    app.register_blueprint(blueprint("/text"))
    return app


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([delta(content="one"), delta(content=" two"), sse.DONE], "one two"),
        ([delta(content=None, reasoning_content="hm"), delta(content="é")], "é"),
        ([b'data: {"choices": [], "usage": {}}', b"data: 1", b"data: {}", b"data: x"], ""),
        ([delta(content="one"), STOPPED], "one\n[stopped: user]\n"),
        ([ERROR], "\n[It broke.]\n"),
    ],
)
def test_events_become_text(blocks: list[bytes], text: str) -> None:
    """And comments say nothing."""
    comments = sse.KEEP_ALIVE + sse.HEARTBEAT
    assert TextEncoder().encode(comments + numbered(*blocks)).decode() == text


def test_an_answer_is_plain_text(app: Flask) -> None:
    response = app.test_client().post(f"/text/{new_id()}", json=chat(simulate={"tokens": 4}))
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    assert len(response.text.split()) > 0
    assert "{" not in response.text


def test_a_stop_ends_it(app: Flask, deepseek: DeepSeek) -> None:
    session_id, tag = new_id(), new_id()
    client = app.test_client()
    simulate = {"rate": 50, "tag": tag, "reasoning_tokens": 0}
    response = client.post(f"/text/{session_id}", json=chat(simulate=simulate))
    pieces = response.iter_encoded()
    while not next(pieces):
        pass
    receipt = client.post(f"/api/chat/cancel/{session_id}").json
    assert receipt is not None
    assert receipt["upstreamClosed"]
    assert b"".join(pieces).endswith(b"\n[stopped: user]\n")
    assert not deepseek.gone(tag)["finished"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (chat(simulate={"status": 402}), 502, "upstream_balance"),
        ({"messages": []}, 400, "invalid_request"),
    ],
)
def test_a_refusal_is_that_of_every_route(app: Flask, body: Any, status: int, code: str) -> None:
    response = app.test_client().post(f"/text/{new_id()}", json=body)
    assert response.json is not None
    assert (response.status_code, response.json["code"]) == (status, code)


def test_the_guide_shows_this_code() -> None:
    shown = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(shown) >= 2
    here = Path(__file__).read_text()
    assert [block for block in shown if block not in here] == []
