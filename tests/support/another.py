"""Another Python process, which runs a few lines and is spoken to in lines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .servers import ROOT, clean_environment
from .waiting import PATIENCE


class Another:
    """A process that runs a script; its arguments are in ``sys.argv``."""

    def __init__(self, script: str, *arguments: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=ROOT,
            env=clean_environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line.rstrip("\n")

    def tell(self, line: str = "") -> None:
        """Write it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def rest(self) -> str:
        """What else it prints, when it has ended well."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        printed, errors = self.process.stdout.read(), self.process.stderr.read()
        assert (self.process.wait(PATIENCE), errors) == (0, "")
        self.kill()
        return printed

    def kill(self) -> None:
        """End it at once; it is no more when this returns."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


@contextmanager
def several(count: int, script: str, *arguments: object) -> Iterator[list[Another]]:
    """Some processes that run the same script; each has printed a line before any goes on."""
    processes = [Another(script, *arguments, number) for number in range(count)]
    try:
        for process in processes:
            process.read()
        yield processes
    finally:
        for process in processes:
            process.kill()
