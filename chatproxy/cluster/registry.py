"""The registry: the sessions of this worker; starts and Stops, whichever worker they come to.

How a start and its Stop find each other
========================================

Each may land on any worker, and either may come first. Every id that stands for something is a
lease that one worker holds (``peers``), and both want that lease:

* A start (``claim``) takes the lease. If another worker holds it, the start asks it what the id
  stands for: a session that lives or is retained (``SessionActive``), or a Stop that came first
  (``SessionCancelled``). Either refuses the start.
* A Stop (``cancel``) for an id that is known here ends that session here. For any other it takes
  the lease too. If it gets it, no worker has such a session; from now on this worker remembers the
  Stop, and refuses the start that may still come. If another worker holds it, that worker is asked
  to cancel its session (``cancel_for_peer``). It waits for the close of the upstream, and its reply
  has the receipt, which is handed on.

Whichever takes the lease first came first, for every worker: so all see one order, without a clock
or a leader. A holder may also say that the id stands for nothing. Then it has taken the lease a
moment ago, or is about to free it, or has failed to; the lease is tried again until the time is
over (``PeersUnavailable``).

When the answer ends, ``discard`` retains it under its lease, so that it can be read and its id is
not used twice, and ``release`` gives the slot back. An answer that was refused before its first
event gives its id back as well. ``sweep`` frees the ids that are no longer reserved.

An answer may belong to a chat (``SessionKey`` of the chat's id): then it holds that lease too while
it lives, and whoever knows the chat alone can read and stop it. The chat's next answer takes the
lease anew, by ``claim`` or, if it waits for it (``chats``), by ``join_chat``. An answer without an
id holds no lease: nobody can name it.

Invariants
==========

* This worker holds the lease of every id that stands for something here. An id whose lease is lost,
  because this worker was cut off for long, stands for nothing any more (``lose``). Exception: a
  session that was allowed to begin offline has its lease as soon as that is possible.
* A lease is taken before its id gets its meaning, and freed after that is gone, by a thread that
  has the key to itself (``Coordinator.exclusive``).
* A request of a peer never waits for a key, so that two workers can't wait for each other.
* A Stop is told that there is no such session only if that is certain.
* Sessions are found by owner and id together: another owner's is not found, and not in the way.
* No lock is held while anything waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
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
from .session_table import SessionTable

#: Seconds for which a cancel waits for the upstream's close before it says that it could not
#: confirm it.
CONFIRM_SECONDS = 2.0
#: The same if a peer asks for the cancel, which does not wait any longer for the reply.
PEER_CONFIRM_SECONDS = 1.6


class Registry:
    """The sessions of one application in this worker.

    :param sender: the sender of the signals: the Flask application.
    """

    def __init__(self, settings: Settings, sender: object, peers: Peers) -> None:
        self.sender = sender
        self._peers = peers
        #: Its dealings with the other workers.
        self.coordinator = Coordinator(peers, sender, allow_offline=settings.without_peers == "run")
        #: Its end.
        self.drain = Drain()
        self._on_active = settings.on_active
        self._log_bytes = settings.log_bytes
        self._sessions = SessionTable(
            settings.retain,
            settings.deadline,
            settings.retain_bytes,
            settings.max_sessions_per_owner * settings.log_bytes,
        )
        self._limiter = SlotLimiter(settings, self.coordinator)
        #: The slots of the sessions that have not been released. Needs no lock: each is put in
        #: before its session is known, and whoever pops it has it.
        self._slots: dict[StreamSession, Slot] = {}

    @property
    def idle(self) -> bool:
        """Whether time would change nothing: there is no session, and no id is reserved."""
        return not self._sessions

    def live(self) -> list[StreamSession]:
        """The sessions that have not ended yet."""
        return self._sessions.live()

    def all(self) -> list[StreamSession]:
        """The sessions whose answers can be read: the retained ones, then those that live."""
        return self._sessions.all()

    def find(self, key: SessionKey) -> StreamSession | None:
        """The session of this worker, live or retained, with this key."""
        return self._sessions.find(key)

    def list_sessions(self, owner: str | None) -> list[dict[str, Any]]:
        """The latest of an owner's sessions here; of all owners, each named, if that is None.

        Each has ``sessionId`` (None if its client gave none), ``phase``, ``outcome`` and ``reason``
        (None while it lives), ``events``, ``upstream`` and ``ageSeconds``.
        """
        return self._sessions.describe(owner)

    def check(self) -> None:
        """See that a session could begin now, of whichever owner.

        :raises ShuttingDown: if the server drains.
        :raises PeersUnavailable: if the other workers can't be asked, with the reason.
        """
        self.drain.check()
        self.coordinator.check()

    # ---- a start ---------------------------------------------------------------------------------

    def check_claim(self, key: SessionKey, chat: SessionKey | None = None) -> None:
        """See whether this worker would refuse a claim, without asking the others.

        :raises Refusal: as ``claim`` does.
        """
        if self._on_active == "reject" or chat is None:
            self._refuse_taken([key] if chat is None else [key, chat])
        elif key != chat:
            self._refuse_taken([key])
        if self._on_active != "replace" or chat is None:  # else there may be a slot in a moment
            self._limiter.check(key.owner)

    def claim(
        self,
        key: SessionKey,
        reconnect_seconds: float = 0.0,
        chat: SessionKey | None = None,
        *,
        waits: bool = False,
    ) -> StreamSession:
        """Take an id, and that of a chat if there is one, for a new session.

        :param reconnect_seconds: see ``StreamSession``.
        :param chat: see ``StreamSession``.
        :param waits: whether the chat is left for ``join_chat``.
        :raises ShuttingDown: if the server drains.
        :raises SessionCancelled: if the Stop for this id came first.
        :raises SessionActive: if the id belongs to a live or retained session of any worker.
        :raises TooManySessions: if the worker's or the owner's limit is reached.
        :raises PeersUnavailable: if the other workers can't be asked.
        """
        session = StreamSession(key, AnswerLog(self._log_bytes), reconnect_seconds, chat)
        if waits:
            session.keys = tuple(each for each in session.keys if each != chat)
        for each in session.keys:
            if (ending := self._sessions.ending(each)) is not None:
                ending.closed.wait(CONFIRM_SECONDS)  # its client may know of the end already
        with ExitStack() as leases:
            for each in session.keys:  # in their order, so that no two starts wait for each other
                leases.enter_context(self.coordinator.exclusive(lease_key(each)))
            self._refuse_known(session.keys)
            slot = self._limiter.take(key.owner)
            with ExitStack() as undo:
                undo.callback(self._limiter.free, slot)
                for each in session.keys:
                    self._take_id(each)
                    undo.callback(self.coordinator.free, lease_key(each))
                self.drain.admit(session)
                undo.pop_all()
            # Only now, when nothing can fail any more, is it known.
            self._slots[session] = slot
            self._sessions.add(session)
        signals.stream_opened.send(self.sender, session=session)
        return session

    def join_chat(self, session: StreamSession, chat: SessionKey) -> bool:
        """Have a session that waits take its chat, unless another answer is live there.

        :returns: whether it has it.
        :raises SessionCancelled: if a Stop for this id was remembered.
        :raises PeersUnavailable: if the other workers can't be asked.
        """
        with self.coordinator.exclusive(lease_key(chat)):
            state = self._sessions.state(chat)
            if state is PeerState.UNKNOWN:
                holder = self.coordinator.take(lease_key(chat), to_begin=True)
                if holder is None:
                    self._sessions.join(session, chat)
                    return True
                state, _reply = self.coordinator.ask(holder, _request("state", chat))
        with suppress(SessionActive):
            _refuse_if(state)
        return False

    def _refuse_known(self, keys: Iterable[SessionKey]) -> None:
        self.drain.check()
        for key in keys:
            _refuse_if(self._sessions.state(key))

    def _refuse_taken(self, keys: Iterable[SessionKey]) -> None:
        """Refuse what is known, but for what is about to be free."""
        self._refuse_known(key for key in keys if self._sessions.ending(key) is None)

    def _take_id(self, key: SessionKey) -> None:
        for _ in self.coordinator.attempts():
            holder = self.coordinator.take(lease_key(key), to_begin=True)
            if holder is None:
                return
            state, _reply = self.coordinator.ask(holder, _request("state", key))
            _refuse_if(state)

    # ---- a Stop ----------------------------------------------------------------------------------

    def cancel(
        self,
        key: SessionKey,
        arrived: float,
        client: str = "",
        *,
        remember: bool = True,
        only: str | None = None,
        reason: Reason = Reason.USER,
    ) -> Receipt | None:
        """Stop a session, whichever worker has it, and wait for the close of its upstream.

        A Stop for an id that no worker knows is remembered, and refuses the session that comes
        with it.

        :param arrived: when the Stop came, in seconds of the monotonic clock.
        :param client: the address that it came from. If owners are not known, the early Stops of
            one address can't push out those of another.
        :param remember: whether a Stop for an unknown id is remembered.
        :param only: stop nothing but the session with this id, if ``key`` is a chat's.
        :param reason: why. What is no Stop is not counted as one.
        :returns: None if nothing live has that id.
        :raises PeersUnavailable: if the other workers can't be asked.
        """
        by, result, receipt = "self", "unavailable", None
        try:
            if not self._is_known(key):
                with self.coordinator.exclusive(lease_key(key)):
                    if not self._is_known(key):
                        by = "peer"
                        request = {**_request("cancel", key), "only": only, "reason": reason}
                        receipt = self._cancel_elsewhere(key, request, arrived, client, remember)
            if by == "self":
                receipt = self._cancel_here(key, CONFIRM_SECONDS, arrived, only, reason)
            result = "stopped" if receipt else "not_found"
        finally:
            if reason is Reason.USER:
                seconds = receipt and receipt.stop_ms / 1000
                signals.cancel_answered.send(self.sender, result=result, by=by, seconds=seconds)
        return receipt

    def _is_known(self, key: SessionKey) -> bool:
        return self._sessions.state(key) is not PeerState.UNKNOWN

    def _cancel_here(
        self, key: SessionKey, seconds: float, arrived: float, only: str | None, reason: Reason
    ) -> Receipt | None:
        session = self._sessions.find_live(key)
        if session is None:
            self._sessions.extend_stop(key)
            return None
        wanted = only in (None, session.id)
        return self.cancel_session(session, arrived, seconds, reason) if wanted else None

    def cancel_session(
        self,
        session: StreamSession,
        arrived: float,
        seconds: float = CONFIRM_SECONDS,
        reason: Reason = Reason.USER,
    ) -> Receipt | None:
        """Stop a session of this worker, and wait so long for the close of its upstream.

        If it is being stopped already, for whatever reason, that close is waited for.

        :returns: None if it has ended by then. But what replaces it gets the receipt of a close
            that it has waited for, too.
        """
        return self._confirm(session, session.cancel(reason), arrived, seconds, reason)

    def cancel_all(self, owner: str, seconds: float = CONFIRM_SECONDS) -> list[Receipt]:
        """Stop all of an owner's sessions here, each as ``cancel_session`` does.

        :param seconds: how long their closes are waited for, all told.
        """
        arrived = time.monotonic()
        end = arrived + seconds
        owned = [(each, each.cancel(Reason.USER)) for each in self.live() if each.owner == owner]
        found = [
            self._confirm(session, stopped, arrived, max(0.0, end - time.monotonic()))
            for session, stopped in owned
        ]
        return [receipt for receipt in found if receipt is not None]

    @staticmethod
    def _confirm(
        session: StreamSession,
        stopped: bool,
        arrived: float,
        seconds: float,
        reason: Reason = Reason.USER,
    ) -> Receipt | None:
        """What ``cancel_session`` does after ``session.cancel``, which has returned ``stopped``."""
        if not stopped and (session.closed.is_set() or not session.flag.is_set()):
            return None
        closed = session.closed.wait(seconds)
        if closed and not stopped and reason is not Reason.REPLACED:
            return None
        return receipts.of(session, arrived, repeated=not stopped)

    def _cancel_elsewhere(
        self, key: SessionKey, request: Message, arrived: float, client: str, remember: bool
    ) -> Receipt | None:
        find = self.coordinator.take if remember else self.coordinator.holder
        for _ in self.coordinator.attempts():
            holder = find(lease_key(key))
            if holder is None:
                if remember and self._sessions.remember_stop(key, client):
                    signals.cancel_forgotten.send(self.sender)
                return None
            state, reply = self.coordinator.ask(holder, request)
            if state is PeerState.STOPPED:
                return receipts.received(reply, (time.monotonic() - arrived) * 1000)
            if state is not PeerState.UNKNOWN:
                return None
        raise AssertionError("attempts raises at its end")

    # ---- what peers ask --------------------------------------------------------------------------

    def state_for_peer(self, key: SessionKey) -> PeerState:
        """What an id stands for here: ``ACTIVE``, ``CANCELLED`` or ``UNKNOWN``.

        If that is nothing, and no thread is about to change it, the lease is freed. What is about
        to be free stands for nothing, and its lease is freed in a moment.
        """
        if self._sessions.ending(key) is not None:
            return PeerState.UNKNOWN
        state = self._sessions.state(key)
        if state is PeerState.UNKNOWN and not self.coordinator.is_busy(lease_key(key)):
            self._free(key)
        return state

    def cancel_for_peer(
        self, key: SessionKey, only: str | None = None, reason: Reason = Reason.USER
    ) -> tuple[PeerState, Receipt | None]:
        """Stop a session of this worker for another worker, which got the Stop.

        :param only: see ``cancel``.
        :param reason: see ``cancel``.
        :returns: what the id stood for before, and the receipt, if there is one. A session that
            begins in between is not stopped: the id stood for nothing, and the peer asks again.
        """
        state = self.state_for_peer(key)
        if state is PeerState.UNKNOWN:
            return state, None
        receipt = self._cancel_here(key, PEER_CONFIRM_SECONDS, time.monotonic(), only, reason)
        return state, receipt

    def lose(self, key: LeaseKey) -> None:
        """Have an id that another worker may have by now stand for nothing here.

        A Stop that comes here goes to its holder then. A session that lives is stopped, as no Stop
        would reach it any more.
        """
        if key[0] == "id":
            session = self._sessions.lose(SessionKey(key[1], key[2]))
            if session is not None:
                session.cancel(Reason.LOST)

    # ---- the end ---------------------------------------------------------------------------------

    def discard(self, session: StreamSession) -> None:
        """Take an ended session out. Its own id stays taken for a while, unless it was refused."""
        self._sessions.end(session)

    def release(self, session: StreamSession) -> None:
        """Give back, after ``discard``, a session's slot, and its ids that are not retained."""
        slot = self._slots.pop(session, None)
        if slot is None:
            return
        self._limiter.free(slot)
        for key in session.keys:
            if key != session.key or session.was_refused or not session.is_retained:
                self._free(key)

    def sweep(self) -> None:
        """Free the ids that are reserved no longer. To be called now and then.

        There may be thousands, and each is an operation among the peers: all other threads have
        their turn between any two.
        """
        for key in self._sessions.given_up():
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
    """The lease that stands for an id."""
    return ("id", *key)


def _request(ask: str, key: SessionKey) -> Message:
    return {"ask": ask, "owner": key.owner, "id": key.id}


def _refuse_if(state: PeerState) -> None:
    if state is PeerState.CANCELLED:
        raise SessionCancelled("This session was cancelled before it started.")
    if state is PeerState.ACTIVE:
        raise SessionActive("This session id is already in use.")
