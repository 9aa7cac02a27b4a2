"""OpenAI's clients and others, in processes of their own: what a user of one gets."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from .servers import ROOT, clean_environment, new_id

#: Where the clients are; ``make .venv/clients`` puts them there.
ENVIRONMENT = ROOT / ".venv" / "clients"
NODE = ROOT / ".venv" / "bin" / "node"
_FOLDER = ROOT / "tests" / "clients"
_PATIENCE = 100.0


class Told(NamedTuple):
    """What the user of a client gets."""

    text: str
    finish: str | None
    error: str | None


class Asked:
    """A question that a client has been given.

    :ivar id: its session id, which is also its tag in the ledger.
    """

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.future: Future[Told] = Future()

    @property
    def told(self) -> Told:
        """What came of it; waits for that."""
        return self.future.result(_PATIENCE)


class Driver:
    """A process in which clients run.

    :param command: what runs it.
    """

    def __init__(self, command: list[str], log_path: Path) -> None:
        self._log_path = log_path
        with log_path.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ENVIRONMENT,
                env=clean_environment(LITELLM_LOCAL_MODEL_COST_MAP="True"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._numbers = itertools.count(1)
        self._asked: dict[int, Asked] = {}
        self._versions: Future[dict[str, str]] = Future()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def versions(self) -> dict[str, str]:
        """The version of each of its clients; waits until they are there."""
        return self._versions.result(_PATIENCE)

    def tell(self, asked: Asked, **fields: Any) -> Asked:
        """Have a question asked, or some lines run."""
        number = next(self._numbers)
        self._asked[number] = asked
        assert self._process.stdin is not None
        print(json.dumps({"number": number, **fields}), file=self._process.stdin, flush=True)
        return asked

    def run(self, code: str) -> str:
        """Run some lines of Python; return what they print."""
        return self.tell(Asked(""), code=code).told.text

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        self._versions.set_result(json.loads(self._process.stdout.readline() or "{}"))
        for line in self._process.stdout:
            said = json.loads(line)
            told = Told(said["text"], said["finish"], said["error"])
            self._asked.pop(said["number"]).future.set_result(told)
        for asked in self._asked.values():
            asked.future.set_exception(RuntimeError(self._log_path.read_text()))


def drive_python(base_url: str, log_path: Path) -> Driver:
    """All clients in Python."""
    python = str(ENVIRONMENT / "bin" / "python")
    return Driver([python, str(_FOLDER / "drive.py"), base_url], log_path)


def drive_node(base_url: str, log_path: Path) -> Driver:
    """Those in JavaScript."""
    command = [str(NODE), str(_FOLDER / "drive.mjs"), base_url, str(ENVIRONMENT)]
    return Driver(command, log_path)


class RealClient(NamedTuple):
    """One client, and the process in which it runs."""

    name: str
    driver: Driver

    @property
    def version(self) -> str:
        """Its version; waits until it is there."""
        return self.driver.versions[self.name]

    def ask(
        self, *, stream: bool, leave: bool = False, with_id: bool = True, **simulate: Any
    ) -> Asked:
        """Have it ask; return at once.

        :param leave: whether it closes the connection at the first piece of text.
        :param simulate: what the simulated DeepSeek does.
        """
        asked = Asked(new_id())
        question = {
            "client": self.name,
            "text": json.dumps({"tag": asked.id, **simulate}),
            "id": asked.id if with_id else None,
            "stream": stream,
            "leave": leave,
        }
        return self.driver.tell(asked, **question)


def is_there() -> bool:
    """Whether the clients have been installed."""
    return os.path.isdir(ENVIRONMENT / "bin") and os.path.isdir(ENVIRONMENT / "node_modules")
