"""OpenAI's clients as processes: what each user of one gets for a question."""

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
_FOLDER = ROOT / "tests" / "clients"
_PATIENCE = 60.0


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


class RealClient:
    """A client in its own process; the same for all of its questions."""

    def __init__(
        self, name: str, base_url: str, log_path: Path, environment: Path = ENVIRONMENT
    ) -> None:
        self.name = name
        self._log_path = log_path
        if name == "openai-node":
            node = str(ROOT / ".venv" / "bin" / "node")
            command = [node, str(_FOLDER / "drive.mjs"), base_url, str(environment)]
        else:
            python = str(environment / "bin" / "python")
            command = [python, str(_FOLDER / "drive.py"), name, base_url]
        with log_path.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=environment,
                env=clean_environment(LITELLM_LOCAL_MODEL_COST_MAP="True"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._numbers = itertools.count(1)
        self._asked: dict[int, Asked] = {}
        self._version: Future[str] = Future()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def version(self) -> str:
        """The client's version; waits until it is there."""
        return self._version.result(_PATIENCE)

    def ask(
        self, *, stream: bool, leave: bool = False, with_id: bool = True, **simulate: Any
    ) -> Asked:
        """Have it ask; return at once.

        :param leave: whether it closes the connection at the first piece of text.
        :param simulate: what the simulated DeepSeek does.
        """
        asked = Asked(new_id())
        text = json.dumps({"tag": asked.id, **simulate})
        session_id = asked.id if with_id else None
        return self._tell(asked, text=text, id=session_id, stream=stream, leave=leave)

    def run(self, code: str) -> str:
        """Have it run some lines of its own language; return what they print."""
        return self._tell(Asked(""), code=code).told.text

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _tell(self, asked: Asked, **fields: Any) -> Asked:
        number = next(self._numbers)
        self._asked[number] = asked
        assert self.process.stdin is not None
        print(json.dumps({"number": number, **fields}), file=self.process.stdin, flush=True)
        return asked

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "version" in said:
                self._version.set_result(said["version"])
            else:
                told = Told(said["text"], said["finish"], said["error"])
                self._asked.pop(said["number"]).future.set_result(told)
        ended = RuntimeError(self._log_path.read_text())
        for future in (self._version, *(each.future for each in self._asked.values())):
            if not future.done():
                future.set_exception(ended)


def is_there() -> bool:
    """Whether the clients have been installed."""
    return os.path.isdir(ENVIRONMENT / "bin") and os.path.isdir(ENVIRONMENT / "node_modules")
