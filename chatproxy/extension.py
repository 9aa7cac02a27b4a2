"""ChatProxy: settings, parts and routes put together for one Flask application.

All state is in ``app.extensions["chatproxy"]``; the extension object keeps nothing of an
application, so that one may serve several, and two in one process don't meet.
"""

from __future__ import annotations

import contextvars
import os
import re
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TypeVar

from flask import Flask
from flask_cors import CORS

from . import scopes, signals
from .answers.coroutines import Coroutine
from .answers.producer import Follower, produce
from .answers.readers import SessionReading
from .answers.receipt import Receipt
from .answers.session import Outcome, SessionKey, StreamSession
from .answers.shares import SlotPool
from .answers.transcript import Transcript
from .answers.watchdog import Clock
from .cluster.local.control_socket import ControlSocket
from .cluster.local.peers import LocalPeers
from .cluster.local.run_dir import RunDir
from .cluster.peers import Peers, PeerState
from .cluster.registry import Registry
from .cluster.rpc import RpcDispatcher
from .config import Settings, unknown_names
from .errors import ConfigError, PeersUnavailable, Unauthorized
from .observability import logs
from .observability.metrics import Metrics
from .protocols import payload as payloads
from .server import exposure, shutdown
from .server.arrivals import BodyTimer
from .server.capabilities import Server
from .server.disconnect import DisconnectWatcher
from .server.event_loop import Coroutines
from .service import Library
from .upstreams.chat_completions import UpstreamCall
from .upstreams.endpoint import Upstream
from .web import native

logger = logs.logger

#: What a page of another origin may read, beside what Fetch (3.3.3) lists as safe.
_EXPOSED_HEADERS = ["X-Session-Id", "Retry-After", "X-Should-Retry"]

#: How many readers may come back, however few answers may run.
_FEWEST_READERS = 64

Owner = Callable[[], "str | None"]
Prepare = Callable[[payloads.Payload], "payloads.Payload | None"]
_P = TypeVar("_P", bound=Prepare)
_A = TypeVar("_A")
_R = TypeVar("_R")


class ChatProxy:
    """The Flask extension.

    :param app: the application; or call ``init_app`` later.
    :param owner: called in each request, returns who makes it as a string. None or an empty string
        refuses the request (401). Left out, there are no owners: whoever knows an id may stop it.
    :param url_prefix: where the routes go.
    :param name: what the application is called, in all its workers alike: 1 to 64 characters of
        A-Z a-z 0-9 . _ - . Several applications need names of their own if they are in one
        process, or share a run directory or a Redis. Left out, it is ``CHATPROXY_NAME`` or the
        application's import name; a further one of that name in a process has a number,
        and one that is made amid a request is not shared with other processes.
    :raises ConfigError: if the name can't be one; and see ``init_app``.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        owner: Owner | None = None,
        url_prefix: str = "/api/chat",
        name: str | None = None,
    ) -> None:
        if name is not None:
            try:
                scopes.check_name(name)
            except ValueError as error:
                raise ConfigError(f"ChatProxy(name=...) {error}.") from None
        self._name = name
        self._owner = owner
        self._url_prefix = url_prefix
        self._preparers: list[Prepare] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the routes to an application, with its settings and state.

        :raises ConfigError: where a setting is wrong or missing, or another application of this
            process has the name.
        :raises RuntimeError: where this was done before.
        """
        if "chatproxy" in app.extensions:
            raise RuntimeError("ChatProxy is already set up on this application.")
        settings = Settings.load(app.config, os.environ)
        settings.require_key()
        if settings.tokens and self._owner is None:
            raise ConfigError(
                "CHATPROXY_TOKENS is for the standalone server; an application of your own says "
                "who may come in by ChatProxy(owner=...)."
            )
        for name in unknown_names({*os.environ, *app.config}):
            logger.warning("%s is not a setting of chatproxy; it has no effect.", name)
        for sentence in exposure.of_the_key(settings):
            logger.warning(sentence)
        routes = native.blueprint(self._url_prefix)
        if settings.cors_origins:
            # As patterns: flask-cors takes some strings for patterns by itself, and unanchored.
            origins = [re.compile(re.escape(each) + r"\Z") for each in settings.cors_origins]
            CORS(routes, origins=origins, expose_headers=_EXPOSED_HEADERS)
        app.extensions["chatproxy"] = State(app, settings, self._owner, self._preparers, self._name)
        app.register_blueprint(routes)

    def prepare(self, function: _P) -> _P:
        """Decorator: have ``function(payload)`` called before a payload is sent.

        It may change the payload or return another, or refuse it by raising
        ``chatproxy.Refusal`` or by ``flask.abort``. It runs in the request.
        """
        self._preparers.append(function)
        return function


class State:
    """What ChatProxy has on one application: ``app.extensions["chatproxy"]``."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        owner: Owner | None,
        preparers: list[Prepare],
        name: str | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        run_dir = RunDir(settings.run_dir)
        #: What the application is called among those that share what it shares.
        self.scope = scopes.claim(app, name, settings.name or app.name)
        alone = scopes.is_alone(self.scope)  # with files of its own, which nobody would take over
        self.metrics = Metrics(app, None if alone else lambda: run_dir.path / "metrics", self.scope)
        self._control_socket = ControlSocket(run_dir, self.scope)
        self._peers = peers = _find_peers(settings, self._control_socket, self.scope)
        self.registry = Registry(settings, app, peers)
        self.library = Library(self.registry, settings.reader_timeout)
        # Each has a connection, of which there are as many as for answers.
        readers = max(settings.max_sessions, _FEWEST_READERS)
        self._readers = SlotPool(readers, readers // 2)
        dispatcher = RpcDispatcher(self.registry, self.library.remote_readers, self.scope)
        unknown = {"state": PeerState.UNKNOWN}
        peers.serve(_weakly(dispatcher.dispatch, unknown), _weakly(self.registry.lose, None))
        if settings.peers != "local":  # whose control_socket closes by itself
            weakref.finalize(self, _leave, peers).atexit = False
        self._control_socket.serve(dispatcher.dispatch)
        self.upstream = Upstream(settings)
        self.server = Server(settings)
        self._coroutines = Coroutines()
        self.bodies = BodyTimer(settings.body_timeout, partial(_tell_unfinished, app))
        self.watcher = DisconnectWatcher(settings.reader_timeout)
        self._clock = Clock(settings, self.registry, self.library.remote_readers)
        self._owner = owner
        self._preparers = preparers
        self._shutdown = shutdown.Shutdown(self.registry, self._control_socket, settings.grace)
        self._shutdown.listen()

    def attend(self) -> None:
        """Be there for the other workers and for signals, from the first request on."""
        self._shutdown.listen()
        with suppress(PeersUnavailable):
            self._peers.open()
            self._control_socket.open()

    def establish_owner(self) -> str:
        """Who makes the present request; "" where there are no owners.

        :raises Unauthorized: where there should be one and is none.
        """
        if self._owner is None:
            return ""
        owner = self._owner()
        if not owner:
            raise Unauthorized("This request needs somebody who is logged in.")
        return str(owner)

    def prepare(self, payload: payloads.Payload) -> payloads.Question:
        """The question for DeepSeek, after the application has had its say.

        :raises Refusal: where it can't be used.
        """
        payloads.check(payload)
        if self._preparers:
            payload = payloads.change(payload, self._preparers)
        body = payloads.complete(payload, self.settings.model)
        return payloads.Question(body, payloads.choices_of(payload))

    def cancel(self, key: SessionKey, arrived: float, client: str = "") -> Receipt | None:
        """Stop an answer, as ``Registry.cancel`` does."""
        try:
            return self.registry.cancel(key, arrived, client)
        finally:
            self._clock.start()

    def follow(self, key: SessionKey, after: int) -> Follower | None:
        """Follow an answer, as ``Library.open`` does.

        :raises TooManySessions: if too many are followed already.
        """
        with ExitStack() as places:
            places.callback(self.server.take_thread())
            # Without owners it is the answer that has so many readers, and no more.
            places.callback(self._readers.take(key.owner or key.id))
            reading = self.library.open(key, after)
            if reading is None:
                return None
            return Follower(reading, self.settings.heartbeat, places.pop_all().close)

    def begin(self, key: SessionKey, question: payloads.Question, grace: float) -> Follower:
        """Claim the id and start to produce the answer; return the client's reader of it.

        :param grace: see ``StreamSession``.
        :raises Refusal: where the id can't be had.
        """
        leave = self.server.take_thread()
        try:
            return self._begin(self.registry.claim(key, grace), question, leave)
        except BaseException:
            leave()
            raise

    def _begin(
        self, session: StreamSession, question: payloads.Question, leave: Callable[[], None]
    ) -> Follower:
        try:
            self._clock.start()
            if signals.stream_ended.receivers:
                session.transcript = Transcript()
            reading = SessionReading(session, 0, self.app)
            follower = Follower(reading, self.settings.heartbeat, leave)
            _own_context().run(self._coroutines.spawn, self._produce(session, question))
        except BaseException:
            session.end(Outcome.FAILED)
            self.registry.discard(session)
            session.closed.set()
            self.registry.release(session)
            self.registry.drain.told(session)
            raise
        return follower

    def _produce(self, session: StreamSession, question: payloads.Question) -> Coroutine[None]:
        try:
            call = UpstreamCall(self.upstream, question.body, session)
            yield from produce(session, call, self.registry, question.choices)
            if session.transcript is not None:
                self._tell(session, session.transcript)
                session.transcript = None  # the session may be retained for long
        finally:
            self.registry.drain.told(session)

    def _tell(self, session: StreamSession, transcript: Transcript) -> None:
        try:
            with self.app.app_context():
                signals.stream_ended.send(
                    self.app,
                    session_id=session.id,
                    owner=session.owner,
                    outcome=session.outcome and session.outcome.value,
                    reason=session.reason and session.reason.value,
                    phase=session.phase.value,
                    events=session.events,
                    usage=transcript.usage,
                    text=transcript.text,
                    reasoning_text=transcript.reasoning_text,
                )
        except Exception:
            logger.exception("A receiver of stream_ended failed")


def _weakly(method: Callable[[_A], _R], otherwise: _R) -> Callable[[_A], _R]:
    """A method that keeps nothing alive, as the threads of the peers outlive an application."""
    reference = weakref.WeakMethod(method)

    def call(argument: _A) -> _R:
        found = reference()
        return otherwise if found is None else found(argument)

    return call


def _leave(peers: Peers) -> None:
    """Let the peers of an application go that is garbage; not here, as it may take a while."""
    with suppress(RuntimeError):  # no more threads can be had at present
        threading.Thread(target=peers.close, name="chatproxy-leave", daemon=True).start()


def _own_context() -> contextvars.Context:
    """A copy of the present context (PEP 567) without Flask's part of it.

    So what the request has set, the trace it belongs to, say, is there while the answer is made and
    when its end is told. The request itself, which may be large, is not kept for that.
    """
    context = contextvars.Context()
    for variable, value in contextvars.copy_context().items():
        if type(value).__module__ != "flask.ctx":
            context.run(variable.set, value)
    return context


def _tell_unfinished(app: Flask, part: str, why: str) -> None:
    signals.request_unfinished.send(app, part=part, why=why)


def _find_peers(settings: Settings, control_socket: ControlSocket, scope: str) -> Peers:
    if settings.peers == "local":
        return LocalPeers(control_socket, scope)
    # Not above: it takes 0.1 s and 8 MB.
    from .cluster.redis.peers import RedisPeers  # noqa: PLC0415

    return RedisPeers(settings.peers, scope, settings.lease)
