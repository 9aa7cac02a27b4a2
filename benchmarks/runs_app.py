"""The application that ``benchmarks.runs`` measures."""

from collections.abc import Iterator
from typing import Any

from flask import Flask

from chatproxy import ChatProxy, Run

app = Flask(__name__)
chat = ChatProxy(app)


@chat.run("once")
def once(run: Run, payload: dict[str, Any]) -> Iterator[Any]:
    """Ask once, and show it."""
    yield from run.ask(payload)


@chat.run("ten")
def ten(run: Run, payload: dict[str, Any]) -> None:
    """Ask ten times at once."""
    answers = [run.ask(payload, show=number == 0) for number in range(10)]
    for answer in answers:
        run.spawn(answer.read)
