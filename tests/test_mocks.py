"""An application's own tests may put ``responses`` or ``requests_mock`` in DeepSeek's place."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import requests_mock
import responses
from flask import Flask
from werkzeug.test import TestResponse

from chatproxy import ChatProxy, stream_ended

from .support.waiting import PATIENCE, wait_for

URL = "https://deepseek.example/chat/completions"
CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}\n\n'
DONE = b"data: [DONE]\n\n"

#: Says what the mocked DeepSeek answers; returns how often it was asked.
Answer = Callable[..., Callable[[], int]]


def with_responses() -> Iterator[Answer]:
    with responses.RequestsMock() as mock:

        def answer(status: int = 200, body: Any = b"", **headers: str) -> Callable[[], int]:
            mock.add("POST", URL, status=status, body=body, headers=headers)
            return lambda: len(mock.calls)

        yield answer


def with_requests_mock() -> Iterator[Answer]:
    with requests_mock.Mocker() as mock:

        def answer(status: int = 200, body: Any = b"", **headers: str) -> Callable[[], int]:
            given = {"content": body} if isinstance(body, bytes) else {"body": body}
            mock.post(URL, status_code=status, headers=headers, **given)
            return lambda: int(mock.call_count)

        yield answer


@pytest.fixture(params=[with_responses, with_requests_mock])
def answer(request: pytest.FixtureRequest) -> Iterator[Answer]:
    yield from request.param()


@pytest.fixture
def app() -> Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(DEEPSEEK_BASE_URL="https://deepseek.example", DEEPSEEK_API_KEY="sk-test")
    ChatProxy(app)
    yield app
    app.extensions["chatproxy"].upstream.close()


def ask(app: Flask, session_id: str = "session_1") -> TestResponse:
    headers = {"X-Session-Id": session_id}
    return app.test_client().post("/api/chat/stream", json=CHAT, headers=headers)


def test_a_mocked_answer_is_streamed(app: Flask, answer: Answer) -> None:
    asked = answer(body=EVENT + DONE)
    ended: list[dict[str, Any]] = []
    with stream_ended.connected_to(lambda _app, **told: ended.append(told), app):
        response = ask(app)
        assert response.status_code == 200
        assert EVENT in response.data
        assert response.data.endswith(DONE)
        wait_for(lambda: bool(ended))
    assert (ended[0]["outcome"], ended[0]["text"]) == ("finished", "Hello")
    assert asked() == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "upstream_rejected"), (500, "upstream_failed"), (307, "upstream_failed")],
)
def test_a_mocked_error_is_an_error(app: Flask, answer: Answer, status: int, code: str) -> None:
    """And so is a redirect, which is not followed."""
    said = b'{"error": {"message": "No."}}'
    asked = answer(status, said, Location="http://elsewhere.example/")
    response = ask(app)
    assert response.json is not None
    assert response.json["code"] == code
    assert asked() == 1


def test_the_words_of_a_mocked_exception_are_in_the_log(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    app.extensions["chatproxy"].upstream.tries = 1
    with responses.RequestsMock() as mock:
        mock.add("POST", URL, body=requests.ConnectionError("Out of order"))
        assert ask(app).status_code == 502
    wait_for(lambda: "DeepSeek failed session_1: Out of order (try 1 of 1" in caplog.text)


class Pausing(io.RawIOBase):
    """A body that pauses after its first event, until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._begun:
            assert self.go_on.wait(PATIENCE)
        self._begun = True
        buffer[: len(EVENT)] = EVENT
        return len(EVENT)


def test_a_mocked_answer_can_be_stopped(app: Flask, answer: Answer) -> None:
    """As soon as the mock goes on: it has no socket that could be shut."""
    body = Pausing()
    answer(body=io.BufferedReader(body, len(EVENT)))
    response = ask(app)
    assert EVENT in next(iter(response.response))
    with ThreadPoolExecutor(1) as pool:
        stop = pool.submit(app.test_client().post, "/api/chat/cancel/session_1")
        (session,) = app.extensions["chatproxy"].registry.live()
        wait_for(session.flag.is_set)
        body.go_on.set()
        receipt = stop.result(PATIENCE).json
    assert receipt is not None
    assert (receipt["success"], receipt["upstreamClosed"]) == (True, True)
    assert receipt["phase"] == "streaming"
    assert b"event: stopped" in b"".join(map(bytes, response.response))
