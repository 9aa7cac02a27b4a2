"""How long a Stop takes, and what a stream costs: ``python -m benchmarks.stop``.

One real gunicorn gevent worker, in front of the simulated DeepSeek, on the loopback interface:

* *Stop to close*: from the moment at which the client sends its Stop to the moment at which the
  upstream sees its peer gone; both are read from the clock of this machine. It is longer than
  "from the arrival of the Stop" by the way to the server, the accepting of a new connection, the
  wait for a worker that is busy, and the upstream's wait for a core that it shares with the
  clients. The receipt's ``stopMs`` is without these.
* *CPU* is what the worker used, user and system, divided by what the clients received: at a steady
  pace, and saturated, with streams that the upstream sends as fast as they are taken.
* *Memory* is what the worker has grown by, in a new process, divided by the streams, which are
  silent.

The costs stand beside those of the plain relay (:mod:`benchmarks.plain`), measured in turn with
them. A figure is the median of its rounds, with the lowest and the highest; a percentile is that
of all the Stops, with the lowest and the highest of a round.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import command, load, report
from .figures import Comparison, Figure, Results, Span, merged
from .load import Crowd, LoadError
from .processes import Cores, Upstream, Worker, on

PROXIES = ("chatproxy", "plain")

_ENDLESS = 10_000_000
_SEED = 20_260_724
_READING = 0.01
_LINES = 20
_SECONDS_TO_SETTLE = 15.0
_QUIET = 0.02  # of a core


@dataclass(frozen=True)
class Plan:
    """How much is measured. Times are seconds, rates are events per second and stream."""

    rounds: int
    stops: int  # in each round, of each of the three phases
    live_streams: int
    live_rate: int
    steady_streams: int
    steady_rate: int
    saturating_streams: int
    span: float
    answers: int
    memory_rounds: int
    limit: float  # for the whole run

    concurrency: int = 8
    tokens: int = 8
    warm_up: float = 0.5


FULL = Plan(
    rounds=3,
    stops=23,
    live_streams=500,
    live_rate=20,
    steady_streams=100,
    steady_rate=50,
    saturating_streams=20,
    span=3.0,
    answers=300,
    memory_rounds=3,
    limit=175,
)
QUICK = Plan(
    rounds=2,
    stops=2,
    live_streams=20,
    live_rate=20,
    steady_streams=10,
    steady_rate=50,
    saturating_streams=10,
    span=0.3,
    answers=20,
    memory_rounds=1,
    limit=60,
    warm_up=0.1,
)


class Bench:
    """The processes, and the measurements that they are put to."""

    def __init__(self, plan: Plan, cores: Cores, folder: Path, stack: ExitStack) -> None:
        self.plan = plan
        self.results = Results(plan.rounds * plan.stops * len(_PHASES))
        self._cores = cores
        self._folder = folder
        self._dice = random.Random(_SEED)
        self._started = 0
        self.upstream = stack.enter_context(Upstream(self._log("upstream"), cores))
        self.workers = {name: stack.enter_context(self._worker(name)) for name in PROXIES}

    def _log(self, name: str) -> Path:
        self._started += 1
        return self._folder / f"{self._started}-{name}.log"

    def _worker(self, name: str) -> Worker:
        return Worker(name, self.upstream, self._log(name), self._cores)

    async def run(self) -> Results:
        """Measure everything."""
        for name in PROXIES:
            await self._warm_up(self.workers[name])
        for measure in (self._idle_stops, self._loaded_stops, self._costs, self._memory):
            began = time.monotonic()
            await measure()
            command.tell(f"{measure.__doc__} {time.monotonic() - began:.0f} s")
        return self.results

    async def _warm_up(self, worker: Worker) -> None:
        await load.answers(worker.port, 20, 4, self.plan.tokens)
        await _settled(worker)

    # Stops

    async def _idle_stops(self) -> None:
        """Stops with no other stream."""
        await self._stop_rounds("idle", 0, 20)

    async def _loaded_stops(self) -> None:
        """Stops beside live streams."""
        streams = self.plan.live_streams
        await self._stop_rounds(f"beside {streams} live streams", streams, self.plan.live_rate)

    async def _stop_rounds(self, name: str, streams: int, rate: int) -> None:
        worker = self.workers["chatproxy"]
        rounds: list[list[_Timed]] = []
        spans: list[Span] = []
        async with self._crowd(worker, streams, rate) as crowd:
            for _ in range(self.plan.rounds):
                async with self._span(name, worker, crowd, streams * rate, spans):
                    rounds.append(await self._stop_round(rate))
        self._note_stops(name, rounds)
        self.results.spans.append(merged(spans))

    async def _stop_round(self, rate: int) -> list[_Timed]:
        phases = list(_PHASES) * self.plan.stops
        self._dice.shuffle(phases)
        stops = {}
        for phase in phases:
            made = await self._stop_in(phase, rate)
            stops[made.id] = (phase, made)
        entries = await self._gone(set(stops))
        return [
            _Timed(phase, (entries[tag]["peer_gone_mono"] - made.sent) * 1000, made.receipt)
            for tag, (phase, made) in stops.items()
        ]

    async def _stop_in(self, phase: str, rate: int) -> load.Stop:
        """Begin a stream, wait until it is in the phase and a random moment more, and stop it."""
        simulate, reached = _PHASES[phase]
        worker = self.workers["chatproxy"]
        stream = await load.start(worker.port, {"rate": rate, "tokens": _ENDLESS, **simulate})
        try:
            await _until(lambda: self._entry_is(stream.id, reached), f"a stream that is {phase}")
            await asyncio.sleep(self._dice.uniform(0.01, 0.05))
            return await load.stop(worker.port, stream.id)
        finally:
            stream.close()

    async def _entry_is(self, tag: str, reached: Callable[[dict[str, Any]], bool]) -> bool:
        ledger = await load.fetch(self.upstream.port, f"/ledger?tag={tag}")
        return any(map(reached, ledger["requests"]))

    async def _gone(self, tags: set[str]) -> dict[str, dict[str, Any]]:
        """The ledger's entries with these tags, once the peers of all have gone."""
        entries: dict[str, dict[str, Any]] = {}

        async def all_gone() -> bool:
            ledger = await load.fetch(self.upstream.port, "/ledger")
            entries.update({e["tag"]: e for e in ledger["requests"] if e["tag"] in tags})
            return all(entries[tag]["peer_gone_mono"] is not None for tag in tags)

        await _until(all_gone, "the close of every stopped stream")
        return entries

    def _note_stops(self, name: str, rounds: list[list[_Timed]]) -> None:
        for way, take in _WAYS.items():
            samples = [[take(stop) for stop in each] for each in rounds]
            p50, p99 = (Figure.percentile(share, samples) for share in (0.5, 0.99))
            self.results.stops[f"{name}: {way}"] = (p50, p99)
        self.results.by_phase[name] = {
            phase: Figure.percentile(
                0.5, [[s.to_close for s in each if s.phase == phase] for each in rounds]
            )
            for phase in _PHASES
        }

    # Costs

    async def _costs(self) -> None:
        """CPU per event and per started stream."""
        plan = self.plan
        steady: dict[str, list[Span]] = {name: [] for name in PROXIES}
        full: dict[str, list[Span]] = {name: [] for name in PROXIES}
        starts: dict[str, list[float]] = {name: [] for name in PROXIES}
        for worker in self._in_turn(plan.rounds):
            name = worker.name
            await self._flow(steady[name], worker, plan.steady_streams, plan.steady_rate)
            await self._flow(full[name], worker, plan.saturating_streams, 0)
            starts[name].append(await self._start_cost(worker))
        for label, spans in (("steady", steady), ("saturated", full)):
            rounds = {name: [span.microseconds for span in spans[name]] for name in PROXIES}
            self.results.costs.append(Comparison.of(f"CPU per event, {label}", "µs", rounds))
            self.results.spans += [merged(spans[name]) for name in PROXIES]
        self.results.costs.append(Comparison.of("CPU per started stream", "ms", starts))

    def _in_turn(self, rounds: int) -> Iterator[Worker]:
        """Each worker in each round; who is first changes from round to round."""
        for number in range(rounds):
            for name in PROXIES[:: 1 if number % 2 else -1]:
                yield self.workers[name]

    async def _flow(self, spans: list[Span], worker: Worker, streams: int, rate: int) -> None:
        name = f"{'steady' if rate else 'saturated'}, {worker.name}"
        async with (
            self._crowd(worker, streams, rate) as crowd,
            self._span(name, worker, crowd, streams * rate or None, spans),
        ):
            before = sum(crowd.events())
            await asyncio.sleep(self.plan.span)
            await crowd.more_than(before)

    async def _start_cost(self, worker: Worker) -> float:
        """CPU of the worker for one short answer, in ms."""
        plan = self.plan
        before = worker.cpu()
        await load.answers(worker.port, plan.answers, plan.concurrency, plan.tokens)
        await _settled(worker)
        return (worker.cpu() - before) / plan.answers * 1000

    @asynccontextmanager
    async def _crowd(self, worker: Worker, streams: int, rate: int) -> AsyncIterator[Crowd]:
        """Streams that flow; afterwards the worker has come to rest.

        With ``rate`` 0, as much as is taken, a worker may be too busy with some to begin others.
        """
        simulate = {"rate": rate, "tokens": _ENDLESS}
        async with Crowd(worker.port, streams, simulate) as crowd:
            if rate:
                await crowd.flow()
            await asyncio.sleep(self.plan.warm_up)
            yield crowd
            crowd.check()
        await _settled(worker)

    @asynccontextmanager
    async def _span(
        self, name: str, worker: Worker, crowd: Crowd, offered: float | None, spans: list[Span]
    ) -> AsyncIterator[None]:
        """Add to ``spans`` what happens meanwhile."""
        upstream = self.upstream

        def clocks() -> tuple[float, ...]:
            cpu = (worker.cpu(), upstream.cpu(), time.process_time())
            return time.monotonic(), *cpu, worker.waited(), upstream.waited()

        events, before = crowd.events(), clocks()
        yield
        seconds, *rest = (b - a for a, b in zip(before, clocks(), strict=True))
        came = [b - a for a, b in zip(events, crowd.events(), strict=True)]
        served = sum(each > 0 for each in came)
        spans.append(Span(name, seconds, sum(came), len(came), served, offered, *rest))

    # Memory

    async def _memory(self) -> None:
        """Memory per live stream."""
        rounds: dict[str, list[float]] = {name: [] for name in PROXIES}
        for _ in range(self.plan.memory_rounds):
            for name in PROXIES:
                with self._worker(name) as worker:
                    rounds[name].append(await self._memory_of(worker))
        self.results.costs.append(Comparison.of("memory per live stream", "KB", rounds))

    async def _memory_of(self, worker: Worker) -> float:
        await self._warm_up(worker)
        await load.fetch(self.upstream.port, "/ledger", "DELETE")
        streams = self.plan.live_streams
        before = worker.memory()

        async def all_there() -> bool:
            ledger = await load.fetch(self.upstream.port, "/ledger")
            live = [each for each in ledger["requests"] if each["open"] and each["status"] == 200]
            return len(live) == streams

        async with Crowd(worker.port, streams, {"never": "tokens"}) as crowd:
            await _until(all_there, f"{streams} live streams", every=0.1)
            await _settled(worker)
            crowd.check()
            return (worker.memory() - before) / streams


@dataclass(frozen=True)
class _Timed:
    """A Stop; ``to_close`` is ms from its sending to the upstream's seeing its peer gone."""

    phase: str
    to_close: float
    receipt: dict[str, Any]


_WAYS: dict[str, Callable[[_Timed], float]] = {
    "sent to upstream closed": lambda stop: stop.to_close,
    "stopMs in the receipt": lambda stop: float(stop.receipt["stopMs"]),
}

#: What the upstream is asked to do, and when its ledger says that the phase is reached.
_PHASES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "before headers": ({"never": "headers"}, lambda entry: True),
    "waiting": ({"never": "tokens"}, lambda entry: entry["status"] == 200),
    "streaming": ({}, lambda entry: entry["tokens"] > 0),
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


async def _run(plan: Plan, cores: Cores) -> Results:
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
    where, began = report.machine(cores), time.monotonic()
    try:
        with on(cores.others):
            results = asyncio.run(asyncio.wait_for(_run(plan, cores), plan.limit))
    except KeyboardInterrupt:
        return 130
    except (LoadError, asyncio.TimeoutError) as error:
        command.tell(f"The measurements failed: {error or f'not done in {plan.limit:.0f} s'}.")
        return 1
    seconds = time.monotonic() - began
    print(report.text(results, where, seconds))
    if options.json:
        command.write_json(options.json, report.document(results, where, seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
