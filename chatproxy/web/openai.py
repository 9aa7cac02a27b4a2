"""The routes of OpenAI's protocol: chat completions, streamed or whole, and the models.

OpenAI's clients work with their base URL changed. Whatever fails is told in OpenAI's shape, also
what the application or Flask refuses. An answer has the id that its client sends; without one it
can be ended by closing the connection alone, since the server makes none.
"""

from __future__ import annotations

import json
import time
from functools import partial

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from ..answers.question import RUN
from ..answers.session import SessionKey
from ..errors import Refusal
from ..protocols import chat_request, openai
from ..protocols.base import Encoder
from ..protocols.completion import CompletionEncoder
from ..protocols.headers import check_session_id
from ..protocols.openai import ChunkEncoder
from . import streaming
from .state import State, current_state

#: How a refusal looks, and a whole answer.
FORM = streaming.Form(
    openai.error_of, {"Content-Type": "application/json", "Cache-Control": "no-store"}
)
_STREAMED = streaming.Form(openai.error_of, streaming.STREAM_HEADERS)


def blueprint(url_prefix: str) -> Blueprint:
    """The routes, for one application. The names of the endpoints are part of the interface."""
    routes = streaming.routes("chatproxy_openai", url_prefix, FORM)
    routes.post("/chat/completions")(complete)
    routes.get("/models")(models)
    routes.get("/models/<path:name>")(model)
    routes.errorhandler(HTTPException)(partial(streaming.refuse_http, FORM))
    return routes


def complete() -> Response:
    """Ask, and relay the chunks of the answer or give it whole, as the client wants it."""
    state = current_state()
    key = SessionKey(state.establish_owner(), _session_id())
    seconds = streaming.reconnect_seconds(state) if key.id else 0.0
    chat = streaming.chat_of(state, key.owner)
    state.registry.check_claim(key, chat)
    streaming.require_json()
    payload = chat_request.parse(streaming.read_body(state))
    name = chat_request.model_of(payload) or state.settings.model
    about = (name, int(time.time()), chat_request.choices_of(payload))
    encoder: Encoder = ChunkEncoder(*about)
    form = _STREAMED
    if not chat_request.is_streamed(payload):
        payload["stream_options"] = {"include_usage": True}
        encoder, form = CompletionEncoder(*about), FORM
        seconds = 0.0  # whoever wants all at once does not come back for the rest
    return streaming.begin(state, key, payload, seconds, encoder=encoder, form=form, chat=chat)


def _session_id() -> str:
    given = request.headers.get("X-Session-Id") or request.headers.get("X-Client-Request-Id")
    return check_session_id(given) if given else ""


def models() -> Response:
    """The models of the upstream, and the runs of the application."""
    state = current_state()
    state.establish_owner()
    data = b",".join(_all(state).values())
    return _as_json(b'{"object":"list","data":[%b]}' % data)


def model(name: str) -> Response:
    """One of them."""
    state = current_state()
    state.establish_owner()
    found = _all(state).get(name)
    if found is None:
        raise Refusal("There is no model of this name.", status=404, code="model_not_found")
    return _as_json(found)


def _all(state: State) -> dict[str, bytes]:
    """The models, and the application's runs as models, each as JSON by its name."""
    runs = {RUN + name: _described(RUN + name) for name in state.runs}
    return {**state.models.get(), **runs}


def _described(name: str) -> bytes:
    fields = {"id": name, "object": "model", "created": 0, "owned_by": "chatproxy"}
    return json.dumps(fields).encode("ascii")


def _as_json(text: bytes) -> Response:
    return Response(text, content_type="application/json", headers={"Cache-Control": "no-store"})
