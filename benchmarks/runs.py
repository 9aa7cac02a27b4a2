"""What a run costs beside the plain route, and its Stop: ``python -m benchmarks.runs``.

One real gunicorn gevent worker in front of the simulated DeepSeek. In each round the plain route
and a run that asks once take turns, so that both meet the same machine. Told are medians of the
rounds, and the ratio of the two:

* the CPU time of the worker for an answer of one event, and for each further event;
* from the Stop to its receipt, as the client sees it, of an answer and of a run of ten calls.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import requests

from tests.support.servers import GUNICORN, new_id

from . import command
from .processes import Cores, Server, Upstream

ROUNDS = 7
ANSWERS = 60
EVENTS = 3000
STOPS = 15
_APP = "benchmarks.runs_app:app"


class Bench:
    """The processes, and what is asked of them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        cores = Cores.shared_out()
        upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        argv = [*GUNICORN, "-k", "gevent", "-c", "python:chatproxy.gunicorn_config", _APP]
        settings = {"DEEPSEEK_BASE_URL": upstream.url}
        self._server = stack.enter_context(
            Server(argv, folder / "worker.log", cores.proxy, **settings)
        )
        self._http = stack.enter_context(requests.Session())
        self._pid = int(self._http.get(f"{self._server.url}/pid", timeout=20).text)

    def answer(self, model: str, tokens: int) -> None:
        """One whole answer."""
        with self._post(model, {"rate": 0, "tokens": tokens}) as response:
            for _ in response.iter_content(65536):
                pass

    def cpu(self, model: str, answers: int, tokens: int) -> float:
        """The worker's CPU seconds for each of so many answers."""
        before = self._used()
        for _ in range(answers):
            self.answer(model, tokens)
        return (self._used() - before) / answers

    def stop(self, model: str) -> float:
        """Milliseconds from a Stop to its receipt."""
        session_id = new_id()
        with self._post(model, {"rate": 20, "tokens": 10_000}, session_id) as response:
            pieces = response.iter_content(1)  # kept: without it the connection would be closed
            next(pieces)
            time.sleep(0.05)
            begun = time.perf_counter()
            url = f"{self._server.url}/api/chat/cancel/{session_id}"
            receipt = self._http.post(url, timeout=20).json()
            took = (time.perf_counter() - begun) * 1000
        if receipt.get("upstreamClosed") is not True:
            raise SystemExit(f"a Stop was not confirmed: {receipt}")
        return took

    def _post(
        self, model: str, simulate: dict[str, float], session_id: str | None = None
    ) -> requests.Response:
        messages = [{"role": "user", "content": "Hello"}]
        return self._http.post(
            f"{self._server.url}/api/chat/stream",
            json={"messages": messages, "model": model, "simulate": simulate},
            headers={"X-Session-Id": session_id or new_id()},
            stream=True,
            timeout=60,
        )

    def _used(self) -> float:
        fields = Path(f"/proc/{self._pid}/schedstat").read_text().split()
        return int(fields[0]) / 1e9


def main() -> None:
    """Measure, and print what came out."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), stack)
        kinds = {"plain": "deepseek-flash", "run": "run:once"}
        starts: dict[str, list[float]] = {name: [] for name in kinds}
        events: dict[str, list[float]] = {name: [] for name in kinds}
        stops: dict[str, list[float]] = {"plain": [], "run of ten calls": []}
        for model in kinds.values():
            bench.cpu(model, 20, 10)
        for number in range(ROUNDS):
            for name, model in kinds.items():
                start = bench.cpu(model, ANSWERS, 1)
                starts[name].append(start * 1e6)
                events[name].append((bench.cpu(model, 3, EVENTS) - start) / EVENTS * 1e6)
            for _ in range(STOPS):
                stops["plain"].append(bench.stop("deepseek-flash"))
                stops["run of ten calls"].append(bench.stop("run:ten"))
            command.tell(f"round {number + 1} of {ROUNDS}")
    for what, found in (("CPU of a start, µs", starts), ("CPU of an event, µs", events)):
        plain, run = (statistics.median(found[name]) for name in kinds)
        sys.stdout.write(f"{what}: plain {plain:.1f}, run {run:.1f}, ratio {run / plain:.2f}\n")
    for name, found_ms in stops.items():
        p50, p99 = statistics.median(found_ms), statistics.quantiles(found_ms, n=100)[98]
        sys.stdout.write(f"Stop to receipt, ms: {name} p50 {p50:.1f}, p99 {p99:.1f}\n")


if __name__ == "__main__":
    main()
