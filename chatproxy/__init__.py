"""Chat answers from DeepSeek, streamed through Flask, with a Stop that really stops them.

The names below are the public ones. They are imported when they are first used: a server under
gevent must be able to import ``chatproxy.cli`` or its gunicorn settings before it patches, and
``requests`` must not be imported by then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .accounting.budget import Budget
    from .answers.receipt import Receipt
    from .answers.upstream import Upstream
    from .app import create_app
    from .errors import ChatProxyError, ConfigError, Refusal, Stopped
    from .extension import ChatProxy
    from .runs.answer import Answer
    from .runs.run import Run, current_run
    from .signals import stream_ended, stream_started

__version__ = "0.1.0"

_HOMES = {
    "Answer": "runs.answer",
    "Budget": "accounting.budget",
    "ChatProxy": "extension",
    "ChatProxyError": "errors",
    "ConfigError": "errors",
    "Receipt": "answers.receipt",
    "Refusal": "errors",
    "Run": "runs.run",
    "Stopped": "errors",
    "Upstream": "answers.upstream",
    "create_app": "app",
    "current_run": "runs.run",
    "stream_ended": "signals",
    "stream_started": "signals",
}

__all__ = [
    "Answer",
    "Budget",
    "ChatProxy",
    "ChatProxyError",
    "ConfigError",
    "Receipt",
    "Refusal",
    "Run",
    "Stopped",
    "Upstream",
    "__version__",
    "create_app",
    "current_run",
    "stream_ended",
    "stream_started",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
