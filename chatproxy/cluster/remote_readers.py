"""Remote readers: one worker has the answer, and another one has the client that reads it.

A ``RemoteReader`` is on the client's worker. It asks the worker that has the answer for what comes
next, again and again, and says with each request what it has got so far. So whatever is lost on the
way is asked for again, and sent again.

``RemoteReaders`` is on the answer's worker, and keeps a reader of the log for each of them. That
reader is closed if no request has come for somewhat longer than ``CHATPROXY_READER_TIMEOUT`` (the
other worker does not ask while it writes to its client), and much sooner if the other worker has
ended. Until then it counts as a reader of the session, as one of this worker's own does.

A reader that leaves says so until that is heard. Its last request may come after that, for each
takes a way of its own: it does not make a reader anew.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ..answers.cursor import Sink
from ..answers.readers import LogReader, follow
from ..answers.session import SessionKey, StreamSession
from ..errors import EventsGone, PeersUnavailable, Refusal
from .peers import Message, PeerState

#: The most seconds for which a worker waits for something to reply to a reader of another.
WAIT_SECONDS = 1.0
#: Seconds between two requests, so that the events of a fast answer come several at a time.
PAUSE_SECONDS = 0.02
#: Seconds before the next request if there was no reply.
RETRY_SECONDS = 0.3
#: Seconds without any reply after which the answer counts as lost, and a request that was sent.
LOST_SECONDS = 20.0
#: Seconds without a request after which it is looked whether the reader's worker has ended. Also
#: the seconds until the second look: a worker that was missing only for a moment is back by then.
SILENCE_SECONDS = 2 * WAIT_SECONDS


class RemoteReaders:
    """The readers on other workers of the sessions of this one.

    :param find: finds a session, live or retained.
    :param patience: seconds without a request after which a reader has gone.
    :param has_ended: tells whether a worker has ended; may take its time.
    """

    def __init__(
        self,
        find: Callable[[SessionKey], StreamSession | None],
        sender: object,
        patience: float,
        has_ended: Callable[[str], bool],
    ) -> None:
        self._find = find
        self._sender = sender
        self._patience = patience
        self._has_ended = has_ended
        self._looking = threading.Lock()  # held while a thread looks for workers that have ended
        self._lock = threading.Lock()
        self._kept: dict[str, _KeptReader] = {}
        #: By name, when readers have left, the first one first.
        self._left: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, request: Message) -> Message:
        """The reply to a request for what comes next: ``data`` (base64) up to event ``last``.

        Its ``state`` is ``READING``; ``OVER`` if that is the end; ``GONE`` if the events are no
        longer held; ``BEYOND`` if there are not that many; ``UNKNOWN`` if there is no session.
        ``LEFT`` to a reader that has left.
        ``sessionId`` is that of the answer, which may have been asked for by its chat's id.
        """
        name, after, wait = (request.get(part) for part in ("visit", "after", "wait"))
        if not isinstance(name, str) or not isinstance(after, int) or after < 0:
            return {"state": PeerState.UNKNOWN}
        seconds = min(float(wait), WAIT_SECONDS) if isinstance(wait, (int, float)) else 0.0
        try:
            kept = self._find_or_follow(name, request, after)
            if kept is None:
                return {"state": PeerState.LEFT if name in self._left else PeerState.UNKNOWN}
            reply = kept.read(after, max(0.0, seconds))
        except EventsGone:
            reply = {"state": PeerState.GONE}
        except ValueError:
            reply = {"state": PeerState.BEYOND}
        if reply["state"] in (PeerState.OVER, PeerState.GONE):  # it may ask again: this can be lost
            self._let_go_of(name)
        return reply

    def leave(self, request: Message) -> Message:
        """Let a reader go."""
        name, now = str(request.get("visit")), time.monotonic()
        with self._lock:
            while self._left and now - next(iter(self._left.values())) > LOST_SECONDS:
                del self._left[next(iter(self._left))]
            self._left.setdefault(name, now)
        self._let_go_of(name)
        return {"state": PeerState.LEFT}

    def _let_go_of(self, name: str) -> None:
        with self._lock:
            kept = self._kept.pop(name, None)
        if kept is not None:
            kept.reader.close()

    def sweep(self) -> None:
        """Let those readers go that have not asked for too long. To be called now and then."""
        now = time.monotonic()
        self._let_go(lambda kept: now - kept.asked_at > self._patience)
        silent = {
            kept.worker
            for kept in list(self._kept.values())
            if now - kept.asked_at > SILENCE_SECONDS
        }
        if silent and self._looking.acquire(blocking=False):
            thread = threading.Thread(
                target=self._look, args=(silent,), name="chatproxy-remote-readers", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads can be had at present
                self._looking.release()

    def _look(self, workers: set[str]) -> None:
        """Let those readers go whose workers have ended: those that are missing twice."""
        try:
            ended = set(filter(self._has_ended, workers))
            if ended:
                time.sleep(SILENCE_SECONDS)
                ended = set(filter(self._has_ended, ended))
            self._let_go(lambda kept: kept.worker in ended)
        finally:
            self._looking.release()

    def _let_go(self, has_gone: Callable[[_KeptReader], bool]) -> None:
        with self._lock:
            gone = [name for name, kept in self._kept.items() if has_gone(kept)]
            let_go = [self._kept.pop(name) for name in gone]
        for kept in let_go:
            kept.reader.close()

    def _find_or_follow(self, name: str, request: Message, after: int) -> _KeptReader | None:
        key = SessionKey(request["owner"], request["id"])
        with self._lock:
            kept = self._kept.get(name)
            if kept is None:
                session = None if name in self._left else self._find(key)
                if session is None:
                    return None
                worker = str(request.get("worker"))
                log_reader = follow(session, after, self._sender)
                kept = self._kept[name] = _KeptReader(key, log_reader, worker)
        return kept if kept.key == key else None


class _KeptReader:
    """The reader of the log that is kept for a reader on another worker."""

    def __init__(self, key: SessionKey, reader: LogReader, worker: str) -> None:
        self.key = key
        self.reader = reader
        self.worker = worker
        self.asked_at = time.monotonic()
        self._turn = threading.Lock()

    def read(self, after: int, seconds: float) -> Message:
        # One after the other: a request that nobody waits for any more may still be worked on.
        with self._turn:
            self.asked_at = time.monotonic()
            self.reader.go_back(after)
            data = self.reader.read(seconds)
            return {
                "state": PeerState.OVER if self.reader.over else PeerState.READING,
                "data": base64.b64encode(data or b"").decode(),
                "last": self.reader.seen,
                "sessionId": self.reader.session_id,
            }


class RemoteReader:
    """Reads a session of another worker, from the event after number ``after``; a ``Reader``.

    :param ask: sends a request to that worker; returns the state in its reply, and all of it.
    :param worker: the name of this worker, by which that one can see whether it is still there.
    """

    refusal: Refusal | None = None  # an answer that never began is not retained

    def __init__(
        self,
        ask: Callable[[Message], tuple[PeerState, Message]],
        worker: str,
        key: SessionKey,
        after: int,
    ) -> None:
        self.session_id = key.id
        self._ask = ask
        self._request: Message = {
            "owner": key.owner,
            "id": key.id,
            "visit": secrets.token_hex(16),
            "worker": worker,
        }
        self._after = after
        self._ready = b""
        self._over = False
        self._closed = threading.Event()
        self._heard_at = time.monotonic()

    def begin(self) -> tuple[PeerState, bytes]:
        """Ask for the first time; return the state of the reader, and what is ready.

        :raises PeersUnavailable: if the other worker does not answer.
        """
        return self._read_on(0.0), self._ready

    def lend(self, sink: Sink) -> None:
        """See ``Reader``. Not used: what another worker says comes in replies to requests."""

    def read(self, timeout: float) -> bytes | None:
        """See ``Reader``."""
        end = time.monotonic() + timeout
        while not (self._ready or self._over or self._closed.is_set()):
            left = end - time.monotonic()
            if left <= 0:
                return b""
            self._try_on(min(WAIT_SECONDS, left))
        if self._closed.is_set():
            return None
        ready, self._ready = self._ready, b""
        return ready or None

    def close(self) -> None:
        """Read no more, and tell the other worker."""
        if not self._closed.is_set():
            self._closed.set()
            if not self._over:
                with suppress(RuntimeError):  # no more threads; the other worker notices by itself
                    threading.Thread(
                        target=self._leave, name="chatproxy-leave", daemon=True
                    ).start()

    def _try_on(self, seconds: float) -> None:
        try:
            state = self._read_on(seconds)
        except PeersUnavailable:
            if time.monotonic() - self._heard_at > LOST_SECONDS:
                raise self._lost() from None
            self._closed.wait(RETRY_SECONDS)
            return
        if self._closed.is_set():
            return
        if state is PeerState.GONE:
            raise EventsGone(f"The events after number {self._after} are no longer held.")
        if state not in (PeerState.READING, PeerState.OVER):
            raise self._lost()
        if state is PeerState.READING:
            self._closed.wait(PAUSE_SECONDS)

    def _read_on(self, seconds: float) -> PeerState:
        state, reply = self._ask(
            {**self._request, "ask": "read", "after": self._after, "wait": seconds}
        )
        if state in (PeerState.READING, PeerState.OVER):
            try:
                self._ready = base64.b64decode(reply["data"])
                self._after = int(reply["last"])
                self.session_id = str(reply.get("sessionId", self.session_id))
            except (KeyError, TypeError, ValueError):
                raise PeersUnavailable("Another worker's reply could not be understood.") from None
            self._over = state is PeerState.OVER
            self._heard_at = time.monotonic()
        return state

    def _lost(self) -> Refusal:
        message = f"The rest of the answer was lost after event {self._after}: its worker is gone."
        return Refusal(message, status=502, code="answer_lost")

    def _leave(self) -> None:
        begun, pause = time.monotonic(), RETRY_SECONDS
        while time.monotonic() - begun < LOST_SECONDS:  # then it notices by itself
            try:
                self._ask({**self._request, "ask": "leave"})
            except PeersUnavailable:
                time.sleep(pause)
                pause *= 2
            else:
                break
