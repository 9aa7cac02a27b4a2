"""Remote procedure calls: handlers for what other workers, and operators, ask this worker.

A request names its kind in ``ask``. Requests about one session have its ``owner`` and ``id``.

    ready      whether this worker takes new answers
    state      what an id stands for here
    cancel     stop the session; the reply has the receipt
    read       what comes next for a reader of the session (``remote_readers``)
    leave      such a reader has gone
    sessions   a list of the sessions, of one owner or of all
    cancel_all stop all sessions of an owner; the reply has the receipts, without their calls

The reply has a ``PeerState`` in ``state``: ``UNKNOWN`` also to a request that makes no sense, which
an older or newer version of this package may have sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..answers import receipt as receipts
from ..answers.session import Reason, SessionKey
from .peers import Message, PeerState
from .registry import PEER_CONFIRM_SECONDS, Registry
from .remote_readers import RemoteReaders

#: A reply has room for so many.
_MOST_RECEIPTS = 100
_ABOUT_A_SESSION = frozenset({"state", "cancel", "read"})


class RpcDispatcher:
    """Answers the requests to one worker.

    :param application: what the application is called, for operators.
    """

    def __init__(
        self, registry: Registry, remote_readers: RemoteReaders, application: str = ""
    ) -> None:
        self._application = application
        self._registry = registry
        self._handlers: dict[str, Callable[[Message], Message]] = {
            "ready": self._tell_readiness,
            "state": self._tell_state,
            "cancel": self._cancel,
            "read": remote_readers.read,
            "leave": remote_readers.leave,
            "sessions": self._list,
            "cancel_all": self._cancel_all,
        }

    def dispatch(self, request: Message) -> Message:
        """The reply to a request. Never raises, whatever the request holds."""
        kind = request.get("ask")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None or (kind in _ABOUT_A_SESSION and not _has_key(request)):
            return {"state": PeerState.UNKNOWN}
        return handler(request)

    def _tell_readiness(self, _request: Message) -> Message:
        leaving = self._registry.drain.leaving
        return {"state": PeerState.DRAINING if leaving else PeerState.READY}

    def _tell_state(self, request: Message) -> Message:
        return {"state": self._registry.state_for_peer(_key_of(request))}

    def _cancel(self, request: Message) -> Message:
        arrived = time.monotonic()
        only = request.get("only")  # which an older version does not send
        was_replaced = request.get("reason") == Reason.REPLACED
        state, receipt = self._registry.cancel_for_peer(
            _key_of(request),
            only if isinstance(only, str) else None,
            Reason.REPLACED if was_replaced else Reason.USER,
        )
        if receipt is None:
            return {"state": state}
        took_ms = (time.monotonic() - arrived) * 1000
        return {"state": PeerState.STOPPED, **receipts.to_send(receipt, took_ms)}

    def _cancel_all(self, request: Message) -> Message:
        owner = request.get("owner")
        if not isinstance(owner, str):
            return {"state": PeerState.UNKNOWN}
        arrived = time.monotonic()
        stopped = self._registry.cancel_all(owner, PEER_CONFIRM_SECONDS)
        took_ms = (time.monotonic() - arrived) * 1000
        short = [replace(each, calls=None, left_behind=()) for each in stopped[:_MOST_RECEIPTS]]
        found = [receipts.to_send(each, took_ms) for each in short]
        return {"state": PeerState.STOPPED, "receipts": found}

    def _list(self, request: Message) -> Message:
        owner = request.get("owner")
        listed = self._registry.list_sessions(owner if isinstance(owner, str) else None)
        return {"state": PeerState.LISTED, "application": self._application, "sessions": listed}


def _has_key(request: Message) -> bool:
    return isinstance(request.get("owner"), str) and isinstance(request.get("id"), str)


def _key_of(request: Message) -> SessionKey:
    return SessionKey(request["owner"], request["id"])
