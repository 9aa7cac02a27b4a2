"""Time in the tests: waiting for a condition, and a clock that stands still."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import pytest

T = TypeVar("T")

#: Seconds that a test waits for what should come at once. What never comes costs as long.
PATIENCE = 20.0
#: Seconds for which what must not end is seen to go on.
MOMENT = 0.03


def wait_for(
    condition: Callable[[], T], seconds: float = PATIENCE, message: str = "the condition"
) -> T:
    """Call ``condition`` until it returns something true, and return that.

    It may cost a request to a server, so the pauses grow with the time that has passed.
    """
    begun = time.monotonic()
    while not (result := condition()):
        waited = time.monotonic() - begun
        assert waited < seconds, f"{message} did not come true within {seconds} s"
        time.sleep(min(max(0.01, waited / 5), 0.1))
    return result


def wait_for_garbage(condition: Callable[[], T]) -> T:
    """Collect garbage until ``condition`` holds: while another thread does, a call does nothing."""
    return wait_for(lambda: condition() if gc.collect() is not None else None)


class Background(threading.Thread, Generic[T]):
    """Calls a function in a thread of its own; ``result`` waits for what it returns or raises."""

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:
            self._error = error

    def still_runs(self) -> bool:
        self.join(MOMENT)
        return self.is_alive()

    def result(self) -> T:
        self.join(PATIENCE)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._results[0]


def at_once(*functions: Callable[[], T]) -> list[T]:
    """What the functions return, each called in a thread of its own."""
    return [thread.result() for thread in [Background(function) for function in functions]]


def replace_sleep(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], object]) -> None:
    """Have this thread call ``sleep`` instead of ``time.sleep``; all others sleep as ever."""
    here, real = threading.get_ident(), time.sleep

    def chosen(seconds: float) -> None:
        (sleep if threading.get_ident() == here else real)(seconds)

    monkeypatch.setattr(time, "sleep", chosen)


class HandClock:
    """Seconds that pass only by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
