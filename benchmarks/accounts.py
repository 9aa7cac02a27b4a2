"""What it costs to know what answers cost: ``python -m benchmarks.accounts``.

Two real gunicorn gevent workers, each in front of a simulated DeepSeek: one counts no tokens, the
other has all of it on (a tokenizer, records in SQLite, a budget, spans and metrics by OTLP). They
take turns, so that both meet the same machine. Told are:

* the CPU time of the server for an answer of one event, and for each further event: the median of
  the rounds with the lowest and the highest, and how many times that of the first that is. The
  process that counts tokens is not in it; it works only for answers that are stopped;
* from the Stop to its receipt, as the client sees it.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from . import command, report
from .processes import Cores
from .runs import FULL, QUICK, Bench, Plan, Rounds, percentiles, row, show

_LIMIT = 600  # seconds for the whole
_MODEL = "deepseek-flash"
_OFF, _ON = "off", "on"


class _Collector(BaseHTTPRequestHandler):
    """Takes whatever is exported."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _collector() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _settings(folder: Path, collector: str) -> dict[str, dict[str, object]]:
    return {
        _OFF: {"CHATPROXY_TOKENIZER": "none"},
        _ON: {
            "CHATPROXY_RECORDS": f"sqlite:///{folder / 'records.db'}",
            "CHATPROXY_BUDGET": "1000000000 tokens/day",
            "CHATPROXY_TELEMETRY": 1,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        },
    }


def _measure(
    benches: dict[str, Bench], plan: Plan
) -> tuple[Rounds, Rounds, dict[str, list[list[float]]]]:
    """CPU of a start and of an event, in microseconds, and the Stops, in milliseconds."""
    starts: Rounds = {_OFF: [], _ON: []}
    events: Rounds = {_OFF: [], _ON: []}
    stops: dict[str, list[list[float]]] = {_OFF: [], _ON: []}
    for bench in benches.values():
        bench.cpu(_MODEL, plan.answers, 10)
        bench.stop(_MODEL)
    for number in range(plan.rounds):
        for kind, bench in benches.items():
            start = bench.cpu(_MODEL, plan.answers, 1)
            starts[kind].append(start)
            events[kind].append((bench.cpu(_MODEL, 3, plan.events) - start) / plan.events)
            stops[kind].append([bench.stop(_MODEL) for _ in range(plan.stops)])
        command.tell(f"round {number + 1} of {plan.rounds}")
    return starts, events, stops


def main() -> int:
    """Run the measurement; the exit status is 0 if all of it was made."""
    options = command.parser_of_measurements("accounts", __doc__).parse_args()
    if not command.begin():
        return 2
    plan, cores = QUICK if options.quick else FULL, Cores.shared_out()
    where = report.machine(cores)
    with command.measuring(cores, _LIMIT), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accounts-")))
        collector = stack.enter_context(_collector())
        benches = {
            kind: Bench(cores, folder / kind, stack, **settings)
            for kind, settings in _settings(folder, collector).items()
        }
        starts, events, stops = _measure(benches, plan)
    costs = [row("CPU of a start, µs", starts), row("CPU of an event, µs", events)]
    receipts = {kind: percentiles(rounds) for kind, rounds in stops.items()}
    head = ["", "all of it off", "all of it on", "times"]
    show(where, [head, *costs], receipts, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
