"""Applications that count what signals tell them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from flask import Flask

from chatproxy import signals
from chatproxy.answers.session import Outcome, Phase, StreamSession
from chatproxy.observability.metrics import Metrics, init_app

from .sessions import new_session


def new_app(name: str = "chat", directory: Any = None) -> Flask:
    """An application that has what the metrics need of ChatProxy."""
    app = Flask(name)
    app.extensions["chatproxy"] = SimpleNamespace(metrics=Metrics(app, directory))
    init_app(app)
    return app


def open_session(app: Flask) -> StreamSession:
    session = new_session("session_of_ada", "ada")
    signals.stream_opened.send(app, session=session)
    return session


def close(app: Flask, session: StreamSession, outcome: Outcome = Outcome.FINISHED) -> None:
    session.end(outcome)
    signals.stream_closed.send(app, session=session)


def answer(app: Flask, events: int = 3, upstream: str = "") -> None:
    """A whole answer, from its first signal to its last."""
    session = open_session(app)
    session.upstream, session.asked_at = upstream, session.started_at + 0.2
    session.phase = Phase.STREAMING
    session.events, session.bytes = events, events * 100
    session.first_event_at = session.started_at + 0.3
    close(app, session)


def stop(app: Flask, seconds: float, by: str = "self") -> None:
    signals.cancel_answered.send(app, result="stopped", by=by, seconds=seconds)


def scraped(app: Flask) -> str:
    return app.test_client().get("/metrics").text


def answer_alone(app: Flask) -> None:
    answer(app)
    assert "chatproxy_events_total 3.0" in scraped(app)


def in_a_child(action: Callable[[Flask], Any]) -> Callable[[Flask], None]:
    def fork(app: Flask) -> None:
        child = os.fork()
        if child == 0:
            try:
                action(app)
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    return fork


#: What a worker can be told to do.
ACTIONS: Mapping[str, Callable[[Flask], Any]] = {
    "open": open_session,
    "answer": answer,
    "stop": lambda app: stop(app, 0.01),
    "open-in-a-child": in_a_child(open_session),
    "answer-in-a-child": in_a_child(answer),
    "answer-alone-in-a-child": in_a_child(answer_alone),
}
