"""Requests to other workers, and replies: a list in Redis for each worker, its mailbox.

Whoever asks appends the request to the holder's list and waits for the reply in its own. Nothing
here is certain to arrive, and nothing has to be: what is lost on the way is a reply that did not
come in time, never a wrong one. A request that nobody waits for any more is not answered.

A list vanishes by itself soon after the last message to a worker that reads no more.
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

from ...answers.foreign_json import decoded
from ...errors import PeersUnavailable
from ..peers import Message
from .client import NOW, RedisClient

logger = logging.getLogger("chatproxy")

#: Seconds between two attempts to listen, while Redis is away.
_PAUSE = 0.5
#: Seconds for which a list that nobody reads is kept, beyond the wait.
_KEPT = 10.0
#: Requests that are worked on at once, and those that wait for their turn; more are dropped.
MOST_WORKING = 1000
MOST_WAITING = 2000
#: The longest item that is looked at, in bytes.
_LONGEST = 1 << 20

#: Appends an item with the time, in Redis's own milliseconds, until which it matters.
_SEND = f"""{NOW}
redis.call('RPUSH', KEYS[1], string.format('%.0f %s', now + ARGV[1], ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
_DELETE = "redis.call('DEL', KEYS[1])"


class _Request(NamedTuple):
    number: int
    sender: str
    message: Message
    until: float  #: in seconds of Redis's clock


class _PendingReply:
    """What one request of this worker waits for."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.message: Message | None = None


class Mailbox:
    """What this worker asks and is asked.

    :param name_of: the name of a worker's list in Redis.
    :param handler: turns a request into a reply; see ``Peers.serve``.
    :param redis_time: the time by Redis's clock, in seconds; None if it is not known yet.
    """

    def __init__(
        self,
        redis: RedisClient,
        worker: str,
        name_of: Callable[[str], str],
        handler: Callable[[Message], Message],
        redis_time: Callable[[], float | None],
    ) -> None:
        self._redis = redis
        self._worker = worker
        self._name_of = name_of
        self._handler = handler
        self._redis_time = redis_time
        self._numbers = itertools.count(1)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._pending: dict[int, _PendingReply] = {}
        self._requests: deque[_Request] = deque()
        self._working = 0
        self._thread = threading.Thread(
            target=self._listen, name="chatproxy-peers-mailbox", daemon=True
        )

    def open(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more, and leave nothing behind. Whoever still waits for a reply gets none."""
        self._closed.set()
        with self._lock:
            pending = list(self._pending.values())
            self._requests.clear()
        for reply in pending:
            reply.over.set()
        with contextlib.suppress(PeersUnavailable):  # else it vanishes by itself
            self._send(self._worker, {}, 0)  # wakes the listener
            self._thread.join(1.0)
            self._redis.run(_DELETE, [self._name_of(self._worker)], [])

    def abandon(self) -> None:
        """Leave the mailbox as it is: this process was forked from the one that reads it."""
        self._closed = threading.Event()
        self._closed.set()

    def ask(self, worker: str, request: Message, seconds: float) -> Message:
        """Send a request to a worker, and wait for its reply.

        :raises PeersUnavailable: if none came within ``seconds``.
        """
        end = time.monotonic() + seconds
        number, reply = next(self._numbers), _PendingReply()
        with self._lock:
            self._pending[number] = reply
        try:
            message = {"id": number, "from": self._worker, "question": request}
            self._send(worker, message, seconds)
            if not self._closed.is_set():
                reply.over.wait(max(0.0, end - time.monotonic()))
        finally:
            with self._lock:
                del self._pending[number]
        if reply.message is None:
            raise PeersUnavailable("The other worker did not answer; try again.", retry_after=1)
        return reply.message

    def _send(
        self, worker: str, message: Message, seconds: float, *, although_away: bool = False
    ) -> None:
        kept = int((seconds + _KEPT) * 1000)
        arguments = [int(seconds * 1000), json.dumps(message), kept]
        keys = [self._name_of(worker)]
        self._redis.run(_SEND, keys, arguments, although_away=although_away)

    def _listen(self) -> None:
        name, was_heard = self._name_of(self._worker), True
        while not self._closed.is_set():
            try:
                item = self._redis.pop(name)
            except PeersUnavailable:
                if was_heard and not self._closed.is_set():
                    self._redis.wakeup.set()  # it may have lost its memory as well
                was_heard = False
                self._closed.wait(_PAUSE)
                continue
            was_heard = True
            if item is not None:
                self._read(item)

    def _read(self, item: bytes) -> None:
        message = _parsed(item)
        match message:
            case {"id": int(number), "answer": dict(reply)}:
                self._take_reply(number, reply)
            case {"id": int(number), "from": str(sender), "question": dict(request)}:
                self._enqueue(_Request(number, sender, request, message["until"]))

    def _take_reply(self, number: int, message: Message) -> None:
        with self._lock:
            reply = self._pending.get(number)
        if reply is not None:
            reply.message = message
            reply.over.set()

    def _enqueue(self, request: _Request) -> None:
        with self._lock:
            if len(self._requests) >= MOST_WAITING or self._closed.is_set():
                return
            self._requests.append(request)
            if self._working >= MOST_WORKING:
                return
            self._working += 1
        try:
            threading.Thread(target=self._work, name="chatproxy-peers-reply", daemon=True).start()
        except RuntimeError:  # no more threads can be had at present: another request brings one
            with self._lock:
                self._working -= 1

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._requests:
                    self._working -= 1
                    return
                request = self._requests.popleft()
            try:
                self._reply(request)
            except PeersUnavailable:
                pass  # whoever asked notices by itself
            except Exception:
                logger.exception("A request of another worker could not be answered")

    def _reply(self, request: _Request) -> None:
        now = self._redis_time()
        if now is None or now <= request.until:
            reply = {"id": request.number, "answer": self._handler(request.message)}
            # The request has come, so Redis is there, though the keeper may not have seen it yet.
            self._send(request.sender, reply, 0, although_away=True)


def _parsed(item: bytes) -> dict[str, Any]:
    """An item of the list, with ``until`` in seconds; empty if it is not one of ours."""
    until, _, text = item.partition(b" ")
    if len(item) > _LONGEST or not (until.isdigit() and len(until) < 20):
        return {}
    message = decoded(json.loads, text)
    return {**message, "until": int(until) / 1000} if isinstance(message, dict) else {}
