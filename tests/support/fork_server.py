"""Servers that are forked from a process that has imported what they need.

To begin, an interpreter with Flask, gevent, gunicorn and requests takes half a second of CPU time,
and the tests start hundreds of servers. So one process for each kind in ``IMPORTED`` imports all
that once, and forks for each command. How a server begins from nothing is tested where it is
started as users start it (``test_cli``, ``test_servers``, ``test_package``, ``test_deployment``).

``python -m tests.support.fork_server KIND`` reads commands from the socket that is its standard
input. With each come four descriptors: the command's input, output and errors, and a socket that is
told the command's process id and, at its end, its exit status. For each command it forks a process
that forks that command, waits for it, and tells.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO

from gevent import monkey

_ROOT = Path(__file__).resolve().parents[2]
_MOST_BYTES = 1 << 17

#: What is imported for each kind.
IMPORTED = {
    "gevent": (
        "gevent.pywsgi",
        "gevent.selectors",
        "gevent.signal",
        "gevent.subprocess",
        "gunicorn.app.wsgiapp",
        "gunicorn.glogging",
        "gunicorn.workers.ggevent",
        "chatproxy.app",
        "chatproxy.server.direct_write",
        "chatproxy.server.gunicorn.rotation",
        "chatproxy.server.gunicorn.worker",
        "tests.support.runs",
    ),
    "threads": (
        "gunicorn.app.wsgiapp",
        "gunicorn.glogging",
        "gunicorn.workers.gthread",
        "gunicorn.workers.sync",
        "werkzeug.serving",
        "chatproxy.app",
        "chatproxy.cli",
        "chatproxy.server.gunicorn.worker",
        "chatproxy.simulated.server",
        "tests.support.runs",
    ),
}
#: What gunicorn's gevent worker patches only when it has been forked: its master needs the real
#: ones.
_OF_A_WORKER = ("os", "time", "socket", "select", "selectors", "subprocess", "signal")


class ForkServer:
    """The process that forks, seen from the tests."""

    def __init__(self, kind: str) -> None:
        self._commands, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, kind],
                cwd=_ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=theirs,
                start_new_session=True,
            )
        atexit.register(self.close)

    def start(self, arguments: list[str], environment: dict[str, str], log: IO[bytes]) -> Forked:
        """Run ``python -m`` with these arguments, as the leader of a session."""
        with open(os.devnull, "rb") as nothing:
            return self.run(arguments, environment, [nothing.fileno(), *[log.fileno()] * 2])

    def run(self, arguments: list[str], environment: dict[str, str], streams: list[int]) -> Forked:
        """The same, or a script after ``-c``, with an input, an output and errors."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = json.dumps([arguments, environment]).encode()
        with theirs:
            socket.send_fds(self._commands, [message], [*streams, theirs.fileno()])
        return Forked(ours)

    def close(self) -> None:
        """End it; what it has forked runs on."""
        self._commands.close()
        self._process.wait()


@functools.cache
def fork_server(kind: str) -> ForkServer:
    """The one of this kind that all tests of this process share."""
    return ForkServer(kind)


class Forked:
    """A forked process, with what the tests use of ``subprocess.Popen``."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self.pid = int(status.recv(16))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                self.returncode = int(self._status.recv(16))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            self._status.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


# ---- the process that forks ---------------------------------------------------------------------


def _prepare(kind: str) -> None:
    """Import into a process that is patched as a gevent worker is, or into a plain one."""
    # gevent asks for them at each module that it patches: as dear as the rest of a start.
    importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)
    if kind == "gevent":
        monkey.patch_thread()
        monkey.patch_ssl()
        monkey.patch_queue()
    for name in IMPORTED[kind]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is not looked at is not copied
    if kind == "gevent":
        ggevent = sys.modules["gunicorn.workers.ggevent"]
        ggevent.monkey = SimpleNamespace(patch_all=_patch_the_rest)


def _patch_the_rest() -> None:
    for name in _OF_A_WORKER:
        getattr(monkey, f"patch_{name}")()


def _fork_for_each(commands: socket.socket) -> list[str]:
    """Fork for each command; return in the fork, with the arguments of what it is to run."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(commands, _MOST_BYTES, 4)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        if not message:
            sys.exit()
        if not os.fork():
            break
        for each in descriptors:
            os.close(each)
    *streams, status = descriptors
    if pid := os.fork():
        for each in streams:
            os.close(each)
        os.write(status, b"%d" % pid)
        with contextlib.suppress(BrokenPipeError):  # nobody may wait any more
            os.write(status, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    os.setsid()
    # A shell has what it runs in the background ignore SIGINT, and all that comes of that, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    commands.detach()
    for target, source in enumerate(streams):
        os.dup2(source, target)
    for each in descriptors:
        os.close(each)
    arguments, environment = json.loads(message)
    os.environ.clear()
    os.environ.update(environment)
    return arguments


class _Exit:
    """Ends the process when all that was registered for its end has run.

    An interpreter that clears up what it has would first copy it from the process that forks.
    """

    def __init__(self) -> None:
        self.status = 1
        atexit.register(self._end)  # before all others: so it is called after them

    def _end(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(self.status)


def main() -> None:
    ending = _Exit()
    _prepare(sys.argv[1])
    try:
        sys.argv[:] = _fork_for_each(socket.socket(fileno=0))
        if sys.argv[0] == "-c":
            exec(sys.argv.pop(1), {"__name__": "__main__"})
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        ending.status = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            ending.status = end.code or 0
        raise


if __name__ == "__main__":
    main()
