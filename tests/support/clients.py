"""OpenAI's clients and others, in processes of their own: what a user of one gets."""

from __future__ import annotations

import json
import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from .driven import DrivenProcess
from .servers import ROOT, new_id

#: Where the clients are; ``make .venv/clients/installed`` puts them there.
ENVIRONMENT = ROOT / ".venv" / "clients"
NODE = ROOT / ".venv" / "bin" / "node"
_FOLDER = ROOT / "tests" / "clients"
_PATIENCE = 100.0


class Told(NamedTuple):
    """What the user of a client gets."""

    text: str
    finish: str | None
    error: str | None


class Asked(NamedTuple):
    """A question that a client has been given; its id is also its tag in the ledger."""

    id: str
    done: Future[dict[str, Any]]

    @property
    def told(self) -> Told:
        """What came of it; waits for that."""
        return Told(**self.done.result(_PATIENCE))


def drive_python(base_url: str, log_path: Path) -> DrivenProcess:
    """All clients in Python."""
    python = str(ENVIRONMENT / "bin" / "python")
    command = [python, str(_FOLDER / "drive.py"), base_url]
    # litellm would fetch its prices.
    return DrivenProcess(command, ENVIRONMENT, log_path, LITELLM_LOCAL_MODEL_COST_MAP="True")


def drive_node(base_url: str, log_path: Path) -> DrivenProcess:
    """Those in JavaScript."""
    command = [str(NODE), str(_FOLDER / "drive.mjs"), base_url, str(ENVIRONMENT)]
    return DrivenProcess(command, ENVIRONMENT, log_path)


def printed(driver: DrivenProcess, code: str) -> str:
    """What some lines of Python print, which are run where the clients are."""
    return Asked("", driver.begin(code=code)).told.text


class RealClient(NamedTuple):
    """One client, and the process in which it runs."""

    name: str
    driver: DrivenProcess

    @property
    def version(self) -> str:
        """Its version; waits until it is there."""
        version: str = self.driver.about.result(_PATIENCE)[self.name]
        return version

    def ask(
        self, *, stream: bool, leave: bool = False, with_id: bool = True, **simulate: Any
    ) -> Asked:
        """Have it ask; return at once.

        :param leave: whether it closes the connection at the first piece of text.
        :param simulate: what the simulated DeepSeek does.
        """
        session_id = new_id()
        done = self.driver.begin(
            client=self.name,
            text=json.dumps({"tag": session_id, **simulate}),
            id=session_id if with_id else None,
            stream=stream,
            leave=leave,
        )
        return Asked(session_id, done)


def is_there() -> bool:
    """Whether the clients have been installed."""
    return os.path.isdir(ENVIRONMENT / "bin") and os.path.isdir(ENVIRONMENT / "node_modules")
