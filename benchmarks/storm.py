"""A rolling storm: ``python -m benchmarks.storm --minutes 10``.

The real server, gunicorn with several gevent workers, in front of the simulated DeepSeek. Sessions
begin at a steady rate and end in every way there is (:mod:`benchmarks.fates`); every half minute or
so a worker is killed, or frozen for a second or two. Each answer is checked as it comes
(:mod:`benchmarks.verdicts`). In the end nothing may be left: no id, no connection, no descriptor,
no socket of a dead worker, and no memory in the workers that lived longest.

One worker is never killed, so that its memory can be watched for the whole time; it is frozen as
often as the others. The same seed gives the same sessions and misfortunes; how they meet is up to
the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

from . import attackers, command, plot, report
from .fates import Fate, fates
from .fleet import Fleet
from .processes import Cores, Server, Upstream, allow_many_files, gunicorn
from .quiet import Quiet
from .record import Event, Record, Sample, Stop
from .verdicts import Judge
from .visits import Visit, Wires

RETAIN = 5
_LOG_BYTES = 256 * 1024
_SECONDS_TO_BEGIN = 30.0
_SECONDS_TO_END = 120.0
#: Workers grow until they have had as many sessions at once as they will ever have, and a while
#: after that, as memory is freed in other pieces than it is asked for. A short storm is all that.
_SECONDS_TO_JUDGE_MEMORY = 480.0
_SECONDS_OF_AN_ATTACK = 4.0
_MISFORTUNES = ("kill", "freeze", "kill")
_SETTINGS = ["-c", "python:chatproxy.gunicorn_config", "--keep-alive", "60"]


@dataclass(frozen=True)
class Plan:
    """What kind of storm. Times are seconds.

    :param rate: sessions that begin in a second, as long as not more than ``most`` live.
    :param longest: what a session lasts at the most, or so.
    :param between: from one misfortune to the next, at least and at the most.
    :param attackers: whether there are some all the time, of one kind after the other.
    :param to_the_end: whether to wait until the early Stops are forgotten.
    """

    seconds: float
    rate: float = 12.0
    most: int = 400
    longest: float = 70.0
    between: tuple[float, float] = (20.0, 30.0)
    frozen: tuple[float, float] = (1.0, 2.0)
    workers: int = 4
    seed: int = 20_261_123
    attackers: bool = False
    to_the_end: bool = True

    def misfortunes(self, dice: random.Random) -> Iterator[tuple[float, str, float]]:
        """When each comes, what it is, and how long a freeze lasts."""
        at = 0.0
        for kind in cycle(_MISFORTUNES):
            at += dice.uniform(*self.between)
            if at > self.seconds - self.frozen[1]:
                return
            yield at, kind, dice.uniform(*self.frozen)


#: A small one, to see that it works: two workers are killed and one is frozen.
QUICK = Plan(
    seconds=9,
    rate=8,
    longest=3,
    between=(2.0, 2.5),
    frozen=(0.5, 1.0),
    workers=3,
    to_the_end=False,
)


class Storm:
    """The processes, and what they are put through."""

    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        self.plan = plan
        self.record = Record(plan.seconds)
        cores = Cores.all_for_all()
        self.upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        run_dir = folder / "run"
        self.server = stack.enter_context(
            Server(
                gunicorn("wsgi:app", *_SETTINGS, "-b", "127.0.0.1:0", "-w", str(plan.workers)),
                folder / "server.log",
                cores.proxy,
                DEEPSEEK_BASE_URL=self.upstream.url,
                CHATPROXY_RUN_DIR=run_dir,
                CHATPROXY_RETAIN=RETAIN,
                CHATPROXY_LOG_BYTES=_LOG_BYTES,
                CHATPROXY_GRACE=0.5,
            )
        )
        run_dir.mkdir(mode=0o700, exist_ok=True)
        self.fleet = Fleet(self.server, run_dir, self.upstream.port)
        self._wires = Wires(self.server.port)
        self._judge = Judge(self.fleet, self.upstream.port, self._wrong)
        self._dice = random.Random(plan.seed)
        self._visits: set[asyncio.Task[None]] = set()
        self._began = time.monotonic()
        self._spared = 0

    async def run(self) -> Record:
        """All of it."""
        quiet = Quiet(self.fleet, self.server, self.upstream.port, self.plan.workers)
        await quiet.all_there(_SECONDS_TO_BEGIN)
        self._spared = self.fleet.pids()[0]
        self._began = time.monotonic()
        sampler = asyncio.create_task(self._sample())
        await asyncio.gather(self._begin_sessions(), self._trouble(), self._attacks())
        await self._end_sessions()
        sampler.cancel()
        self.fleet.watch()
        self._judge.close()
        self._gather()
        for what in await quiet.left(RETAIN, self._judge, to_the_end=self.plan.to_the_end):
            self._wrong(what)
        if self.plan.seconds >= _SECONDS_TO_JUDGE_MEMORY:
            for what in self.record.grown():
                self._wrong(what)
        return self.record

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def _begin_sessions(self) -> None:
        some = fates(self.plan.seed, f"storm-{self.plan.seed}", self.plan.longest)
        for number, fate in enumerate(some):
            due = number / self.plan.rate
            if due > self.plan.seconds:
                return
            await asyncio.sleep(max(0.0, due - self._now()))
            # Users who get no answer are not joined by ever more: the storm must not go on for ever
            # because the machine had other work for a while.
            while len(self._visits) >= self.plan.most:
                await asyncio.sleep(0.05)
            if self._now() > self.plan.seconds:
                return
            task = asyncio.create_task(self._visit(fate))
            self._visits.add(task)
            task.add_done_callback(self._visits.discard)

    async def _visit(self, fate: Fate) -> None:
        visit = Visit(fate, self._wires, self._judge.press)
        try:
            await visit.live()
            await self._judge.visit(visit)
        except Exception as error:
            self._wrong(f"{fate.id}: {error!r}")

    async def _end_sessions(self) -> None:
        if self._visits:
            _, left = await asyncio.wait(set(self._visits), timeout=_SECONDS_TO_END)
            for task in left:
                task.cancel()
                self._wrong(f"a session does not end: {task}")

    async def _trouble(self) -> None:
        for at, kind, seconds in self.plan.misfortunes(self._dice):
            await asyncio.sleep(max(0.0, at - self._now()))
            pids = self.fleet.pids()
            if kind == "kill":
                pids = [pid for pid in pids if pid != self._spared]
            pid, begin, lost = self._dice.choice(pids), self._now(), 0
            if kind == "kill":
                lost = await self._kill(pid)
            else:
                await self.fleet.freeze(pid, seconds)
            self.record.events.append(Event(begin, kind, pid, self._now() - begin, lost))

    async def _attacks(self) -> None:
        for kind in cycle(attackers.KINDS):
            if not self.plan.attackers or self._now() > self.plan.seconds - _SECONDS_OF_AN_ATTACK:
                return
            async with attackers.attacking([kind], self.server.port, _SECONDS_OF_AN_ATTACK):
                await asyncio.sleep(_SECONDS_OF_AN_ATTACK)

    async def _kill(self, pid: int) -> int:
        """Kill a worker; how many connections break by that."""
        lost = 0

        def tell(ports: set[int]) -> None:
            nonlocal lost
            lost = self._wires.lose(ports)

        await self.fleet.kill(pid, tell)
        return lost

    async def _sample(self) -> None:
        before = _machine_times()
        while True:
            await asyncio.sleep(1 - self._now() % 1)
            after = _machine_times()
            memory = {pid: self.fleet.memory(pid) for pid in self.fleet.pids()}
            self.record.samples.append(
                Sample(
                    at=self._now(),
                    live=len(self._visits),
                    memory={pid: size / 1e6 for pid, size in memory.items() if size},
                    busy=_busy(before, after),
                    saturated=self.fleet.watch(),
                )
            )
            before = after

    def _gather(self) -> None:
        """Take into the record what the judge has counted."""
        for sent, to_close, stop_ms in self._judge.stops:
            calm = not self.fleet.troubled(sent, sent + to_close / 1000)
            self.record.stops.append(Stop(sent - self._began, to_close, stop_ms, calm))
        self.record.sessions = dict(self._judge.outcomes)
        self.record.stop_answers = dict(self._judge.statuses)

    def _wrong(self, what: str) -> None:
        line = f"{self._now():.1f} s: {what}"
        self.record.wrong.append(line)
        print(f"WRONG {line}", file=sys.stderr, flush=True)


def _machine_times() -> tuple[int, int]:
    """What the machine's cores have done so far, in hundredths of a second: all, and nothing."""
    user, nice, system, idle, waiting, *rest = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return user + nice + system + idle + waiting + sum(rest), idle + waiting


def _busy(before: tuple[int, int], after: tuple[int, int]) -> float:
    total, idle = (b - a for a, b in zip(before, after, strict=True))
    return 1 - idle / total if total else 0.0


async def storm(plan: Plan) -> Record:
    """Have a storm; return what came of it.

    :raises LoadError: where it could not be had.
    """
    allow_many_files()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storm-")))
        return await Storm(plan, folder, stack).run()


def _options() -> argparse.Namespace:
    parser = command.parser("storm", __doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="[10]")
    parser.add_argument(
        "--rate", type=float, default=Plan.rate, help="sessions a second [%(default)s]"
    )
    parser.add_argument("--attackers", action="store_true", help="attack it all the time")
    parser.add_argument("--seed", type=int, default=Plan.seed, help="[%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there, as SVG")
    return parser.parse_args()


def main() -> int:
    """Have a storm; the exit status is 0 where nothing was wrong."""
    options = _options()
    if not command.begin():
        return 2
    plan = Plan(
        60 * options.minutes,
        rate=options.rate,
        seed=options.seed,
        attackers=options.attackers,
    )
    where = report.machine(Cores.all_for_all())
    try:
        record = asyncio.run(storm(plan))
    except KeyboardInterrupt:
        return 130
    print("\n".join([*report.machine_lines(where), "", record.text()]))
    if options.json:
        document = {"machine": where, "plan": asdict(plan), **record.as_json()}
        options.json.write_text(json.dumps(document) + "\n")
    if options.plot:
        options.plot.write_text(plot.svg(record))
    print(f"{len(record.wrong)} things were wrong." if record.wrong else "Nothing was wrong.")
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
