"""The workers of one gunicorn master, seen from outside: their sockets, memory, and misfortunes.

Which connection is a worker's is read from ``/proc``, while the worker is frozen: so it is known
exactly which ones its death breaks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import children

from .processes import Server

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seconds after a thaw in which a worker catches up with what it missed.
_CATCHING_UP = 0.5
#: The share of the time in which a worker that is saturated runs or waits for a core.
_SATURATED = 0.9


@dataclass(frozen=True)
class Trouble:
    """A misfortune of a worker; times are seconds of the monotonic clock."""

    kind: str  # kill, freeze, saturated
    pid: int
    begin: float
    end: float

    def touches(self, begin: float, end: float) -> bool:
        """Whether it falls into a span of time."""
        return self.begin <= end and begin <= self.end


class Fleet:
    """The workers of a server.

    :param upstream: the port to which they connect.
    """

    def __init__(self, server: Server, run_dir: Path, upstream: int) -> None:
        self._server = server
        self._run_dir = run_dir
        self._upstream = upstream
        self.troubles: list[Trouble] = []
        self._present: Trouble | None = None
        self._spent: dict[int, float] = {}
        self._watched = time.monotonic()

    def pids(self) -> list[int]:
        """The workers that live."""
        return children(self._server)

    def sockets(self) -> list[Path]:
        """The workers' sockets in the run directory."""
        return list(self._run_dir.glob("*.sock"))

    def links(self) -> int:
        """How many ids are held."""
        return len(self.holders())

    def holders(self) -> list[str]:
        """The socket to which each id that is held leads."""
        return [os.readlink(each) for each in self._run_dir.iterdir() if each.is_symlink()]

    def memory(self, pid: int) -> int | None:
        """The resident set of a worker, in bytes."""
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return None

    def descriptors(self, pid: int) -> int:
        """How many a worker has open, besides those to the upstream."""
        found = len(os.listdir(f"/proc/{pid}/fd"))
        return found - len(self.upstream_connections(pid))

    def clients(self, pid: int) -> set[int]:
        """The ports of the clients whose connections a worker has."""
        held = set(_inodes(pid))
        return {
            remote
            for inode, (local, remote) in _connections().items()
            if inode in held and local == self._server.port
        }

    def upstream_connections(self, pid: int) -> list[int]:
        """A worker's descriptors of connections to the upstream, each by its socket's inode."""
        there = {inode for inode, (_, port) in _connections().items() if port == self._upstream}
        return [inode for inode in _inodes(pid) if inode in there]

    def troubled(self, begin: float, end: float) -> bool:
        """Whether a worker was frozen, killed or saturated in a span of time."""
        known = [*self.troubles, *([self._present] if self._present else [])]
        return any(each.touches(begin, end) for each in known)

    def watch(self) -> int:
        """Note which workers have not been at rest since the last watch; how many they are.

        Such a worker had more to do than the machine let it: it used a core, or waited for one,
        nearly all the time.
        """
        now, since = time.monotonic(), self._watched
        before, self._spent = self._spent, {pid: _spent(pid) for pid in self.pids()}
        saturated = [
            pid
            for pid, spent in self._spent.items()
            if pid in before and spent - before[pid] > _SATURATED * (now - since)
        ]
        self.troubles += [Trouble("saturated", pid, since, now) for pid in saturated]
        self._watched = now
        return len(saturated)

    def open_files(self, pid: int) -> list[str]:
        """What a worker has open, in words."""
        tables = {}
        for name in ("tcp", "unix"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                inode = fields[9] if name == "tcp" else fields[6]
                tables[f"socket:[{inode}]"] = f"{name} {' '.join(fields[1:4])} {fields[-1]}"
        found = []
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = os.readlink(path)
                found.append(f"{path.name}: {target} {tables.get(target, '')}")
        return found

    async def kill(self, pid: int, tell: Callable[[set[int]], None]) -> None:
        """Kill a worker.

        :param tell: called just before, with the ports of the clients that it has.
        """
        begin = self._begin("kill", pid)
        await self._stop(pid)
        tell(self.clients(pid))
        os.kill(pid, signal.SIGKILL)
        while _state(pid) not in (None, "Z"):
            await asyncio.sleep(0.001)
        self._end("kill", pid, begin, 0.0)

    async def freeze(self, pid: int, seconds: float) -> None:
        """Freeze a worker for some time."""
        begin = self._begin("freeze", pid)
        try:
            await self._stop(pid)
            await asyncio.sleep(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._end("freeze", pid, begin, _CATCHING_UP)

    @staticmethod
    async def _stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        while _state(pid) not in ("T", None):
            await asyncio.sleep(0.001)

    def _begin(self, kind: str, pid: int) -> float:
        begin = time.monotonic()
        self._present = Trouble(kind, pid, begin, float("inf"))
        return begin

    def _end(self, kind: str, pid: int, begin: float, later: float) -> None:
        self._present = None
        self.troubles.append(Trouble(kind, pid, begin, time.monotonic() + later))


def _spent(pid: int) -> float:
    """Seconds in which a process has run, or was ready to and had no core."""
    try:
        running, waiting, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(running) + int(waiting)) / 1e9


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _inodes(pid: int) -> list[int]:
    """The sockets that a process holds, each as often as it has a descriptor of it."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISSOCK(status.st_mode):
                found.append(status.st_ino)
    return found


def _connections() -> dict[int, tuple[int, int]]:
    """All TCP connections of this machine that a process has: inode to local and remote port."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(each.rpartition(":")[2], 16) for each in fields[1:3])
        if fields[9] != "0":
            found[int(fields[9])] = (local, remote)
    return found
