"""Visits: the places of other workers' readers in the sessions of this one.

Such a reader asks for what comes next, and with that says what it has got. What got lost on the way
is asked for again, and told again. A reader that has not asked for a while has gone.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable

from .errors import EventsGone
from .peers import Message
from .reading import WAIT_SECONDS, SessionReading
from .session import StreamSession


class Visits:
    """The places of other workers' readers in the sessions of this one.

    A reader that has not asked for a while has gone.

    :param find: finds a session, live or retained, by owner and id.
    """

    def __init__(
        self, find: Callable[[tuple[str, str]], StreamSession | None], sender: object
    ) -> None:
        self._find = find
        self._sender = sender
        self._lock = threading.Lock()
        self._visits: dict[str, _Visit] = {}

    def __len__(self) -> int:
        return len(self._visits)

    def read(self, question: Message) -> Message:
        """Answer what comes next: ``data`` (base64) up to event ``last``.

        The ``state`` is "reading"; "over" where that is the end; "gone" where the events are no
        longer held; "beyond" where there are not that many; "nothing" where there is no session.
        """
        name, after, wait = (question.get(part) for part in ("visit", "after", "wait"))
        if not isinstance(name, str) or not isinstance(after, int) or after < 0:
            return {"state": "nothing"}
        seconds = min(float(wait), WAIT_SECONDS) if isinstance(wait, (int, float)) else 0.0
        try:
            visit = self._visit(name, question, after)
            answer = visit.read(after, max(0.0, seconds)) if visit else {"state": "nothing"}
        except EventsGone:
            return {"state": "gone"}
        except ValueError:
            return {"state": "beyond"}
        if answer["state"] == "over":
            self.leave(question)
        return answer

    def leave(self, question: Message) -> Message:
        """Let a reader go."""
        with self._lock:
            visit = self._visits.pop(str(question.get("visit")), None)
        if visit is not None:
            visit.reading.close()
        return {"state": "left"}

    def sweep(self) -> None:
        """Let those go who have not asked for long. To be called now and then."""
        now = time.monotonic()
        with self._lock:
            gone = [name for name, visit in self._visits.items() if visit.until < now]
            visits = [self._visits.pop(name) for name in gone]
        for visit in visits:
            visit.reading.close()

    def _visit(self, name: str, question: Message, after: int) -> _Visit | None:
        key = (question["owner"], question["id"])
        with self._lock:
            visit = self._visits.get(name)
            if visit is None:
                session = self._find(key)
                if session is None:
                    return None
                visit = _Visit(key, SessionReading(session, after, self._sender))
                self._visits[name] = visit
        return visit if visit.key == key else None


class _Visit:
    """One reader of another worker."""

    #: Seconds without a question after which it has gone.
    _PATIENCE = 10.0

    def __init__(self, key: tuple[str, str], reading: SessionReading) -> None:
        self.key = key
        self.reading = reading
        self.until = time.monotonic() + self._PATIENCE
        self._turn = threading.Lock()

    def read(self, after: int, seconds: float) -> Message:
        # One after the other: a question that nobody waits for any more may still be answered.
        with self._turn:
            self.until = time.monotonic() + self._PATIENCE
            self.reading.go_back(after)
            data = self.reading.read(seconds)
            return {
                "state": "over" if self.reading.over else "reading",
                "data": base64.b64encode(data or b"").decode(),
                "last": self.reading.last,
            }
