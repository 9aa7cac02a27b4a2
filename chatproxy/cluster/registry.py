"""The registry: the sessions that live in this worker, and how ids are agreed upon with the others.

An id belongs to its owner: another owner's session is not found, and cannot be in the way of a
claim either, because sessions are looked up by owner and id together.

Every id that this worker has something to say about is a key that it holds in the table of the
peers: while its answer runs, for a while after that, and for a while after a Stop that came before
its start. A worker that wants a key which another holds asks that one what state it is in:

* ``claim`` takes the key, or is refused by what its holder says.
* ``cancel`` takes the key too, if it can: then no worker had it, and by holding it this worker
  refuses the start that may still come. If it can't, the holder is told to stop the answer, and
  its receipt is handed on.

So both agree on one order, whatever the workers on which they land. A key that means nothing to its
holder is about to be free, or about to get its meaning, and is tried again.

The lock guards the dictionaries and is never held while anything waits.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from .. import signals
from ..answers import receipt as receipts
from ..answers.drain import Drain
from ..answers.log import AnswerLog
from ..answers.receipt import Receipt
from ..answers.session import Reason, SessionKey, StreamSession
from ..config import Settings
from ..errors import PeersUnavailable, SessionActive, SessionCancelled
from .coordinator import Coordinator
from .limits import Slot, SlotLimiter
from .peers import LeaseKey, Message, Peers, PeerState
from .reservations import Reservations

#: Seconds for which a cancel waits for the upstream's close before it says that it could not
#: confirm it.
CONFIRM_SECONDS = 2.0
#: The same where a peer asks for the cancel, who does not wait longer than that for its answer.
PEER_CONFIRM_SECONDS = 1.6
#: The most sessions that are listed; the latest ones.
_MOST_LISTED = 1000


class Registry:
    """The sessions of one application in this worker.

    :param sender: the sender of the signals: the Flask application.
    """

    def __init__(self, settings: Settings, sender: object, peers: Peers) -> None:
        self.sender = sender
        self._settings = settings
        self._peers = peers
        allow_offline = settings.without_peers == "run"
        #: Its dealings with the other workers.
        self.coordinator = Coordinator(peers, sender, allow_offline=allow_offline)
        #: Its end.
        self.drain = Drain()
        self._lock = threading.Lock()
        self._live: dict[SessionKey, StreamSession] = {}
        self._limiter = SlotLimiter(settings, self.coordinator)
        self._slots: dict[StreamSession, Slot] = {}
        self._reserved = Reservations(
            settings.retain,
            settings.retain_bytes,
            settings.max_sessions_per_owner * settings.log_bytes,
        )

    def live(self) -> list[StreamSession]:
        """The sessions that have not ended yet."""
        with self._lock:
            return list(self._live.values())

    @property
    def idle(self) -> bool:
        """Whether time would change nothing: there is no session, and no id is reserved."""
        with self._lock:
            return not self._live and not self._reserved

    def all(self) -> list[StreamSession]:
        """The sessions whose answers can be read: the retained ones, then those that live."""
        with self._lock:
            return [*self._reserved.retained(), *self._live.values()]

    def list_sessions(self, owner: str | None) -> list[dict[str, Any]]:
        """The latest of these sessions; all of them, with their owners, if no owner is given.

        Each has ``sessionId``, ``phase``, ``outcome`` and ``reason`` (None while it lives),
        ``events`` and ``ageSeconds``.
        """
        found = [each for each in self.all() if owner is None or each.owner == owner]
        return [
            {**_as_json(session), **({"owner": session.owner} if owner is None else {})}
            for session in found[-_MOST_LISTED:]
        ]

    def find(self, key: SessionKey) -> StreamSession | None:
        """The session of this worker, live or retained, with this owner and id."""
        with self._lock:
            return self._live.get(key) or self._reserved.ended(key)

    def check(self) -> None:
        """See that a session could begin now, of whichever owner.

        :raises ShuttingDown: if the server drains.
        :raises PeersUnavailable: if the other workers can't be asked, with the reason.
        """
        self.drain.check()
        self.coordinator.check()

    def check_claim(self, key: SessionKey) -> None:
        """See whether this worker would refuse a claim, without asking the others.

        :raises Refusal: as ``claim`` does.
        """
        self._refuse_known(key)
        self._limiter.check(key.owner)

    def claim(self, key: SessionKey, grace: float = 0.0) -> StreamSession:
        """Take an id for a new session.

        :param grace: see ``StreamSession``.
        :raises ShuttingDown: where the server drains.
        :raises SessionCancelled: where the Stop for this id came first.
        :raises SessionActive: where the id belongs to a live or retained session of any worker.
        :raises TooManySessions: where the worker's or the owner's limit is reached.
        :raises PeersUnavailable: where the other workers can't be asked.
        """
        with self.coordinator.exclusive(lease_key(key)):
            self._refuse_known(key)
            slot = self._limiter.take(key.owner)
            try:
                self._take_id(key)
                session = self._enter(key, slot, grace)
            except BaseException:
                self._limiter.free(slot)
                raise
        signals.stream_opened.send(self.sender, session=session)
        return session

    def _refuse_known(self, key: SessionKey) -> None:
        self.drain.check()
        with self._lock:
            _refuse_if(self._state(key))

    def _take_id(self, key: SessionKey) -> None:
        for _ in self.coordinator.tries():
            holder = self.coordinator.take(lease_key(key), to_begin=True)
            if holder is None:
                return
            state, _answer = self.coordinator.ask(holder, _question("state", key))
            _refuse_if(state)

    def _enter(self, key: SessionKey, slot: Slot, grace: float) -> StreamSession:
        session = StreamSession(key, AnswerLog(self._settings.log_bytes), grace)
        try:
            self.drain.admit(session)
        except BaseException:
            self.coordinator.free(lease_key(key))
            raise
        with self._lock:
            self._live[key] = session
            self._slots[session] = slot
        return session

    def cancel(self, key: SessionKey, arrived: float, client: str = "") -> Receipt | None:
        """Stop a session, on whichever worker; wait for the close of its upstream; tell of it.

        A Stop for an id that no worker knows is remembered, and refuses the session that comes
        with it.

        :param arrived: when the Stop came, in seconds of the monotonic clock.
        :param client: the address that it came from. Where owners are not known, the early Stops
            of one address can't push out those of others.
        :returns: None where nothing live has that id.
        :raises PeersUnavailable: where the other workers can't be asked.
        """
        by, result, receipt = "self", "unavailable", None
        try:
            if not self._is_known(key):
                with self.coordinator.exclusive(lease_key(key)):
                    if not self._is_known(key):
                        by = "peer"
                        receipt = self._cancel_elsewhere(key, arrived, client)
            if by == "self":
                receipt = self._cancel_here(key, CONFIRM_SECONDS, arrived)
            result = "stopped" if receipt else "not_found"
        finally:
            seconds = receipt and receipt.stop_ms / 1000
            signals.cancel_answered.send(self.sender, result=result, by=by, seconds=seconds)
        return receipt

    def _is_known(self, key: SessionKey) -> bool:
        with self._lock:
            return self._state(key) is not PeerState.UNKNOWN

    def _state(self, key: SessionKey) -> PeerState:
        """What an id stands for in this worker, as the peers are told. With the lock held."""
        if key in self._live or self._reserved.ended(key):
            return PeerState.ACTIVE
        is_cancelled = self._reserved.is_cancelled(key)
        return PeerState.CANCELLED if is_cancelled else PeerState.UNKNOWN

    def _cancel_here(self, key: SessionKey, seconds: float, arrived: float) -> Receipt | None:
        with self._lock:
            session = self._live.get(key)
            if self._reserved.is_cancelled(key):
                self._reserved.cancel(key)  # for longer
        if session is None or not session.cancel(Reason.USER):
            return None
        session.closed.wait(seconds)
        closed_at = session.closed_at
        return Receipt(
            session_id=session.id,
            phase=session.phase,
            upstream_closed=closed_at is not None,
            stop_ms=round(((closed_at or time.monotonic()) - arrived) * 1000, 1),
            events=session.events,
        )

    def _cancel_elsewhere(self, key: SessionKey, arrived: float, client: str) -> Receipt | None:
        for _ in self.coordinator.tries():
            holder = self.coordinator.take(lease_key(key))
            if holder is None:
                self._remember_cancel(key, client)
                return None
            state, answer = self.coordinator.ask(holder, _question("cancel", key))
            if state is PeerState.STOPPED:
                elapsed = (time.monotonic() - arrived) * 1000
                return receipts.received(answer, elapsed)
            if state is not PeerState.UNKNOWN:
                return None
        raise AssertionError("tries raises at its end")

    def _remember_cancel(self, key: SessionKey, client: str) -> None:
        with self._lock:
            before = self._reserved.forgotten
            self._reserved.cancel(key, client)
            forgotten = self._reserved.forgotten - before
        for _ in range(forgotten):
            signals.cancel_forgotten.send(self.sender)

    def cancel_for_peer(self, key: SessionKey) -> tuple[PeerState, Receipt | None]:
        """Stop a session of this worker, which another worker asks for.

        :returns: what the id stood for before, as ``state_for_peer`` has it, and the receipt, if
            there is one. A session that begins just now is not stopped, but nor is it told of: the
            id stood for nothing, and the other asks again.
        """
        state = self.state_for_peer(key)
        if state is PeerState.UNKNOWN:
            return state, None
        return state, self._cancel_here(key, PEER_CONFIRM_SECONDS, time.monotonic())

    def state_for_peer(self, key: SessionKey) -> PeerState:
        """What an id stands for here.

        Where it is nothing, nobody needs to hold it any more.
        """
        with self._lock:
            state = self._state(key)
        if state is PeerState.UNKNOWN and not self.coordinator.is_busy(lease_key(key)):
            self._free(key)
        return state

    def lose(self, key: LeaseKey) -> None:
        """Stop the session whose id another worker holds by now: no Stop would reach it here."""
        with self._lock:
            session = self._live.get(SessionKey(key[1], key[2])) if key[0] == "id" else None
        if session is not None:
            session.cancel(Reason.LOST)

    def discard(self, session: StreamSession) -> None:
        """Take an ended session out. Its id stays taken for a while, unless it was refused."""
        with self._lock:
            if self._live.pop(session.key, None) is not None and not _was_refused(session):
                self._reserved.end(session)

    def release(self, session: StreamSession) -> None:
        """Give back, after ``discard``, what the session had taken from others' reach."""
        with self._lock:
            slot = self._slots.pop(session, None)
        if slot is None:
            return
        self._limiter.free(slot)
        if _was_refused(session):
            self._free(session.key)

    def sweep(self) -> None:
        """Free the ids that are no longer reserved. To be called now and then.

        They may be thousands, for each of which the peers are told: all else has its turn between
        any two.
        """
        with self._lock:
            given_up = self._reserved.given_up()
        for key in given_up:
            self._free(key)
            time.sleep(0)

    def _free(self, key: SessionKey) -> None:
        with suppress(PeersUnavailable), self.coordinator.exclusive(lease_key(key)):
            if not self._is_known(key):
                self.coordinator.free(lease_key(key))

    def close(self) -> None:
        """Stop all at once and leave the peers; for the end of the process."""
        self.drain.run(0.0)
        self._peers.close()


def lease_key(key: SessionKey) -> LeaseKey:
    """What stands for an owner's id in the table of the peers."""
    return ("id", *key)


def _question(ask: str, key: SessionKey) -> Message:
    return {"ask": ask, "owner": key.owner, "id": key.id}


def _as_json(session: StreamSession) -> dict[str, Any]:
    return {
        "sessionId": session.id,
        "phase": session.phase,
        "outcome": session.outcome,
        "reason": session.reason,
        "events": session.events,
        "ageSeconds": round(session.age(), 1),
    }


def _was_refused(session: StreamSession) -> bool:
    return session.refusal is not None and not session.events


def _refuse_if(state: PeerState) -> None:
    if state is PeerState.CANCELLED:
        raise SessionCancelled("This session was cancelled before it started.")
    if state is PeerState.ACTIVE:
        raise SessionActive("This session id is already in use.")
