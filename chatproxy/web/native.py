"""The routes of the native protocol: a stream, the Stop for it, and reconnection to it.

They run inside the application's own ``before_request``, so that its login and its limits apply.
An answer is awaited outside of the request, after the application's teardown: a connection to a
database that the login took is given back by then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from .. import signals
from ..answers.session import SessionKey
from ..errors import BodyTooLarge, InvalidRequest, PeersUnavailable, Refusal
from ..protocols import chat_request
from ..protocols.headers import (
    check_event_id,
    check_reconnect_seconds,
    check_session_id,
    is_session_id,
)
from ..server.capabilities import reads_status_at_once
from ..server.disconnect import client_socket
from .event_stream import EventStream
from .state import State, current_state

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx passes the events on as they come
}


class _Routes(Blueprint):
    """A blueprint that APIFlask leaves out of its OpenAPI document; with a plain one it fails."""

    enable_openapi = False


def blueprint(url_prefix: str) -> Blueprint:
    """The routes, for one application. The names of the endpoints are part of the interface."""
    routes = _Routes("chatproxy", __name__, url_prefix=url_prefix)
    routes.post("/stream")(stream)
    routes.get("/stream/<path:session_id>")(stream_again)
    routes.get("/sessions")(sessions)
    routes.post("/cancel/<path:session_id>")(cancel)
    routes.before_request(attend)
    routes.teardown_request(forget)
    routes.errorhandler(Refusal)(refuse)
    routes.errorhandler(RequestEntityTooLarge)(refuse_large_body)
    return routes


def stream() -> Response:
    """Ask DeepSeek for an answer and relay it as server-sent events."""
    state = current_state()
    owner = state.establish_owner()
    session_id = check_session_id(request.headers.get("X-Session-Id"))
    reconnect_seconds = check_reconnect_seconds(
        request.headers.get("X-On-Disconnect"), state.settings.on_disconnect
    )
    # Before the body is read and parsed: what is refused costs nothing else.
    key = SessionKey(owner, session_id)
    state.registry.check_claim(key)
    question = state.prepare(_read_payload(state))
    free_thread = state.server.take_thread()
    try:
        reader = state.service.begin(key, question, reconnect_seconds)
    except BaseException:
        free_thread()
        raise
    # Not by an ExitStack, as below: it takes a kilobyte of each stream.
    events = EventStream(reader, state.settings.heartbeat, free_thread)
    with _left_if_it_fails(events):
        signals.stream_started.send(state.app, session_id=session_id, owner=owner)
        events.watch = state.watcher.watch(request.environ, events.leave)
    return _respond(session_id, events)


def stream_again(session_id: str) -> Response | tuple[str, int]:
    """Relay an answer that runs or is retained, from the event after ``Last-Event-ID``."""
    state = current_state()
    owner = state.establish_owner()
    after = check_event_id(request.headers.get("Last-Event-ID"))
    with ExitStack() as slots:
        slots.callback(state.server.take_thread())
        # Without owners it is the answer that has so many readers, and no more.
        slots.callback(state.service.reader_slots.take(owner or session_id))
        reader = state.service.follow(SessionKey(owner, session_id), after)
        if reader is None:
            return "", 204
        events = EventStream(reader, state.settings.heartbeat, slots.pop_all().close)
    with _left_if_it_fails(events):
        events.watch = state.watcher.watch(request.environ, events.leave)
        events.prefetch()
    return _respond(session_id, events)


@contextmanager
def _left_if_it_fails(events: EventStream) -> Iterator[None]:
    try:
        yield
    except BaseException:
        events.leave()
        raise


def _respond(session_id: str, events: EventStream) -> Response:
    g.chatproxy_events = events
    headers = {**_STREAM_HEADERS, "X-Session-Id": session_id}
    return _StreamResponse(current_state().app, events, headers)


class _StreamResponse(Response):
    """A response that begins when the server asks for its first item; see ``event_stream``.

    A refusal keeps the headers that the application has added to the response. If the application
    replaces the body, the status is 200, and a failure is an event.
    """

    def __init__(self, app: Flask, events: EventStream, headers: dict[str, str]) -> None:
        super().__init__(events, headers=headers)
        self._app = app
        self._events = events

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.response is not self._events:
            return super().__call__(environ, start_response)
        self._events.respond_late(partial(self._start, environ, start_response), self.close)
        if reads_status_at_once(environ):
            self._events.begin()
        return self._events

    def _start(
        self, environ: WSGIEnvironment, start_response: StartResponse, refusal: Refusal | None
    ) -> Iterable[bytes] | None:
        if refusal is not None:
            return self._refused(refusal)(environ, start_response)
        items, status, headers = self.get_wsgi_response(environ)
        start_response(status, headers)
        return items if environ["REQUEST_METHOD"] == "HEAD" else None

    def _refused(self, refusal: Refusal) -> Response:
        text = self._app.json.dumps(_body_of(refusal))
        response = Response(text, refusal.status, content_type="application/json")
        for name, value in self.headers:
            if _STREAM_HEADERS.get(name) != value:
                response.headers.add(name, value)
        response.headers.update(refusal.headers())
        return response


def sessions() -> tuple[Response, int]:
    """List the owner's answers that run or are retained."""
    state = current_state()
    owner = state.establish_owner()
    if not owner:
        message = "Sessions are listed only if their owners are known."
        return jsonify(error=message, code="owners_unknown"), 403
    return jsonify(sessions=state.service.list_of(owner)), 200


def cancel(session_id: str) -> tuple[Response, int, dict[str, str]]:
    """Stop an answer, and hand back the receipt."""
    arrived = time.monotonic()
    state = current_state()
    owner = state.establish_owner()
    receipt = None
    if is_session_id(session_id):
        signals.cancel_requested.send(state.app, session_id=session_id)
        try:
            key = SessionKey(owner, session_id)
            receipt = state.service.cancel(key, arrived, request.remote_addr or "")
        except PeersUnavailable as unavailable:
            body = jsonify(success=False, message=unavailable.message)
            return body, unavailable.status, unavailable.headers()
    if receipt is None:
        return jsonify(success=False, message="Session not found"), 404, {}
    return jsonify(success=True, **receipt.as_json()), 200, {}


def attend() -> None:
    """Say what this server can't do, and see that this worker can be asked and told to stop."""
    state = current_state()
    state.server.inspect(request.environ)
    state.attend()


def forget(error: BaseException | None) -> None:
    """Stop reading if the request failed after its view: nobody will get the answer."""
    events: EventStream | None = g.pop("chatproxy_events", None)
    if events is not None and error is not None:
        events.leave()


def refuse(refusal: Refusal) -> tuple[Response, int, dict[str, str]]:
    """The response to what is refused: one sentence, a status, a code."""
    return jsonify(_body_of(refusal)), refusal.status, refusal.headers()


def _body_of(refusal: Refusal) -> dict[str, Any]:
    return {"error": refusal.message, "code": refusal.code}


def refuse_large_body(_error: RequestEntityTooLarge) -> tuple[Response, int, dict[str, str]]:
    """The answer to a body over the limit."""
    limit = current_state().settings.max_body_bytes
    return refuse(BodyTooLarge(f"The body is larger than {limit} bytes."))


def _read_payload(state: State) -> chat_request.Payload:
    limit = state.settings.max_body_bytes
    # One byte more: Werkzeug cuts a body without Content-Length off at the limit, and is silent.
    request.max_content_length = limit + 1
    try:
        with state.bodies.limit(client_socket(request.environ)):
            body = request.get_data(cache=False)
    except (HTTPException, Refusal):
        raise
    except Exception:  # each server has one of its own for a body that is not HTTP
        raise InvalidRequest("The body could not be read.") from None
    if len(body) > limit:
        raise RequestEntityTooLarge
    return chat_request.parse(body)
