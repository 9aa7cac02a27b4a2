"""For operators: the answers that run on this host, and a Stop for any of them.

The workers are asked at their doors, in the run directories of this user's servers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import PeersUnavailable
from .peers import Message
from .peers.door import SUFFIX, Gone, ask
from .peers.run_dir import of_this_user

#: Seconds for a worker to answer in.
_SECONDS = 3.0


def sessions(run_dir: str) -> list[dict[str, Any]]:
    """The sessions of all workers, live and retained, the oldest first.

    Each has ``owner`` beside what ``Library.list_of`` tells.

    :param run_dir: the servers' run directory; "" for all of this user's that are not named.
    """
    found: list[dict[str, Any]] = []
    for _, answer in _answers(run_dir, {"ask": "sessions", "owner": None}):
        found += answer.get("sessions", [])
    return sorted(found, key=lambda each: -float(each["ageSeconds"]))


def cancel(run_dir: str, owner: str, session_id: str) -> dict[str, Any] | None:
    """Stop a live session, whichever worker has it; return the receipt, as a client gets it.

    :returns: None where nothing live has that id.
    """
    question = {"ask": "cancel", "owner": owner, "id": session_id}
    for state, answer in _answers(run_dir, question):
        if state == "stopped":
            return {name: answer[name] for name in answer if name not in ("state", "tookMs")}
    return None


def _answers(run_dir: str, question: Message) -> Iterator[tuple[str, Message]]:
    for directory in [Path(run_dir)] if run_dir else of_this_user():
        for name in sorted(os.listdir(directory)):
            if name.endswith(SUFFIX):
                with suppress(Gone, PeersUnavailable):
                    answer = ask(directory / name, question, _SECONDS)
                    yield str(answer.get("state")), answer
