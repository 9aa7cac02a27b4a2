"""What was measured, on what: as tables for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
