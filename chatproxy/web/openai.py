"""The routes of OpenAI's protocol: chat completions, streamed or whole, and the models.

OpenAI's clients work with their base URL changed. Whatever fails is told in OpenAI's shape, also
what the application or Flask refuses. An answer has the id that its client sends; without one it
can be ended by closing the connection alone, since the server makes none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import ClosingIterator

from ..answers.question import RUN
from ..answers.session import SessionKey
from ..errors import Refusal
from ..protocols import chat_request, openai
from ..protocols.base import Encoder
from ..protocols.completion import CompletionEncoder
from ..protocols.headers import check_session_id
from ..protocols.openai import ChunkEncoder
from ..upstreams.models import Models
from . import streaming
from .state import State, current_state

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

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
    return _tell(lambda models: b'{"object":"list","data":[%b]}' % b",".join(models.values()))


def model(name: str) -> Response:
    """One of them."""

    def found(models: Models) -> bytes:
        if name not in models:
            raise Refusal("There is no model of this name.", status=404, code="model_not_found")
        return models[name]

    return _tell(found)


def _tell(text_of: Callable[[Models], bytes]) -> Response:
    """Respond with what is to be told of the models, and of the application's runs as models."""
    state = current_state()
    state.establish_owner()
    known = state.models.get()
    if known is not None:
        return Response(text_of(_with_runs(state, known)), headers=FORM.headers)
    g.chatproxy_thread = state.server.take_thread()
    return _LateResponse(state, text_of)


class _LateResponse(Response):
    """Tells of the models when the server asks for the first item: it may have to wait for them.

    By then the application's teardown has run. What the application adds to the headers stays.
    """

    def __init__(self, state: State, text_of: Callable[[Models], bytes]) -> None:
        super().__init__(headers=FORM.headers)
        self._state = state
        self._text_of = text_of

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as a WSGI application."""
        self.call_on_close(g.pop("chatproxy_thread"))
        return ClosingIterator(self._items(environ, start_response), self.close)

    def _items(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        try:
            self.set_data(self._text_of(_with_runs(self._state, self._state.models.wait())))
        except Refusal as refusal:
            self.status_code = refusal.status
            self.headers.update(refusal.headers())
            self.set_data(self._state.app.json.dumps(FORM.body_of(refusal)))
        start_response(self.status, self.get_wsgi_headers(environ).to_wsgi_list())
        if environ["REQUEST_METHOD"] != "HEAD":
            yield self.get_data()


def _with_runs(state: State, models: Models) -> Models:
    return {**models, **{RUN + name: _described(RUN + name) for name in state.runs}}


def _described(name: str) -> bytes:
    fields = {"id": name, "object": "model", "created": 0, "owned_by": "chatproxy"}
    return json.dumps(fields).encode("ascii")
