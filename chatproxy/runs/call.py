"""RunCall: a ``Call`` that has an application's function make the answer.

The function runs in a thread of its own (a greenlet under gevent), in the application's context.
The producer waits in ``open`` until it has ended, so ``receive`` has nothing left to do. A Stop
aborts the run, and the function has ``CHATPROXY_RUN_GRACE`` seconds to come to its end. Then the
answer ends without it; the thread is left behind, and the receipt says so.

``Runs`` is the ``Caller`` in front of the other: it answers the questions that name a run.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..answers.coroutines import Coroutine
from ..answers.producer import Call
from ..answers.question import Question
from ..answers.session import StreamSession
from ..errors import Aborted, Stopped
from ..protocols import chat_request
from .run import Resources, Run

#: An application's function: it gets the run and the payload. What it yields or returns is shown.
Function = Callable[[Run, dict[str, Any]], Any]


class Runs:
    """A ``Caller``: an application's functions, and what calls upstreams for all other questions.

    :param functions: by name.
    :param grace: seconds that a function has after a Stop.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        resources: Resources,
        grace: float,
    ) -> None:
        self._functions = functions
        self._resources = resources
        self._grace = grace

    def call(self, question: Question, session: StreamSession) -> Call:
        """See ``Caller``."""
        if not question.run:
            return self._resources.upstream.call(question, session)
        run = Run(session, question, self._resources)
        return RunCall(run, self._functions[question.run], question, self._grace)

    def close(self) -> None:
        """See ``Caller``."""
        self._resources.upstream.close()


class RunCall:
    """One run."""

    def __init__(
        self,
        run: Run,
        function: Function,
        question: Question,
        grace: float,
    ) -> None:
        self._run = run
        self._function = function
        self._body = question.body
        self._grace = grace
        #: Set by an abort, and when the function has ended.
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._closed = False
        #: Until when the function is waited for; None before an abort.
        self._until: float | None = None

    def open(self) -> None:
        """Have the answer made; see ``Call``."""
        if self._awake.is_set():
            raise Aborted
        self._run.begin()
        threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._work,),
            name=f"chatproxy-run-{self._run.name}",
            daemon=True,
        ).start()
        self._awake.wait()
        if self._until is not None:
            self._run.wait_for_calls(self._until)
            if not self._ended.wait(max(0.0, self._until - time.monotonic())):
                self._run.leave_behind()
            raise Aborted
        self.close()  # before anybody is told that the answer is whole
        error, self._error = self._error, None  # it refers to this frame from now on
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise RuntimeError(f"The run raised {type(error).__name__}") from error

    def receive(self) -> Coroutine[bool]:
        """Nothing is left to come; see ``Call``."""
        yield from ()
        return True

    def abort(self) -> None:
        """See ``Call``."""
        if self._until is None:
            self._until = time.monotonic() + self._grace
        self._run.abort()
        self._awake.set()

    def close(self) -> None:
        """See ``Call``."""
        if not self._closed:
            self._closed = True
            self._run.close(self._until or time.monotonic() + self._grace)

    def _work(self) -> None:
        try:
            self._run.enter()
            with self._run.within():
                payload = chat_request.decode(self._body)
                self._body = b""
                self._run.check()
                self._show_all(self._function(self._run, payload))
                self._run.join()
                self._run.output.finish()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()
            self._awake.set()

    def _show_all(self, result: Any) -> None:
        """Show what the function gives: parts or text, one or many."""
        if inspect.isgenerator(result):
            self._show_each(result)
        elif isinstance(result, Iterator):  # such as an answer
            for item in result:
                self._run.show(item)
        elif result is not None:
            self._run.show(result)

    def _show_each(self, generator: Any) -> None:
        """Show what a generator yields. A Stop is raised where it yields, as anywhere else."""
        with contextlib.closing(generator):  # also if it goes on after an error
            while True:
                try:
                    item = next(generator)
                except StopIteration as end:
                    self._show_all(end.value)
                    return
                try:
                    self._run.show(item)
                except (Stopped, TypeError) as error:
                    generator.throw(error)
                    raise
