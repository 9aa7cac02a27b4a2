"""docs/adding-a-protocol.md: its protocol, plain text, written here and spoken by a route."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Blueprint, Flask, Response, request

from chatproxy import ChatProxy, Refusal, sse
from chatproxy.answers.readers import Reader
from chatproxy.answers.session import SessionKey
from chatproxy.protocols import chat_request, headers
from chatproxy.server.disconnect import Watch
from chatproxy.web import native
from chatproxy.web.state import current_state

from .support.servers import ROOT, DeepSeek, chat, new_id

GUIDE = ROOT / "docs" / "adding-a-protocol.md"

# --- the protocol


class TextWriter:
    """The plain text of an answer: log events in, bytes out. No I/O."""

    def __init__(self) -> None:
        self._decoder = sse.Decoder()

    def write(self, data: bytes) -> bytes:
        """The text of these events, which may be any number of whole ones."""
        return b"".join(map(self._text_of, self._decoder.feed(data)))

    def fail(self, refusal: Refusal) -> bytes:
        """What is said if the rest can't be read."""
        return f"\n[{refusal.message}]\n".encode()

    def _text_of(self, block: bytes) -> bytes:
        if sse.is_comment(block) or sse.is_done(block):
            return b""
        chunk = json.loads(sse.data_of(block))
        if "error" in chunk:
            return f"\n[{chunk['error']['message']}]\n".encode()
        if block.startswith(b"event: stopped"):
            return f"\n[stopped: {chunk['reason']}]\n".encode()
        deltas = [choice["delta"].get("content") or "" for choice in chunk["choices"]]
        return "".join(deltas).encode("utf-8", "replace")


# --- the route


routes = Blueprint("text", __name__)
routes.errorhandler(Refusal)(native.refuse)


@routes.post("/text/<session_id>")
def text(session_id: str) -> Response:
    """Ask, and answer in plain text."""
    state = current_state()
    key = SessionKey(state.establish_owner(), headers.check_session_id(session_id))
    question = state.prepare(chat_request.parse(request.get_data()))
    reader = state.service.begin(key, question, 0.0)
    watch = state.watcher.watch(request.environ, reader.close)
    return Response(TextStream(reader, watch), content_type="text/plain; charset=utf-8")


class TextStream:
    """The body of the response; the server iterates it, and closes it in any case."""

    def __init__(self, reader: Reader, watch: Watch | None) -> None:
        self._reader, self._watch = reader, watch

    def __iter__(self) -> Iterator[bytes]:
        writer = TextWriter()
        try:
            while (ready := self._reader.read(60.0)) is not None:
                yield writer.write(ready)
        except Refusal as refusal:
            yield writer.fail(refusal)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._reader.close()


# --- what it does


_numbers = itertools.count(1)


@pytest.fixture
def app(deepseek: DeepSeek) -> Flask:
    app = Flask("texts")
    app.config["DEEPSEEK_BASE_URL"] = deepseek.url
    ChatProxy(app, name=f"texts-{next(_numbers)}")
    app.register_blueprint(routes)
    return app


def numbered(*blocks: bytes) -> bytes:
    """These blocks as the log has them."""
    return b"".join(sse.numbered(*each) for each in enumerate(blocks, 1))


def chunk(content: str | None, **more: str) -> bytes:
    delta = {"content": content, **more}
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode()


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([chunk("one"), chunk(" two"), sse.DONE], "one two"),
        ([chunk(None, reasoning_content="hm"), chunk("é")], "é"),
        ([b'data: {"choices": [], "usage": {}}'], ""),
        ([chunk("one"), b'event: stopped\ndata: {"reason": "user"}'], "one\n[stopped: user]\n"),
        ([b'event: error\ndata: {"error": {"message": "Oh."}}'], "\n[Oh.]\n"),
    ],
)
def test_events_become_text(blocks: list[bytes], text: str) -> None:
    assert TextWriter().write(numbered(*blocks)).decode() == text


def test_comments_say_nothing() -> None:
    assert TextWriter().write(sse.KEEP_ALIVE + sse.HEARTBEAT + numbered(chunk("one"))) == b"one"


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


def test_a_failure_is_told(app: Flask) -> None:
    response = app.test_client().post(f"/text/{new_id()}", json=chat(simulate={"status": 402}))
    assert response.text.startswith("\n[")


def test_a_refusal_is_that_of_every_route(app: Flask) -> None:
    response = app.test_client().post(f"/text/{new_id()}", json={"messages": []})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["code"] == "invalid_request"


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_that_leaves_ends_it(app: Flask, deepseek: DeepSeek, reads: bool) -> None:
    tag = new_id()
    simulate = {"rate": 50, "tag": tag}
    response = app.test_client().post(f"/text/{new_id()}", json=chat(simulate=simulate))
    if reads:
        next(response.iter_encoded())
    response.close()
    assert not deepseek.gone(tag)["finished"]


def test_the_guide_shows_this_code() -> None:
    shown = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(shown) >= 2
    here = Path(__file__).read_text()
    assert [block for block in shown if block not in here] == []
