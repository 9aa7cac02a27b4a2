"""Telemetry: whether there is any, and where OpenTelemetry is imported if there is.

``tracing``, ``call_trace``, ``instruments`` and ``otlp`` import it; nothing else does. They are
imported only if ``CHATPROXY_TELEMETRY`` is on, as that takes a while.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from flask import Flask

from ..config import Settings
from ..errors import ConfigError
from .metrics import Metrics

if TYPE_CHECKING:
    from .tracing import Tracing


def observe(app: Flask, settings: Settings, metrics: Metrics) -> Tracing | None:
    """Have the answers of an application traced, and its numbers told, if that is wanted.

    :returns: what traces them, as long as somebody keeps it; None if nobody wants that.
    :raises ConfigError: if OpenTelemetry is not installed.
    """
    if not settings.telemetry:
        return None
    _require("opentelemetry.trace")
    from .instruments import Instruments  # noqa: PLC0415
    from .tracing import Tracing  # noqa: PLC0415

    metrics.mirror = Instruments().add
    return Tracing(app, settings)


def export_from(app: Flask) -> None:
    """Have the server of this application send what it has to tell; before anything else of it.

    :raises ConfigError: if the SDK of OpenTelemetry, or its exporter, is not installed.
    """
    _require("opentelemetry.exporter.otlp.proto.http")
    from .otlp import Exporter  # noqa: PLC0415

    app.before_request(Exporter().start)


def _require(package: str) -> None:
    try:
        is_there = find_spec(package) is not None
    except ModuleNotFoundError:  # not even what it is in
        is_there = False
    if not is_there:
        raise ConfigError(
            "CHATPROXY_TELEMETRY needs opentelemetry: pip install 'chatproxy[telemetry]'."
        )
