"""Logs in JSON: one object a line, whatever a line quotes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from chatproxy import signals
from chatproxy.answers.session import Outcome, Phase, Reason
from chatproxy.answers.usage import Account, Cost, Usage, UsageSource
from chatproxy.errors import UpstreamError
from chatproxy.observability import logs
from chatproxy.observability.json_logs import FIELDS, JsonFormatter

from .support.sessions import new_session


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the package's log has, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    level = logs.logger.level
    logs.logger.addHandler(handler)
    logs.logger.setLevel(logging.INFO)
    yield stream
    logs.logger.removeHandler(handler)
    logs.logger.setLevel(level)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    """The objects; each is a line, and each line is one."""
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_the_closing_line_has_what_an_answer_came_to(written: io.StringIO) -> None:
    session = new_session("session_1")
    session.phase, session.events, session.upstream = Phase.STREAMING, 7, "second"
    session.closed_at = session.started_at + 1.5
    tokens = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    session.account = Account(Usage(UsageSource.COUNTED, tokens), Cost(Decimal("0.25"), "USD"))
    session.cancel(Reason.USER)
    session.end(Outcome.STOPPED)
    signals.stream_closed.send(None, session=session)
    (line,) = lines(written)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "chatproxy",
        "message": "[SSE] session_1 ended outcome=stopped phase=streaming events=7 ms=1500 "
        "upstream=second tokens=9+4 usage=counted cost=0.25 USD",
        "sessionId": "session_1",
        "outcome": "stopped",
        "reason": "user",
        "phase": "streaming",
        "events": 7,
        "bytes": 0,
        "ms": 1500,
        "upstream": "second",
        "model": None,
        "code": None,
        "calls": None,
        "usage": tokens,
        "usageSource": "counted",
        "cost": {"amount": 0.25, "currency": "USD"},
    }


def test_nothing_from_outside_ends_a_line_or_becomes_a_field(written: io.StringIO) -> None:
    forged = 'x\n{"message": "[SSE] forged"}\r\u2028\u0085"} , "level": "\x1b'
    session = new_session("session_1")
    session.refusal = UpstreamError(forged)
    session.end(Outcome.FAILED)
    signals.stream_closed.send(None, session=session)
    found = lines(written)
    assert len(found) == 3
    assert all(line["logger"] == "chatproxy" for line in found)
    assert written.getvalue().isascii()


def test_a_traceback_is_in_its_line(written: io.StringIO) -> None:
    try:
        raise ValueError("It broke.\n[SSE] forged")
    except ValueError:
        logs.logger.exception("An answer failed")
    (line,) = lines(written)
    assert line["message"] == "An answer failed"
    assert line["traceback"].startswith("Traceback (most recent call last)")


def test_half_a_surrogate_pair_is_escaped_as_all_that_is_no_ascii() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "\ud800 \u2028", (), None)
    assert r'"\ud800 \u2028"' in JsonFormatter().format(record)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("inf"), None),
        ([float("nan")], [None]),
        ({1: object}, {"1": "<class 'object'>"}),
        ("x" * 100_000, "left out"),
        ({"deep": "x" * 100_000}, "left out"),
    ],
)
def test_a_field_is_what_json_can_say_and_not_too_long(value: object, expected: object) -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "%s", ("b",), None)
    setattr(record, FIELDS, {"field": value, "message": "forged"})
    line = json.loads(JsonFormatter().format(record))
    assert line.get("field", "left out") == expected
    assert line["message"] == "b"


def test_all_lines_of_a_server_are_json_also_those_of_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logs.logger, "level", logs.logger.level)
    logs.to_stderr("json")
    logging.getLogger("another").warning("A word.\nAnother.")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["logger"] == "another"
