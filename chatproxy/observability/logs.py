"""Signals in, log lines out (logger ``chatproxy``, INFO).

The lines with ``[SSE]`` are fixed, so that operators can search for them. An answer without an id
has ``-`` in its place. An id is checked before it gets here, and the reason of a failure has no
key. Whoever logs, and whatever is quoted (an application quotes anybody, and Flask the path of a
request): a message is one printable line, that has ``[SSE]`` at its beginning or nowhere, and the
lines of a traceback are indented. So nothing from outside can forge a line.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import Any

from .. import signals
from ..answers.receipt import Receipt
from ..answers.session import StreamSession
from ..answers.upstream import CONFIGURED
from ..answers.usage import UsageSource
from ..errors import UpstreamError
from ..masking import printable
from .json_logs import FIELDS, JsonFormatter

logger = logging.getLogger("chatproxy")

#: What our fixed lines begin with.
_MARK = "[SSE]"


def to_stderr(log_format: str = "text") -> None:
    """Write the lines to stderr, unless the process has set up logging itself.

    :param log_format: "text", or "json" for all lines of the process as JSON (``json_logs``).
    """
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
        logging.getLogger().addHandler(handler)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _quoted(text: str) -> str:
    """A text, which may quote anybody, within a line, and as no search for our lines finds it."""
    return printable(text).replace(_MARK, _MARK.lower())


def keep_to_lines(record: logging.LogRecord) -> bool:
    """A filter that lets all records pass. Handlers use the text that it gives them."""
    with suppress(Exception):  # the handlers tell of a message that can't be made
        message = record.getMessage()
        if not message.isprintable() or message.rfind(_MARK) > 0:
            own = _MARK if message.startswith(_MARK) else ""
            record.msg, record.args = own + _quoted(message[len(own) :]), ()
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
        lines = "".join(traceback.format_exception(*record.exc_info)).splitlines()
        record.exc_text = "\n".join("    " + _quoted(line) for line in lines)
    return True


logger.addFilter(keep_to_lines)


def _id_of(session: StreamSession) -> str:
    return session.id or "-"


def _with_fields(session: StreamSession, **more: Any) -> dict[str, dict[str, Any]]:
    """What a line about an answer has for ``json_logs``: its id, its trace, and more."""
    fields = {"sessionId": session.id or None, **more}
    if session.trace is not None:
        fields["trace"] = session.trace.id
    return {FIELDS: fields}


@signals.cancel_requested.connect
def _cancel_requested(_sender: object, session_id: str, **_: Any) -> None:
    fields = {FIELDS: {"sessionId": session_id}}
    logger.info("[SSE] Cancel request received for %s", session_id, extra=fields)


@signals.stream_aborted.connect
def _stream_aborted(_sender: object, session: StreamSession, **_: Any) -> None:
    logger.info("[SSE] %s aborted by client", _id_of(session), extra=_with_fields(session))


@signals.client_disconnected.connect
def _client_disconnected(_sender: object, session: StreamSession, **_: Any) -> None:
    logger.info("[SSE] %s client disconnected", _id_of(session), extra=_with_fields(session))


def _upstream_of(session: StreamSession) -> str:
    return session.upstream or CONFIGURED


@signals.try_failed.connect
def _try_failed(
    _sender: object,
    session: StreamSession,
    upstream: str,
    reason: str,
    following: str,
    pause: float,
    **_: Any,
) -> None:
    again = "again" if following == upstream else f"{following} next,"
    logger.warning(
        "%s failed %s, %s in %.1f s: %s",
        upstream,
        _id_of(session),
        again,
        pause,
        reason,
        extra=_with_fields(session, upstream=upstream, following=following, pause=pause),
    )


@signals.stream_replaced.connect
def _stream_replaced(_sender: object, receipt: Receipt, by: str, **_: Any) -> None:
    logger.info(
        "[SSE] %s replaced by %s phase=%s events=%d upstreamClosed=%s stopMs=%s",
        receipt.session_id or "-",
        by or "-",
        receipt.phase.value,
        receipt.events,
        str(receipt.upstream_closed).lower(),
        receipt.stop_ms,
        extra={FIELDS: {**receipt.as_json(), "replacedBy": by or None}},
    )


@signals.stream_closed.connect
def _stream_closed(_sender: object, session: StreamSession, **_: Any) -> None:
    if (refusal := session.refusal) is not None:
        if isinstance(refusal, UpstreamError):
            logger.warning(
                "%s failed %s: %s",
                _upstream_of(session),
                _id_of(session),
                refusal.reason or refusal.message,
                extra=_with_fields(session, upstream=_upstream_of(session)),
            )
        logger.warning(
            "[SSE] %s failed code=%s",
            _id_of(session),
            refusal.code,
            extra=_with_fields(session, code=refusal.code),
        )
    logger.info(
        "[SSE] %s ended outcome=%s phase=%s events=%d ms=%d%s%s",
        _id_of(session),
        session.outcome and session.outcome.value,
        session.phase.value,
        session.events,
        session.milliseconds(),
        _more_of(session),
        "" if session.trace is None else f" trace={session.trace.id}",
        extra=_with_fields(session, **_end_of(session)),
    )


def _end_of(session: StreamSession) -> dict[str, Any]:
    """How an answer ended, and what it came to."""
    return {
        "outcome": session.outcome and session.outcome.value,
        "reason": session.reason and session.reason.value,
        "phase": session.phase.value,
        "events": session.events,
        "bytes": session.bytes,
        "ms": session.milliseconds(),
        "upstream": session.upstream or None,
        "model": session.model or None,
        "code": session.refusal and session.refusal.code,
        "calls": session.calls and session.calls.count,
        **session.account.as_json(),
    }


def _more_of(session: StreamSession) -> str:
    """What only some have: another upstream than DeepSeek, several calls, tokens, a cost."""
    more = ""
    if session.calls is not None:
        more = f" calls={session.calls.count}"
    elif _upstream_of(session) != CONFIGURED:
        more = f" upstream={session.upstream}"
    usage, cost = session.account.usage, session.account.cost
    if usage.source is not UsageSource.NONE:
        tokens = f"{usage.prompt_tokens}+{usage.completion_tokens}"
        more += f" tokens={tokens} usage={usage.source.value}"
    return more if cost is None else f"{more} cost={cost.amount:f} {cost.currency}"
