"""Presses Stop in an application under test, and sees that it reaches the upstream.

The answer is begun in a thread of its own, as a browser does, and Stop is pressed from here. Then
three sides must agree: the receipt, the ledger of the simulated DeepSeek, and the client, whose
answer must come to an end.
"""

from __future__ import annotations

import contextlib
import copy
import json as json_module
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from .deepseek import DeepSeek, wait_for

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

    from ..answers.receipt import Receipt

#: What the simulated DeepSeek does, and how many tokens there are before Stop is pressed.
_PHASES: dict[str, tuple[dict[str, Any], int]] = {
    "waiting": ({"never": "headers"}, 0),
    "thinking": ({"reasoning_tokens": 1_000_000, "rate": 50}, 3),
    "streaming": ({"tokens": 1_000_000, "rate": 50}, 3),
}
_QUESTION = {"messages": [{"role": "user", "content": "Hello"}]}

#: The status and the text of a response.
_Response = tuple[int, str]


class StopReachesUpstream:
    """Begins an answer, presses Stop, and sees that the connection to DeepSeek is gone.

    Everything that the application has begun for the answer must be gone, nothing may begin after
    that, the receipt must say so, and the client's answer must end.
    """

    def __init__(self, deepseek: DeepSeek) -> None:
        self._deepseek = deepseek
        self._count = 0

    def __call__(
        self,
        client: Flask | FlaskClient | str,
        path: str = "/api/chat/stream",
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        session_id: str | None = None,
        stop: str | Callable[[str], Receipt | None] = "/api/chat/cancel/{session_id}",
        phase: str = "streaming",
        answers: int = 1,
        within: float = 1.0,
    ) -> dict[str, Any]:
        """Do so; return the receipt.

        :param client: an application; a test client of Flask's, which may be logged in; or the URL
            of a server.
        :param path: the route that begins the answer, by a POST.
        :param json: the body of that; a short question if left out.
        :param headers: of both requests. ``X-Session-Id`` is added to the first.
        :param session_id: the id of the answer; a new one if left out.
        :param stop: the route that stops the answer, by a POST; or a function of the id that stops
            it from Python, such as ``chat.cancel``.
        :param phase: where DeepSeek's answer is at the Stop: ``waiting`` (for its headers),
            ``thinking`` or ``streaming``. What was said by ``simulate_next`` comes before that.
        :param answers: how many answers of DeepSeek's run at the Stop, if a run asks for several.
        :param within: seconds in which the connection must be gone.
        :raises AssertionError: with one sentence that says what is not so.
        """
        self._count += 1
        session_id = session_id or f"session_{time.time_ns() // 1_000_000}_{self._count}"
        simulate, tokens = _PHASES[phase]
        post = _sender(client)
        before = len(self._deepseek.requests)
        sent = {**(headers or {}), "X-Session-Id": session_id}
        with self._deepseek.simulating(**simulate, tag=session_id):
            asked = _in_background(post, path, _QUESTION if json is None else json, sent)
            self._wait_for_answers(session_id, tokens, answers, asked)
            pressed_at = time.monotonic()
            receipt = _press(stop, session_id, post, headers or {})
            answered_at = time.monotonic()
            _check_receipt(receipt)
            self._check_connections(before, pressed_at, answered_at, within)
            self._check_end(before, answered_at, asked)
        return receipt

    def _wait_for_answers(
        self, tag: str, tokens: int, answers: int, asked: Future[_Response]
    ) -> None:
        """Wait until what is to be stopped is there."""

        def come() -> list[dict[str, Any]]:
            if asked.done() and (asked.exception() or asked.result()[0] >= 400):
                raise AssertionError(f"The application did not begin the answer: {_told(asked)}")
            return [each for each in self._deepseek.requests if each["tag"] == tag]

        def run() -> bool:
            running = [each for each in come() if each["open"] and each["tokens"] >= tokens]
            return len(running) >= answers

        sentence = "The simulated DeepSeek was not asked. Is the application's upstream another?"
        wait_for(come, message=sentence)
        wait_for(run, message=f"DeepSeek was not asked for {answers} answers at once.")

    def _check_connections(
        self, before: int, pressed_at: float, answered_at: float, within: float
    ) -> None:
        """All connections that there were are gone within so many seconds of the Stop."""

        def received(until: float) -> list[dict[str, Any]]:
            asked = self._deepseek.requests[before:]
            return [each for each in asked if each["received_mono"] <= until]

        def are_gone(until: float) -> bool:
            return not any(each["open"] for each in received(until))

        # What the Stop found, and what came while it was answered.
        for until, sentence in (
            (pressed_at, f"{within:g} s after the Stop DeepSeek's answer still goes on."),
            (answered_at, "A question was sent after the Stop."),
        ):
            left = pressed_at + within - time.monotonic()
            wait_for(partial(are_gone, until), left, sentence)
        for each in received(answered_at):
            gone_at = each["peer_gone_mono"] or 0.0  # else it was whole
            took = gone_at - pressed_at
            _check(took <= within, f"The connection was closed {took:.1f} s after the Stop.")

    def _check_end(self, before: int, answered_at: float, asked: Future[_Response]) -> None:
        """The client's answer ends, and nothing is asked until then."""

        def has_ended() -> bool:
            for each in self._deepseek.requests[before:]:
                is_late = each["received_mono"] > answered_at
                _check(not is_late, "A question was sent after the Stop.")
            return asked.done()

        wait_for(has_ended, message="The client's answer did not end after the Stop.")
        _check(not asked.exception(), f"The client's answer failed: {_told(asked)}")


def _check(condition: bool, sentence: str) -> None:
    """Fail with this sentence alone; pytest adds its own to an ``assert``."""
    if not condition:
        raise AssertionError(sentence)


def _press(
    stop: str | Callable[[str], Receipt | None],
    session_id: str,
    post: Callable[..., _Response],
    headers: Mapping[str, str],
) -> dict[str, Any]:
    """Press Stop; return the receipt, which need not be a good one."""
    if callable(stop):
        found = stop(session_id)
        if found is None:
            raise AssertionError("There was nothing to stop.")
        return found.as_json()
    status, text = post(stop.format(session_id=session_id), {}, headers)
    _check(status == 200, f"The Stop was answered with {status}: {text[:500]}")
    try:
        receipt = json_module.loads(text)
    except ValueError:
        receipt = None
    is_one = isinstance(receipt, dict) and "upstreamClosed" in receipt
    _check(is_one, f"The Stop was answered without a receipt: {text[:500]}")
    return dict(receipt)


def _check_receipt(receipt: dict[str, Any]) -> None:
    closed = receipt["upstreamClosed"] is True
    _check(closed, f"The receipt says that the connection was not closed: {receipt}")
    _check(not receipt.get("leftBehind"), f"Code of the run was left behind: {receipt}")


def _told(asked: Future[_Response]) -> str:
    if error := asked.exception():
        return f"{type(error).__name__}: {error}"
    status, text = asked.result()
    return f"{status}: {text[:500]}"


# ---- how it is asked -----------------------------------------------------------------------------


def _sender(client: Any) -> Callable[[str, Any, Mapping[str, str]], _Response]:
    """What sends a POST with a path, JSON and headers, and reads the response to its end."""
    if isinstance(client, str):
        return _Server(client).post
    return _Application(client.test_client() if hasattr(client, "test_client") else client).post


class _Application:
    """An application in this process, by Flask's test client."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def post(self, path: str, json: Any, headers: Mapping[str, str]) -> _Response:
        # Each request in a client of its own, with the same cookies: in ``with client:`` it would
        # keep the context of one thread's request for the other's.
        client = copy.copy(self._client)
        client.preserve_context = False
        client._context_stack = contextlib.ExitStack()
        client._new_contexts = []
        with client.post(path, json=json, headers=dict(headers)) as response:
            return response.status_code, response.get_data(as_text=True)


class _Server:
    """A server, by HTTP; by the standard library, as the tests may have ``requests`` mocked."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(self, path: str, json: Any, headers: Mapping[str, str]) -> _Response:
        body = json_module.dumps(json).encode()
        sent = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(self._url + path, body, sent)  # noqa: S310
        try:
            with self._opener.open(request) as response:
                return response.status, response.read().decode(errors="replace")
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode(errors="replace")


def _in_background(function: Callable[..., _Response], *args: Any) -> Future[_Response]:
    """Call it in a thread, which does not keep the tests from ending."""
    future: Future[_Response] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="client", daemon=True).start()
    return future
