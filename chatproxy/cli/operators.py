"""Asks the workers of this host's servers, for operators: what runs, and a Stop for it.

The workers are asked through their control sockets, in the run directories of this user's servers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..answers.session import SessionKey
from ..cluster.local.control_socket import SUFFIX, prefix_of
from ..cluster.local.directories import of_this_user
from ..cluster.local.messages import WorkerEnded, ask
from ..cluster.peers import Message, PeerState
from ..errors import PeersUnavailable

#: Seconds in which a worker has to reply.
_SECONDS = 3.0


def sessions(run_dir: str) -> list[dict[str, Any]]:
    """The sessions of all workers, live and retained, the oldest first.

    Each has ``owner``, ``application`` and ``runDir`` beside what ``Registry.list_sessions`` tells.

    :param run_dir: the servers' run directory; "" for all directories that this user's servers
        chose themselves.
    """
    found: list[dict[str, Any]] = []
    for directory in [Path(run_dir)] if run_dir else of_this_user():
        for reply in _replies(directory, "", {"ask": "sessions", "owner": None}):
            where = {"application": reply.get("application"), "runDir": str(directory)}
            found += [{**each, **where} for each in reply.get("sessions", [])]
    return sorted(found, key=lambda each: -float(each["ageSeconds"]))


def cancel(run_dir: str, application: str, key: SessionKey) -> dict[str, Any] | None:
    """Stop a live session, whichever worker has it; return the receipt, as a client gets it.

    :returns: None if nothing live has that id.
    """
    request = {"ask": "cancel", "owner": key.owner, "id": key.id}
    for reply in _replies(Path(run_dir), prefix_of(application), request):
        if reply.get("state") == PeerState.STOPPED:
            return {name: reply[name] for name in reply if name not in ("state", "tookMs")}
    return None


def _replies(directory: Path, prefix: str, request: Message) -> Iterator[Message]:
    for name in sorted(os.listdir(directory)):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            with suppress(WorkerEnded, PeersUnavailable):
                yield ask(directory / name, request, _SECONDS)
