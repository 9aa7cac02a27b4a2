"""The chat page: the built files of ``client/``, with headers that let nothing else run.

The page's own name is never cached, the files that it names carry a hash and are cached for ever.
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, jsonify, send_from_directory

from .state import current_state

_STATIC = Path(__file__).parent.with_name("static")

#: DeepSeek's models (https://api-docs.deepseek.com/quick_start/pricing).
MODELS = ("deepseek-flash", "deepseek-v4-pro")

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


def blueprint() -> Blueprint:
    """The routes of the page."""
    routes = Blueprint("chatproxy_page", __name__)
    routes.get("/")(index)
    routes.get("/assets/<path:name>")(asset)
    routes.get("/page.json")(settings)
    routes.after_request(_protect)
    return routes


def index() -> Response:
    """The page."""
    response = send_from_directory(_STATIC, "index.html")
    response.headers["Cache-Control"] = "no-cache"
    return response


def asset(name: str) -> Response:
    """A file that the page needs."""
    response = send_from_directory(_STATIC / "assets", name)
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def settings() -> Response:
    """What the page shows and offers."""
    state = current_state()
    default = state.settings.model
    response = jsonify(
        notice=state.settings.notice,
        model=default,
        onDisconnect=state.settings.on_disconnect,
        models=list(dict.fromkeys([default, *MODELS])),
        authorization=bool(state.settings.tokens),
    )
    response.headers["Cache-Control"] = "no-cache"
    return response


def _protect(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
