"""Run: what an application's function makes an answer with.

Each question to an upstream (``ask``) is a session of its own, without an id. A producer makes its
answer as it makes any other, into a log of its own, and the function reads that. So a question has
all that an answer has: tries, timers, back-pressure, an abort in every phase. What is *shown* of it
goes into the log of the run's session, which the clients read.

How a run ends:

* The function returns or raises. Whatever it has begun and not awaited is ended: questions and
  requests are aborted, tasks (``spawn``) are joined if it returned, else aborted.
* Somebody stops the session. The run's handle is aborted. That ends every wait, and whatever the
  function begins from then on raises ``Stopped``. So the function comes to its end by itself, with
  its ``finally`` blocks. Code that waits for something else is left behind after a while.

Rules:

* The function may have several threads; the log has one at a time (``output``, ``appender``).
* Nothing is appended after ``close``, whoever was left behind.
"""

from __future__ import annotations

import contextvars
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from .. import signals
from ..accounting.accountant import Accountant
from ..answers.abort import AbortFn, AbortHandle
from ..answers.calls import Calls
from ..answers.coroutines import Coroutine
from ..answers.log import AnswerLog
from ..answers.producer import Call, produce
from ..answers.question import RUN, Question
from ..answers.session import Outcome, Phase, Reason, StreamSession
from ..answers.upstream import Upstream, listed
from ..errors import InvalidRequest, Refusal, Stopped
from ..protocols import chat_request, native
from ..upstreams.base import Caller
from ..upstreams.http_session import HttpSession, Turns
from ..upstreams.routes import Routes
from ..upstreams.transport.dialer import Resolver
from .ask import Ask
from .output import Output
from .parts import Part
from .tasks import Tasks
from .waits import Waits

#: The names of events that mean something else.
_RESERVED = frozenset(
    {
        *(native.ACCOUNT, "error", "message", "stopped"),
        *("call-begin", "call-end", "tool-call", "tool-result"),
    }
)
#: Its own questions have their counts of tokens, whatever its client has asked for.
_WITH_USAGE = b'{"include_usage":true}'
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
#: Seconds that code loses which has been stopped, and goes on: in a loop it would hold up others.
_PAUSE = 0.001

_T = TypeVar("_T")

#: The run that the present code belongs to; see ``current_run``.
_current: contextvars.ContextVar[Run] = contextvars.ContextVar("chatproxy_current_run")


def current_run() -> Run:
    """The run that the present code belongs to, also in a thread that it has spawned.

    :raises RuntimeError: if there is none.
    """
    run = find_run()
    if run is None:
        raise RuntimeError("There is no run here; see ChatProxy.run.")
    return run


def find_run() -> Run | None:
    """The run that the present code belongs to; None if there is none."""
    return _current.get(None)


@dataclass(frozen=True)
class Resources:
    """What the runs of an application share.

    :ivar upstream: answers their questions.
    :ivar routes: says who answers a model.
    :ivar spawn: runs a coroutine beside the present thread.
    :ivar resolver: finds hosts for their own requests.
    :ivar log_bytes: what the log of a question holds for the function, in bytes.
    :ivar model: the model of a question that names none.
    :ivar accountant: settles each question to an upstream.
    :ivar within: makes the context in which the application's code runs, one for each thread.
    :ivar sender: the sender of the signals: the application.
    :ivar waits: who waits for which future.
    :ivar turns: whose turn it is to read what has come.
    """

    upstream: Caller
    routes: Routes
    spawn: Callable[[Coroutine[None]], None]
    resolver: Resolver
    log_bytes: int
    model: str
    accountant: Accountant
    within: Callable[[], AbstractContextManager[object]]
    sender: object
    waits: Waits = field(default_factory=Waits)
    turns: Turns = field(default_factory=Turns)


class Run:
    """One run. Any thread that it has spawned may use it.

    :ivar name: what the function is registered as.
    :ivar context: what ``prepare`` has put there.
    """

    def __init__(self, session: StreamSession, question: Question, resources: Resources) -> None:
        self.name = question.run
        self.context: dict[str, Any] = {} if question.context is None else question.context
        self._session = session
        self._upstreams = question.upstreams
        self._resources = resources
        self._handle = AbortHandle(Stopped)
        #: What the client gets.
        self.output = Output(session, RUN + self.name, self.check, lambda: self.stopped)
        listeners = (partial(self.output.tell, "call-begin"), self.output.tell_end)
        self._calls = session.calls = Calls(
            resources.sender, session.trace, *listeners if question.tells_calls else ()
        )
        self._lock = threading.Lock()
        self._http: HttpSession | None = None
        self._tasks = Tasks(self._handle, resources.waits, resources.within)

    @property
    def session_id(self) -> str | None:
        """The client's id; None if it has given none."""
        return self._session.id or None

    @property
    def owner(self) -> str:
        """Who has asked; "" if owners are not known."""
        return self._session.owner

    @property
    def stopped(self) -> bool:
        """Whether the run has been stopped, or is over."""
        return self._handle.aborted

    def check(self) -> None:
        """See that the run is still wanted; for code that computes for long.

        :raises Stopped: if not.
        """
        if self._handle.aborted:
            time.sleep(_PAUSE)
        self._handle.check()

    # ---- what it asks ----------------------------------------------------------------------------

    def ask(
        self,
        payload: Mapping[str, Any],
        *,
        show: bool = True,
        name: str | None = None,
        upstream: Upstream | Sequence[Upstream] | None = None,
    ) -> Ask:
        """Ask an upstream. The answer is made from now on; it is read by iterating over it.

        Several may be asked at once.

        :param payload: a chat completion in DeepSeek's form.
        :param show: whether the client gets what is read.
        :param name: what the receipt calls it; the model if left out.
        :param upstream: whom to ask, one after the other until one answers. Left out, it is what
            ``ChatProxy.upstream`` has chosen for the run, then what the file says of the model.
        :raises ValueError: if the payload can't be used.
        :raises Stopped: if the run has been stopped.
        """
        self.check()
        fields = dict(payload)
        resources = self._resources
        try:
            chat_request.check(fields)
            body = chat_request.complete(fields, resources.model)
        except InvalidRequest as refusal:  # it is not the client's fault
            raise ValueError(refusal.message) from None
        model = chat_request.model_of(fields) or resources.model
        upstreams = listed(upstream) or self._upstreams or resources.routes.upstreams_of(model)
        question = Question(
            body,
            chat_request.choices_of(fields),
            model,
            upstreams,
            stream_options=chat_request.stream_options_of(fields) or _WITH_USAGE,
            max_tokens=chat_request.max_tokens_of(fields),
        )
        session = StreamSession(self._session.key, AnswerLog(resources.log_bytes))
        call = resources.upstream.call(question, session)
        stop = partial(self._stop, session)
        end = partial(self._end_question, session, call, stop)
        try:
            ask = Ask(self, session, show=show)
            self._handle.attach(stop)
            self._calls.begin(name or model, session, question)
            resources.accountant.open(session, question)
            resources.spawn(produce(session, call, end))
        except BaseException:
            end(Outcome.FAILED, None)
            raise
        return ask

    def _stop(self, session: StreamSession) -> None:
        """Stop what ends with the run, for the run's own reason; to be an abort_fn.

        If the run is over by itself, nobody wants to read it any more.
        """
        session.cancel(self._session.reason or Reason.DISCONNECT)

    def _end_question(
        self,
        session: StreamSession,
        call: Call,
        stop: AbortFn,
        outcome: Outcome,
        refusal: Refusal | None,
    ) -> None:
        session.refusal = refusal
        session.end(outcome)
        reservation = session.reservation
        with ExitStack() as steps:  # the last one first; each is taken, whatever becomes of others
            if reservation is not None:
                reservation.end()
                steps.callback(reservation.settle, session)
            steps.callback(session.log.end)
            steps.callback(session.closed.set)
            steps.callback(session.forget)
            steps.callback(self._calls.end, session)
            steps.callback(self._handle.detach, stop)
            steps.callback(self._settle, session)
            call.close()

    def _settle(self, session: StreamSession) -> None:
        session.closed_at = session.closed_at or time.monotonic()
        session.account = self._resources.accountant.settle(session)

    @property
    def http(self) -> HttpSession:
        """A session of ``requests``. Whatever is sent by it ends with the run, in every phase."""
        with self._lock:
            if self._http is None:
                resources = self._resources
                self._http = HttpSession(
                    self._handle, resources.resolver, self._calls, resources.turns
                )
            return self._http

    # ---- what it says ----------------------------------------------------------------------------

    def emit(self, name: str, data: Any) -> None:
        """Send the client an event of one's own. Waits while the client lags.

        :param name: what it is called: up to 64 of a-z 0-9 _ -, beginning with a letter.
        :param data: what it says, for JSON.
        :raises ValueError: if the name is taken or can't be one, or if the data is too large.
        :raises TypeError: if the data can't be written as JSON.
        """
        if not _NAME.match(name) or name in _RESERVED or name.startswith("chatproxy"):
            raise ValueError(f"An event can't be called {name!r}.")
        self.output.tell(name, data)

    def tell_tool_call(self, call_id: str, name: str, arguments: Any) -> None:
        """Tell the client that a tool is called. See ``emit`` for errors."""
        self.output.tell("tool-call", {"toolCallId": call_id, "toolName": name, "input": arguments})
        signals.tool_begun.send(
            within=self._session.trace, call_id=call_id, name=name, arguments=arguments
        )

    def tell_tool_result(self, call_id: str, output: Any = None, error: str | None = None) -> None:
        """Tell the client what came of it: an output, or an error. See ``emit`` for errors."""
        signals.tool_ended.send(
            within=self._session.trace, call_id=call_id, output=output, error=error
        )
        result = {"output": output} if error is None else {"errorText": error}
        self.output.tell("tool-result", {"toolCallId": call_id, **result})

    def show(self, item: Part | str) -> None:
        """Give the client a part of an answer, or text; nothing if the client has it already.

        What the function yields is shown.

        :raises TypeError: if it is neither.
        """
        self.output.show(item)

    # ---- what it waits for -----------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Wait so long.

        :raises Stopped: as soon as the run is stopped.
        """
        self.check()
        self._handle.sleep(seconds)

    def wait(self, future: Future[_T], timeout: float | None = None) -> _T:
        """Wait for what a future brings, such as that of ``spawn`` or of an executor.

        :param timeout: seconds; None for as long as it takes.
        :raises Stopped: as soon as the run is stopped; the future is cancelled if it has not begun.
        :raises TimeoutError: if it takes longer.
        :raises Exception: what the future raises.
        """
        try:
            self.check()
            if not self._tasks.is_done(future, timeout):
                raise TimeoutError
        except Stopped:
            future.cancel()
            raise
        return future.result()

    def spawn(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> Future[_T]:
        """Call a function in a thread of the run (a greenlet under gevent), beside this one.

        The run ends when all that it has spawned has ended. If one raises, and nobody has asked its
        future for that, the run fails.

        :raises Stopped: if the run has been stopped.
        """
        self.check()
        name = getattr(function, "__name__", "task")
        return self._tasks.spawn(partial(function, *args, **kwargs), name)

    def join(self) -> None:
        """Wait for all that was spawned, and for what that spawns.

        :raises Stopped: as soon as the run is stopped.
        :raises BaseException: what one of them has raised, unless its future was asked for that.
        """
        self._tasks.join()

    # ---- for what belongs to it ------------------------------------------------------------------

    def waiting(self, abort_fn: Callable[[], None]) -> AbstractContextManager[None]:
        """See ``AbortHandle.waiting``; it raises ``Stopped``."""
        return self._handle.waiting(abort_fn)

    def begin(self) -> None:
        """Note that it begins."""
        self._session.enter(Phase.WAITING)

    def enter(self) -> None:
        """Make this the run of the present context."""
        _current.set(self)

    def within(self) -> AbstractContextManager[object]:
        """The context in which its function runs."""
        return self._resources.within()

    def adopt(self, session: StreamSession) -> None:
        """Have another answer end with this run.

        :raises Stopped: if the run has been stopped.
        """
        self._handle.attach(partial(self._stop, session))

    def leave_behind(self) -> None:
        """Note that its function has not ended in time."""
        self._calls.leave_behind(self.name)

    def abort(self) -> None:
        """End every wait, now and later. Never blocks or raises."""
        self._handle.abort()

    def wait_for_calls(self, end: float) -> None:
        """Wait until all connections of an aborted run are gone, but no longer than until ``end``.

        The session is closed by then, for the receipt, whatever becomes of the run's own code.

        :param end: of the monotonic clock.
        """
        for call in self._calls.live():
            if isinstance(call, StreamSession):
                call.closed.wait(max(0.0, end - time.monotonic()))
        session = self._session
        if session.closed_at is None and all(call.closed_at for call in self._calls.live()):
            session.closed_at = time.monotonic()

    def close(self, end: float) -> None:
        """End all that is left, and append nothing more. What lasts beyond ``end`` is left behind.

        :param end: of the monotonic clock.
        """
        self.abort()
        self.wait_for_calls(end)
        for name in self._tasks.left(end):
            self._calls.leave_behind(name)
        self.output.close()
        if self._http is not None:
            self._http.close()
        self._calls.settle()
