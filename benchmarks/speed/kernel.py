"""What the kernel tells of a relay's processes, besides their CPU time and memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def waited(pids: Iterable[int]) -> float:
    """For how long the processes were ready to run and had no core, in seconds; 0 where untold.

    On a core of its own a process waits for work that has nothing to do with the measurement. Of
    each, only the first thread is looked at: the others may wait for that.
    """
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError):  # it has ended, or the kernel does not tell
            total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    return total / 1e9


def most_descriptors(pids: Iterable[int]) -> int:
    """How many files the one of them has open that has the most."""
    return max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
