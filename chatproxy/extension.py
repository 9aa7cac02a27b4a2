"""ChatProxy: settings, parts and routes put together for one Flask application.

All state is in ``app.extensions["chatproxy"]``; the extension object keeps nothing of an
application, so that one may serve several, and two in one process don't meet.
"""

from __future__ import annotations

import contextvars
import inspect
import json
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Blueprint, Flask, current_app, has_app_context
from flask_cors import CORS

from . import record_keeping, scopes, signals
from .accounting.accountant import Accountant
from .accounting.budget import Budget, Left
from .accounting.budgets import Budgets
from .accounting.prices import Prices
from .accounting.tokenizers import find_counter
from .answers.coroutines import Coroutine
from .answers.question import Question
from .answers.receipt import Receipt
from .answers.session import SessionKey, StreamSession
from .answers.transcript import Transcript
from .budgeted_caller import BudgetedCaller
from .budgeted_caller import Choose as ChooseBudget
from .cluster.local.control_socket import ControlSocket
from .cluster.local.peers import LocalPeers
from .cluster.local.run_dir import RunDir
from .cluster.peers import Peers, PeerState
from .cluster.registry import Registry
from .cluster.rpc import RpcDispatcher
from .config import Settings, unknown_names
from .errors import ConfigError, PeersUnavailable
from .observability import logs, telemetry
from .observability.metrics import Metrics
from .protocols.headers import check_session_id
from .runs.answer import Answer
from .runs.call import Function, Runs
from .runs.run import Resources, find_run
from .server import exposure
from .server.arrivals import BodyTimer
from .server.capabilities import ServerCapabilities, beginning_at_once
from .server.disconnect import DisconnectWatcher
from .server.event_loop import CoroutineRunner
from .server.resolver import ThreadedResolver
from .server.shutdown import Shutdown
from .service import AnswerService
from .upstreams.chat_completions import ChatCompletions
from .upstreams.models import ModelList
from .upstreams.routes import Routes
from .values import as_on_active
from .web import ai_sdk, native, openai, page
from .web.state import Choose, Owner, Prepare, State, current_state

if TYPE_CHECKING:
    from .records.writer import Records

logger = logs.logger

#: What a page of another origin may read, beside what Fetch (3.3.3) lists as safe.
_EXPOSED_HEADERS = ["X-Session-Id", "Retry-After", "X-Should-Retry", "ETag"]

#: Where the routes are if it is not said, and where the page expects them.
_PREFIX = "/api/chat"

_P = TypeVar("_P", bound=Callable[..., Any])
_C = TypeVar("_C", bound=Choose)
_B = TypeVar("_B", bound=ChooseBudget)
_F = TypeVar("_F", bound=Function)
_RUN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_A = TypeVar("_A")
_R = TypeVar("_R")


class ChatProxy:
    """The Flask extension.

    :param app: the application; or call ``init_app`` later.
    :param owner: called in each request, returns who makes it as a string. None or an empty string
        refuses the request (401). Left out, there are no owners: whoever knows an id may stop it.
    :param url_prefix: the path below which the routes are.
    :param name: what the application is called, in all its workers alike: 1 to 64 characters of
        A-Z a-z 0-9 . _ - . Several applications need names of their own if they are in one
        process, or share a run directory or a Redis. Left out, it is ``CHATPROXY_NAME`` or the
        application's import name; a further one of that name in a process has a number,
        and one that is made during a request is not shared with other processes.
    :param upstream: see ``upstream``. If it is given here, or before ``init_app``, no key for
        DeepSeek is needed: it may never be asked.
    :param on_active: what a new question does while one of its chat is live: "reject", "replace"
        or "enqueue". Left out, it is ``CHATPROXY_ON_ACTIVE``.
    :raises ConfigError: if the name or ``on_active`` can't be one; and see ``init_app``.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        owner: Owner | None = None,
        url_prefix: str = _PREFIX,
        name: str | None = None,
        upstream: Choose | None = None,
        on_active: str | None = None,
    ) -> None:
        for argument, value, check in (
            ("name", name, scopes.check_name),
            ("on_active", on_active, as_on_active),
        ):
            try:
                if value is not None:
                    check(value)
            except ValueError as error:
                raise ConfigError(f"ChatProxy({argument}=...) {error}.") from None
        self.name = name
        self._on_active = on_active
        self.owner = owner
        self._url_prefix = url_prefix.rstrip("/")
        self.preparers: list[Prepare] = []
        self.choosers: list[Choose] = [] if upstream is None else [upstream]
        self.budgeters: list[ChooseBudget] = []
        self.functions: dict[str, Function] = {}
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the routes to an application, with its settings and state.

        :raises ConfigError: if a setting is wrong or missing, or if another application of this
            process has the name.
        :raises RuntimeError: if this was done before.
        """
        if "chatproxy" in app.extensions:
            raise RuntimeError("ChatProxy is already set up on this application.")
        settings = Settings.load(app.config, os.environ)
        if self._on_active is not None:
            settings = replace(settings, on_active=as_on_active(self._on_active))
        routes = Routes.load(settings, os.environ)
        if routes.needs_key and not self.choosers:
            settings.require_key()
        if settings.tokens and self.owner is None:
            raise ConfigError(
                "CHATPROXY_TOKENS is for the standalone server; in an application of your own, use "
                "ChatProxy(owner=...) to say who makes a request."
            )
        for name in unknown_names({*os.environ, *app.config}):
            logger.warning("%s is not a setting of chatproxy; it has no effect.", name)
        for sentence in exposure.of_the_keys(settings, routes.all()):
            logger.warning(sentence)
        blueprints = [native.blueprint(self._url_prefix), ai_sdk.blueprint(self._url_prefix)]
        if settings.openai_prefix:
            blueprints.append(openai.blueprint(settings.openai_prefix))
        app.extensions["chatproxy"] = _assemble(app, settings, routes, self)
        if settings.conversations:
            # Not above: it takes SQLAlchemy, which then is there.
            from .web import conversations  # noqa: PLC0415

            blueprints.append(conversations.blueprint(self._url_prefix))
        # As patterns: flask-cors takes some strings for patterns by itself, and unanchored.
        origins = [re.compile(re.escape(each) + r"\Z") for each in settings.cors_origins]
        for blueprint in blueprints:
            if origins:
                CORS(blueprint, origins=origins, expose_headers=_EXPOSED_HEADERS)
            app.register_blueprint(blueprint)
        app.wsgi_app = beginning_at_once(app.wsgi_app)  # type: ignore[assignment,method-assign]
        self._apps.add(app)

    def prepare(self, function: _P) -> _P:
        """Decorator: have ``function(payload)`` called before a payload is sent.

        It may change the payload or return another, or refuse it by raising
        ``chatproxy.Refusal`` or by ``flask.abort``. It runs in the request. A function of two
        arguments gets a dictionary, too: what it puts there is the ``context`` of ``stream_ended``
        and of a run.
        """
        takes_context = len(inspect.signature(function).parameters) > 1
        self.preparers.append(function if takes_context else lambda payload, _: function(payload))
        return function

    def upstream(self, function: _C) -> _C:
        """Decorator: have ``function(payload)`` say which upstream answers a question.

        It returns a ``chatproxy.Upstream``, or several, which are asked in this order until one
        answers; or None, which leaves it to the next function, then to ``CHATPROXY_UPSTREAMS``,
        then to DeepSeek. It may refuse the question as those of ``prepare`` may. It runs in the
        request, after them. What it does to the payload has no effect.
        """
        self.choosers.append(function)
        return function

    def budget(self, function: _B) -> _B:
        """Decorator: have ``function(owner)`` say what an owner may spend.

        It returns a ``chatproxy.Budget``, or several, all of which hold; an empty list for none; or
        None, which leaves it to the next function, then to ``CHATPROXY_BUDGET``. It is called for
        each question, in the request or in the code of a run. The owner is "" if owners are not
        known: then the budget is that of the whole application.
        """
        self.budgeters.append(function)
        return function

    def run(self, name: str) -> Callable[[_F], _F]:
        """Decorator: have ``function(run, payload)`` make the answers of the run of this name.

        ``POST /api/chat/runs/<name>`` asks for one, and so does the model ``run:<name>`` in every
        protocol. What the function yields or returns is shown: parts of answers, and text. It runs
        in a thread of its own, in an application context, after the request. See ``Run``.

        :param name: 1 to 64 characters of A-Z a-z 0-9 _ . -
        :raises ValueError: if the name is taken, or can't be one.
        :raises TypeError: if the function is asynchronous.
        """
        if not _RUN_NAME.match(name):
            raise ValueError(f"A run can't be called {name!r}.")
        if name in self.functions:
            raise ValueError(f"There is a run called {name!r} already.")

        def register(function: _F) -> _F:
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise TypeError(f"The run {name!r} can't be an async function.")
            self.functions[name] = function
            return function

        return register

    def page(self) -> Blueprint:
        """The chat page at ``/``, for ``app.register_blueprint(chat.page())``; it offers the runs.

        If the application is mounted below a path, the page is too, and asks this application.

        :raises ConfigError: if the routes are not below ``/api/chat``, which the page asks.
        :raises RuntimeError: if it is not clear for which application.
        """
        if self._url_prefix != _PREFIX:
            raise ConfigError(f"The chat page needs ChatProxy(url_prefix={_PREFIX!r}).")
        return page.blueprint(self._state().settings)

    def start(
        self,
        payload: Mapping[str, Any],
        *,
        session_id: str | None = None,
        owner: str = "",
        on_disconnect: float = 0.0,
    ) -> Answer:
        """Have an answer made, without a request: in a view, a script, a task.

        It can be stopped from the web by its id. It stops if the ``Answer`` is closed before its
        end, or if nobody has it any more. Within a run it ends with the run.

        :param payload: a chat completion in DeepSeek's form. ``prepare`` sees it.
        :param session_id: the client's id; without one it can't be stopped from elsewhere.
        :param owner: whose it is, as text; "" if owners are not known. None is refused.
        :param on_disconnect: seconds that the answer goes on after that.
        :raises Refusal: if it can't begin.
        :raises RuntimeError: if it is not clear for which application.
        """
        state = self._state()
        if (run := find_run()) is not None:
            run.check()
        key = _key_of(owner, session_id)
        state.attend()
        reader = state.service.begin(key, state.prepare(dict(payload)), on_disconnect)
        try:
            signals.stream_started.send(state.app, session_id=session_id, owner=key.owner)
            if run is not None:
                run.adopt(reader.session)
        except BaseException:
            reader.close()
            raise
        return Answer(reader, state.service.cancel_session, state.service.drop)

    def cancel(self, session_id: str, owner: str = "") -> Receipt | None:
        """Stop an answer, whichever worker has it; None if nothing live has this id.

        :raises PeersUnavailable: if the other workers can't be asked.
        """
        key = _key_of(owner, session_id)
        return self._state().service.cancel(key, time.monotonic(), remember=False)

    def sessions(self, owner: str) -> list[dict[str, Any]]:
        """The owner's answers that run or are retained, as the route lists them."""
        return self._state().service.list_of(_key_of(owner).owner)

    def budget_left(self, owner: str = "") -> list[Left]:
        """What is left of an owner's budgets, each with ``budget``, ``left`` and ``until``.

        :raises PeersUnavailable: if what the workers share can't be reached.
        """
        return self._state().budgets.left(_key_of(owner).owner)

    def stop_all(self, owner: str) -> list[Receipt]:
        """Stop all of an owner's answers, on all workers; for a logout.

        :raises PeersUnavailable: if a worker can't be asked; those on all others are stopped.
        """
        return self._state().service.cancel_all(_key_of(owner).owner)

    def _state(self) -> State:
        """What belongs to the present application, or to the only one that there is."""
        if has_app_context() and "chatproxy" in current_app.extensions:
            return current_state()
        try:
            (app,) = self._apps
        except ValueError:
            raise RuntimeError(
                "It is not clear for which application; do this inside app.app_context()."
            ) from None
        state: State = app.extensions["chatproxy"]
        return state


def _key_of(owner: object, session_id: str | None = None) -> SessionKey:
    """The key of an answer; the owner as the routes have it.

    :raises ValueError: if there is no owner.
    :raises InvalidRequest: if the id can't be one.
    """
    if owner is None:
        raise ValueError("The owner is None; who is not logged in has no answers.")
    return SessionKey(str(owner), "" if session_id is None else check_session_id(session_id))


def _assemble(app: Flask, settings: Settings, routes: Routes, extension: ChatProxy) -> State:
    """Put the parts of one application together."""
    run_dir = RunDir(settings.run_dir)
    scope = scopes.claim(app, extension.name, settings.name or app.name)
    alone = scopes.is_alone(scope)  # with files of its own, which nobody would take over
    metrics = Metrics(app, None if alone else lambda: run_dir.path / "metrics", scope)
    tracing = telemetry.observe(app, settings, metrics)
    control_socket = ControlSocket(run_dir, scope)
    peers = _find_peers(settings, control_socket, scope)
    kept = record_keeping.open_conversations(
        settings, scope, has_owners=extension.owner is not None
    )
    registry = Registry(settings, app, peers)
    upstream = ChatCompletions(settings, ThreadedResolver())
    metrics.watch(upstream)
    prices = Prices(settings.prices)
    accountant = Accountant(prices, find_counter(settings.tokenizer))
    runner = CoroutineRunner()

    def spawn(coroutine: Coroutine[None]) -> None:
        _own_context().run(runner.spawn, coroutine)

    records = record_keeping.open_records(app, settings, scope)
    budgets = Budgets(
        peers.accounts, prices, record_keeping.spent_by(records), settings.budget_max_tokens
    )
    of_settings = [Budget(**each) for each in settings.budgets]
    caller = BudgetedCaller(upstream, budgets, of_settings, extension.budgeters)
    resources = Resources(
        upstream=caller,
        routes=routes,
        spawn=spawn,
        resolver=ThreadedResolver(),  # what hangs here takes no place from the upstreams
        log_bytes=settings.log_bytes,
        model=settings.model,
        accountant=accountant,
        within=app.app_context,
        sender=app,
    )
    runs = Runs(extension.functions, resources, settings.run_grace)
    service = AnswerService(
        settings, app, registry, runs, accountant, spawn=spawn, tell=partial(_tell, app, runner)
    )
    dispatcher = RpcDispatcher(registry, service.remote_readers, scope)
    unknown = {"state": PeerState.UNKNOWN}
    peers.serve(_weakly(dispatcher.dispatch, unknown), _weakly(registry.lose, None))
    control_socket.serve(dispatcher.dispatch)
    presence = _Presence(registry, peers, control_socket, records, settings.grace)
    state = State(
        app=app,
        settings=settings,
        scope=scope,
        registry=registry,
        service=service,
        upstream=upstream,
        budgets=caller,
        routes=routes,
        models=ModelList(upstream, settings.model, routes),
        metrics=metrics,
        tracing=tracing,
        records=records,
        server=ServerCapabilities(settings),
        bodies=BodyTimer(settings.body_timeout, partial(_tell_unfinished, app)),
        watcher=DisconnectWatcher(settings.reader_timeout),
        attend=presence.attend,
        owner=extension.owner,
        preparers=extension.preparers,
        runs=extension.functions,
        choosers=extension.choosers,
        conversations=kept,
    )
    if settings.peers != "local":  # whose control socket closes by itself
        weakref.finalize(state, _leave, peers).atexit = False
    return state


class _Presence:
    """This worker among the others, and for the signals of its process."""

    def __init__(
        self,
        registry: Registry,
        peers: Peers,
        control_socket: ControlSocket,
        records: Records | None,
        grace: float,
    ) -> None:
        self._peers = peers
        self._control_socket = control_socket
        self._shutdown = Shutdown(
            registry.drain,
            others=control_socket.others,
            is_another_ready=partial(control_socket.is_anyone, PeerState.READY),
            close=(registry.close, control_socket.close, *([records.close] if records else [])),
            grace=grace,
        )
        self._shutdown.listen()

    def attend(self) -> None:
        """Be there for the other workers and for signals, from the first request on."""
        self._shutdown.listen()
        with suppress(PeersUnavailable):
            self._peers.open()
            self._control_socket.open()


def _tell(app: Flask, runner: CoroutineRunner, session: StreamSession) -> None:
    """Tell the application how an answer ended."""
    runner.retire()
    transcript, question = session.log.transcribed() or Transcript(), session.question
    account = session.account
    try:
        with app.app_context():
            signals.stream_ended.send(
                app,
                session_id=session.id or None,
                owner=session.owner,
                outcome=session.outcome and session.outcome.value,
                reason=session.reason and session.reason.value,
                phase=session.phase.value,
                events=session.events,
                upstream=session.upstream or None,
                usage=dict(account.usage.tokens) or None,
                usage_source=account.usage.source.value,
                account=account.as_json(),
                text=transcript.text,
                reasoning_text=transcript.reasoning_text,
                payload=_payload_of(question),
                context={} if question is None else question.context,
            )
    except Exception:
        logger.exception("A receiver of stream_ended failed")


def _payload_of(question: Question | None) -> dict[str, Any]:
    """What was asked; nothing if it has a number that Python can't decode."""
    with suppress(ValueError, RecursionError):
        if question is not None:
            return dict(json.loads(question.body_for("", question.stream_options)))
    return {}


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
    if find_spec("redis") is None:
        raise ConfigError("CHATPROXY_PEERS needs redis: pip install 'chatproxy[redis]'.")
    # Not above: it takes 0.1 s and 8 MB.
    from .cluster.redis.peers import RedisPeers  # noqa: PLC0415

    has_records = bool(settings.records)
    return RedisPeers(settings.peers, scope, settings.lease, has_records=has_records)
