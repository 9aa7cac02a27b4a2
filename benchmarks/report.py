"""The results as a document for machines and as a table for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .figures import Results, Span
from .processes import Cores

_PACKAGES = ("gevent", "gunicorn", "requests", "urllib3")


def machine(cores: Cores) -> dict[str, Any]:
    """What it was measured on; ``load_average`` is that of the last minute."""
    return {
        "cores": len(cores.proxy | cores.others),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "proxy_cores": sorted(cores.proxy),
        "other_cores": sorted(cores.others),
        "pinned_apart": cores.apart,
        "load_average": round(os.getloadavg()[0], 2),
    }


def document(results: Results, where: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Everything, as JSON has it. Times of Stops are ms."""
    cores = len(where["other_cores"])
    return {
        "machine": where,
        "seconds": round(seconds, 1),
        "number_of_stops": results.number_of_stops,
        "stops": {
            name: {"unit": "ms", "p50": asdict(p50), "p99": asdict(p99)}
            for name, (p50, p99) in results.stops.items()
        },
        "stops_by_phase_p50": {
            name: {phase: asdict(figure) for phase, figure in phases.items()}
            for name, phases in results.by_phase.items()
        },
        "costs": [asdict(cost) for cost in results.costs],
        "spans": [span.as_json(cores) for span in results.spans],
    }


def text(results: Results, where: dict[str, Any], seconds: float) -> str:
    """The tables."""
    parts = [
        *machine_lines(where),
        "",
        *_stop_lines(results),
        "",
        *_cost_lines(results),
        "",
        *_span_lines(results.spans, len(where["other_cores"])),
        "",
        f"Done in {seconds:.0f} s.",
    ]
    return "\n".join(parts)


def machine_lines(where: dict[str, Any]) -> Iterator[str]:
    """What it was measured on, for people."""
    yield f"{where['cores']} cores ({where['processor']}), {where['system']}"
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    yield f"Python {where['python']}, {versions}"
    if where["pinned_apart"]:
        yield (
            f"The proxy's worker has core {_listed(where['proxy_cores'])}, "
            f"the upstream and the clients have {_listed(where['other_cores'])}."
        )
    elif where["cores"] > 1:
        yield "All processes share all cores."
    else:
        yield "There is one core, which proxy, upstream and clients share: expect long times."
    yield f"Load average at the start: {where['load_average']} (all that runs on the machine)."


def _stop_lines(results: Results) -> list[str]:
    head = [f"Stop to close, ms ({results.number_of_stops} Stops each)", "p50", "p99"]
    rows = [[name, str(p50), str(p99)] for name, (p50, p99) in results.stops.items()]
    phases = [
        [f"{name}: sent to upstream closed, {phase}", str(figure), ""]
        for name, figures in results.by_phase.items()
        for phase, figure in figures.items()
    ]
    return table([head, *rows, *phases])


def _cost_lines(results: Results) -> list[str]:
    head = ["Cost", "chatproxy", "plain relay", "chatproxy / plain"]
    figures = [
        (f"{cost.name}, {cost.unit}", cost.chatproxy, cost.plain, cost.ratio)
        for cost in results.costs
    ]
    return table([head, *([name, *map(str, row)] for name, *row in figures)])


def _span_lines(spans: Sequence[Span], cores: int) -> list[str]:
    head = ["Events per second", "offered", "delivered", "served"]
    head += ["worker", "waits", "upstream", "waits", "clients", "limit"]
    return [
        *table([head, *(_span_row(span, cores) for span in spans)]),
        "Served: streams to which an event came. Worker, upstream, clients: CPU time by time.",
        "Waits: the time in which it was ready to run and had no core, because of others.",
    ]


def _span_row(span: Span, cores: int) -> list[str]:
    offered = "no bound" if span.offered is None else f"{span.offered:,.0f}"
    times = (span.worker, span.worker_waited, span.upstream, span.upstream_waited, span.load)
    served = f"{span.served}/{span.streams}"
    shares = [f"{time / span.seconds:.0%}" for time in times]
    return [span.name, offered, f"{span.rate:,.0f}", served, *shares, span.limit(cores)]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *rest = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [head, "-" * (sum(widths) + 2 * len(widths) - 2), *rest]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
