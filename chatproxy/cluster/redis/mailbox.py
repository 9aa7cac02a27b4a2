"""Questions to other workers, and answers: a list in Redis for each worker.

Whoever asks appends to the holder's list and waits for the answer in its own. Nothing here is
certain to arrive, and nothing has to be: whatever gets lost on the way is an answer that did not
come in time, and never a wrong one. A question that nobody waits for any more is not answered.

A list vanishes by itself soon after the last word to a worker that reads no more.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ...errors import PeersUnavailable
from ..peers import Message
from .client import RedisClient

logger = logging.getLogger("chatproxy")

#: Seconds between two tries to listen, while Redis is away.
_PAUSE = 0.5
#: Seconds for which a list that nobody reads is kept, beyond the wait.
_KEPT = 10.0
#: Questions that are answered at once, and those that wait for their turn; more are dropped.
_ANSWERING = 1000
_WAITING = 2000
#: The longest item that is looked at, in bytes.
_LONGEST = 1 << 20

#: Appends an item with the time, in Redis's own milliseconds, until which it matters.
_SEND = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('RPUSH', KEYS[1], string.format('%.0f %s', now + ARGV[1], ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
_DELETE = "redis.call('DEL', KEYS[1])"


class _Question(NamedTuple):
    number: int
    sender: str
    question: Message
    until: float  #: in seconds of Redis's clock


class _Wait:
    """One question of this worker, until it is answered."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.answer: Message | None = None


class Mailbox:
    """What this worker asks and is asked.

    :param name_of: a worker's list.
    :param answer: answers a question; see ``Peers.serve``.
    :param redis_time: the time by Redis's clock, in seconds; None where it is not known yet.
    """

    def __init__(
        self,
        redis: RedisClient,
        worker: str,
        name_of: Callable[[str], str],
        answer: Callable[[Message], Message],
        redis_time: Callable[[], float | None],
    ) -> None:
        self._redis = redis
        self._worker = worker
        self._name_of = name_of
        self._answer = answer
        self._redis_time = redis_time
        self._numbers = itertools.count(1)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._asked: dict[int, _Wait] = {}
        self._questions: deque[_Question] = deque()
        self._answering = 0
        self._thread = threading.Thread(
            target=self._listen, name="chatproxy-peers-mailbox", daemon=True
        )

    def open(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more, and leave nothing; whoever still waits for an answer gets none."""
        self._closed.set()
        with self._lock:
            asked = list(self._asked.values())
            self._questions.clear()
        for wait in asked:
            wait.over.set()
        with contextlib.suppress(PeersUnavailable):  # else it vanishes by itself
            self._send(self._worker, {}, 0)  # wakes the listener
            self._thread.join(1.0)
            self._redis.run(_DELETE, [self._name_of(self._worker)], [])

    def ask(self, worker: str, question: Message, seconds: float) -> Message:
        """Ask a worker.

        :raises PeersUnavailable: where no answer came within ``seconds``.
        """
        end = time.monotonic() + seconds
        number, wait = next(self._numbers), _Wait()
        with self._lock:
            self._asked[number] = wait
        try:
            message = {"id": number, "from": self._worker, "question": question}
            self._send(worker, message, seconds)
            if not self._closed.is_set():
                wait.over.wait(max(0.0, end - time.monotonic()))
        finally:
            with self._lock:
                del self._asked[number]
        if wait.answer is None:
            raise PeersUnavailable("The other worker did not answer; try again.", retry_after=1)
        return wait.answer

    def _send(self, worker: str, message: Message, seconds: float) -> None:
        kept = int((seconds + _KEPT) * 1000)
        arguments = [int(seconds * 1000), json.dumps(message), kept]
        self._redis.run(_SEND, [self._name_of(worker)], arguments)

    def _listen(self) -> None:
        name, sound = self._name_of(self._worker), True
        while not self._closed.is_set():
            try:
                item = self._redis.pop(name)
            except PeersUnavailable:
                if sound and not self._closed.is_set():
                    self._redis.wake.set()  # it may have lost its memory as well
                sound = False
                self._closed.wait(_PAUSE)
                continue
            sound = True
            if item is not None:
                self._read(item)

    def _read(self, item: bytes) -> None:
        message = _parsed(item)
        match message:
            case {"id": int(number), "answer": dict(answer)}:
                self._take_answer(number, answer)
            case {"id": int(number), "from": str(sender), "question": dict(question)}:
                self._enqueue(_Question(number, sender, question, message["until"]))

    def _take_answer(self, number: int, answer: Message) -> None:
        with self._lock:
            wait = self._asked.get(number)
        if wait is not None:
            wait.answer = answer
            wait.over.set()

    def _enqueue(self, question: _Question) -> None:
        with self._lock:
            if len(self._questions) >= _WAITING or self._closed.is_set():
                return
            self._questions.append(question)
            if self._answering >= _ANSWERING:
                return
            self._answering += 1
        threading.Thread(
            target=self._answer_all, name="chatproxy-peers-answer", daemon=True
        ).start()

    def _answer_all(self) -> None:
        while True:
            with self._lock:
                if not self._questions:
                    self._answering -= 1
                    return
                question = self._questions.popleft()
            try:
                self._answer_one(question)
            except PeersUnavailable:
                pass  # whoever asked notices by itself
            except Exception:
                logger.exception("A question of another worker could not be answered")

    def _answer_one(self, question: _Question) -> None:
        now = self._redis_time()
        if now is not None and now > question.until:
            return
        answer = self._answer(question.question)
        self._send(question.sender, {"id": question.number, "answer": answer}, 0)


def _parsed(item: bytes) -> dict[str, Any]:
    """An item of the list, with ``until`` in seconds; empty where it is none of ours."""
    until, _, text = item.partition(b" ")
    if len(item) > _LONGEST or not (until.isdigit() and len(until) < 20):
        return {}
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {**message, "until": int(until) / 1000} if isinstance(message, dict) else {}
