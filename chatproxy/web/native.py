"""The routes of the native protocol: a stream, the Stop for it, and reconnection to it."""

from __future__ import annotations

import time

from flask import Blueprint, Response, jsonify, request

from .. import signals
from ..answers.question import RUN
from ..answers.session import SessionKey
from ..errors import PeersUnavailable, Refusal
from ..protocols import chat_request, native
from ..protocols.headers import check_event_id, check_session_id, is_session_id
from . import streaming
from .state import State, current_state

FORM = streaming.Form(Refusal.as_json, streaming.STREAM_HEADERS)


def blueprint(url_prefix: str) -> Blueprint:
    """The routes, for one application. The names of the endpoints are part of the interface."""
    routes = streaming.routes("chatproxy", url_prefix, FORM)
    routes.post("/stream")(stream)
    routes.post("/runs/<name>")(run)
    routes.get("/stream/<path:session_id>")(stream_again)
    routes.get("/sessions")(sessions)
    routes.get("/budget")(budget)
    routes.post("/cancel/<path:session_id>")(cancel)
    return routes


def stream() -> Response:
    """Ask DeepSeek for an answer and relay it as server-sent events."""
    return _stream()


def run(name: str) -> Response:
    """Have a run of the application's make an answer, and relay it as server-sent events."""
    return _stream(RUN + name)


def _stream(model: str | None = None) -> Response:
    state = current_state()
    owner = state.establish_owner()
    key = SessionKey(owner, check_session_id(request.headers.get("X-Session-Id")))
    seconds = streaming.reconnect_seconds(state)
    chat = streaming.chat_of(state, owner)
    # Before the body is read and parsed: what is refused costs nothing else.
    state.registry.check_claim(key, chat)
    payload = chat_request.parse(streaming.read_body(state))
    if model is not None:
        payload["model"] = model
    return streaming.begin(
        state,
        key,
        payload,
        seconds,
        encoder=native.ENCODER,
        form=FORM,
        chat=chat,
        tells_account=request.headers.get("X-Account") == "1",
    )


def stream_again(session_id: str) -> Response | tuple[str, int]:
    """Relay an answer that runs or is retained, from the event after ``Last-Event-ID``."""
    state = current_state()
    key = SessionKey(state.establish_owner(), session_id)
    after = check_event_id(request.headers.get("Last-Event-ID"))
    response = streaming.follow(state, key, after, encoder_for=lambda _: native.ENCODER, form=FORM)
    return ("", 204) if response is None else response


def sessions() -> tuple[Response, int]:
    """List the owner's answers that run or are retained."""
    state = current_state()
    owner = state.establish_owner()
    if not owner:
        message = "Sessions are listed only if their owners are known."
        return jsonify(error=message, code="owners_unknown"), 403
    return jsonify(sessions=state.service.list_of(owner)), 200


def budget() -> Response:
    """What is left of the owner's budgets, and when all of each is free again."""
    state = current_state()
    left = state.budgets.left(state.establish_owner())
    return jsonify(budgets=[each.as_json() for each in left])


def cancel(session_id: str) -> tuple[Response, int, dict[str, str]]:
    """Stop an answer, and hand back the receipt."""
    arrived = time.monotonic()
    state = current_state()
    return stop(state, SessionKey(state.establish_owner(), session_id), arrived)


def stop(
    state: State,
    key: SessionKey,
    arrived: float,
    *,
    remember: bool = True,
    only: str | None = None,
) -> tuple[Response, int, dict[str, str]]:
    """The response to a Stop; see ``Registry.cancel`` for what it is given."""
    receipt = None
    if is_session_id(key.id):
        signals.cancel_requested.send(state.app, session_id=key.id)
        client = request.remote_addr or ""
        try:
            receipt = state.service.cancel(key, arrived, client, remember=remember, only=only)
        except PeersUnavailable as unavailable:
            body = jsonify(success=False, message=unavailable.message)
            return body, unavailable.status, unavailable.headers()
    if receipt is None:
        return jsonify(success=False, message="Session not found"), 404, {}
    return jsonify(success=True, **receipt.as_json()), 200, {}
