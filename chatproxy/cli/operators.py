"""Asks the workers of this host's servers, for operators: what runs, and a Stop for it.

The workers are asked through their control sockets, in the run directories of this user's servers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..cluster.local.control_socket import SUFFIX, prefix_of
from ..cluster.local.directories import of_this_user
from ..cluster.local.messages import WorkerEnded, ask
from ..cluster.peers import Message, PeerState
from ..errors import PeersUnavailable

#: Seconds for a worker to answer in.
_SECONDS = 3.0


def sessions(run_dir: str) -> list[dict[str, Any]]:
    """The sessions of all workers, live and retained, the oldest first.

    Each has ``owner``, ``application`` and ``runDir`` beside what ``Registry.list_sessions`` tells.

    :param run_dir: the servers' run directory; "" for all directories that this user's servers
        chose themselves.
    """
    found: list[dict[str, Any]] = []
    for directory in [Path(run_dir)] if run_dir else of_this_user():
        for answer in _answers(directory, "", {"ask": "sessions", "owner": None}):
            where = {"application": answer.get("application"), "runDir": str(directory)}
            found += [{**each, **where} for each in answer.get("sessions", [])]
    return sorted(found, key=lambda each: -float(each["ageSeconds"]))


def cancel(run_dir: str, application: str, owner: str, session_id: str) -> dict[str, Any] | None:
    """Stop a live session, whichever worker has it; return the receipt, as a client gets it.

    :returns: None if nothing live has that id.
    """
    question = {"ask": "cancel", "owner": owner, "id": session_id}
    for answer in _answers(Path(run_dir), prefix_of(application), question):
        if answer.get("state") == PeerState.STOPPED:
            return {name: answer[name] for name in answer if name not in ("state", "tookMs")}
    return None


def _answers(directory: Path, prefix: str, question: Message) -> Iterator[Message]:
    for name in sorted(os.listdir(directory)):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            with suppress(WorkerEnded, PeersUnavailable):
                yield ask(directory / name, question, _SECONDS)
