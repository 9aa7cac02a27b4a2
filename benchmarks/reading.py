"""What it costs to read an answer again: ``python -m benchmarks.reading``.

The same number of streams is read in four ways: by the client that asked for it; by one that came
back to the same worker; by one on another worker of the same host; by one on another host's, over a
Valkey on this machine. The figure is the CPU time of all workers together for each event that a
client got, with the lowest and the highest of the rounds; in each round the four take turns. In all
of them the log is kept for readers who come back: there is no way without it.

Beside these stands what the alternative would cost, a stream in Redis to which each event is
written as it comes, for every answer, whether anybody comes back or not: the CPU time of redis-py
for one ``XADD`` with an event of the same size, alone and ten at a time.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from . import command, load, report
from .figures import Figure
from .load import LoadError, Stream
from .processes import Cores, Upstream
from .workers import four_workers

_ENDLESS = 10_000_000
_LIMIT = 300  # seconds for the whole

#: The workers: the one that makes the answers, and the one at which they are read.
WAYS = {
    "by who asked": ("local-1", None),
    "again, same worker": ("local-1", "local-1"),
    "again, another worker": ("local-1", "local-2"),
    "again, over Valkey": ("valkey-1", "valkey-2"),
}


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    :param streams: at a time, of ``rate`` events a second each.
    :param seconds: for each way in each round.
    :param writes: to a stream in Redis, in each round.
    """

    rounds: int
    streams: int
    rate: int
    seconds: float
    writes: int


FULL = Plan(rounds=5, streams=50, rate=20, seconds=5.0, writes=2000)
QUICK = Plan(rounds=1, streams=5, rate=20, seconds=0.2, writes=50)


class Again(Stream):
    """A client that reads an answer that another asked for."""

    def __init__(self, session_id: str) -> None:
        super().__init__({})
        self.id = session_id

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        path = f"/api/chat/stream/{self.id}"
        transport.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


async def _again(port: int, session_id: str) -> Stream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: Again(session_id), "127.0.0.1", port)
    return stream


class Bench:
    """Four workers: two that meet in a run directory, two that meet in a Valkey."""

    def __init__(self, plan: Plan, cores: Cores, folder: Path, stack: ExitStack) -> None:
        self._plan = plan
        upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        self._workers, self._valkey = four_workers(
            upstream, folder, cores, stack, CHATPROXY_ON_DISCONNECT=20
        )

    async def run(self) -> dict[str, list[float]]:
        """The microseconds of CPU for each event, in each round, for each way."""
        for worker in self._workers.values():
            await load.answers(worker.port, 20, 4, 8)
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(self._plan.rounds):
            for way in [*WAYS][:: 1 if number % 2 else -1]:
                found[way].append(await self._measure(*WAYS[way]))
        return found

    async def _measure(self, maker: str, reader: str | None) -> float:
        plan, simulate = self._plan, {"rate": self._plan.rate, "tokens": _ENDLESS}
        port = self._workers[maker].port
        streams = [await load.start(port, simulate) for _ in range(plan.streams)]
        try:
            await asyncio.gather(*(stream.begun.wait() for stream in streams))
            if reader is not None:
                streams = await self._read_again(streams, self._workers[reader].port)
            for stream in streams:
                stream.check()
            return await self._cost(streams)
        finally:
            for stream in streams:
                stream.close()
            await asyncio.gather(*(load.stop(port, stream.id) for stream in streams))

    async def _read_again(self, streams: list[Stream], port: int) -> list[Stream]:
        again = [await _again(port, stream.id) for stream in streams]
        await asyncio.gather(*(stream.begun.wait() for stream in again))
        for stream in streams:
            stream.close()
        await asyncio.gather(*(stream.ended.wait() for stream in streams))
        return again

    async def _cost(self, streams: list[Stream]) -> float:
        workers = self._workers.values()
        await asyncio.sleep(0.5)
        used = sum(worker.cpu() for worker in workers)
        events = sum(stream.events for stream in streams)
        await asyncio.sleep(self._plan.seconds)
        events = sum(stream.events for stream in streams) - events
        if not events:
            raise LoadError("no events came")
        return (sum(worker.cpu() for worker in workers) - used) / events * 1e6

    def xadd(self, at_once: int) -> float:
        """The microseconds of CPU that this process needs to write one event to a stream."""
        block = b"id: 1000\ndata: " + b"x" * 270 + b"\n\n"
        with self._valkey.client() as client:
            used = time.process_time()
            for _ in range(self._plan.writes // at_once):
                pipe = client.pipeline(transaction=False)
                for _ in range(at_once):
                    pipe.xadd("answer", {"event": block})
                pipe.execute()
            return (time.process_time() - used) / self._plan.writes * 1e6


async def _run(plan: Plan, cores: Cores) -> dict[str, Figure]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reading-")))
        bench = Bench(plan, cores, folder, stack)
        found = await asyncio.wait_for(bench.run(), _LIMIT)
        for at_once in (1, 10):
            rounds = [bench.xadd(at_once) for _ in range(plan.rounds)]
            found[f"(a stream in Redis, {at_once} at a time, on top)"] = rounds
        return {way: Figure.median(rounds) for way, rounds in found.items()}


def main() -> int:
    """Run the measurement; the exit status is 0 where all of it was made."""
    options = command.parser_of_measurements("reading", __doc__).parse_args()
    if not command.begin():
        return 2
    plan, cores = QUICK if options.quick else FULL, Cores.shared_out()
    where = report.machine(cores)
    with command.measuring(cores, _LIMIT):
        figures = asyncio.run(_run(plan, cores))
    lines = [["CPU for each event that is read, µs", ""]]
    lines += [[way, str(figure)] for way, figure in figures.items()]
    print("\n".join([*report.machine_lines(where), "", *report.table(lines)]))
    if options.json:
        rows = {way: asdict(figure) for way, figure in figures.items()}
        command.write_json(options.json, {"machine": where, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
