"""Log records as JSON, one object a line, for ``CHATPROXY_LOG_FORMAT=json``.

    {"time": "2026-11-26T22:55:01.123Z", "level": "INFO", "logger": "chatproxy",
     "message": "[SSE] session_1 ended ...", "sessionId": "session_1", "outcome": "stopped", ...}

The message is the line that the text format has. Whatever a line quotes is within a JSON string of
ASCII, so nothing from outside can end a line or forge one. This module imports no other: gunicorn's
master has it, too.
"""

from __future__ import annotations

import json
import logging
import math
from datetime import datetime, timezone
from typing import Any

#: The attribute of a record that has the fields of its object.
FIELDS = "chatproxy"
#: The most characters of one field, as JSON: a provider's ``usage`` is what that has sent.
_LONGEST_FIELD = 4096
_OWN = frozenset({"time", "level", "logger", "message", "traceback"})


class JsonFormatter(logging.Formatter):
    """Makes one line of each record; for an application's own handlers, too."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, FIELDS, None)
        for name, value in fields.items() if isinstance(fields, dict) else ():
            if name not in _OWN and len(json.dumps(_plain(value))) <= _LONGEST_FIELD:
                line[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(_plain(line))


def _plain(value: Any) -> Any:
    """What JSON can say: no infinity, and text for what it has no word for."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
