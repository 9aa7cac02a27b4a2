"""What the way to another worker adds to a Stop: ``python -m benchmarks.peers``.

A Stop lands on the worker that has the answer, on another worker of the same host (they meet in a
run directory), or on another host's (they meet in a Valkey; both are on this machine, so the
network between two hosts comes on top). In each round the three take turns, so that noise meets all
of them alike; first with nothing else to do, then beside streams on all workers.

Two times are taken of each Stop: from the client's sending it to the upstream's seeing its peer
gone, by the clock of this machine; and ``stopMs``, as the receipt has it. A figure is a percentile
of all Stops, with the lowest and the highest of a round; a ratio is that to "same worker", the
median of the rounds, with the lowest and the highest.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from . import command, load, report
from .figures import Figure, percentile
from .load import Crowd, LoadError
from .processes import Cores, Upstream
from .workers import four_workers

_ENDLESS = 10_000_000
_RATE = 20
_SEED = 20_261_123
_SECONDS = 15.0


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    :param stops: in each round, for each way.
    :param streams: live ones on each of the four workers, of 20 events a second each.
    :param limit: seconds for the whole run.
    """

    rounds: int
    stops: int
    streams: int
    limit: float


FULL = Plan(rounds=6, stops=30, streams=30, limit=300)
QUICK = Plan(rounds=2, stops=1, streams=5, limit=60)


@dataclass(frozen=True)
class Timed:
    """A Stop: ms from its sending to the upstream's seeing its peer gone, and the receipt's."""

    to_close: float
    stop_ms: float


#: A measurement's rounds of Stops, for each way.
Rounds = dict[str, list[list[Timed]]]

_TIMES: dict[str, Callable[[Timed], float]] = {
    "sent to upstream closed": lambda stop: stop.to_close,
    "stopMs in the receipt": lambda stop: stop.stop_ms,
}


class Bench:
    """Four workers: two that meet in a run directory, two that meet in a Valkey."""

    def __init__(self, plan: Plan, cores: Cores, folder: Path, stack: ExitStack) -> None:
        self.plan = plan
        self._dice = random.Random(_SEED)
        self.upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        self.workers, _ = four_workers(self.upstream, folder, cores, stack)

    async def run(self) -> dict[str, Rounds]:
        """Measure everything."""
        for worker in self.workers.values():
            await load.answers(worker.port, 20, 4, 8)
        await self._rounds(1, 1)  # the workers get to know each other
        plan = self.plan
        idle = await self._rounds(plan.rounds, plan.stops)
        async with AsyncExitStack() as stack:
            simulate = {"rate": _RATE, "tokens": _ENDLESS}
            for worker in self.workers.values():
                crowd = Crowd(worker.port, plan.streams, simulate)
                await (await stack.enter_async_context(crowd)).flow()
            loaded = await self._rounds(plan.rounds, plan.stops)
        return {"idle": idle, f"beside {4 * plan.streams} streams": loaded}

    async def _rounds(self, rounds: int, stops: int) -> Rounds:
        found: Rounds = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in [*WAYS][:: 1 if number % 2 else -1]:
                found[way].append([await self._stop(way) for _ in range(stops)])
        return found

    async def _stop(self, way: str) -> Timed:
        """Bring a stream to flow, and stop it at this way's other end."""
        starter, stopper = (self.workers[name] for name in WAYS[way])
        stream = await load.start(starter.port, {"rate": _RATE, "tokens": _ENDLESS})
        try:
            await self._entry(stream.id, "last_token_mono")
            await asyncio.sleep(self._dice.uniform(0.01, 0.05))
            stop = await load.stop(stopper.port, stream.id)
            gone = await self._entry(stream.id, "peer_gone_mono")
        finally:
            stream.close()
        return Timed((gone - stop.sent) * 1000, stop.receipt["stopMs"])

    async def _entry(self, tag: str, field: str) -> float:
        """What the ledger has there for a stream, once it has something."""
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            ledger = await load.fetch(self.upstream.port, f"/ledger?tag={tag}")
            for entry in ledger["requests"]:
                if entry[field] is not None:
                    return float(entry[field])
            await asyncio.sleep(0.01)
        raise LoadError(f"{field} of a stream did not come within {_SECONDS:.0f} s")


#: The way of a Stop: the worker that has the answer, and the one on which the Stop lands.
WAYS = {
    "same worker": ("local-1", "local-1"),
    "another, same host": ("local-1", "local-2"),
    "another, Valkey": ("valkey-1", "valkey-2"),
}


@dataclass(frozen=True)
class Row:
    """One way's figures, in ms; the ratios are those of its p50 and p99 to "same worker"."""

    when: str
    way: str
    time: str
    stops: int
    p50: Figure
    p99: Figure
    ratio_p50: Figure
    ratio_p99: Figure

    @classmethod
    def of(cls, when: str, way: str, time_of: str, rounds: Rounds) -> Row:
        take = _TIMES[time_of]
        samples, same = (
            [[take(stop) for stop in each] for each in rounds[name]]
            for name in (way, "same worker")
        )
        return cls(
            when,
            way,
            time_of,
            sum(map(len, samples)),
            *(Figure.percentile(share, samples) for share in (0.5, 0.99)),
            *(_ratio(share, samples, same) for share in (0.5, 0.99)),
        )


def _ratio(share: float, samples: list[list[float]], same: list[list[float]]) -> Figure:
    pairs = zip(samples, same, strict=True)
    return Figure.median([percentile(share, a) / percentile(share, b) for a, b in pairs])


def rows(found: dict[str, Rounds]) -> list[Row]:
    """The figures of all that was measured."""
    return [
        Row.of(when, way, time_of, rounds)
        for when, rounds in found.items()
        for time_of in _TIMES
        for way in WAYS
    ]


def _text(table: list[Row]) -> str:
    head = [f"Stop to close, ms ({table[0].stops} Stops each)", "p50", "p99", "ratio p50", "p99"]
    lines = [
        [f"{row.when}: {row.time}, {row.way}", *map(str, (row.p50, row.p99))]
        + ["" if row.way == "same worker" else str(each) for each in (row.ratio_p50, row.ratio_p99)]
        for row in table
    ]
    return "\n".join(report.table([head, *lines]))


async def _run(plan: Plan, cores: Cores) -> dict[str, Rounds]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        return await asyncio.wait_for(Bench(plan, cores, folder, stack).run(), plan.limit)


def main() -> int:
    """Run the measurement; the exit status is 0 where all of it was made."""
    options = command.parser_of_measurements("peers", __doc__).parse_args()
    if not command.begin():
        return 2
    plan, cores = QUICK if options.quick else FULL, Cores.shared_out()
    where = report.machine(cores)
    with command.measuring(cores, plan.limit):
        table = rows(asyncio.run(_run(plan, cores)))
    print("\n".join([*report.machine_lines(where), "", _text(table)]))
    if options.json:
        rows_of_all = [asdict(row) for row in table]
        command.write_json(options.json, {"machine": where, "rows": rows_of_all})
    return 0


if __name__ == "__main__":
    sys.exit(main())
