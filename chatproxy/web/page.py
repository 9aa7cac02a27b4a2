"""The chat page: the built files of ``client/``, with headers that let nothing else run.

The page asks for everything below its own address, so an application may be mounted beside others
of its origin. The page itself is never cached. The files that it names carry a hash and are cached
for ever. The build has laid a compressed form beside each that it makes smaller, and the client's
``Accept-Encoding`` chooses: each form is a representation with an ETag and ranges of its own.

A diagram that an answer describes is drawn in a frame. Its policy gives it an origin of its own and
lets it load nothing but its script, so that it can reach neither the page nor the network. To a
frame without an origin the files are another site's, so they say that any site may have them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from flask import Blueprint, Response, jsonify, request, send_from_directory
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_date
from werkzeug.security import safe_join

from ..config import Settings
from ..errors import Refusal
from .state import current_state

_STATIC = Path(__file__).parent.with_name("static")
ASSETS = _STATIC / "assets"

#: The content codings, the smallest first, and what a file's name ends with in each.
_CODINGS = {"br": ".br", "gzip": ".gz", "identity": ""}

#: DeepSeek's models (https://api-docs.deepseek.com/quick_start/pricing).
MODELS = ("deepseek-flash", "deepseek-v4-pro")

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "manifest-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

#: A picture is styled by what is in it, hence 'unsafe-inline'.
_DIAGRAM_POLICY = "; ".join(
    [
        "sandbox allow-scripts",
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    ]
)


def blueprint(settings: Settings) -> Blueprint:
    """The routes of the page."""
    routes = Blueprint("chatproxy_page", __name__)
    routes.get("/")(index)
    routes.get("/diagram.html")(diagram)
    routes.get("/assets/<path:name>")(asset)
    routes.add_url_rule("/page.json", "settings", partial(what_it_offers, settings))
    routes.before_request(_drop_wrong_dates)
    routes.after_request(_protect)
    return routes


def index() -> Response:
    """The page."""
    response = send_from_directory(_STATIC, "index.html")
    response.headers["Cache-Control"] = "no-cache"
    return response


def diagram() -> Response:
    """The frame in which a diagram is drawn."""
    response = send_from_directory(_STATIC, "diagram.html")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = _DIAGRAM_POLICY
    return response


def asset(name: str) -> Response:
    """A file that the page needs, in the coding that the client likes best."""
    there = [coding for coding, suffix in _CODINGS.items() if _is_asset(name + suffix)]
    coding = request.accept_encodings.best_match(there, "identity")
    # The name's end tells Flask the coding, and the name before it the type.
    response = send_from_directory(ASSETS, name + _CODINGS[coding])
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    response.vary.add("Accept-Encoding")
    return response


def _drop_wrong_dates() -> None:
    """Make nothing of dates that Werkzeug fails at: of the year 99999999999."""
    for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE"):
        try:
            parse_date(request.environ.get(name))
        except OverflowError:
            request.environ[name] = "none"


def what_it_offers(settings: Settings) -> Response:
    """What the page shows, and what can be chosen there, as JSON.

    ``prefix``: whether an answer can go on where it ended. DeepSeek has chat prefix completion
    below ``/beta`` only (https://api-docs.deepseek.com/guides/chat_prefix_completion).
    ``conversations``: if they are kept on the server, the key of the owner who asks.
    """
    response = jsonify(
        notice=settings.notice,
        model=settings.model,
        onDisconnect=settings.on_disconnect,
        models=list(dict.fromkeys([settings.model, *MODELS, *settings.vision_models])),
        visionModels=settings.vision_models,
        runs=list(current_state().runs),
        defaults=dict(settings.page_defaults),
        maxBodyBytes=settings.max_body_bytes,
        retain=settings.retain,
        heartbeat=settings.heartbeat,
        authorization=bool(settings.tokens),
        prefix=settings.base_url.endswith("/beta"),
        conversations={"owner": _key_of_the_owner()} if settings.conversations else None,
    )
    response.headers["Cache-Control"] = "no-store" if settings.conversations else "no-cache"
    return response


def _key_of_the_owner() -> str | None:
    """What stands for whoever makes the present request; None if that is not known yet."""
    state = current_state()
    try:
        return state.key_of(state.establish_owner())
    except (Refusal, HTTPException):
        return None


def _is_asset(name: str) -> bool:
    path = safe_join(str(ASSETS), name)
    return path is not None and Path(path).is_file()


def _protect(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
