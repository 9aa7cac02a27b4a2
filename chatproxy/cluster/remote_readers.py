"""RemoteReaders: the places of other workers' readers in the sessions of this one.

Such a reader asks for what comes next, and with that says what it has got. What got lost on the way
is asked for again, and told again. A reader that has not asked for a while has gone. It does not
ask while its client takes nothing, so that while is a little longer than a client may do so; but if
its worker has ended, which is looked at much sooner, it has gone too.
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

#: Seconds without a question after which it is looked at whether the reader's worker has ended.
#: And seconds until the second look: one that was only missing for a moment is there again.
_SILENCE_SECONDS = 2 * WAIT_SECONDS


class RemoteReaders:
    """The places of other workers' readers in the sessions of this one.

    :param find: finds a session, live or retained.
    :param patience: seconds without a question after which a reader has gone.
    :param has_ended: tells whether a worker has; may take its time.
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
        self._looks = threading.Lock()  # held while a thread does
        self._lock = threading.Lock()
        self._readers: dict[str, _RemoteReader] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def read(self, question: Message) -> Message:
        """Answer what comes next: ``data`` (base64) up to event ``last``.

        The ``state`` is "reading"; "over" where that is the end; "gone" where the events are no
        longer held; "beyond" where there are not that many; "nothing" where there is no session.
        """
        name, after, wait = (question.get(part) for part in ("visit", "after", "wait"))
        if not isinstance(name, str) or not isinstance(after, int) or after < 0:
            return {"state": PeerState.UNKNOWN}
        seconds = min(float(wait), WAIT_SECONDS) if isinstance(wait, (int, float)) else 0.0
        try:
            reader = self._reader(name, question, after)
            answer = (
                reader.read(after, max(0.0, seconds)) if reader else {"state": PeerState.UNKNOWN}
            )
        except EventsGone:
            answer = {"state": PeerState.GONE}
        except ValueError:
            answer = {"state": PeerState.BEYOND}
        if answer["state"] in (PeerState.OVER, PeerState.GONE):
            self.leave(question)
        return answer

    def leave(self, question: Message) -> Message:
        """Let a reader go."""
        with self._lock:
            reader = self._readers.pop(str(question.get("visit")), None)
        if reader is not None:
            reader.reading.close()
        return {"state": PeerState.LEFT}

    def sweep(self) -> None:
        """Let those go who have not asked for long. To be called now and then."""
        now = time.monotonic()
        self._let_go(lambda reader: now - reader.asked_at > self._patience)
        silent = {
            reader.worker
            for reader in list(self._readers.values())
            if now - reader.asked_at > _SILENCE_SECONDS
        }
        if silent and self._looks.acquire(blocking=False):
            threading.Thread(
                target=self._look, args=(silent,), name="chatproxy-remote-readers", daemon=True
            ).start()

    def _look(self, workers: set[str]) -> None:
        try:
            ended = set(filter(self._has_ended, workers))
            if ended:
                time.sleep(_SILENCE_SECONDS)
                ended = set(filter(self._has_ended, ended))
            self._let_go(lambda reader: reader.worker in ended)
        finally:
            self._looks.release()

    def _let_go(self, is_gone: Callable[[_RemoteReader], bool]) -> None:
        with self._lock:
            gone = [name for name, reader in self._readers.items() if is_gone(reader)]
            remote_readers = [self._readers.pop(name) for name in gone]
        for reader in remote_readers:
            reader.reading.close()

    def _reader(self, name: str, question: Message, after: int) -> _RemoteReader | None:
        key = SessionKey(question["owner"], question["id"])
        with self._lock:
            reader = self._readers.get(name)
            if reader is None:
                session = self._find(key)
                if session is None:
                    return None
                reading = SessionReading(session, after, self._sender)
                worker = str(question.get("worker"))
                reader = self._readers[name] = _RemoteReader(key, reading, worker)
        return reader if reader.key == key else None


class _RemoteReader:
    """One reader of another worker."""

    def __init__(self, key: SessionKey, reading: SessionReading, worker: str) -> None:
        self.key = key
        self.reading = reading
        self.worker = worker
        self.asked_at = time.monotonic()
        self._turn = threading.Lock()

    def read(self, after: int, seconds: float) -> Message:
        # One after the other: a question that nobody waits for any more may still be answered.
        with self._turn:
            self.asked_at = time.monotonic()
            self.reading.go_back(after)
            data = self.reading.read(seconds)
            return {
                "state": PeerState.OVER if self.reading.over else PeerState.READING,
                "data": base64.b64encode(data or b"").decode(),
                "last": self.reading.last,
            }
