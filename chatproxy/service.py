"""AnswerService: how an answer begins, is followed and cancelled, and in which order it ends.

An answer begins with an id that is claimed among all workers, a call of the upstream, and a
producer that runs beside the request. It is followed, cancelled and listed wherever it is: on this
worker or on another.

It ends in ``_end``, in one order:

1. The outcome is decided. From here on a Stop comes too late.
2. A finished answer tells its readers so.
3. The call is closed: the connection to the upstream is gone, or back in its pool. What the answer
   came to is settled; of a finished one with the provider's count, that is done before 2.
4. A stopped or failed answer tells its readers. What it said is transcribed if anybody is told
   that later: from here on its events may be forgotten.
5. The session leaves its chat's line and the registry. Its id stays taken for a while, unless it
   never began.
6. Logs and metrics hear of it, and whoever waits for a receipt goes on.
7. Its budgets are settled, which may take a while. Nobody has waited for that but the owner's next
   question.
8. Its slot is free, and so is the id of an answer that never began.
9. The application hears of it; a worker that shuts down waits for that.

Each step is taken, whatever becomes of those before it.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from . import signals, sse
from .accounting.accountant import Accountant
from .answers import receipt as receipts
from .answers.coroutines import Coroutine
from .answers.producer import Call, produce
from .answers.question import Question
from .answers.readers import LogReader, Reader, follow
from .answers.receipt import Receipt
from .answers.session import Outcome, Reason, SessionKey, StreamSession
from .answers.shares import SlotPool
from .answers.usage import NO_ACCOUNT
from .answers.watchdog import Watchdog
from .cluster.chats import Chats
from .cluster.peers import PeerState
from .cluster.registry import Registry, lease_key
from .cluster.remote_readers import RemoteReader, RemoteReaders
from .config import Settings
from .errors import (
    EventsGone,
    InvalidRequest,
    PeersUnavailable,
    Refusal,
    SessionNotFound,
    UpstreamError,
)
from .protocols import native
from .upstreams.base import Caller

#: A reader on another worker has gone if it has not asked for this many seconds longer than
#: ``CHATPROXY_READER_TIMEOUT``.
_PATIENCE = 5.0
#: How many workers are asked at once to stop all that is an owner's.
_MOST_ASKED_AT_ONCE = 32
#: How many readers may come back, however few answers may run.
_FEWEST_READERS = 64

_TIMED_OUT = frozenset({Reason.IDLE, Reason.DEADLINE})


class AnswerService:
    """All answers of one application, as one worker sees them.

    :param sender: the sender of the signals: the Flask application.
    :param spawn: runs a coroutine beside the present thread.
    :param tell: tells the application how an answer ended; called if ``stream_ended`` has any
        receivers.
    """

    def __init__(
        self,
        settings: Settings,
        sender: object,
        registry: Registry,
        upstream: Caller,
        accountant: Accountant,
        *,
        spawn: Callable[[Coroutine[None]], None],
        tell: Callable[[StreamSession], None],
    ) -> None:
        self._sender = sender
        self._registry = registry
        self._coordinator = registry.coordinator
        self._chats = Chats(settings, registry)
        self._upstream = upstream
        self._accountant = accountant
        self._spawn = spawn
        self._tell = tell
        #: The readers here of other workers.
        self.remote_readers = RemoteReaders(
            registry.find,
            sender,
            settings.reader_timeout + _PATIENCE,
            registry.coordinator.has_ended,
        )
        #: Each reader has a connection, of which there are as many as for answers.
        readers = max(settings.max_sessions, _FEWEST_READERS)
        self.reader_slots = SlotPool(readers, readers // 2)
        #: Readers that nobody has any more.
        self._dropped: deque[LogReader] = deque()
        self._watchdog = Watchdog(
            settings.idle_timeout,
            settings.deadline,
            registry.live,
            [
                registry.sweep,
                self.remote_readers.sweep,
                self._close_dropped,
                partial(accountant.prepare, registry.live),
            ],
            lambda: registry.idle and self.remote_readers.idle and not self._dropped,
        )

    def begin(
        self,
        key: SessionKey,
        question: Question,
        reconnect_seconds: float,
        chat: SessionKey | None = None,
        *,
        tells_account: bool = False,
    ) -> LogReader:
        """Claim the id and have the answer made; return a reader of it.

        :param reconnect_seconds: see ``StreamSession``.
        :param chat: see ``StreamSession``.
        :param tells_account: whether an event says what it came to, if it finishes.
        :raises Refusal: if the id can't be had.
        """
        session = self._chats.claim(key, reconnect_seconds, chat)
        try:
            signals.answer_begun.send(self._sender, session=session, question=question)
            self._watchdog.start()
            reader = follow(session, 0, self._sender)
            self._accountant.open(session, question)
            session.tells_account = tells_account
            call = self._chats.in_turn(session, self._upstream.call(question, session))
            self._spawn(produce(session, call, partial(self._end, session, call)))
        except BaseException as error:
            session.question = None  # the application has not heard of this answer
            refusal = copy.copy(error) if isinstance(error, Refusal) else _not_begun()
            self._end(session, None, Outcome.FAILED, refusal)
            raise
        return reader

    def follow(self, key: SessionKey, after: int) -> Reader | None:
        """Read an answer, from the event after number ``after``.

        :returns: None if it has ended and there is nothing left to read.
        :raises SessionNotFound: if nothing that lives or is retained has this id.
        :raises EventsGone: if these events are no longer held.
        :raises InvalidRequest: if the answer has not so many events.
        :raises PeersUnavailable: if the worker that has it can't be asked.
        """
        session = self._registry.find(key)
        if session is None:
            return self._follow_elsewhere(key, after)
        try:
            reader = follow(session, after, self._sender)
        except ValueError:
            raise _too_high() from None
        if not reader.over:
            return reader
        reader.close()
        return None

    def _follow_elsewhere(self, key: SessionKey, after: int) -> Reader | None:
        holder = self._coordinator.holder(lease_key(key))
        if holder is None:
            raise _not_found()
        ask = partial(self._coordinator.ask, holder)
        reader = RemoteReader(ask, self._coordinator.name, key, after)
        try:
            state, data = reader.begin()
        except PeersUnavailable:
            reader.close()  # the other worker may have begun to keep a reader
            raise
        if state is PeerState.OVER and not data:
            return None
        if state is PeerState.GONE:
            raise EventsGone(f"The events after number {after} are no longer held.")
        if state is PeerState.BEYOND:
            raise _too_high()
        if state not in (PeerState.READING, PeerState.OVER):
            raise _not_found()
        return reader

    def drop(self, reader: LogReader) -> None:
        """Have a reader closed within a second. May be called amid anything: takes no lock."""
        self._dropped.append(reader)

    def _close_dropped(self) -> None:
        while self._dropped:
            self._dropped.popleft().close()

    def cancel(
        self,
        key: SessionKey,
        arrived: float,
        client: str = "",
        *,
        remember: bool = True,
        only: str | None = None,
    ) -> Receipt | None:
        """Stop an answer, as ``Registry.cancel`` does."""
        try:
            return self._registry.cancel(key, arrived, client, remember=remember, only=only)
        finally:
            self._watchdog.start()

    def cancel_session(self, session: StreamSession) -> Receipt | None:
        """Stop a session of this worker; None if it has ended."""
        return self._registry.cancel_session(session, time.monotonic())

    def cancel_all(self, owner: str) -> list[Receipt]:
        """Stop all of the owner's sessions, on all workers.

        :raises PeersUnavailable: if a worker can't be asked; all others have been by then.
        """
        ask = partial(self._cancel_all_of, owner)
        with ThreadPoolExecutor(_MOST_ASKED_AT_ONCE) as pool:
            asked = [pool.submit(ask, name) for name in self._coordinator.others()]
            stopped = self._registry.cancel_all(owner)
        return [*stopped, *(receipt for each in asked for receipt in each.result())]

    def _cancel_all_of(self, owner: str, name: str) -> list[Receipt]:
        begun = time.monotonic()
        _, reply = self._coordinator.ask(name, {"ask": "cancel_all", "owner": owner})
        elapsed_ms = (time.monotonic() - begun) * 1000
        found = reply.get("receipts")
        if not isinstance(found, list):
            raise PeersUnavailable("Another worker's answer could not be understood.")
        return [receipts.received(each, elapsed_ms) for each in found]

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

    def _end(
        self, session: StreamSession, call: Call | None, outcome: Outcome, refusal: Refusal | None
    ) -> None:
        """End an answer; see the top for the order."""
        outcome = session.end(outcome)
        steps: tuple[Callable[[], object], ...] = (
            partial(_announce_settlement, session),
            partial(self._finish, session, outcome),
            partial(self._close, session, call),
            partial(self._settle, session),
            partial(_write_ending, session, outcome, refusal),
            partial(_transcribe, session),
            partial(self._chats.leave, session),
            partial(self._registry.discard, session),
            partial(signals.stream_closed.send, self._sender, session=session),
            session.closed.set,
            partial(_settle_reservation, session),
            partial(self._registry.release, session),
            partial(self._tell_application, session),
            partial(self._registry.drain.told, session),
        )
        _take_all(iter(steps))

    def _finish(self, session: StreamSession, outcome: Outcome) -> None:
        if outcome is Outcome.FINISHED:
            endings = [sse.DONE]
            if session.tells_account or session.usage is not None or session.calls is not None:
                self._settle(session)
            if session.tells_account:
                endings.insert(0, native.account(session))
            session.log.end(endings)

    def _settle(self, session: StreamSession) -> None:
        if session.account is NO_ACCOUNT:
            session.account = self._accountant.settle(session)

    def _close(self, session: StreamSession, call: Call | None) -> None:
        try:
            if session.reason is Reason.USER:
                signals.stream_aborted.send(self._sender, session=session)
        finally:
            if call is not None:
                call.close()
            if session.closed_at is None:  # else the call knows it better
                session.closed_at = time.monotonic()

    def _tell_application(self, session: StreamSession) -> None:
        try:
            if session.question is not None and signals.stream_ended.receivers:
                self._tell(session)
        finally:
            session.forget()


def _take_all(steps: Iterator[Callable[[], object]]) -> None:
    """Take each step, whatever becomes of those before it."""
    try:
        for step in steps:
            step()
    except BaseException:
        _take_all(steps)  # those that are left
        raise


def _announce_settlement(session: StreamSession) -> None:
    if session.reservation is not None:
        session.reservation.end()


def _settle_reservation(session: StreamSession) -> None:
    if session.reservation is not None:
        session.reservation.settle(session)


def _write_ending(session: StreamSession, outcome: Outcome, refusal: Refusal | None) -> None:
    blocks: list[bytes] = []
    if outcome is Outcome.STOPPED:
        if session.reason in _TIMED_OUT and session.first_event_at is None:
            session.refusal = session.timed_out()
        blocks = native.stopped(session)
    elif outcome is Outcome.FAILED and refusal is not None:
        session.refusal = refusal
        blocks = native.failed(refusal)
    session.log.end(blocks, session.refusal if session.first_event_at is None else None)


def _transcribe(session: StreamSession) -> None:
    if signals.stream_ended.receivers or session.trace is not None:
        session.log.transcribed()
    else:
        session.log.transcript = None


def _not_begun() -> Refusal:
    return Refusal("The answer could not begin.", status=500, code=UpstreamError.code)


def _not_found() -> SessionNotFound:
    return SessionNotFound("No answer that can be read has this session id.")


def _too_high() -> InvalidRequest:
    return InvalidRequest("Last-Event-ID is higher than the number of any event.")
