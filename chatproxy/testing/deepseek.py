"""DeepSeek for the tests of an application: the simulated one, in a thread of its own.

It is on a real socket, so an application reaches it as it reaches DeepSeek: in this process or in
another, streamed, with connections that can be shut. What it saw of them is in its ledger.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..config import LEADING_OUT
from ..simulated import Scenario, SimulatedDeepSeek

#: Seconds for which a test waits for what should come at once.
PATIENCE = 10.0
#: What it does if it is told nothing: a few words, as fast as they can be read.
_USUAL: dict[str, Any] = {"text": "This is a simulated answer.", "rate": 0}

_T = TypeVar("_T")


def wait_for(
    condition: Callable[[], _T],
    seconds: float | None = None,
    message: str = "The condition did not come true in time.",
) -> _T:
    """Call ``condition`` until it returns something true, and return that.

    For what comes after an answer's end, such as what a receiver of ``stream_ended`` does.

    :param seconds: how long it has; ten if left out.
    :raises AssertionError: if it takes longer, with this message.
    """
    end = time.monotonic() + (PATIENCE if seconds is None else seconds)
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(message)  # alone: pytest adds to an assert
        time.sleep(0.005)
    return result


class DeepSeek:
    """The simulated DeepSeek.

    :ivar url: its address, for ``DEEPSEEK_BASE_URL``.
    :ivar settings: for ``app.config``, before ``ChatProxy`` is set up on the application. So it
        needs no key, reaches nothing that the environment names for the real one (an upstream, a
        database, other workers), and has no process that counts tokens: those of a stopped answer
        are estimated.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usual: dict[str, Any] = {}
        self._next: deque[dict[str, Any]] = deque()
        self._questions: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="simulated-deepseek", daemon=True
        )
        self._thread.start()
        self._server = SimulatedDeepSeek(direct=self._direct)
        self._run(self._server.start())
        self.url = self._server.url
        self.settings = {
            **dict.fromkeys(LEADING_OUT, ""),
            "DEEPSEEK_BASE_URL": self.url,
            "CHATPROXY_TOKENIZER": "none",
        }

    def close(self) -> None:
        """Break off all connections, and end."""
        self._run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- what it does ----------------------------------------------------------------------------

    def simulate(self, **fields: Any) -> None:
        """Answer every question so, until the end of the test. No fields: as usual.

        :param fields: those of ``chatproxy.simulated.Scenario``: ``text``, ``rate`` (tokens a
            second), ``tool_calls``, ``status``, ``first_token_delay``, ``never``, …
        :raises ValueError: if there is no such field, or no such value of it.
        """
        Scenario.parse(fields)
        with self._lock:
            self._usual = fields

    @contextmanager
    def simulating(self, **fields: Any) -> Iterator[None]:
        """Answer every question so within this ``with``; see ``simulate``."""
        usual = self._usual
        self.simulate(**fields)
        try:
            yield
        finally:
            with self._lock:
                self._usual = usual

    def simulate_next(self, **fields: Any) -> None:
        """Answer one question so: the next one, or the one after those that this was said for.

        :raises ValueError: see ``simulate``.
        """
        Scenario.parse(fields)
        with self._lock:
            self._next.append(fields)

    def reset(self) -> None:
        """Forget what was told and seen. Each test begins with this."""
        with self._lock:
            self._usual = {}
            self._next.clear()
            self._questions.clear()
        self._call(self._server.ledger.erase)

    # ---- what it saw -----------------------------------------------------------------------------

    @property
    def questions(self) -> list[dict[str, Any]]:
        """The JSON of each question that has come in this test, the oldest first."""
        with self._lock:
            return list(self._questions)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What became of each request of this test, the oldest first, as the ledger has it.

        ``status``; ``tokens``, how many it has made; ``finished``, whether the answer was given
        whole; ``open``, whether it still runs; ``peer_gone_how`` and ``peer_gone_mono``, how and
        when the application hung up; and others.
        """
        requests: list[dict[str, Any]] = self._call(self._server.ledger.as_json)["requests"]
        return requests

    @property
    def connections(self) -> dict[str, int]:
        """How many connections were ``accepted``, and how many are ``open`` (kept ones too)."""
        connections: dict[str, int] = self._call(self._server.ledger.as_json)["connections"]
        return connections

    def wait_for(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until a request fulfils a condition; return it.

        :raises AssertionError: if none does within ten seconds.
        """
        return wait_for(lambda: [each for each in self.requests if condition(each)])[0]

    # ---- its thread ------------------------------------------------------------------------------

    def _direct(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Note a question, and say how it is answered. Its own field ``simulate`` is stronger."""
        with self._lock:
            self._questions.append(payload)
            told = self._next.popleft() if self._next else self._usual
        own = payload.get("simulate")
        if own is not None and not isinstance(own, dict):
            return payload
        return {**payload, "simulate": {**_USUAL, **told, **(own or {})}}

    def _call(self, function: Callable[[], _T]) -> _T:
        async def called() -> _T:
            return function()

        return self._run(called())

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)
