"""What the routes of every protocol share: an answer begins, is followed, and is responded with.

The routes run inside the application's own ``before_request``, so that its login and its limits
apply. An answer is awaited outside of the request, after the application's teardown: a connection
to a database that the login took is given back by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from .. import signals
from ..answers.session import UNNAMED_CHAT, SessionKey
from ..errors import BodyTooLarge, InvalidRequest, Refusal
from ..protocols.base import Encoder
from ..protocols.chat_request import Payload
from ..protocols.headers import check_chat_id, check_reconnect_seconds
from ..server.disconnect import client_socket
from .event_stream import EventStream
from .state import State, current_state, give_way

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The headers of a stream of events.
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx passes the events on as they come
}

_SENTENCES = {404: "There is nothing at this address.", 405: "This method is not allowed here."}


@dataclass(frozen=True)
class Form:
    """How a protocol's responses look.

    :ivar body_of: the JSON of a refusal.
    :ivar headers: those of an answer.
    """

    body_of: Callable[[Refusal], dict[str, Any]]
    headers: dict[str, str]

    def refuse(self, refusal: Refusal) -> Response:
        """The response to what is refused: one sentence, a status, a code."""
        response = jsonify(self.body_of(refusal))
        response.status_code = refusal.status
        response.headers.update(refusal.headers())
        return response


class _Routes(Blueprint):
    """A blueprint that APIFlask leaves out of its OpenAPI document; with a plain one it fails."""

    enable_openapi = False


def routes(name: str, url_prefix: str, form: Form) -> Blueprint:
    """A blueprint for a protocol, for one application, without any routes yet."""
    blueprint = _Routes(name, __name__, url_prefix=url_prefix)
    blueprint.before_request(_attend)
    blueprint.teardown_request(_forget)
    blueprint.errorhandler(Refusal)(form.refuse)
    blueprint.errorhandler(RequestEntityTooLarge)(partial(_refuse_large_body, form))
    return blueprint


def _attend() -> None:
    """Say what this server can't do, and see that this worker can be asked and told to stop."""
    state = current_state()
    state.server.inspect(request.environ)
    state.attend()


def _forget(error: BaseException | None) -> None:
    """Give back the thread if there is no answer; stop reading if nobody will get it.

    Nobody will if the request failed after its view.
    """
    free_thread = g.pop("chatproxy_thread", None)
    if free_thread is not None:
        free_thread()
    events: EventStream | None = g.pop("chatproxy_events", None)
    if events is not None and error is not None:
        events.leave()


def _refuse_large_body(form: Form, _error: RequestEntityTooLarge) -> Response:
    return form.refuse(_too_large(current_state().settings.max_body_bytes))


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes.")


def refuse_http(form: Form, error: HTTPException) -> Response:
    """The response to what Flask or the application refuses: a sentence, and its name as code."""
    status = error.code or 500
    sentence = _SENTENCES.get(status) or error.description or f"{error.name}."
    refusal = Refusal(sentence, status=status, code=error.name.lower().replace(" ", "_"))
    response = form.refuse(refusal)
    response.headers.update({k: v for k, v in error.get_headers() if k != "Content-Type"})
    return response


def reconnect_seconds(state: State) -> float:
    """How long the present request lets its answer go on without a reader."""
    return check_reconnect_seconds(
        request.headers.get("X-On-Disconnect"), state.settings.on_disconnect
    )


def chat_of(state: State, owner: str, chat_id: str = "") -> SessionKey | None:
    """The chat that the present request's question belongs to; None if to none.

    That is the one that it names, in ``X-Chat-Id`` if not elsewhere. If it names none, and what is
    asked next may not be refused, all such questions of an owner are of one chat. If owners are not
    known, each stands alone.
    """
    chat_id = chat_id or check_chat_id(request.headers.get("X-Chat-Id"))
    if not chat_id and owner and state.settings.on_active != "reject":
        chat_id = UNNAMED_CHAT
    return SessionKey(owner, chat_id) if chat_id else None


def require_json() -> None:
    """See that a page of another origin can't have sent the present request without being asked.

    A form, and a script that is not allowed (CORS), can send some types, and not this one (Fetch,
    2.2.2). For requests that need no header of their own.

    :raises InvalidRequest: if it is no JSON by its ``Content-Type``.
    """
    if not request.is_json:
        sentence = "The Content-Type must be application/json."
        raise InvalidRequest(sentence, status=415, code="not_json")


def read_body(state: State, limit: int | None = None, *, of_a_stop: bool = False) -> bytes:
    """The body of the present request.

    It may come slowly, so a thread counts as taken from here on (``take_thread``): for the answer,
    if one begins, and to the end of the request otherwise. A Stop takes what is left to Stops.

    :param limit: how many bytes it may have; ``CHATPROXY_MAX_BODY_BYTES`` if left out.
    :raises Refusal, HTTPException: if it is too large, too slow, or can't be read, or if only one
        thread is left.
    """
    if not of_a_stop and "chatproxy_thread" not in g:
        g.chatproxy_thread = state.server.take_thread_for_body(request.environ)
    limit = limit or state.settings.max_body_bytes
    # One byte more: Werkzeug cuts a body without Content-Length off at the limit, and is silent.
    request.max_content_length = limit + 1
    try:
        with state.bodies.limit(client_socket(request.environ)):
            body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise _too_large(limit) from None
    except (HTTPException, Refusal):
        raise
    except Exception:  # each server has one of its own for a body that is not HTTP
        raise InvalidRequest("The body could not be read.") from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


def begin(
    state: State,
    key: SessionKey,
    payload: Payload,
    seconds: float,
    *,
    encoder: Encoder,
    form: Form,
    chat: SessionKey | None = None,
    tells_account: bool = False,
) -> Response:
    """Have an answer made, and respond with it.

    :param seconds: see ``StreamSession.reconnect_seconds``.
    :param chat: see ``StreamSession``.
    :param tells_account: see ``AnswerService.begin``.
    :raises Refusal: if it can't begin.
    """
    give_way()
    question = state.prepare(payload)
    if question.run and request.headers.get("X-Calls") == "1":
        question = question._replace(tells_calls=True)
    free_thread = g.pop("chatproxy_thread", None) or state.server.take_thread()
    try:
        reader = state.service.begin(key, question, seconds, chat, tells_account=tells_account)
    except BaseException:
        free_thread()
        raise
    reader.withheld = encoder.withheld
    # Not by an ExitStack, as below: it takes a kilobyte of each stream.
    events = EventStream(reader, state.settings.heartbeat, free_thread, encoder)
    with _left_if_it_fails(events):
        session_id = key.id or None
        signals.stream_started.send(state.app, session_id=session_id, owner=key.owner)
        events.watch = state.watcher.watch(request.environ, events.leave)
    return _respond(state, key.id, events, form)


def follow(
    state: State,
    key: SessionKey,
    after: int,
    *,
    encoder_for: Callable[[str], Encoder],
    form: Form,
) -> Response | None:
    """Respond with an answer that runs or is retained, from the event after number ``after``.

    :param encoder_for: makes the encoder for the answer with this session id.
    :returns: None if it has ended and there is nothing left to read.
    :raises Refusal: see ``AnswerService.follow``.
    """
    with ExitStack() as slots:
        slots.callback(state.server.take_thread())
        # Without owners it is the answer that has so many readers, and no more.
        slots.callback(state.service.reader_slots.take(key.owner or key.id))
        reader = state.service.follow(key, after)
        if reader is None:
            return None
        heartbeat, encoder = state.settings.heartbeat, encoder_for(reader.session_id)
        events = EventStream(reader, heartbeat, slots.pop_all().close, encoder)
    with _left_if_it_fails(events):
        events.watch = state.watcher.watch(request.environ, events.leave)
        events.prefetch()
    return _respond(state, reader.session_id, events, form)


@contextmanager
def _left_if_it_fails(events: EventStream) -> Iterator[None]:
    try:
        yield
    except BaseException:
        events.leave()
        raise


def _respond(state: State, session_id: str, events: EventStream, form: Form) -> Response:
    g.chatproxy_events = events
    headers = {**form.headers, "X-Session-Id": session_id} if session_id else form.headers
    return StreamResponse(state.app, events, form, headers)


class StreamResponse(Response):
    """A response that begins when the server asks for its first item; see ``event_stream``.

    A refusal keeps the headers that the application has added to the response. If the application
    replaces the body, the status is 200, and a failure is an event.
    """

    def __init__(
        self, app: Flask, events: EventStream, form: Form, headers: dict[str, str]
    ) -> None:
        super().__init__(events, headers=headers)
        self._app = app
        self._events = events
        self._form = form

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as a WSGI application."""
        if self.response is not self._events:
            return super().__call__(environ, start_response)
        self._events.respond_late(partial(self._start, environ, start_response), self.close)
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
        text = self._app.json.dumps(self._form.body_of(refusal))
        response = Response(text, refusal.status, content_type="application/json")
        for name, value in self.headers:
            if self._form.headers.get(name) != value:
                response.headers.add(name, value)
        response.headers.update(refusal.headers())
        return response
