"""Another Python process, which runs a few lines and is spoken to in lines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .fork_server import Forked, fork_server
from .servers import ROOT, clean_environment
from .waiting import PATIENCE


class Another:
    """A process that runs a script; its arguments are in ``sys.argv``.

    :param prepared: which fork server begins it; without one it begins from nothing.
    """

    def __init__(
        self, script: str, *arguments: object, prepared: str = "", **environment: str
    ) -> None:
        (stdin, tell), (read, stdout), (read_errors, stderr) = os.pipe(), os.pipe(), os.pipe()
        command, settings = ["-c", script, *map(str, arguments)], clean_environment(**environment)
        self.process: Forked | subprocess.Popen[bytes]
        if prepared:
            self.process = fork_server(prepared).run(command, settings, [stdin, stdout, stderr])
        else:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=settings,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        for each in (stdin, stdout, stderr):
            os.close(each)
        self._input = os.fdopen(tell, "w")
        self._output, self._errors = os.fdopen(read), os.fdopen(read_errors)

    def read(self) -> str:
        """The next line that it prints."""
        line = self._output.readline()
        assert line, self._errors.read()
        return line.rstrip("\n")

    def tell(self, line: str = "") -> None:
        """Write it a line."""
        self._input.write(f"{line}\n")
        self._input.flush()

    def rest(self) -> str:
        """What else it prints, when it has ended well."""
        self._input.close()
        try:
            printed, errors = self._output.read(), self._errors.read()
            status = self.process.wait(PATIENCE)
        finally:
            self.kill()
        assert (status, errors) == (0, "")
        return printed

    def kill(self) -> None:
        """End it at once; it is no more when this returns."""
        self.process.kill()
        self.process.wait()
        for stream in (self._input, self._output, self._errors):
            with suppress(BrokenPipeError):
                stream.close()


def in_a_child(claim: Callable[[], None]) -> None:
    """Check a claim in a process that is forked from this one.

    It tells the outcome itself: under gevent the parent does not always learn of its end. There
    gevent also prints an error if a copy of one of the parent's threads ends.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if not (child := os.fork()):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
            try:
                claim()
                found = "held"
            except BaseException:
                found = traceback.format_exc()
            theirs.sendall(found.encode())
            os._exit(0)
        theirs.close()
        ours.settimeout(2 * PATIENCE)
        try:
            with ours.makefile() as told:
                found = told.read()
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise
    assert found == "held", found


def under_gevent(function: Callable[[], None]) -> None:
    """Call a function of a module of tests in another process, where gevent has patched all."""
    module, name = function.__module__, function.__name__
    script = "from gevent import monkey; monkey.patch_all(); "
    assert Another(f"{script}from {module} import {name}; {name}()").rest() == ""


@contextmanager
def several(
    count: int, script: str, *arguments: object, prepared: str = ""
) -> Iterator[list[Another]]:
    """Some processes that run the same script; each has printed a line before any goes on."""
    processes = [Another(script, *arguments, number, prepared=prepared) for number in range(count)]
    try:
        for process in processes:
            process.read()
        yield processes
    finally:
        for process in processes:
            process.kill()
