"""The routes of the AI SDK's protocol: what ``useChat`` asks for by itself, and the Stop for it.

POST <prefix>                     a question; the answer is a UI message stream
GET <prefix>/<chat id>/stream     the chat's live answer, from its start
POST <prefix>/<chat id>/stop      the Stop for it; the application presses it

The client names the chat in each question, and an answer only if it sends ``X-Session-Id``. Without
that the chat's id is the answer's too, until the answer ends: then it is free for the next one. An
answer is found by either id. So one that is asked for natively can be read here by its own id.
"""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec
from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from ..answers.session import SessionKey
from ..errors import Refusal, SessionNotFound
from ..protocols import chat_request, ui_messages
from ..protocols.ai_sdk import AiSdkEncoder
from ..protocols.headers import check_session_id
from . import native, streaming
from .state import State, current_state, give_way

FORM = streaming.Form(
    Refusal.as_json, {**streaming.STREAM_HEADERS, "X-Vercel-AI-UI-Message-Stream": "v1"}
)

_ID = msgspec.json.Decoder(str | None)


def blueprint(url_prefix: str) -> Blueprint:
    """The routes, for one application. The names of the endpoints are part of the interface."""
    routes = streaming.routes("chatproxy_ai_sdk", url_prefix, FORM)
    routes.post("" if url_prefix else "/")(ask)
    routes.get("/<chat_id>/stream")(resume)
    routes.post("/<chat_id>/stop")(stop)
    return routes


def ask() -> Response:
    """Ask DeepSeek for an answer to the last message of a chat."""
    state = current_state()
    owner = state.establish_owner()
    session_id = request.headers.get("X-Session-Id")
    seconds = streaming.reconnect_seconds(state)
    if session_id:  # before the body is read and parsed: what is refused costs nothing else
        state.registry.check_claim(SessionKey(owner, check_session_id(session_id)))
    streaming.require_json()
    fields = chat_request.parse(streaming.read_body(state))
    chat_id = ui_messages.chat_id_of(fields)
    key = SessionKey(owner, check_session_id(session_id or chat_id))
    chat = streaming.chat_of(state, owner, chat_id)
    state.registry.check_claim(key, chat)
    give_way()
    payload, continues = ui_messages.payload_of(fields)
    encoder = AiSdkEncoder(key.id, continues=continues)
    return streaming.begin(state, key, payload, seconds, encoder=encoder, form=FORM, chat=chat)


def resume(chat_id: str) -> Response | tuple[str, int]:
    """Relay a chat's live answer from its start; 204, which the client expects, if it has none."""
    state = current_state()
    key = SessionKey(state.establish_owner(), chat_id)
    response = None
    with suppress(SessionNotFound):
        response = streaming.follow(state, key, 0, encoder_for=AiSdkEncoder, form=FORM)
    return ("", 204) if response is None else response


def stop(chat_id: str) -> tuple[Response, int, dict[str, str]]:
    """Stop a chat's live answer, and hand back the receipt.

    It is not remembered if there is none, as it would refuse the chat's next question. With
    ``activeStreamId`` in the body nothing but the answer with that id is stopped. No Stop fails for
    its body: one that names no answer, or can't be read, stops what is live.
    """
    arrived = time.monotonic()
    state = current_state()
    key = SessionKey(state.establish_owner(), chat_id)
    only = _active_stream_id(state)
    response = native.stop(state, key, arrived, remember=False, only=only)
    if only is None or response[1] != 404:
        return response
    sentence = "That answer is not live; nothing was stopped."
    return jsonify(success=True, message=sentence), 200, {}


def _active_stream_id(state: State) -> str | None:
    """The answer that the body names; None if it names none."""
    with suppress(Refusal, HTTPException, msgspec.DecodeError):
        fields = chat_request.parse(streaming.read_body(state, of_a_stop=True))
        only: str | None = _ID.decode(bytes(fields.get("activeStreamId", b"null")))
        return only
    return None
