"""The processes that are measured: started on their cores, and what they use of CPU and memory.

Linux only: memory is read from ``/proc``, CPU time from the clock that the kernel keeps of each
process, which counts nanoseconds where ``/proc/<pid>/stat`` counts hundredths of a second.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from gunicorn.config import Config

from tests.servers import Process, clean_environment, wait_for

_SECONDS_TO_END = 8
_DESCRIPTORS = 16_384


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


def allow_many_files() -> None:
    """Raise the soft limit of open files, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Server(Process):
    """A server on its cores, with all that it started ended at the end."""

    def __init__(
        self, command: list[str], log_path: Path, cores: frozenset[int], **settings: object
    ) -> None:
        with on(cores):
            super().__init__(command, log_path, clean_environment(**settings))
        self.pid = self.process.pid

    def cpu(self) -> float:
        """The CPU time that it has used so far, user and system, in seconds."""
        # The clock's number is made as clock_getcpuclockid(3) makes it.
        return time.clock_gettime((~self.pid << 3) | 2)

    def waited(self) -> float:
        """For how long it was ready to run and had no core, in seconds; 0 where that is not told.

        On a core of its own it waits for work that has nothing to do with the measurement.
        """
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        except FileNotFoundError:
            return 0.0

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

    def __init__(self, log_path: Path, cores: Cores) -> None:
        command = [sys.executable, "-m", "chatproxy", "simulate", "--port", "0"]
        super().__init__(command, log_path, cores.others)


class Worker(Server):
    """One gunicorn gevent worker with its master; ``pid`` is the worker's.

    :param name: ``chatproxy`` or ``plain``.
    :param settings: what else is set.
    """

    def __init__(
        self, name: str, upstream: Upstream, log_path: Path, cores: Cores, **settings: object
    ) -> None:
        self.name = name
        usual = {"DEEPSEEK_BASE_URL": upstream.url, "CHATPROXY_GRACE": 0.5}
        super().__init__(_COMMANDS[name], log_path, cores.proxy, **usual, **settings)
        try:
            requests.get(self.url, timeout=20)  # the worker is up once anything is answered
            self.pid = wait_for(lambda: _child_of(self.process.pid), message="a worker")
        except BaseException:
            self.__exit__()
            raise

    def memory(self) -> int:
        """What it holds of memory (proportional set size), in KB."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        raise AssertionError("no Pss in smaps_rollup")


_GUNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "-k", "gevent"]
if "control_socket_disable" in Config().settings:
    _GUNICORN.append("--no-control-socket")
_PLAIN_OPTIONS = ["--worker-connections", "4000", "--graceful-timeout", "1"]
_COMMANDS = {
    "chatproxy": [sys.executable, "-m", "chatproxy", "serve", "--bind", "127.0.0.1:0"],
    "plain": [*_GUNICORN, *_PLAIN_OPTIONS, "benchmarks.plain:app"],
}


def gunicorn(app: str, *options: str) -> list[str]:
    """The command that deployments use, with the package's settings."""
    return [*_GUNICORN, "-c", "python:chatproxy.gunicorn_config", *options, app]


def _child_of(pid: int) -> int | None:
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and _parent(each) == pid:
            return int(each.name)
    return None


def _parent(folder: Path) -> int | None:
    try:
        # After the name, which may hold anything, come the state and the parent: proc_pid_stat(5).
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
