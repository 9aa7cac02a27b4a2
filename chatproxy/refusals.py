"""What DeepSeek's refusals become: a status and its words in, an ``UpstreamError`` out. No I/O.

DeepSeek's words are passed on only where the request was at fault (400, 422).

Statuses and advice on retrying: https://api-docs.deepseek.com/quick_start/error_codes
"""

from __future__ import annotations

import email.utils
import json
import time

from .errors import UpstreamError


def refusal(status: int, message: str, retry_after: int | None) -> UpstreamError:
    """The error for a status.

    :param message: DeepSeek's own sentence, without the key, on one line.
    :param retry_after: seconds.
    """
    error = _kind_of(status, message, retry_after)
    error.reason = f"status {status}: {message}" if message else f"status {status}"
    return error


def _kind_of(status: int, message: str, retry_after: int | None) -> UpstreamError:
    if status in (400, 422):
        sentence = message or "DeepSeek rejected the request."
        return UpstreamError(sentence, status=status, code="upstream_rejected")
    if status == 401:
        return UpstreamError("DeepSeek did not accept the server's key.", code="upstream_auth")
    if status == 402:
        return UpstreamError("The balance at DeepSeek is used up.", code="upstream_balance")
    if status in (429, 503):
        return UpstreamError(
            "DeepSeek is busy; try again later.",
            status=status,
            code="upstream_busy",
            retry_after=retry_after,
        )
    return UpstreamError(f"DeepSeek answered with status {status}.")


def message_in(body: bytes) -> str:
    """DeepSeek's own sentence: ``{"error": {"message": …}}``."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return message if isinstance(message, str) else ""


def seconds_of(value: str | None) -> int | None:
    """The seconds that a ``Retry-After`` header asks for (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return min(int(value.strip()[:9]), 86_400)
    try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0, round(seconds)), 86_400)
