"""What a run costs beside the plain route, and its Stop: ``python -m benchmarks.runs``.

One real gunicorn gevent worker in front of the simulated DeepSeek. In each round the plain route
and a run that asks once take turns, so that both meet the same machine. Told are:

* the CPU time of the server for an answer of one event, and for each further event: the median of
  the rounds with the lowest and the highest, and how many times the plain route's that is;
* from the Stop to its receipt, as the client sees it, for an answer and for a run of ten calls.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from . import command, report
from .figures import Figure
from .load import LoadError, new_id
from .processes import Cores, Group, Upstream, gunicorn, reserved_port

_LIMIT = 600  # seconds for the whole
_SHARES = {"p50": 0.5, "p99": 0.99}
#: What is asked for, by its model.
_PLAIN, _ONCE, _TEN = "deepseek-flash", "run:once", "run:ten"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    :param answers: of one event, of each kind, in each round.
    :param events: of each long answer, of which there are three.
    :param stops: of each kind, in each round.
    """

    rounds: int
    answers: int
    events: int
    stops: int


FULL = Plan(rounds=7, answers=60, events=3000, stops=15)
QUICK = Plan(rounds=2, answers=3, events=50, stops=2)

#: For each kind what each round has brought.
Rounds = dict[str, list[float]]


class Bench:
    """The processes, and what is asked of them.

    :param folder: for their logs.
    :param settings: of the server.
    """

    def __init__(self, cores: Cores, folder: Path, stack: ExitStack, **settings: object) -> None:
        folder.mkdir(exist_ok=True)
        upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        port = stack.enter_context(reserved_port())
        options = ("-c", "python:chatproxy.gunicorn_config", "--bind", f"127.0.0.1:{port}")
        argv = gunicorn("benchmarks.runs_app:app", *options)
        log, url = folder / "worker.log", upstream.url
        self._server = stack.enter_context(
            Group(argv, log, cores.proxy, port, DEEPSEEK_BASE_URL=url, **settings)
        )
        self._http = stack.enter_context(requests.Session())

    def cpu(self, model: str, answers: int, tokens: int) -> float:
        """The microseconds of CPU for each of so many answers."""
        before = self._server.cpu()
        for _ in range(answers):
            with self._ask(model, new_id(), {"rate": 0, "tokens": tokens}) as response:
                for _piece in response.iter_content(65536):
                    pass
        return (self._server.cpu() - before) / answers * 1e6

    def stop(self, model: str) -> float:
        """Milliseconds from a Stop to its receipt."""
        session_id = new_id()
        with self._ask(model, session_id, {"rate": 20, "tokens": 10_000}) as response:
            pieces = response.iter_content(1)  # kept: without it the connection would be closed
            next(pieces)
            time.sleep(0.05)
            begun = time.perf_counter()
            url = f"{self._server.url}/api/chat/cancel/{session_id}"
            receipt = self._http.post(url, timeout=20).json()
            took = (time.perf_counter() - begun) * 1000
        if receipt.get("upstreamClosed") is not True:
            raise LoadError(f"a Stop was not confirmed: {receipt}")
        return took

    def _ask(self, model: str, session_id: str, simulate: dict[str, int]) -> requests.Response:
        messages = [{"role": "user", "content": "Hello"}]
        return self._http.post(
            f"{self._server.url}/api/chat/stream",
            json={"messages": messages, "model": model, "simulate": simulate},
            headers={"X-Session-Id": session_id},
            stream=True,
            timeout=60,
        )


def _measure(bench: Bench, plan: Plan) -> tuple[Rounds, Rounds, dict[str, list[list[float]]]]:
    """CPU of a start and of an event, in microseconds, and the Stops, in milliseconds."""
    starts: Rounds = {_PLAIN: [], _ONCE: []}
    events: Rounds = {_PLAIN: [], _ONCE: []}
    stops: dict[str, list[list[float]]] = {_PLAIN: [], _TEN: []}
    for model in starts:
        bench.cpu(model, plan.answers, 10)
    for number in range(plan.rounds):
        for model in starts:
            start = bench.cpu(model, plan.answers, 1)
            starts[model].append(start)
            events[model].append((bench.cpu(model, 3, plan.events) - start) / plan.events)
        for model, rounds in stops.items():
            rounds.append([bench.stop(model) for _ in range(plan.stops)])
        command.tell(f"round {number + 1} of {plan.rounds}")
    return starts, events, stops


def row(what: str, found: Rounds) -> tuple[str, Figure, Figure, Figure]:
    """The figures of two kinds of which each round has both, and how many times the first."""
    first, second = found.values()
    times = [one / other for other, one in zip(first, second, strict=True)]
    return what, *map(Figure.median, (first, second, times))


def show(
    where: dict[str, Any],
    costs: list[Sequence[object]],
    receipts: dict[str, dict[str, Figure]],
    path: Path | None,
) -> None:
    """Print the two tables, and write them as JSON if there is a path for that.

    :param costs: the head of the first table, then its rows, each with its figures.
    """
    lines = report.table([[*map(str, each)] for each in costs])
    of_stops = [[kind, *map(str, each.values())] for kind, each in receipts.items()]
    lines += ["", *report.table([["Stop to receipt, ms", *_SHARES], *of_stops])]
    print("\n".join([*report.machine_lines(where), "", *lines]))
    if path:
        rows = {str(what): [asdict(figure) for figure in each] for what, *each in costs[1:]}
        told = {
            kind: {name: asdict(figure) for name, figure in each.items()}
            for kind, each in receipts.items()
        }
        command.write_json(path, {"machine": where, "rows": rows, "stops": told})


def percentiles(rounds: list[list[float]]) -> dict[str, Figure]:
    """Of the Stops of several rounds, in milliseconds."""
    return {name: Figure.percentile(share, rounds) for name, share in _SHARES.items()}


def main() -> int:
    """Run the measurement; the exit status is 0 if all of it was made."""
    options = command.parser_of_measurements("runs", __doc__).parse_args()
    if not command.begin():
        return 2
    plan, cores = QUICK if options.quick else FULL, Cores.shared_out()
    where = report.machine(cores)
    with command.measuring(cores, _LIMIT), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runs-")))
        starts, events, stops = _measure(Bench(cores, folder, stack), plan)
    costs = [row("CPU of a start, µs", starts), row("CPU of an event, µs", events)]
    kinds = (("one answer", _PLAIN), ("a run of ten calls", _TEN))
    receipts = {kind: percentiles(stops[model]) for kind, model in kinds}
    head = ["", "plain", "a run that asks once", "times"]
    show(where, [head, *costs], receipts, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
