"""What an event costs in each protocol: ``python -m benchmarks.protocols``.

The same answers are asked for in the native protocol, in OpenAI's, streamed and whole, and in the
AI SDK's; DeepSeek is the simulated one. The figure is the CPU time of the worker for each event
that DeepSeek sent, from the question to the end, with the lowest and the highest of the rounds; in
each round the four take turns. Beside it stands how many times the native one that is: the median
of the rounds, in each of which the two are compared.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import command, load, report
from .figures import Figure
from .load import LoadError, Stream
from .processes import Cores, Upstream, Worker

_LIMIT = 600  # seconds for the whole
#: Beside the tokens: a chunk with the role, one with the usage, and [DONE].
_MORE_EVENTS = 3

_CHAT = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hello"}]}
_UI_MESSAGE = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}

#: The path, the question, and what ends an answer that is whole.
PROTOCOLS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "native": ("/api/chat/stream", _CHAT, b"[DONE]"),
    "OpenAI's, streamed": ("/v1/chat/completions", {**_CHAT, "stream": True}, b"[DONE]"),
    "OpenAI's, whole": ("/v1/chat/completions", _CHAT, b'"object":"chat.completion"'),
    "the AI SDK's": ("/api/chat", {"messages": [_UI_MESSAGE]}, b"[DONE]"),
}


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    :param answers: at a time, in each protocol and round, of ``tokens`` at ``rate`` a second each.
    """

    rounds: int
    answers: int
    tokens: int
    rate: int


FULL = Plan(rounds=5, answers=50, tokens=200, rate=40)
QUICK = Plan(rounds=1, answers=2, tokens=20, rate=80)


class Answer(Stream):
    """A client that asks in a protocol."""

    def __init__(self, protocol: str, simulate: dict[str, Any]) -> None:
        super().__init__(simulate)
        self._path, self._question, self._end = PROTOCOLS[protocol]
        self._last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        body = json.dumps({**self._question, "simulate": self._simulate}).encode()
        transport.write(load.post(self._path, self.id, body))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._last = (self._last + data)[-10_000:]

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return not self.refusal and self._end in self._last


async def _measure(worker: Worker, protocol: str, plan: Plan) -> float:
    """The microseconds of CPU for each event."""
    loop = asyncio.get_running_loop()
    simulate = {"rate": plan.rate, "tokens": plan.tokens}
    used = worker.cpu()
    made = [
        await loop.create_connection(lambda: Answer(protocol, simulate), "127.0.0.1", worker.port)
        for _ in range(plan.answers)
    ]
    answers = [answer for _, answer in made]
    await asyncio.gather(*(answer.ended.wait() for answer in answers))
    used = worker.cpu() - used
    if not all(answer.is_whole for answer in answers):
        raise LoadError(f"an answer in {protocol} was not whole")
    return used / (plan.answers * (plan.tokens + _MORE_EVENTS)) * 1e6


async def _rounds(worker: Worker, plan: Plan) -> dict[str, list[float]]:
    await load.answers(worker.port, 20, 4, 8)
    found: dict[str, list[float]] = {protocol: [] for protocol in PROTOCOLS}
    for number in range(plan.rounds):
        for protocol in [*PROTOCOLS][:: 1 if number % 2 else -1]:
            found[protocol].append(await _measure(worker, protocol, plan))
    return found


async def _run(plan: Plan, cores: Cores) -> dict[str, tuple[Figure, Figure]]:
    """The figure of each protocol, and how many times the native one it is."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="protocols-")))
        upstream = stack.enter_context(Upstream(folder / "upstream.log", cores))
        worker = stack.enter_context(Worker(upstream, folder / "worker.log", cores))
        found = await asyncio.wait_for(_rounds(worker, plan), _LIMIT)
    native = found["native"]
    return {
        protocol: (
            Figure.median(rounds),
            Figure.median([each / its for each, its in zip(rounds, native, strict=True)]),
        )
        for protocol, rounds in found.items()
    }


def main() -> int:
    """Run the measurement; the exit status is 0 if all of it was made."""
    options = command.parser_of_measurements("protocols", __doc__).parse_args()
    if not command.begin():
        return 2
    plan, cores = QUICK if options.quick else FULL, Cores.shared_out()
    where = report.machine(cores)
    with command.measuring(cores, _LIMIT):
        figures = asyncio.run(_run(plan, cores))
    lines = [["protocol", "CPU for each event, µs", "beside native"]]
    lines += [[name, *map(str, each)] for name, each in figures.items()]
    print("\n".join([*report.machine_lines(where), "", *report.table(lines)]))
    if options.json:
        rows = {name: [asdict(each) for each in both] for name, both in figures.items()}
        command.write_json(options.json, {"machine": where, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
