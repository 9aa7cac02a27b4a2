"""Remote readers: one worker has the answer, and another one has the client that reads it.

A ``RemoteReader`` is on the client's worker. It asks the worker that has the answer for what comes
next, again and again, and says with each request what it has got so far.

``RemoteReaders`` is on the answer's worker, and keeps a reader of the log for each of them. That
reader is closed if no request has come for somewhat longer than ``CHATPROXY_READER_TIMEOUT`` (the
other worker does not ask while it writes to its client), and much sooner if the other worker has
ended. Until then it counts as a reader of the session, as one of this worker's own does.

Each request and each reply takes a way of its own: it may be lost, come late, or be overtaken. So:

* Only the first request of a visit, one client's way through an answer, finds the answer, by a key
  that may be another answer's later on. The visit keeps to that answer, even if its reader was
  closed for its silence.
* A reply is kept until a request says that it has arrived, and is sent again to one that says that
  it has not. The last reply, and that the reader has left, are kept for ``LOST_SECONDS``.
* A request that says neither is late. The reply is that there is nothing new, and nothing changes.
* A request is answered within the time that it may wait, whatever others are under way.
* A reader that leaves says so until that is heard, even if it has read the end.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from .. import forks
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
#: Seconds without any reply after which the answer counts as lost. For as long a visit is kept when
#: it is over, or when its reader was closed.
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
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._looking = threading.Lock()  # held while a thread looks for workers that have ended
        self._lock = threading.Lock()
        self._visits: dict[str, _Visit] = {}
        #: By name, when readers have left.
        self._left: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._followed())

    @property
    def idle(self) -> bool:
        """Whether time would change nothing: nothing is kept of any reader."""
        return not self._visits and not self._left

    def read(self, request: Message) -> Message:
        """The reply to a request for what comes next: ``data`` (base64) up to event ``last``.

        Its ``state`` is ``READING``; ``OVER`` if that is the end; ``GONE`` if the events are no
        longer held; ``BEYOND`` if there are not that many; ``LEFT`` to a reader that has left;
        ``UNKNOWN`` if there is no session, or no such visit and ``first`` is false. (An older
        version does not send that.)
        ``sessionId`` is that of the answer, which may have been asked for by its chat's id.
        """
        name, after, wait = (request.get(part) for part in ("visit", "after", "wait"))
        if not isinstance(name, str) or not isinstance(after, int) or after < 0:
            return {"state": PeerState.UNKNOWN}
        seconds = min(float(wait), WAIT_SECONDS) if isinstance(wait, (int, float)) else 0.0
        try:
            visit = self._find_or_begin(name, request, after)
            if visit is None:
                return {"state": PeerState.LEFT if name in self._left else PeerState.UNKNOWN}
            return visit.read(after, max(0.0, seconds))
        except EventsGone:
            return {"state": PeerState.GONE}
        except ValueError:
            return {"state": PeerState.BEYOND}

    def leave(self, request: Message) -> Message:
        """Let a reader go."""
        name = str(request.get("visit"))
        with self._lock:
            self._left.setdefault(name, time.monotonic())
            visit = self._visits.pop(name, None)
        if visit is not None:
            visit.let_go(for_good=True)
        return {"state": PeerState.LEFT}

    def sweep(self) -> None:
        """Let those readers go that have not asked for too long. To be called now and then."""
        now = time.monotonic()
        self._forget(now - LOST_SECONDS)
        silent = set()
        for visit in self._followed():
            if now - visit.asked_at > self._patience:
                visit.let_go()
            elif now - visit.asked_at > SILENCE_SECONDS:
                silent.add(visit.worker)
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
            for visit in self._followed():
                if visit.worker in ended:
                    visit.let_go()
        finally:
            self._looking.release()

    def _followed(self) -> list[_Visit]:
        with self._lock:
            return [visit for visit in self._visits.values() if visit.reader is not None]

    def _forget(self, before: float) -> None:
        with self._lock:
            self._left = {name: at for name, at in self._left.items() if at >= before}
            self._visits = {
                name: visit
                for name, visit in self._visits.items()
                if visit.reader is not None or visit.kept_since >= before
            }

    def _find_or_begin(self, name: str, request: Message, after: int) -> _Visit | None:
        key = SessionKey(request["owner"], request["id"])
        with self._lock:
            visit = self._visits.get(name)
            if visit is None:
                may_begin = request.get("first", True) and name not in self._left
                session = self._find(key) if may_begin else None
                if session is None:
                    return None
                worker = str(request.get("worker"))
                visit = _Visit(key, session, after, self._sender, worker)
                self._visits[name] = visit
        return visit if visit.key == key else None


class _Visit:
    """A remote reader's way through one answer, and the reader of the log that is kept for it.

    :raises EventsGone: see ``LogReader``.
    :raises ValueError: see ``LogReader``.
    """

    def __init__(
        self, key: SessionKey, session: StreamSession, after: int, sender: object, worker: str
    ) -> None:
        self.key = key
        self.worker = worker
        self.reader: LogReader | None = follow(session, after, sender)
        self.asked_at = self.kept_since = time.monotonic()
        self._session = weakref.ref(session)  # its events are not kept for a reader that has gone
        self._session_id = session.id
        self._sender = sender
        self._lock = threading.Lock()  # guards ``reader`` and ``_over``
        self._over = False
        self._turn = threading.Lock()  # held by the one request that reads; guards what follows
        self._last = after  # the last event that has been sent
        #: The reply that may not have arrived, and the event after which it goes on.
        self._reply: Message | None = None
        self._replied_after = after

    def read(self, after: int, seconds: float) -> Message:
        """The reply to a request, within about so many seconds."""
        self.asked_at = now = time.monotonic()
        if not self._turn.acquire(timeout=seconds):
            return self._nothing(after)
        try:
            if self._reply is not None and after == self._replied_after:
                return self._reply
            if after != self._last or self._over:
                return self._nothing(after)
            self._reply = None
            reader = self._follow()
            if reader is None:
                return {"state": PeerState.UNKNOWN}
            return self._read_on(reader, now + seconds - time.monotonic())
        finally:
            self._turn.release()

    def let_go(self, *, for_good: bool = False) -> None:
        """Close the reader, until there is a request again or for good."""
        with self._lock:
            reader, self.reader = self.reader, None
            self._over = self._over or for_good
            self.kept_since = time.monotonic()
        if reader is not None:
            reader.close()

    def _follow(self) -> LogReader | None:
        with self._lock:
            if self.reader is None and not self._over and (session := self._session()) is not None:
                self.reader = follow(session, self._last, self._sender)
            return self.reader

    def _read_on(self, reader: LogReader, seconds: float) -> Message:
        after = self._last
        try:
            data = reader.read(max(0.0, seconds))
            state = PeerState.OVER if reader.over else PeerState.READING
            reply = self._reply_with(state, data or b"", reader.seen)
        except EventsGone:
            state, reply = PeerState.GONE, {"state": PeerState.GONE}
        if state is not PeerState.READING or reader.seen != after:
            self._reply, self._replied_after, self._last = reply, after, reader.seen
        if state is not PeerState.READING:
            self.let_go(for_good=True)
        return reply

    def _nothing(self, after: int) -> Message:
        return self._reply_with(PeerState.READING, b"", after)

    def _reply_with(self, state: PeerState, data: bytes, last: int) -> Message:
        encoded = base64.b64encode(data).decode()
        return {"state": state, "data": encoded, "last": last, "sessionId": self._session_id}


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
        return self._read_on(0.0, is_first=True), self._ready

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
            with suppress(RuntimeError):  # no more threads; the other worker notices by itself
                threading.Thread(target=self._leave, name="chatproxy-leave", daemon=True).start()

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

    def _read_on(self, seconds: float, *, is_first: bool = False) -> PeerState:
        asked = {"ask": "read", "after": self._after, "wait": seconds, "first": is_first}
        state, reply = self._ask({**self._request, **asked})
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
