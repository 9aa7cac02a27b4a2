"""The log in text: whatever is quoted, a message is one line, and a traceback is indented."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from flask import Flask

from chatproxy import signals
from chatproxy.answers.session import Outcome
from chatproxy.errors import UpstreamError
from chatproxy.observability import logs

from .support.sessions import new_session

#: What ends a line for somebody, or has a terminal do something.
ENDS = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[1A", "\x00"]


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the package's log has, as text."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logs.logger.addHandler(handler)
    yield stream
    logs.logger.removeHandler(handler)


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_sentence_of_an_applications_is_within_a_line(written: io.StringIO, end: str) -> None:
    """It may quote a client."""
    session = new_session("session_1")
    session.refusal = UpstreamError(f"Nothing is known of 张伟{end}[SSE] forged")
    session.end(Outcome.FAILED)
    signals.stream_closed.send(None, session=session)
    first = written.getvalue().split("\n")[0]
    assert first.startswith("WARNING DeepSeek failed session_1: Nothing is known of 张伟 ")
    assert first.endswith("[sse] forged")
    assert first.isprintable()


@pytest.mark.parametrize("end", ["%0A", "%0D", "%E2%80%A8", "%1B"])
def test_the_path_of_a_request_that_fails_is_within_a_line(written: io.StringIO, end: str) -> None:
    """Flask has it in a message to the application's logger; the standalone server's is ours."""
    app = Flask(logs.logger.name)
    app.add_url_rule("/<_>", view_func=lambda _: 1 // 0)
    assert app.test_client().get(f"/a{end}[SSE] forged").status_code == 500
    first, *indented = written.getvalue().splitlines()
    assert first == "ERROR Exception on /a [sse] forged [GET]"
    assert all(line.startswith("    ") for line in indented)


def test_a_message_that_cannot_be_made_fails_nobody_who_logs_it() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "%d", ("b",), None)
    assert logs.keep_to_lines(record)


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_traceback_is_indented_and_printable(written: io.StringIO, end: str) -> None:
    try:
        raise ValueError(f"It broke.{end}[SSE] forged")
    except ValueError:
        logs.logger.exception("An answer failed")
    first, *indented = written.getvalue()[:-1].split("\n")
    assert first == "ERROR An answer failed"
    assert all(line.startswith("    ") and line.isprintable() for line in indented)
    assert indented[-1].endswith("[sse] forged")
