"""The desk: what this worker is asked by others, and by operators, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..answers import receipt as receipts
from ..answers.session import SessionKey
from .peers import Message, PeerState
from .registry import Registry
from .remote_readers import RemoteReaders

_ABOUT_AN_ID = frozenset({"state", "cancel", "read"})


class RpcDispatcher:
    """Answers the questions to one worker. Whatever a question holds, none of this raises."""

    def __init__(
        self, registry: Registry, remote_readers: RemoteReaders, application: str = ""
    ) -> None:
        self._application = application
        self._registry = registry
        self._answers: dict[str, Callable[[Message], Message]] = {
            "ready": self._tell_readiness,
            "state": self._tell_state,
            "cancel": self._cancel,
            "read": remote_readers.read,
            "leave": remote_readers.leave,
            "sessions": self._list,
        }

    def dispatch(self, question: Message) -> Message:
        """Answer one question."""
        asked = question.get("ask")
        answer = self._answers.get(asked) if isinstance(asked, str) else None
        if answer is None or (asked in _ABOUT_AN_ID and not _has_key(question)):
            return {"state": PeerState.UNKNOWN}
        return answer(question)

    def _tell_readiness(self, _question: Message) -> Message:
        leaving = self._registry.drain.leaving
        return {"state": PeerState.DRAINING if leaving else PeerState.READY}

    def _tell_state(self, question: Message) -> Message:
        return {"state": self._registry.state_for_peer(_key(question))}

    def _cancel(self, question: Message) -> Message:
        arrived = time.monotonic()
        state, receipt = self._registry.cancel_for_peer(_key(question))
        if receipt is None:
            return {"state": state}
        took_ms = (time.monotonic() - arrived) * 1000
        return {"state": PeerState.STOPPED, **receipts.to_send(receipt, took_ms)}

    def _list(self, question: Message) -> Message:
        owner = question.get("owner")
        listed = self._registry.list_sessions(owner if isinstance(owner, str) else None)
        return {"state": PeerState.LISTED, "application": self._application, "sessions": listed}


def _has_key(question: Message) -> bool:
    return isinstance(question.get("owner"), str) and isinstance(question.get("id"), str)


def _key(question: Message) -> SessionKey:
    return SessionKey(question["owner"], question["id"])
