"""The library: where answers are found again, to be read or listed, on whichever worker."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from .answers.readers import PeerReading, Reading, SessionReading
from .answers.session import SessionKey
from .cluster.peers import PeerState
from .cluster.registry import Registry, lease_key
from .cluster.remote_readers import RemoteReaders
from .errors import EventsGone, InvalidRequest, PeersUnavailable, SessionNotFound

#: Seconds without a question, beyond those in which a client may take nothing, after which a
#: reader on another worker has gone.
_PATIENCE = 5.0


class Library:
    """All answers of an application that can be read, as one worker sees them.

    :param reader_timeout: seconds for which a client may take nothing before it is dropped.
    """

    def __init__(self, registry: Registry, reader_timeout: float = 60.0) -> None:
        self._registry = registry
        self._coordinator = registry.coordinator
        #: The readers here of other workers.
        self.remote_readers = RemoteReaders(
            registry.find,
            registry.sender,
            reader_timeout + _PATIENCE,
            registry.coordinator.has_ended,
        )

    def open(self, key: SessionKey, after: int) -> Reading | None:
        """Begin to read an answer, from the event after number ``after``.

        :returns: None where it has ended and there is nothing left to read.
        :raises SessionNotFound: where nothing that lives or is retained has this key.
        :raises EventsGone: where these events are no longer held.
        :raises InvalidRequest: where the answer has not so many events.
        :raises PeersUnavailable: where the worker that has it can't be asked.
        """
        session = self._registry.find(key)
        if session is None:
            return self._open_elsewhere(key, after)
        try:
            reading = SessionReading(session, after, self._registry.sender)
        except ValueError:
            raise _too_high() from None
        return None if reading.over else reading

    def _open_elsewhere(self, key: SessionKey, after: int) -> Reading | None:
        holder = self._coordinator.holder(lease_key(key))
        if holder is None:
            raise _not_found()
        ask = partial(self._coordinator.ask, holder)
        reading = PeerReading(ask, self._coordinator.name, key, after)
        state, data = reading.begin()
        if state is PeerState.OVER and not data:
            return None
        if state is PeerState.GONE:
            raise EventsGone(f"The events after number {after} are no longer held.")
        if state is PeerState.BEYOND:
            raise _too_high()
        if state not in (PeerState.READING, PeerState.OVER):
            raise _not_found()
        return reading

    def list_of(self, owner: str) -> list[dict[str, Any]]:
        """The owner's sessions, live and retained, of all workers that answer; latest first.

        Each is as ``Registry.list_sessions`` has it.
        """
        found = self._registry.list_sessions(owner)
        for name in self._coordinator.others():
            with suppress(PeersUnavailable):
                _, answer = self._coordinator.ask(name, {"ask": "sessions", "owner": owner})
                listed = answer.get("sessions")
                found += listed if isinstance(listed, list) else []
        return sorted(found, key=lambda each: float(each["ageSeconds"]))


def _not_found() -> SessionNotFound:
    return SessionNotFound("Nothing that can be read has this session id.")


def _too_high() -> InvalidRequest:
    return InvalidRequest("Last-Event-ID is higher than the number of any event.")
