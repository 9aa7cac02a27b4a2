"""How long a Stop takes, in each phase of an answer: ``python -m benchmarks.stop``.

One real gunicorn gevent worker, in front of the simulated DeepSeek, on the loopback interface.

*Sent to upstream closed* is from the moment at which the client sends its Stop to the moment at
which the upstream sees its peer gone; both are read from the clock of this machine. It is longer
than "from the arrival of the Stop" by the way to the server, the accepting of a new connection, the
wait for a worker that is busy, and the upstream's wait for a core that it shares with the clients.
The receipt's ``stopMs`` is without these.

A figure is a percentile of all the Stops, with the lowest and the highest of a round. What an event
and a stream cost is measured by :mod:`benchmarks.speed`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import command, load, report
from .figures import Figure
from .load import Crowd, LoadError
from .processes import Cores, Upstream, Worker

_ENDLESS = 10_000_000
_SEED = 20_260_724
_READING = 0.01
_LINES = 20
_SECONDS_TO_SETTLE = 15.0
_QUIET = 0.02  # of a core
_LIVE_RATE = 20


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    stops: int  # in each round, of each of the three phases
    live_streams: int
    limit: float  # seconds for the whole run


FULL = Plan(rounds=3, stops=23, live_streams=500, limit=120)
QUICK = Plan(rounds=2, stops=1, live_streams=20, limit=60)

#: The figures of each row, in ms: the 50th and the 99th percentile.
Table = dict[str, tuple[Figure, Figure]]


class Bench:
    """The processes, and the measurements that they are put to."""

    def __init__(self, plan: Plan, cores: Cores, folder: Path, stack: ExitStack) -> None:
        self._plan = plan
        self._dice = random.Random(_SEED)
        self._upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        self._worker = stack.enter_context(Worker(self._upstream, folder / "worker.log", cores))

    async def run(self) -> Table:
        """Measure everything."""
        await load.answers(self._worker.port, 20, 4, 8)
        table: Table = {}
        for name, streams in (("idle", 0), (f"beside {self._plan.live_streams} streams", None)):
            began = time.monotonic()
            table |= await self._stops(name, self._plan.live_streams if streams is None else 0)
            command.tell(f"{name}: {time.monotonic() - began:.0f} s")
        return table

    async def _stops(self, name: str, streams: int) -> Table:
        await _settled(self._worker)
        simulate = {"rate": _LIVE_RATE, "tokens": _ENDLESS}
        async with Crowd(self._worker.port, streams, simulate) as crowd:
            await crowd.flow()
            rounds = [await self._stop_round() for _ in range(self._plan.rounds)]
            crowd.check()
        return _table(name, rounds)

    async def _stop_round(self) -> list[_Timed]:
        phases = list(_PHASES) * self._plan.stops
        self._dice.shuffle(phases)
        stops = {}
        for phase in phases:
            made = await self._stop_in(phase)
            stops[made.id] = (phase, made)
        entries = await self._gone(set(stops))
        return [
            _Timed(phase, (entries[tag]["peer_gone_mono"] - made.sent) * 1000, made.receipt)
            for tag, (phase, made) in stops.items()
        ]

    async def _stop_in(self, phase: str) -> load.Stop:
        """Begin a stream, wait until it is in the phase and a random moment more, and stop it."""
        simulate, reached = _PHASES[phase]
        port = self._worker.port
        stream = await load.start(port, {"rate": _LIVE_RATE, "tokens": _ENDLESS, **simulate})
        try:
            await _until(lambda: self._entry_is(stream.id, reached), f"a stream that is {phase}")
            await asyncio.sleep(self._dice.uniform(0.01, 0.05))
            return await load.stop(port, stream.id)
        finally:
            stream.close()

    async def _entry_is(self, tag: str, reached: Callable[[dict[str, Any]], bool]) -> bool:
        ledger = await load.fetch(self._upstream.port, f"/ledger?tag={tag}")
        return any(map(reached, ledger["requests"]))

    async def _gone(self, tags: set[str]) -> dict[str, dict[str, Any]]:
        """The ledger's entries with these tags, once the peers of all have gone."""
        entries: dict[str, dict[str, Any]] = {}

        async def all_gone() -> bool:
            ledger = await load.fetch(self._upstream.port, "/ledger")
            entries.update({e["tag"]: e for e in ledger["requests"] if e["tag"] in tags})
            return all(entries[tag]["peer_gone_mono"] is not None for tag in tags)

        await _until(all_gone, "the close of every stopped stream")
        return entries


@dataclass(frozen=True)
class _Timed:
    """A Stop; ``to_close`` is ms from its sending to the upstream's seeing its peer gone."""

    phase: str
    to_close: float
    receipt: dict[str, Any]


#: What the upstream is asked to do, and when its ledger says that the phase is reached.
_PHASES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "before headers": ({"never": "headers"}, lambda entry: True),
    "waiting": ({"never": "tokens"}, lambda entry: entry["status"] == 200),
    "streaming": ({}, lambda entry: entry["tokens"] > 0),
}


def _table(name: str, rounds: list[list[_Timed]]) -> Table:
    """The rows of these Stops: all of them in both ways, and those of each phase."""
    rows = {
        f"{name}: sent to upstream closed": [[stop.to_close for stop in each] for each in rounds],
        f"{name}: stopMs in the receipt": [
            [float(stop.receipt["stopMs"]) for stop in each] for each in rounds
        ],
    }
    for phase in _PHASES:
        rows[f"{name}: sent to upstream closed, {phase}"] = [
            [stop.to_close for stop in each if stop.phase == phase] for each in rounds
        ]
    return {
        row: (Figure.percentile(0.5, samples), Figure.percentile(0.99, samples))
        for row, samples in rows.items()
    }


async def _until(
    condition: Callable[[], Awaitable[bool]], what: str, every: float = _READING
) -> None:
    end = time.monotonic() + _SECONDS_TO_SETTLE
    while not await condition():
        if time.monotonic() > end:
            raise LoadError(f"{what} did not come within {_SECONDS_TO_SETTLE:.0f} s")
        await asyncio.sleep(every)


async def _settled(worker: Worker) -> None:
    """Wait until the worker uses next to no CPU."""

    async def at_rest() -> bool:
        before = worker.cpu()
        await asyncio.sleep(0.1)
        return worker.cpu() - before < 0.1 * _QUIET

    await _until(at_rest, "the rest of a worker")


def _tell_of_logs(folder: Path) -> None:
    for log in sorted(folder.iterdir()):
        lines = log.read_text(errors="replace").splitlines()
        command.tell("\n".join([f"--- the end of {log.name}", *lines[-_LINES:]]))


async def _run(plan: Plan, cores: Cores) -> Table:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatproxy-bench-")))
        try:
            return await Bench(plan, cores, folder, stack).run()
        except LoadError:
            _tell_of_logs(folder)
            raise


def main() -> int:
    """Run the measurements; the exit status is 0 where all of them were made."""
    options = command.parser_of_measurements("stop", __doc__).parse_args()
    if not command.begin():
        return 2
    plan, cores = QUICK if options.quick else FULL, Cores.shared_out()
    where = report.machine(cores)
    with command.measuring(cores, plan.limit):
        table = asyncio.run(asyncio.wait_for(_run(plan, cores), plan.limit))
    stops = plan.rounds * plan.stops * len(_PHASES)
    head = [f"Stop to close, ms ({stops} Stops)", "p50", "p99"]
    rows = [[name, str(p50), str(p99)] for name, (p50, p99) in table.items()]
    print("\n".join([*report.machine_lines(where), "", *report.table([head, *rows])]))
    if options.json:
        figures = {name: {"p50": asdict(a), "p99": asdict(b)} for name, (a, b) in table.items()}
        command.write_json(options.json, {"machine": where, "stops": stops, "ms": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
