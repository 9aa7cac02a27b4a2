"""What must be left when a storm is over: nothing but what an idle server has."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from chatproxy.cluster.early_stops import EARLY_STOP_SECONDS
from chatproxy.upstreams.connections import KEPT_CONNECTIONS

from . import load
from .fleet import Fleet
from .processes import Server
from .verdicts import Judge

#: Seconds by which things may go later than they are due, on a busy machine.
_LATE = 10.0
_AT_ONCE = 16
#: The files in which a worker counts (one for each upstream, one for all), the epoll instance of
#: its waits, and the two pipes to the process that counts tokens are opened when they are needed.
_OPENED_LATER = 5


class Quiet:
    """Compares a server after a storm with itself before.

    :param workers: how many workers it has.
    """

    def __init__(self, fleet: Fleet, server: Server, upstream: int, workers: int) -> None:
        self._fleet = fleet
        self._server = server
        self._upstream = upstream
        self._workers = workers
        self._descriptors = 0

    async def all_there(self, seconds: float) -> bool:
        """Have every worker answer a request, by which it joins the others; wait until all have.

        The sockets of dead workers are removed by those that join.
        """

        async def all_joined() -> bool:
            asked = (load.fetch(self._server.port, "/readyz") for _ in range(_AT_ONCE))
            await asyncio.gather(*asked)
            pids = self._fleet.pids()
            return len(pids) == len(self._fleet.sockets()) == self._workers

        there = await _comes(all_joined, seconds)
        self._descriptors = self._descriptors or max(
            map(self._idle_descriptors, self._fleet.pids())
        )
        return there

    def _idle_descriptors(self, pid: int) -> int:
        return self._fleet.descriptors(pid) - len(self._fleet.clients(pid) - {0})

    async def left(self, retain: float, judge: Judge, *, to_the_end: bool) -> list[str]:
        """What is left that should not be.

        :param retain: seconds for which ended sessions keep their ids.
        :param to_the_end: whether to wait until the early Stops are forgotten.
        """
        found = []
        if not await self.all_there(_LATE):
            sockets = [path.name for path in self._fleet.sockets()]
            found.append(f"workers {self._fleet.pids()} have the sockets {sockets}")

        async def ids_free() -> bool:
            return self._fleet.links() <= (0 if to_the_end else judge.remembered())

        if not await _comes(ids_free, (EARLY_STOP_SECONDS if to_the_end else retain) + _LATE):
            held = f"{self._fleet.links()} ids are held, {judge.remembered()} may be"
            found.append(f"{held}; by {self._fleet.holders()}")
        metrics = await load.fetch_text(self._server.port, "/metrics")
        if "\nchatproxy_sessions_live 0.0\n" not in metrics:
            found.append(f"the metrics say that there are live sessions: {metrics}")
        return [*found, *await self._connections(), *self._lines(judge)]

    async def _connections(self) -> list[str]:
        """Each worker has no client, no descriptor too many, and idle connections to the upstream.

        Of each such connection it has one descriptor: a second one would be a call's that forgot
        to let go.
        """

        async def closed() -> bool:
            return not list(self._open())

        await _comes(closed, _LATE)
        ledger = await load.fetch(self._upstream, "/ledger")
        running = [entry for entry in ledger["requests"] if entry["open"]]
        found = [f"the upstream still answers {entry}" for entry in running]
        pooled = sum(len(self._fleet.upstream_connections(pid)) for pid in self._fleet.pids())
        if (there := ledger["connections"]["open"]) != pooled:
            found.append(f"the upstream has {there} connections, the workers have {pooled}")
        return [*found, *self._open()]

    def _open(self) -> Iterator[str]:
        for pid in self._fleet.pids():
            if clients := self._fleet.clients(pid) - {0}:
                yield f"worker {pid} has connections of clients at {clients}"
            if (number := self._fleet.descriptors(pid)) > self._descriptors + _OPENED_LATER:
                files = self._fleet.open_files(pid)
                yield f"worker {pid} has {number} descriptors, not {self._descriptors}: {files}"
            pooled = Counter(self._fleet.upstream_connections(pid))
            if len(pooled) > KEPT_CONNECTIONS or set(pooled.values()) - {1}:
                yield f"worker {pid} has these connections to the upstream: {pooled}"

    def _lines(self, judge: Judge) -> Iterator[str]:
        """The log has one closing line for each session, and no traceback."""
        ended = Counter(line.split()[1] for line in self._server.lines(" ended outcome="))
        for session_id, must in judge.ended.items():
            if ended[session_id] > 1 or (must and not ended[session_id]):
                yield f"{session_id} has {ended[session_id]} closing lines in the log"
        if "Traceback" in (log := self._server.log()):
            begin = log.index("Traceback")
            yield f"the log has a traceback: {log[begin - 500 : begin + 3000]}"


async def _comes(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True
