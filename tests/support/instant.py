"""An upstream in memory, and an application that asks it: for runs, which need no network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from chatproxy.answers.coroutines import Coroutine
from chatproxy.answers.question import Question
from chatproxy.answers.session import Phase, StreamSession
from chatproxy.errors import Aborted

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


class Instant:
    """An ``Upstream`` in memory that says what it is told to, or nothing until it is aborted."""

    def __init__(self) -> None:
        #: What is said to a question, by its latest message; None is silence.
        self.says: Callable[[str], list[dict[str, Any]] | None] = lambda asked: [say(asked)]
        self.asked: list[dict[str, Any]] = []
        self.closed = 0
        #: Called when a call opens.
        self.on_open: Callable[[StreamSession], None] = lambda _: None
        #: Called when it closes.
        self.on_close: Callable[[], None] = lambda: None

    def call(self, question: Question, session: StreamSession) -> InstantCall:
        payload = json.loads(question.body, parse_int=str)
        self.asked.append(payload)
        return InstantCall(self, payload["messages"][-1]["content"], session)

    def close(self) -> None:
        pass


class InstantCall:
    def __init__(self, upstream: Instant, asked: str, session: StreamSession) -> None:
        self._upstream = upstream
        self._asked = asked
        self._session = session
        self._over = threading.Event()

    def open(self) -> None:
        self._upstream.on_open(self._session)
        self._session.enter(Phase.WAITING)
        said = self._upstream.says(self._asked)
        if said is None:
            self._over.wait()
        if self._session.flag.is_set():
            raise Aborted
        self._session.take([b"data: " + json.dumps(each).encode() for each in said or []])

    def receive(self) -> Coroutine[bool]:
        return True
        yield

    def abort(self) -> None:
        self._over.set()

    def close(self) -> None:
        self._upstream.on_close()
        self._upstream.closed += 1


def say(text: str, **fields: Any) -> dict[str, Any]:
    """A chunk, the last one of an answer."""
    return {
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}],
        **fields,
    }
