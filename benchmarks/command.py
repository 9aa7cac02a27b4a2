"""What the commands here have in common: their options, how they begin, and what they write."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .load import LoadError
from .processes import Cores, allow_many_files, on


def parser(name: str, described: str | None) -> argparse.ArgumentParser:
    """The parser of a command's options.

    :param described: the module's docstring.
    """
    found = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=described)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    return found


def parser_of_measurements(name: str, described: str | None) -> argparse.ArgumentParser:
    """The same with ``--quick`` and ``--json``."""
    found = parser(name, described)
    found.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    found.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return found


def begin() -> bool:
    """Make ready to measure; False where this system can't be measured on."""
    if sys.platform != "linux":
        tell("The measurements need Linux: they read /proc.")
        return False
    # What ends this process otherwise ends it as Ctrl-C does, so that nothing is left behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    allow_many_files()
    return True


@contextmanager
def measuring(cores: Cores, limit: float) -> Iterator[None]:
    """Measure within this ``with``, on the cores of the clients.

    :param limit: seconds in which it is to be done, for whoever reads that it was not.
    :raises SystemExit: if it is interrupted, or fails, which is told.
    """
    try:
        with on(cores.others):
            yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (LoadError, OSError, asyncio.TimeoutError) as error:
        tell(f"The measurement failed: {str(error) or f'not done in {limit:.0f} s'}.")
        raise SystemExit(1) from None


def tell(line: str) -> None:
    """Say something that is no result."""
    print(line, file=sys.stderr, flush=True)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write what was measured, for machines."""
    path.write_text(json.dumps(document, indent=2) + "\n")
