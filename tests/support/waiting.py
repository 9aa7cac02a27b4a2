"""Time in the tests: waiting for a condition, and a clock that stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds that a test waits for what should come at once. What never comes costs as long.
PATIENCE = 20.0


def wait_for(
    condition: Callable[[], T], seconds: float = PATIENCE, message: str = "the condition"
) -> T:
    """Call ``condition`` until it returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"{message} did not come true within {seconds} s"
        time.sleep(0.01)
    return result


def in_a_thread(function: Callable[[], object]) -> threading.Thread:
    """A thread that has begun to run this; it keeps nobody from ending."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class HandClock:
    """Seconds that pass only by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
