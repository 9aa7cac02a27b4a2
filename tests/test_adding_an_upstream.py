"""docs/adding-an-upstream.md: its upstream, which is written here, is one to everything else.

The service behind it is played on a real socket: it is asked by one line of text and answers in
lines, of which a lone dot is the last.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chatproxy import ChatProxy, Refusal, extension, sse
from chatproxy.answers.coroutines import Coroutine, Readable
from chatproxy.answers.question import Question
from chatproxy.answers.session import Phase, SessionKey, StreamSession
from chatproxy.config import Settings
from chatproxy.errors import Aborted, UpstreamError
from chatproxy.service import AnswerService
from chatproxy.upstreams.base import Call
from chatproxy.upstreams.transport.dialer import Dialer, Resolver
from chatproxy.upstreams.transport.exchange import Exchange

from .support.played import DeepSeek
from .support.played import Resolver as NameResolver
from .support.servers import ROOT
from .support.waiting import PATIENCE, Background, wait_for

GUIDE = ROOT / "docs" / "adding-an-upstream.md"

# --- the upstream


class LineCaller:
    """A ``Caller`` of a service that is asked by a line of text, and answers in lines."""

    def __init__(self, host: str, port: int, resolver: Resolver) -> None:
        self.host, self.port = host, port
        self.dialer = Dialer(resolver)

    def call(self, question: Question, session: StreamSession) -> Call:
        return LineCall(self, question, session)

    def close(self) -> None:
        pass  # it keeps no connection between two calls


class LineCall:
    """A ``Call``: one line there, and the lines that come back."""

    def __init__(self, caller: LineCaller, question: Question, session: StreamSession) -> None:
        self._caller = caller
        self._asked = json.loads(question.body)["messages"][-1]["content"]
        self._session = session
        self._exchange = Exchange()
        self._socket: socket.socket | None = None
        self._rest = b""
        self._over = False

    def open(self) -> None:
        caller = self._caller
        try:
            self._socket = caller.dialer.dial(self._exchange, caller.host, caller.port, 10.0)
            self._socket.sendall(b"%b\n" % " ".join(self._asked.split()).encode())
            self._socket.settimeout(None)
        except OSError as error:
            raise self._failure(error) from error
        self._session.enter(Phase.WAITING)

    def receive(self) -> Coroutine[bool]:
        assert self._socket is not None
        try:
            yield Readable(self._socket, self._step)
        except OSError as error:
            raise self._failure(error) from error
        return self._over

    def abort(self) -> None:
        self._exchange.abort()

    def close(self) -> None:
        self._exchange.close()
        if self._socket is not None:
            self._socket.close()

    def _step(self) -> bool:
        assert self._socket is not None
        received = self._socket.recv(16 * 1024)
        self._exchange.check()
        if not received:
            raise UpstreamError("The service closed the connection before the last line.")
        *lines, self._rest = (self._rest + received).split(b"\n")
        self._over = b"." in lines
        if self._over:
            del lines[lines.index(b".") :]
        self._session.take([event_of(line) for line in lines])
        return not (self._over or self._session.log.full)

    def _failure(self, error: OSError) -> Exception:
        if self._exchange.aborted:
            return Aborted()
        failure = UpstreamError("The service can't be reached.")
        failure.reason = str(error)  # for the log, not for the client
        return failure


def event_of(line: bytes) -> bytes:
    """A line of the answer as an event, in the form of DeepSeek's."""
    delta = {"content": line.decode("utf-8", "replace") + "\n"}
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode()


# --- what it does


_numbers = itertools.count(1)


class Client:
    """What the service has of a call: the line that it is asked, and what it says to that."""

    def __init__(self, service: DeepSeek) -> None:
        self.socket = service.accept_plain()
        self._lines = self.socket.makefile("rb")
        self.asked = self._lines.readline()

    def has_left(self) -> bool:
        """Whether it hangs up; waits for that."""
        return self._lines.read() == b""


@pytest.fixture
def app(played: DeepSeek, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An application whose upstream is this one, put where the guide says."""

    def caller(_settings: Settings, resolver: Resolver) -> LineCaller:
        return LineCaller("localhost", played.address[1], resolver)

    monkeypatch.setattr(extension, "ChatCompletions", caller)
    app = Flask("lines")
    app.config.update(DEEPSEEK_API_KEY="none", CHATPROXY_LOG_BYTES=50_000)
    ChatProxy(app, name=f"lines-{next(_numbers)}")
    return app


@pytest.fixture
def answers(app: Flask) -> AnswerService:
    service: AnswerService = app.extensions["chatproxy"].service
    return service


KEY = SessionKey("", "session_1")
QUESTION = Question(b'{"messages": [{"role": "user", "content": "How are\\nyou?"}]}')


def begin(answers: AnswerService) -> Any:
    return answers.begin(KEY, QUESTION, 0.0)


def stop(answers: AnswerService) -> tuple[str, bool]:
    """The phase in which a Stop came, and whether the connection is closed, by its receipt."""
    receipt = answers.cancel(KEY, time.monotonic())
    assert receipt is not None
    return receipt.phase, receipt.upstream_closed


def text_of(data: bytes) -> str:
    """What the events say, up to ``[DONE]``."""
    chunks = [json.loads(each) for each in re.findall(rb"^data: (\{.*)$", data, re.MULTILINE)]
    return "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)


def read_all(reader: Any) -> bytes:
    return b"".join(iter(lambda: reader.read(PATIENCE), None))


def test_it_answers_through_the_routes(app: Flask, played: DeepSeek) -> None:
    def post() -> bytes:
        question = {"messages": [{"role": "user", "content": "How are\nyou?"}]}
        headers = {"X-Session-Id": "session_1"}
        return app.test_client().post("/api/chat/stream", headers=headers, json=question).data

    answering = Background(post)
    client = Client(played)
    assert client.asked == b"How are you?\n"
    client.socket.sendall(b"I am\nfine.\n.\n")
    answer = answering.result()
    assert text_of(answer) == "I am\nfine.\n"
    assert answer.endswith(b"\n\n")
    assert sse.DONE in answer
    assert client.has_left()


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.STREAMING])
def test_a_stop_ends_it(answers: AnswerService, played: DeepSeek, phase: Phase) -> None:
    reader = begin(answers)
    client = Client(played)
    if phase is Phase.STREAMING:
        client.socket.sendall(b"one\n")
        reader.read(PATIENCE)
    wait_for(lambda: reader.session.phase is phase)
    assert stop(answers) == (phase, True)
    assert client.has_left()
    assert b"event: stopped" in read_all(reader)


def test_a_stop_ends_it_while_it_connects(
    answers: AnswerService, resolve: Callable[..., NameResolver]
) -> None:
    """The look-up of the name hangs."""
    resolver = resolve(name="localhost")
    reader = begin(answers)
    resolver.asked.get(timeout=PATIENCE)
    stopped = stop(answers)
    resolver.go_on.set()
    assert stopped == (Phase.CONNECTING, True)
    assert b"event: stopped" in read_all(reader)


def test_lines_come_as_they_are_said_and_an_end_before_the_last_one_is_a_failure(
    answers: AnswerService, played: DeepSeek
) -> None:
    reader = begin(answers)
    client = Client(played)
    for said, line in (b"one\ntw", "one\n"), (b"o\n", "two\n"):
        client.socket.sendall(said)
        assert text_of(reader.read(PATIENCE) or b"") == line
    client.socket.shutdown(socket.SHUT_WR)
    ending = read_all(reader)
    assert b"event: error" in ending
    assert sse.DONE not in ending


def test_a_service_that_is_not_there_is_a_refusal(answers: AnswerService, played: DeepSeek) -> None:
    with played:
        pass  # after which it is closed
    reader = begin(answers)
    read_all(reader)
    assert isinstance(reader.refusal, Refusal)
    assert reader.refusal.message == "The service can't be reached."


def test_a_reader_that_lags_slows_it_down(answers: AnswerService, played: DeepSeek) -> None:
    """And no line is lost."""
    reader = begin(answers)
    client = Client(played)
    lines = [b"%06d" % number for number in range(10_000)]
    saying = Background(lambda: client.socket.sendall(b"\n".join([*lines, b".", b""])))
    wait_for(lambda: reader.session.log.full)
    assert text_of(read_all(reader)).encode().split() == lines
    saying.result()


def test_the_guide_shows_this_code() -> None:
    shown = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(shown) >= 2
    here = Path(__file__).read_text()
    assert [block for block in shown if block not in here] == []
