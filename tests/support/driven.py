"""A process in which the clients of others run, and which does what it is told in lines of JSON."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .servers import clean_environment


class DrivenProcess:
    """The process; it does any number of things side by side.

    A line with a ``number`` goes in for each thing, and one with the same number comes out with
    what came of it.

    :param command: what runs it.
    :param folder: where.
    :param log_path: where its errors go.
    """

    def __init__(
        self, command: list[str], folder: Path, log_path: Path, **environment: str
    ) -> None:
        self._log_path = log_path
        with log_path.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=clean_environment(**environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._numbers = itertools.count(1)
        #: What it says of itself at its start, with the number 0.
        self.about = Future[dict[str, Any]]()
        self._awaited = {0: self.about}
        threading.Thread(target=self._listen, daemon=True).start()

    def begin(self, **fields: Any) -> Future[dict[str, Any]]:
        """Have something done."""
        number = next(self._numbers)
        done = self._awaited[number] = Future[dict[str, Any]]()
        assert self._process.stdin is not None
        print(json.dumps({"number": number, **fields}), file=self._process.stdin, flush=True)
        return done

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._awaited.pop(said.pop("number")).set_result(said)
        for awaited in self._awaited.values():
            awaited.set_exception(RuntimeError(self._log_path.read_text()))
