"""The processes that are measured: started on their cores, and what they use of CPU and memory.

Linux only: memory is read from ``/proc``, CPU time from the clock that the kernel keeps of each
process, which counts nanoseconds where ``/proc/<pid>/stat`` counts hundredths of a second.
"""

from __future__ import annotations

import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests
from gunicorn.config import Config

from tests.support.servers import Process, clean_environment
from tests.support.waiting import wait_for

_SECONDS_TO_START = 120
_SECONDS_TO_END = 8
_DESCRIPTORS = 16_384

#: Whether servers are forked as those of the tests are (:mod:`tests.support.fork_server`), and
#: count no tokens. They begin soon then, on any core; what is measured of them says nothing.
forked = False


@dataclass(frozen=True)
class Cores:
    """Which cores the proxy has, and which the upstream and the load have. Equal if not pinned."""

    proxy: frozenset[int]
    others: frozenset[int]

    @classmethod
    def shared_out(cls) -> Cores:
        """The last core for the proxy, the rest for the others; all for all if there is one."""
        *others, proxy = sorted(os.sched_getaffinity(0))
        if not others:
            return cls(frozenset({proxy}), frozenset({proxy}))
        return cls(frozenset({proxy}), frozenset(others))

    @classmethod
    def all_for_all(cls) -> Cores:
        """Nothing is pinned."""
        everything = frozenset(os.sched_getaffinity(0))
        return cls(everything, everything)

    @property
    def apart(self) -> bool:
        """Whether the proxy has a core that the others don't use."""
        return not self.proxy & self.others


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_files(wanted: int = _DESCRIPTORS) -> None:
    """Raise the soft limit of open files, for this process and those that it starts.

    The hard limit is raised too, if it is lower and this process may do that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with suppress(ValueError, PermissionError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
            hard = wanted
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the system gives to nobody else, for a server that must be told which one.

    Both may be bound to it, because both say ``SO_REUSEADDR`` (which servers do) and only the
    server listens.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class Server(Process):
    """A server on its cores, with all that it started ended at the end."""

    #: Which fork server begins it, if one does.
    prepared_in = "gevent"

    def __init__(
        self, command: list[str], log_path: Path, cores: frozenset[int], **settings: object
    ) -> None:
        prepared = None
        if forked and command[:2] == [sys.executable, "-m"]:
            settings = {"CHATPROXY_TOKENIZER": "none", **settings}
            prepared = self.prepared_in
        with on(cores):
            super().__init__(command, log_path, clean_environment(**settings), prepared)
        self.pid = self.process.pid

    def cpu(self) -> float:
        """The CPU time that it has used so far, user and system, in seconds."""
        return _cpu(self.pid)

    def memory(self) -> int:
        """What it holds of memory (proportional set size), in KB."""
        return _memory(self.pid)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # It leads its own process group, and is not reaped yet, so the number is still its.
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Upstream(Server):
    """The simulated DeepSeek."""

    prepared_in = "threads"

    def __init__(self, log_path: Path, cores: Cores) -> None:
        command = [sys.executable, "-m", "chatproxy", "simulate", "--port", "0"]
        super().__init__(command, log_path, cores.others)


class Worker(Server):
    """One gunicorn gevent worker with its master; ``pid`` is the worker's.

    :param settings: what else is set.
    """

    def __init__(
        self, upstream: Upstream, log_path: Path, cores: Cores, **settings: object
    ) -> None:
        command = [sys.executable, "-m", "chatproxy", "serve", "--bind", "127.0.0.1:0"]
        usual = {"DEEPSEEK_BASE_URL": upstream.url, "CHATPROXY_GRACE": 0.5}
        super().__init__(command, log_path, cores.proxy, **usual, **settings)
        try:
            requests.get(self.url, timeout=20)  # the worker is up once anything is answered
            self.pid = wait_for(lambda: _child_of(self.process.pid), message="a worker")
        except BaseException:
            self.__exit__()
            raise


class Group(Server):
    """A server and all processes that it starts, which are measured together.

    :param port: where it will listen; it counts as started when it answers there.
    """

    def __init__(
        self,
        command: list[str],
        log_path: Path,
        cores: frozenset[int],
        port: int,
        **settings: object,
    ) -> None:
        self._told = port
        super().__init__(command, log_path, cores, **settings)
        try:
            wait_for(self._answers, _SECONDS_TO_START, f"an answer of {command}")
        except BaseException:
            self.__exit__()
            raise

    def pids(self) -> list[int]:
        """Itself, and all that it has started."""
        return [pid for pid, status in _processes() if int(status[3]) == self.pid]

    def cpu(self) -> float:
        """The CPU time that all have used so far, user and system, in seconds.

        What a process has used that is gone is not in it.
        """
        used = 0.0
        for pid in self.pids():
            with suppress(OSError):  # it has ended just now
                used += _cpu(pid)
        return used

    def memory(self) -> int:
        """What all hold of memory (proportional set size), in KB."""
        held = 0
        for pid in self.pids():
            with suppress(FileNotFoundError, ProcessLookupError):
                held += _memory(pid)
        return held

    def __exit__(self, *_: object) -> None:
        started = set(self.pids())
        super().__exit__()
        # What its end has left behind has still its session, and so is no other with that number.
        for pid in started & set(self.pids()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _address(self) -> str:
        return f"http://127.0.0.1:{self._told}"

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        connection = http.client.HTTPConnection("127.0.0.1", self._told, timeout=5)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            return bool(connection.getresponse().status)
        return False


def gunicorn(app: str, *options: str) -> list[str]:
    """The command for gunicorn with gevent workers."""
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent"]
    if "control_socket_disable" in Config().settings:
        command.append("--no-control-socket")
    return [*command, *options, app]


def _cpu(pid: int) -> float:
    # The clock's number is made as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | 2)


def _memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss in smaps_rollup")


def _child_of(pid: int) -> int | None:
    return next((each for each, status in _processes() if int(status[1]) == pid), None)


def _processes() -> Iterator[tuple[int, list[str]]]:
    """All processes, each with its state, parent, group, session, and so on: proc_pid_stat(5)."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has ended just now
                # These come after its name, which may hold anything.
                yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()
