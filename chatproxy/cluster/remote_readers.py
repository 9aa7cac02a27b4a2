"""Remote readers: readers on other workers of the sessions of this one.

The other worker asks for what comes next, again and again, and says with each request what it has
got so far. So whatever is lost on the way is asked for again, and sent again.

A reader has gone if no request has come for longer than its client may take nothing, plus a little:
its worker does not ask meanwhile. It has gone much sooner if its worker has ended. Until then it
counts as a reader of the session, as one of this worker's own does.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable

from ..answers.readers import WAIT_SECONDS, SessionReading
from ..answers.session import SessionKey, StreamSession
from ..errors import EventsGone
from .peers import Message, PeerState

#: Seconds without a request after which it is looked whether the reader's worker has ended. Also
#: the seconds until the second look: a worker that was missing only for a moment is back by then.
_SILENCE_SECONDS = 2 * WAIT_SECONDS


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
        self._readers: dict[str, _RemoteReader] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def read(self, request: Message) -> Message:
        """The reply to a request for what comes next: ``data`` (base64) up to event ``last``.

        Its ``state`` is ``READING``; ``OVER`` if that is the end; ``GONE`` if the events are no
        longer held; ``BEYOND`` if there are not that many; ``UNKNOWN`` if there is no session.
        """
        name, after, wait = (request.get(part) for part in ("visit", "after", "wait"))
        if not isinstance(name, str) or not isinstance(after, int) or after < 0:
            return {"state": PeerState.UNKNOWN}
        seconds = min(float(wait), WAIT_SECONDS) if isinstance(wait, (int, float)) else 0.0
        try:
            reader = self._reader(name, request, after)
            if reader is None:
                return {"state": PeerState.UNKNOWN}
            reply = reader.read(after, max(0.0, seconds))
        except EventsGone:
            reply = {"state": PeerState.GONE}
        except ValueError:
            reply = {"state": PeerState.BEYOND}
        if reply["state"] in (PeerState.OVER, PeerState.GONE):
            self.leave(request)
        return reply

    def leave(self, request: Message) -> Message:
        """Let a reader go."""
        with self._lock:
            reader = self._readers.pop(str(request.get("visit")), None)
        if reader is not None:
            reader.reading.close()
        return {"state": PeerState.LEFT}

    def sweep(self) -> None:
        """Let those readers go that have not asked for too long. To be called now and then."""
        now = time.monotonic()
        self._let_go(lambda reader: now - reader.asked_at > self._patience)
        silent = {
            reader.worker
            for reader in list(self._readers.values())
            if now - reader.asked_at > _SILENCE_SECONDS
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
                time.sleep(_SILENCE_SECONDS)
                ended = set(filter(self._has_ended, ended))
            self._let_go(lambda reader: reader.worker in ended)
        finally:
            self._looking.release()

    def _let_go(self, has_gone: Callable[[_RemoteReader], bool]) -> None:
        with self._lock:
            gone = [name for name, reader in self._readers.items() if has_gone(reader)]
            readers = [self._readers.pop(name) for name in gone]
        for reader in readers:
            reader.reading.close()

    def _reader(self, name: str, request: Message, after: int) -> _RemoteReader | None:
        key = SessionKey(request["owner"], request["id"])
        with self._lock:
            reader = self._readers.get(name)
            if reader is None:
                session = self._find(key)
                if session is None:
                    return None
                reading = SessionReading(session, after, self._sender)
                worker = str(request.get("worker"))
                reader = self._readers[name] = _RemoteReader(key, reading, worker)
        return reader if reader.key == key else None


class _RemoteReader:
    """One reader on another worker."""

    def __init__(self, key: SessionKey, reading: SessionReading, worker: str) -> None:
        self.key = key
        self.reading = reading
        self.worker = worker
        self.asked_at = time.monotonic()
        self._turn = threading.Lock()

    def read(self, after: int, seconds: float) -> Message:
        # One after the other: a request that nobody waits for any more may still be worked on.
        with self._turn:
            self.asked_at = time.monotonic()
            self.reading.go_back(after)
            data = self.reading.read(seconds)
            return {
                "state": PeerState.OVER if self.reading.over else PeerState.READING,
                "data": base64.b64encode(data or b"").decode(),
                "last": self.reading.last,
            }
