"""The package's own signals: whoever only listens stands in nobody's way."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import pytest

from chatproxy import signals


def fail(_sender: object, **_: Any) -> NoReturn:
    raise ValueError("It broke.")


def test_a_receiver_that_fails_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[object] = []

    def note(sender: object, **_: Any) -> None:
        called.append(sender)

    with signals.stream_closed.connected_to(fail), signals.stream_closed.connected_to(note):
        signals.stream_closed.send("here", session=None)
    assert called == ["here"]
    assert "A receiver of stream-closed failed" in caplog.text


def test_a_log_that_fails_stands_in_nobodys_way() -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> NoReturn:
            raise ValueError(record)

    broken = Broken()
    logger = logging.getLogger("chatproxy")
    logger.addFilter(broken)
    try:
        with signals.cancel_requested.connected_to(fail):
            signals.cancel_requested.send(None, session_id="session_1")
    finally:
        logger.removeFilter(broken)
