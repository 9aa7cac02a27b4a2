"""What attackers cost everybody else: ``python -m benchmarks.attacks``.

One real gunicorn gevent worker with the package's settings, in front of the simulated DeepSeek, on
the loopback interface; a new one for each row and round. It has ordinary streams of 20 events a
second, one of which has events of 100 KB, and answers that say nothing, to be stopped one by one.
Then the same beside each kind of attack (:mod:`benchmarks.attackers`), and beside all of them.

*Stop* is from the moment at which the client begins to connect to the moment at which it has the
receipt. One that is not answered while the attack lasts counts as long as that, and the table says
how many these are. *Event* is how much later than it was due the latest event came: each stream is
paced, and its own earliest event says when the others are due. The clients share their cores with
the attackers, who give way to them. The worker has a core of its own if there are two.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import attackers, command, load, report
from .figures import percentile
from .load import LoadError, Stream
from .processes import Cores, Upstream, Worker

_RATE = 20
_ENDLESS = 10_000_000
_NARROW = {"rate": _RATE, "tokens": _ENDLESS}
_WIDE = {"rate": _RATE, "tokens": _ENDLESS, "text": "x" * 100_000}
_SILENT = {"never": "tokens"}
_SETTINGS = {
    "CHATPROXY_MAX_SESSIONS": 50,
    "CHATPROXY_MAX_SESSIONS_PER_OWNER": 50,
    "CHATPROXY_TOKENS": f"bench:{load.TOKEN}",
    "CHATPROXY_LOG_BYTES": 1 << 20,
}
_WARM_UP = 0.5


@dataclass(frozen=True)
class Plan:
    """How much is measured. Times are seconds.

    :param stops: in each round, of each row.
    :param pace: from one Stop to the next.
    :param patience: how long an attack lasts at the most.
    :param limit: for the whole run.
    """

    kinds: tuple[str, ...]
    rounds: int = 3
    streams: int = 15
    stops: int = 30
    pace: float = 0.15
    patience: float = 10.0
    limit: float = 1200


FULL = Plan(tuple(attackers.KINDS))
QUICK = Plan(("floats",), rounds=1, streams=2, stops=2, pace=0.1, patience=1, limit=60)


@dataclass
class Row:
    """What was measured beside one kind of attack. Times are ms, memory MB.

    :param unanswered: the Stops that had no answer in time.
    :param memory: what the worker has grown by.
    """

    name: str
    stops: list[float] = field(default_factory=list)
    unanswered: int = 0
    latest_event: float = 0.0
    memory: float = 0.0

    def cells(self, rest: float) -> list[str]:
        """Its line in the table.

        :param rest: the median of a Stop without any attack.
        """
        half, most = percentile(0.5, self.stops), percentile(0.99, self.stops)
        late = _ms(self.latest_event) if self.latest_event else "-"
        ratio = f"{half / rest:.1f}"
        grown = f"{self.memory:.0f}"
        return [self.name, _ms(half), ratio, _ms(most), str(self.unanswered), late, grown]


HEAD = ["", "Stop p50", "ratio", "Stop p99", "unanswered", "event, the latest", "MB more"]


class Paced(Stream):
    """A stream that notes how late its events come."""

    def __init__(self, simulate: dict[str, Any]) -> None:
        super().__init__(simulate)
        self._earliest = float("inf")
        self._latest = float("-inf")

    def data_received(self, data: bytes) -> None:
        before = self.events
        super().data_received(data)
        if self.events > before:
            self._note(before + 1)
            self._earliest = min(self._earliest, time.monotonic() - self.events / _RATE)

    def forget(self) -> None:
        """What was late so far does not count."""
        self._latest = float("-inf")

    def lateness(self) -> float:
        """Seconds by which the latest event was late; one that has not come yet counts too."""
        self._note(self.events + 1)
        return self._latest - self._earliest

    def _note(self, number: int) -> None:
        self._latest = max(self._latest, time.monotonic() - number / _RATE)


async def _measure(
    row: Row, kinds: Sequence[str], worker: Worker, plan: Plan, streams: list[dict[str, Any]]
) -> None:
    """One round of a row.

    :param streams: what the upstream does for each of the ordinary streams.
    """
    port, loop = worker.port, asyncio.get_running_loop()
    crowd: list[Stream] = []
    try:
        paced = [Paced(simulate) for simulate in streams]
        for stream in paced:
            await loop.create_connection(lambda each=stream: each, "127.0.0.1", port)
            crowd.append(stream)
        victims = [await load.start(port, _SILENT) for _ in range(plan.stops)]
        crowd += victims
        await asyncio.sleep(2 * _WARM_UP)
        before = worker.memory()
        seconds, read_by_others = plan.patience + _WARM_UP, crowd[0]
        async with attackers.attacking(
            kinds, port, seconds, read_by_others.id, read_by_others.events
        ):
            await asyncio.sleep(_WARM_UP)
            for stream in paced:
                stream.forget()
            await _stop_all(row, port, victims, plan)
            late = [1e3 * stream.lateness() for stream in paced]
            row.latest_event = max([row.latest_event, *late])
            row.memory = max(row.memory, (worker.memory() - before) / 1e3)
    finally:
        for stream in crowd:
            stream.close()


async def _stop_all(row: Row, port: int, victims: list[Stream], plan: Plan) -> None:
    ends = time.monotonic() + plan.patience
    stops = []
    for victim in victims:
        stops.append(asyncio.create_task(_stop(port, victim.id, ends)))
        await asyncio.sleep(plan.pace)
    for seconds in await asyncio.gather(*stops):
        row.unanswered += seconds is None
        row.stops.append(1e3 * (plan.patience if seconds is None else seconds))


async def _stop(port: int, session_id: str, ends: float) -> float | None:
    """Press Stop; how many seconds it took, or None if there was no receipt in time."""
    began = time.monotonic()
    try:
        receipt = await asyncio.wait_for(_receipt(port, session_id), ends - began)
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError):
        return None
    if not receipt.get("upstreamClosed"):
        raise LoadError(f"a Stop was answered with {receipt}")
    return time.monotonic() - began


async def _receipt(port: int, session_id: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(load.post(f"/api/chat/cancel/{session_id}", session_id, b""))
        found: dict[str, Any] = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
        return found
    finally:
        writer.transport.abort()


async def _run(plan: Plan, cores: Cores) -> list[Row]:
    rows = []
    streams = [_WIDE, *[_NARROW] * plan.streams]
    wanted = {
        "at rest": ((), []),
        f"beside {len(streams)} streams": ((), streams),
        **{attackers.KINDS[kind][0]: ((kind,), streams) for kind in plan.kinds},
        "all of these": (plan.kinds, streams),
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatproxy-bench-")))
        upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        for name, (kinds, beside) in wanted.items():
            rows.append(Row(name))
            for number in range(plan.rounds):
                log = folder / f"worker-{len(rows)}-{number}.log"
                with Worker(upstream, log, cores, **_SETTINGS) as worker:
                    await _measure(rows[-1], kinds, worker, plan, beside)
            command.tell("  ".join(rows[-1].cells(percentile(0.5, rows[0].stops))))
    return rows


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def main() -> int:
    """Run the measurements; the exit status is 0 if all of them were made."""
    options = command.parser_of_measurements("attacks", __doc__).parse_args()
    if not command.begin():
        return 2
    plan, cores = QUICK if options.quick else FULL, Cores.shared_out()
    where = report.machine(cores)
    with command.measuring(cores, plan.limit):
        rows = asyncio.run(asyncio.wait_for(_run(plan, cores), plan.limit))
    rest = percentile(0.5, rows[0].stops)
    lines = report.table([HEAD, *(row.cells(rest) for row in rows)])
    stops = plan.rounds * plan.stops
    print("\n".join([*report.machine_lines(where), f"{stops} Stops in each row.", "", *lines]))
    if options.json:
        figures = {"machine": where, "stops": stops, "rows": [asdict(row) for row in rows]}
        command.write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
