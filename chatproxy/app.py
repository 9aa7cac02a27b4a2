"""The standalone server's application: the extension, the page, and the health checks."""

from __future__ import annotations

import os
import sys
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from .config import Settings
from .errors import ConfigError, Refusal, ShuttingDown
from .extension import ChatProxy
from .hosts import HostGuard
from .observability import logs, metrics, telemetry
from .server import exposure
from .web import native, openai, page, streaming
from .web.state import current_state
from .web.tokens import owner_by_token


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """The application for a WSGI server.

    If there are tokens (``CHATPROXY_TOKENS``), answers and Stops need one; nothing else does. A
    request to a host that is none of ``CHATPROXY_HOSTS`` is refused before anything else.

    :param config: settings that go before those of the environment.
    :raises ConfigError: if a setting is wrong or missing.
    """
    app = Flask("chatproxy", static_folder=None)
    app.config.from_mapping(config)
    settings = Settings.load(app.config, os.environ)
    logs.to_stderr(settings.log_format)
    if settings.telemetry:
        telemetry.export_from(app)
    ChatProxy(app, owner=owner_by_token(settings.tokens) if settings.tokens else None)
    app.register_blueprint(page.blueprint(settings))
    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)
    try:
        metrics.init_app(app)
    except ConfigError as missing:  # a server without metrics is still one
        logs.logger.warning("There is no /metrics: %s", missing)
    exposed = exposure.on_a_public_address(settings)
    below = f"{settings.openai_prefix}/" if settings.openai_prefix else None

    def form_at(path: str) -> streaming.Form:
        """How a refusal looks there, whatever refuses."""
        return openai.FORM if below and path.startswith(below) else native.FORM

    app.register_error_handler(
        HTTPException, lambda error: streaming.refuse_http(form_at(request.path), error)
    )
    app.wsgi_app = HostGuard(  # type: ignore[method-assign]
        app.wsgi_app, settings.hosts, exposed, lambda path, it: form_at(path).body_of(it)
    )
    return app


def load() -> Flask:
    """The application for a server's process, which a wrong setting ends with one sentence."""
    try:
        return create_app()
    except ConfigError as error:
        print(f"chatproxy: {error}", file=sys.stderr)
        # With this status gunicorn's master gives up, instead of trying again and again.
        sys.exit(4)


def healthz() -> Response:
    """The process lives."""
    return jsonify(status="ok")


def readyz() -> tuple[Response, int]:
    """Whether a stream would be accepted now; if not, the reason."""
    state = current_state()
    state.server.inspect(request.environ)
    state.attend()
    try:
        state.registry.check()
    except Refusal as refusal:
        status = "draining" if isinstance(refusal, ShuttingDown) else "unavailable"
        return jsonify(status=status, reason=refusal.message), 503
    return jsonify(status="ready"), 200
